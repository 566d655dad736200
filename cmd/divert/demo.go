package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/chaos/relay"
	"github.com/divertdns/divert/director/api"
)

// demoNet is the demo's own part of loopback: 127.53.0.0/16.
const demoNet = 53

// demoPort is the DNS port of the demo's first director; the others follow.
const demoPort = 5300

func (a *app) demoCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "demo",
		GroupID: groupRun,
		Short:   "Run a whole fleet here: three directors, three clusters, real DNS",
		Long: `Run a whole fleet on loopback, as an ordinary user and with nothing to set up:
three directors and one "divert etcd" as processes of their own, and three
clusters (fra, nyc, sin), each a real HTTP service on an address of its own with
a stand-in for its API server. The directors answer DNS on 127.0.0.1, ports
5300, 5301 and 5302.

It prints what runs, a few things to try, and then each change of an answer as
it happens. Ctrl-C ends it and leaves nothing behind.`,
		Example: `  divert demo
  divert demo cut fra
  divert demo cut d1 fra
  divert demo heal fra`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.demo(c.Context()) },
	}
	c.AddCommand(a.demoRule("cut"), a.demoRule("heal"), a.demoCluster())
	return c
}

// demoCluster is the process that a stand-in cluster runs in.
func (a *app) demoCluster() *cobra.Command {
	var cluster local.Cluster
	var address string
	c := &cobra.Command{
		Use: "cluster", Short: "One stand-in cluster of the demo", Hidden: true, Args: cobra.NoArgs,
		Long:    "One stand-in cluster, a process of `divert demo`.",
		Example: "  divert demo cluster --name fra --address 127.53.10.1",
		RunE: func(c *cobra.Command, _ []string) error {
			addr, err := netip.ParseAddr(address)
			if err != nil {
				return usage("--address: %v", err)
			}
			cluster.Address = addr
			return cluster.Run(c.Context())
		},
	}
	c.Flags().StringVar(&cluster.Name, "name", "", "`NAME` of the cluster")
	c.Flags().StringVar(&cluster.Cert, "cert", "", "PEM `FILE` of its API server's certificate")
	c.Flags().StringVar(&cluster.Key, "key", "", "PEM `FILE` of that certificate's key")
	c.Flags().StringVar(&address, "address", "", "loopback `ADDRESS` of the cluster")
	return c
}

// demoRule is `divert demo cut` and `divert demo heal`.
func (a *app) demoRule(verb string) *cobra.Command {
	short, long := "Cut a link of the running demo", `Cut a link of the running demo; what is cut is silent, as over a dead wire.

  divert demo cut fra        the whole cluster: its power is gone
  divert demo cut fra/api    its API server alone: impaired, and no traffic moves
  divert demo cut d1 fra     what d1 sees of fra: no traffic moves
  divert demo cut d1 peers   d1 from the other directors: it freezes
  divert demo cut d1 etcd    d1 from the store`
	if verb == "heal" {
		short, long = "Heal a link of the running demo", `Heal what "divert demo cut" cut, with the same words. It says when the site
returns, and why it waits.`
	}
	return &cobra.Command{
		Use: verb + " [DIRECTOR] CLUSTER|peers|etcd", Short: short, Long: long,
		Example: "  divert demo " + verb + " fra\n  divert demo " + verb + " d1 fra\n  divert demo " + verb + " d1 peers",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			from, to := relay.Any, args[0]
			if len(args) == 2 {
				from, to = args[0], args[1]
			} else if to == local.Peers || to == "etcd" {
				return usage("say which director: divert demo %s d1 %s", verb, to)
			}
			if err := a.askDemo(c.Context(), verb, from, to); err != nil {
				return err
			}
			return a.afterRule(c.Context(), verb, from, to)
		},
	}
}

