package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
)

func (a *app) storeCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "store",
		GroupID: groupChange,
		Short:   "Begin a fleet, look at its store, move it, or bring it back",
		Long: `The store (etcd) holds the plan. Directors answer without it. They never take an
empty or an old store for a new beginning by themselves: a person says so.`,
		Example: `  divert store init
  divert store check
  divert store recover
  divert store migrate --to https://etcd-1.example.net:2379`,
	}, a.storeInit(), a.storeCheck(), a.storeRecover(), a.storeMigrate())
}

func (a *app) storeInit() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Make the first plan of a new fleet now",
		Long: `Make the first plan without waiting for every address of gossip.join to answer
that it holds none. Say so once, on one director, and only where no director of
this fleet has ever run: otherwise there are two fleets.

` + "`divert status`" + ` says whom a director waits for.`,
		Example: `  divert store init`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.storeDo(c.Context(), (*api.Client).Init)
		},
	}
}

func (a *app) storeCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Look at everything in the store, and say what puts right what is wrong",
		Long: `Look at everything in the store: the plan, each piece of its spec, the audit log,
the results of commands, the candidates' keys. Nothing is changed. Exit code 1:
something is not as it should be.`,
		Example: `  divert store check`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			wait := a.patience("still looking, for 10m at most; Ctrl-C stops that, and changes nothing")
			report, err := client.CheckStore(c.Context())
			wait()
			if err != nil {
				return err
			}
			if a.json() {
				err = a.printJSON(report)
			} else {
				_, err = fmt.Fprint(a.out, a.storePage(report))
			}
			if err == nil && len(report.Findings) > 0 {
				err = &exit{code: exitRefused}
			}
			return err
		},
	}
}

func (a *app) storePage(r api.StoreReport) string {
	p := &page{width: a.width(), colour: a.colour}
	held := "no plan that can be read"
	if r.Plan != "" {
		held = "plan " + r.Plan
	}
	newest := ""
	if r.Audits > 0 {
		newest = fmt.Sprintf(", the newest of revision %d", r.LastAudit)
	}
	p.line(fmt.Sprintf("the store holds %s, %s of its spec, and %s%s", held, count(r.Blobs, "piece"), count(r.Audits, "audit record"), newest))
	for _, f := range r.Findings {
		p.wrapped(0, "! ", warn, f.What)
		if f.Remedy != "" {
			p.wrapped(4, "-> ", plain, f.Remedy)
		}
	}
	if len(r.Findings) == 0 {
		p.line(p.paint(good, "all of it is in order"))
	}
	return p.b.String()
}

func (a *app) storeRecover() *cobra.Command {
	var force sure
	c := &cobra.Command{
		Use:   "recover",
		Short: "Put right a store that was lost, restored, replaced or damaged",
		Long: `Write the plan that this director holds into the store, as the next epoch, so
that it is newer than whatever the store held. Where the plan there is in order,
only what is damaged beside it is mended: pieces of the spec, results that cannot
be read.

Say so on the director that holds the highest plan; another one refuses and
names it. Until then the directors go on answering and refuse commands.

Some things it does only with --force: writing over another fleet's plan, over one
that a newer divert wrote, over a note that the store was moved, and giving up a
newer plan whose spec is lost.`,
		Example: `  divert store recover
  divert store recover --force`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := force.check(a, "store"); err != nil {
				return err
			}
			if err := force.ask(c.Context(), a, "store", "what the store holds is written over, whatever it is"); err != nil {
				return err
			}
			return a.storeDo(c.Context(), func(client *api.Client, ctx context.Context) (api.Outcome, error) {
				return client.Recover(ctx, force.on)
			})
		},
	}
	force.flags(c, "store")
	return c
}

func (a *app) storeMigrate() *cobra.Command {
	var o api.MigrateOptions
	c := &cobra.Command{
		Use:   "migrate --to URL",
		Short: "Move all that the store holds to another etcd, such as from the embedded one",
		Long: `Move all that the store holds to another etcd: the plan as it is, its spec, the
audit log, results of commands. The new store must be empty. At no instant do both
take commands, and nothing is lost: what interrupts it, the same command goes on
from. Answers and failover go on all the while.

Afterwards this store refuses commands and says where it went. Set the new one in
the settings of each director (etcd: {endpoints: [...], tls: {...}}) and start it
anew with ` + "`divert serve --replace`" + `. The director reads the files of --etcd-ca,
--etcd-cert and --etcd-key.`,
		Example: `  divert store migrate --to http://127.0.0.1:2379
  divert store migrate --to https://etcd-1.example.net:2379,https://etcd-2.example.net:2379 --etcd-ca ca.pem --etcd-cert d1.pem --etcd-key d1.key`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			a.etcdFiles(c, &o)
			for _, path := range []*string{&o.CA, &o.Cert, &o.Key} {
				if *path == "" {
					continue
				}
				full, err := filepath.Abs(*path) // the director has another working folder
				if err != nil {
					return err
				}
				*path = full
			}
			return a.storeDo(c.Context(), func(client *api.Client, ctx context.Context) (api.Outcome, error) {
				return client.Migrate(ctx, o)
			})
		},
	}
	f := c.Flags()
	f.StringSliceVar(&o.To, "to", nil, "`URL` of a member of the new etcd; more with commas")
	f.StringVar(&o.CA, "etcd-ca", "", "`FILE` with the certificates that the new etcd's is signed by")
	f.StringVar(&o.Cert, "etcd-cert", "", "`FILE` with the directors' certificate")
	f.StringVar(&o.Key, "etcd-key", "", "`FILE` with its private key")
	must(c.MarkFlagRequired("to"))
	return c
}

// etcdFiles takes --ca, --cert and --key for etcd's where the director is asked through no
// TLS, which has no use for them, as they were before etcd's had flags of their own.
func (a *app) etcdFiles(c *cobra.Command, o *api.MigrateOptions) {
	if strings.HasPrefix(a.server, "https://") {
		return
	}
	for _, f := range []struct {
		name        string
		etcd, given *string
	}{{"ca", &o.CA, &a.trust.CA}, {"cert", &o.Cert, &a.trust.Cert}, {"key", &o.Key, &a.trust.Key}} {
		if c.Flags().Changed(f.name) && *f.etcd == "" {
			*f.etcd, *f.given = *f.given, ""
		}
	}
}

func (a *app) storeDo(ctx context.Context, do func(*api.Client, context.Context) (api.Outcome, error)) error {
	client, err := a.changer()
	if err != nil {
		return err
	}
	wait := a.patience("still at it, for 10m at most; Ctrl-C ends the wait, and the same command again goes on from where it was")
	o, err := do(client, ctx)
	wait()
	if err != nil {
		return err
	}
	return (&telling{app: a}).final(o, false)
}
