package main

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

func (a *app) directorCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "director",
		GroupID: groupChange,
		Short:   "See and change the roster of directors",
		Long: `The roster names the directors that count: their votes make failovers, their
acknowledgements make a drain complete. A director that is not in it is pending,
and its votes count nothing, until it is approved. One that is gone for good
counts until it is removed.`,
		Example: `  divert director list
  divert director approve d4
  divert director remove d2 --reason "decommissioned"`,
	}, a.directorList(), a.directorApprove(), a.directorRemove(), a.directorToken())
}

func (a *app) directorList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the directors, their keys and addresses",
		Long: `List the directors as the asked one sees them: registered ones, and pending ones
that have made themselves known by gossip.

STANDING is active (in the roster), pending or removed. PLAN is the newest plan
that it acknowledged, DNS what its port answered when it was last asked.`,
		Example: `  divert director list
  divert director list -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			s, err := client.Status(c.Context())
			if err != nil {
				return err
			}
			if a.json() {
				if s.Directors == nil {
					s.Directors = []api.DirectorState{}
				}
				return a.printJSON(s.Directors)
			}
			p := &page{width: a.width(), colour: a.colour}
			p.table(0, []string{"NAME", "SITE", "STANDING", "HEARD", "PLAN", "DNS", "ADDRESS"}, directorRows(s, true))
			_, err = fmt.Fprint(a.out, p.b.String())
			return err
		},
	}
}

func (a *app) directorApprove() *cobra.Command {
	var site, key, gossip string
	c := &cobra.Command{
		Use:   "approve NAME",
		Short: "Take a pending director into the roster",
		Long: `Take a director into the roster, with the key that it shows now: compare it with
the one that the director itself prints at start. From then on that key alone
speaks for the name.

A director that does not run yet can be approved by giving its key and site.`,
		Example: `  divert director approve d4
  divert director approve d4 --site sin-dc1 --reason "third site"
  divert director approve d5 --site nyc-dc2 --public-key ed25519:LXVaO4Vd4hLLZR3uBpsBJbGFAJCjVMpxSS9lLFJ0nXI=`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(directors("pending")),
	}
	w := a.wishFlags(c)
	w.glassFlag(c)
	c.Flags().StringVar(&site, "site", "", "its fault `DOMAIN` (default: what it says itself)")
	c.Flags().StringVar(&key, "public-key", "", "its public `KEY`, ed25519:… (default: the one that it shows now)")
	c.Flags().StringVar(&gossip, "gossip", "", "its gossip `ADDRESS` (default: where it is heard from)")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := w.check(args[0]); err != nil {
			return err
		}
		if key == "" && c.Flags().Changed("key") && (a.trust.Cert == "" || strings.HasPrefix(a.trust.Key, "ed25519:")) {
			// As it was before the director's had a flag of its own.
			key, a.trust.Key = a.trust.Key, a.env("DIVERT_KEY")
		}
		d := &core.Director{Name: args[0], Site: site, Gossip: gossip}
		if key != "" {
			var err error
			if d.Key, err = parseKey(key); err != nil {
				return err
			}
		}
		client, err := a.changer()
		if err != nil {
			return err
		}
		if key == "" {
			s, err := client.Status(c.Context())
			if err != nil {
				return err
			}
			asShown(d, s)
		}
		wish := w.command(core.DirectorAdd, "")
		wish.Director = d
		intro := "approving " + d.Name
		if len(d.Key) > 0 {
			intro += " with key ed25519:" + base64.StdEncoding.EncodeToString(d.Key)
		}
		return w.utter(c.Context(), client, wish, d.Name, intro)
	}
	return c
}

// asShown approves exactly what a person saw in the list. Without a key there
// the director that takes the command looks for itself.
func asShown(d *core.Director, s api.Status) {
	for _, have := range s.Directors {
		if have.Name != d.Name || have.Key == "" {
			continue
		}
		if k, err := parseKey(have.Key); err == nil {
			d.Key = k
		}
		if d.Site == "" {
			d.Site = have.Site
		}
		if d.Gossip == "" {
			d.Gossip = have.Address
		}
	}
}

func parseKey(s string) ([]byte, error) {
	text, found := strings.CutPrefix(s, "ed25519:")
	if found {
		for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
			if key, err := enc.DecodeString(text); err == nil && len(key) == 32 {
				return key, nil
			}
		}
	}
	return nil, usage("the key %q is not ed25519: and 32 octets in base64, as it was printed", s)
}

func (a *app) directorRemove() *cobra.Command {
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a director that is gone for good out of the roster",
		Long: `Take a director out of the roster. Its votes and acknowledgements count no more,
and the others need fewer to agree. It comes back only by ` + "`divert director approve`" + `.

A director that is merely silent should stay: it may still answer clients, and
no drain is complete without it.`,
		Example: `  divert director remove d2 --reason "decommissioned"
  divert director remove d2 --reason "decommissioned" --dry-run`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(directors("active")),
	}
	w := a.wishFlags(c)
	w.glassFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := w.check(args[0]); err != nil {
			return err
		}
		if err := w.needReason(c.Context()); err != nil {
			return err
		}
		client, err := a.changer()
		if err != nil {
			return err
		}
		wish := w.command(core.DirectorRemove, "")
		wish.Director = &core.Director{Name: args[0]}
		return w.utter(c.Context(), client, wish, args[0], "removing "+args[0])
	}
	return c
}