// afterRule says what to expect now.
func (a *app) afterRule(ctx context.Context, verb, from, to string) error {
	cluster, part, _ := strings.Cut(to, "/")
	switch {
	case part == local.PartServer && verb == "cut":
		fmt.Fprintf(a.out, "The API server of %s is cut off: its control plane is impaired, which moves no traffic. `%s demo heal %s` undoes it.\n", cluster, a.self, to)
		return nil
	case part == local.PartServer:
		fmt.Fprintf(a.out, "The API server of %s is reachable again.\n", cluster)
		return nil
	case verb == "cut" && from == relay.Any:
		fmt.Fprintf(a.out, "%[1]s is cut off: its clients move within a few seconds. `%[2]s status` shows it; `%[2]s demo heal %[1]s` brings it back.\n", to, a.self)
		return nil
	case verb == "cut":
		fmt.Fprintf(a.out, "%[1]s no longer reaches %[2]s: one director alone moves nothing. `%[3]s demo heal %[1]s %[2]s` undoes it.\n", from, to, a.self)
		return nil
	case from != relay.Any:
		fmt.Fprintf(a.out, "What cut %s from %s alone is undone.\n", from, to)
		return nil
	}
	fmt.Fprintf(a.out, "%s is reachable again. ", to)
	path, err := demoSocket(api.SocketName)
	if err != nil {
		return err
	}
	client, err := api.NewClient("unix:" + path)
	if err != nil {
		return err
	}
	// Its directors need a moment to see it well, and so to know how long to wait.
	for range 20 {
		status, err := client.Status(ctx)
		if err != nil {
			return err
		}
		why, down := waiting(status, cluster)
		if !down {
			fmt.Fprintf(a.out, "It serves already.\n")
			return nil
		}
		if strings.Contains(why, "earliest") {
			fmt.Fprintf(a.out, "It returns when a quorum votes for it; until then it waits:\n  %s\n`%s readmit cluster/%s --reason REASON` ends the wait.\n", why, a.self, cluster)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
	fmt.Fprintf(a.out, "It returns 10 s after it is seen to be well: `%s status` says when.\n", a.self)
	return nil
}

// waiting gives why a cluster's endpoints are still out; false: none is.
func waiting(s api.Status, cluster string) (string, bool) {
	why, down := "", false
	for _, svc := range s.Services {
		for _, site := range svc.Sites {
			if site.Cluster == cluster && site.Health == "failed" {
				down = true
				if why == "" || strings.Contains(site.Returns, "earliest") {
					why = site.Returns
				}
			}
		}
	}
	return why, down
}

// demo runs the fleet until ctx ends, or the terminal or the reader of what it
// prints is gone.
func (a *app) demo(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, demoEnds()...)
	defer stop() // last of all: a broken pipe must not end it before it has cleared away
	if err := a.askDemo(ctx, "ping", "", ""); !errors.Is(err, errNoDemo) {
		return &exit{code: exitRefused, err: errors.New("a demo runs here already"), remedy: "end that one with Ctrl-C first"}
	}
	dir, err := os.MkdirTemp("", demoDir)
	if err != nil {
		return err
	}
	err = a.demoIn(ctx, dir)
	if rest := os.RemoveAll(dir); err == nil {
		err = rest
	}
	if err == nil {
		fmt.Fprintln(a.out, "\nThe demo has ended; nothing is left behind.")
	}
	return err
}

// demoEnds are the signals that end a demo, however often they come: a second
// Ctrl-C must not keep it from clearing away. A hang-up is not one of them where
// it was told to outlive its terminal.
func demoEnds() []os.Signal {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE}
	if !signal.Ignored(syscall.SIGHUP) {
		ends = append(ends, syscall.SIGHUP)
	}
	return ends
}

func (a *app) demoIn(ctx context.Context, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	fleet, err := local.New(local.Options{
		Binary: self, Dir: dir, Net: demoNet, Log: a.logger(slog.LevelWarn),
		DNS: func(i int) string { return fmt.Sprintf("127.0.0.1:%d", demoPort+i-1) },
		API: func(i int) string { return fmt.Sprintf("127.0.0.1:%d", 8053+i-1) },
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		return &exit{code: exitRefused, err: err, remedy: "somebody else's demo runs on this machine: end that one first"}
	}
	if err != nil {
		return err
	}
	control, err := demoControl(fleet, dir)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	ready := make(chan struct{})
	group.Go(func() error { return fleet.Run(ctx, func() { close(ready) }) })
	group.Go(func() error { return control.run(ctx) })
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-ready:
		}
		return (&demoView{app: a, fleet: fleet, start: time.Now()}).run(ctx)
	})
	fmt.Fprintln(a.out, "Starting three clusters, a store and three directors on loopback …")
	err = group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// brokenOff is the error of a demo that did not come up: why, and what the
// process said that it is about.
func brokenOff(fleet *local.Fleet, name, why string) error {
	const most = 2000
	said, _ := fleet.Log(name)
	if len(said) > most {
		said = said[len(said)-most:]
	}
	return fmt.Errorf("%s; the end of its log:\n%s", why, said)
}

// answerer asks one director's DNS, as a client's resolver would.
func answerer(server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "udp", server)
	}}
}
