package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
)

// maxProbeTimeout is the longest that a director lets a question to probe wait.
const maxProbeTimeout = 2 * time.Minute

func (a *app) probeCommand() *cobra.Command {
	var timeout time.Duration
	var verbose bool
	c := &cobra.Command{
		Use:     "probe TARGET",
		GroupID: groupSee,
		Short:   "Probe a target now from every director, and show who sees what",
		Long: `Have every registered director probe a target now, once, and show who sees what:
a table for each service, a row for each probe, a column for each director, with
what came of it and how long it took. Below each probe that does not pass
everywhere stands why, and what it comes to. What several services share stands in
a table of its own.

TARGET is a service (shop, service/shop), one of its sites (shop@fra), a host
(shop.example.org), a cluster (cluster/fra), a fault domain (domain/fra-dc1), an
address (192.0.2.1, 192.0.2.1:443), or a subject, as the JSON of status has it.
Whatever is named, each director sends the probes that its own spec in force has
there and no others: an address that no service has is not probed.

At most five directors are assigned to an address, and probe it all the time. One
marked * is not: it probes because it is asked, and its vote would not count.
Directors that do not answer are named, with why: they are silent, late, refuse
(they are asked too often, or have another spec in force), or are too old to know
the question. A director that gives no sign for three seconds is not waited for,
the others for --timeout.

Soft probes (readiness, kube, prometheus) are not asked again for it, nor is a
program started more often than its interval: what the last one came to is shown,
with its age.

It changes nothing: no probe of it is a vote, and nothing moves by it. It does
send traffic, so each director answers one question of each other at a time,
about one a second, with at most 64 probes out at once and 500 a second. Of one
asker it sends 2,048 probes, and then 100 a second.

With -o json it is one JSON object; times are in seconds (tookSeconds).

Exit codes: 0 if every probe of every director passed. 1 if one failed, be it at
all directors, at a quorum (enough of those assigned, in enough fault domains, to
make it fall, were these votes) or at one that disagrees with the others; also if
nobody could probe it, or the question is refused. 3 if all that answered pass,
and some directors did not answer.`,
		Example: `  divert probe shop
  divert probe shop@fra --timeout 5s
  divert probe shop.example.org
  divert probe cluster/fra --verbose
  divert probe 192.0.2.10 -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if timeout <= 0 || timeout > maxProbeTimeout {
				return usage("--timeout %s is not between 0 and %s", short(timeout), short(maxProbeTimeout))
			}
			server, err := a.client()
			if err != nil {
				return err
			}
			p, err := server.Probe(c.Context(), args[0], timeout, a.probeProgress())
			if err != nil {
				return err
			}
			if a.json() {
				err = a.printJSON(p)
			} else {
				_, err = fmt.Fprint(a.out, a.probePage(p, verbose))
			}
			if err == nil && p.Code != exitDone {
				err = &exit{code: p.Code}
			}
			return err
		},
		ValidArgsFunction: a.complete(probeTargets),
	}
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long to wait for all directors")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "show every target, however many pass everywhere")
	return c
}

// probeProgress says for whom a person at a terminal waits.
func (a *app) probeProgress() func(api.Probing) {
	begun, said := a.now(), ""
	return func(p api.Probing) {
		var open []string
		for _, o := range p.Observers {
			if o.State == "asked" || o.State == "probing" {
				open = append(open, clean(o.Name))
			}
		}
		line := fmt.Sprintf("%d of %s answered, waiting for %s", len(p.Observers)-len(open), count(len(p.Observers), "director"), strings.Join(open, ", "))
		if !a.live || len(open) == 0 || line == said || a.now().Sub(begun) < 900*time.Millisecond {
			return
		}
		said = line
		fmt.Fprintln(a.err, line)
	}
}

// probeTargets lists what can be probed, for the shell.
func probeTargets(s api.Status) []string {
	var out []string
	for _, svc := range s.Services {
		out = append(out, svc.Name)
		for _, site := range svc.Sites {
			out = append(out, svc.Name+"@"+site.Cluster)
		}
		for _, h := range svc.Hosts {
			if !strings.HasPrefix(h, "*") {
				out = append(out, h)
			}
		}
		out = append(out, "service/"+svc.Name)
	}
	for _, scope := range scopes(s) {
		if !slices.Contains(out, scope) {
			out = append(out, scope)
		}
	}
	return out
}
