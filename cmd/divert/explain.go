package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
)

func (a *app) explainCommand() *cobra.Command {
	var client, at string
	var verbose bool
	c := &cobra.Command{
		Use:     "explain HOST",
		GroupID: groupSee,
		Short:   "Show what a client is told for a host, and why, step by step",
		Long: `Show the answer that the director gives to a client for a host now, and each
step that led to it: residency, drains, health, preference.

--client is the client's address or prefix. A resolver that sends no client
subnet is itself the client. Without --client it is a client of unknown place.

EVIDENCE says for each site that is not healthy what counted: its probes, each with
the certificate in force (what was agreed on last) and whose votes proved it, and
what each director says now. A fall is agreed by suspicion: what all directors hold
against the probe's target must reach a bound, towards which one director counts a
part at most, so that none does it alone. A return needs votes. Whoever is left out
is named, with why: not assigned, silent, abstaining, stale. --verbose shows that
for all sites.

--at shows what this director told the client at a time that is past, by the plan
and the certificates that were in force here then. Each director keeps its own
history (history: for and size in its settings; 7d and 64MiB), and says so where it
has none of that time. Which votes there were beside the certificates, and what
hostnames resolved to, is not kept.`,
		Example: `  divert explain shop.example.org --client 81.2.69.142
  divert explain shop.example.org --client 2001:db8:7::/48
  divert explain shop.example.org --verbose
  divert explain shop.example.org --client 81.2.69.142 --at -2h
  divert explain shop.example.org --client 81.2.69.142 --at 2026-03-14T11:58:00Z
  divert explain pay.example.org -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if client != "" && !isAddress(client) {
				return usage("--client %q is neither an IP address nor a prefix", client)
			}
			if _, err := api.ParseTime(at, a.now()); c.Flags().Changed("at") && err != nil {
				return usage("--at %w", err)
			}
			server, err := a.client()
			if err != nil {
				return err
			}
			var e api.Explanation
			if at != "" {
				wait := a.patience("still deciding again as it was then, for 1m at most; Ctrl-C stops that")
				e, err = server.ExplainAt(c.Context(), args[0], client, at)
				wait()
			} else {
				e, err = server.Explain(c.Context(), args[0], client)
			}
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(e)
			}
			_, err = fmt.Fprint(a.out, a.explainPage(e, verbose))
			return err
		},
		ValidArgsFunction: a.complete(func(s api.Status) []string {
			var out []string
			for _, svc := range s.Services {
				out = append(out, svc.Hosts...)
			}
			return out
		}),
	}
	c.Flags().StringVar(&client, "client", "", "the client's IP `ADDRESS` or prefix")
	c.Flags().StringVar(&at, "at", "", "what was told at that `TIME`: RFC 3339, or how long ago, like -2h")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "show the evidence of every site")
	return c
}

func isAddress(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	_, err := netip.ParsePrefix(s)
	return err == nil
}

func (a *app) explainPage(e api.Explanation, verbose bool) string {
	p := &page{width: a.width(), colour: a.colour}
	who := e.Client
	if who == "" {
		who = "any client"
	}
	place := e.Place
	if place == "" {
		place = "unknown place"
	}
	p.line(fmt.Sprintf("%s for %s (%s)", p.paint(bold, clean(e.Host)), clean(who), clean(place)))
	facts := []string{}
	if e.At != nil {
		line := "at " + a.clock(*e.At)
		if e.ToldSince != nil {
			line += ", as decided at " + a.clock(*e.ToldSince)
		}
		p.line(line)
	}
	if e.Service != "" {
		facts = append(facts, "service "+e.Service)
	}
	if e.Plan != "" {
		facts = append(facts, "plan "+e.Plan)
	}
	if e.Geo != "" {
		facts = append(facts, "placed by "+e.Geo)
	}
	if len(facts) > 0 {
		p.wrapped(0, "", plain, strings.Join(facts, ", "))
	}
	for _, note := range e.Notes {
		p.wrapped(0, "! ", warn, note)
	}
	for _, f := range e.Answers {
		p.line("")
		if len(f.Addresses) == 0 {
			p.line(fmt.Sprintf("%-5s no address", f.Type))
		} else {
			p.line(fmt.Sprintf("%-5s %s  from %s  TTL %ds, right for /%d", f.Type,
				p.paint(good, strings.Join(f.Addresses, " ")), strings.Join(f.Clusters, ", "), f.TTL, f.Scope))
		}
		for i, step := range f.Steps {
			p.wrapped(6, fmt.Sprintf("%d. ", i+1), plain, step)
		}
	}
	for i, h := range e.Hostnames {
		if i == 0 {
			p.line("")
		}
		c := resolved(h, a.now())
		p.wrapped(0, "", c.style, c.text)
	}
	a.evidence(p, e.Evidence, verbose)
	return p.b.String()
}
