package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director"
	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

func (a *app) directorToken() *cobra.Command {
	return group(&cobra.Command{
		Use:   "token",
		Short: "Tokens by which one director comes into the roster by itself",
		Long: `A token takes one director into the roster, once, without a person's approve: for
machines that are set up by a program. It is made here and sent to no director: the
plan lists its public half, and a director that holds it, in the file that its
settings name (enrol: {tokenFile: …}, mode 0600), signs its own name, site and key
by it.`,
		Example: `  divert director token create --name d4 --for 1h --reason "fourth site" > enrol.token
  divert director token list
  divert director token revoke 8f3a21c07b1d --reason "not needed"`,
	}, a.directorTokenCreate(), a.directorTokenList(), a.directorTokenRevoke())
}

// tokenMade is a new token, as JSON shows it.
type tokenMade struct {
	ID    string `json:"id"`
	Token string `json:"token"`
}

func (a *app) directorTokenCreate() *cobra.Command {
	e := &core.Enrol{}
	var lasts time.Duration
	c := &cobra.Command{
		Use:   "create",
		Short: "Make a token, list it in the plan, and print it once",
		Long: `Make a token and list its public half in the plan, which is audited. The token alone
is printed to standard output, once. It is used up by the first director that
shows it; give --name and --site, so that it is of use to no other. A name that was
removed comes back only by a token for it.`,
		Example: `  divert director token create --name d4 --site sin-dc1 --reason "third site" > enrol.token
  divert director token create --for 15m --reason "autoscaled witness"`,
		Args: cobra.NoArgs,
	}
	w := a.wishFlags(c)
	f := c.Flags()
	f.StringVar(&e.Name, "name", "", "`NAME` of the director that it is for (default: any new one)")
	f.StringVar(&e.Site, "site", "", "fault `DOMAIN` that the director must be of (default: any)")
	f.DurationVar(&lasts, "for", time.Hour, "how long it may be used; at most 7 days")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := w.check(); err != nil {
			return err
		}
		if err := w.needReason(c.Context()); err != nil {
			return err
		}
		client, err := a.changer()
		if err != nil {
			return err
		}
		public, token, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return fmt.Errorf("making a token: %w", err)
		}
		e.Key = public
		wish := w.command(core.EnrolTokenAdd, "")
		wish.Enrol, wish.For = e, lasts
		o, err := client.Do(c.Context(), wish, w.timeout, nil)
		if err != nil {
			return err
		}
		if o.Code == exitRefused || wish.DryRun {
			return (&telling{app: a}).final(o, wish.DryRun)
		}
		made := tokenMade{ID: core.EnrolTokenID(public), Token: director.TokenPrefix + base64.RawURLEncoding.EncodeToString(token.Seed())}
		if a.json() {
			err = a.printJSON(made)
		} else {
			fmt.Fprintln(a.err, clean(o.Summary))
			_, err = fmt.Fprintln(a.out, made.Token)
		}
		if err == nil && o.Code != exitDone {
			return &exit{code: o.Code, err: fmt.Errorf("%s", o.Error), remedy: o.Remedy}
		}
		return err
	}
	return c
}

func (a *app) directorTokenList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tokens that are not used yet",
		Long: `List the tokens that no director has used yet, by their IDs, with what each is for,
until when, who made it and why. What is over takes nobody in any more, and is
dropped when the next one is made. The tokens themselves nobody can list.`,
		Example: `  divert director token list
  divert director token list -o json`,
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
				if s.Enrol == nil {
					s.Enrol = []api.EnrolToken{}
				}
				return a.printJSON(s.Enrol)
			}
			p := &page{width: a.width(), colour: a.colour}
			if len(s.Enrol) == 0 {
				p.line("there are none")
			}
			var rows []row
			for _, t := range s.Enrol {
				until := t.Until.UTC().Format(time.RFC3339)
				if t.Over {
					until += " (over)"
				}
				rows = append(rows, row{cells: []cell{text(t.ID), text(t.Name), text(t.Site), text(until), text(t.Author), text(t.Reason)}})
			}
			if len(rows) > 0 {
				p.table(0, []string{"ID", "FOR", "SITE", "UNTIL", "BY", "REASON"}, rows)
			}
			_, err = fmt.Fprint(a.out, p.b.String())
			return err
		},
	}
}

func (a *app) directorTokenRevoke() *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke ID",
		Short: "Take a token back that is not used yet",
		Long: `Take a token back that no director has used yet, which is audited. Whoever holds it
cannot come into the roster by it any more. A director that came in by it stays:
` + "`divert director remove`" + ` takes that out.`,
		Example: `  divert director token revoke 8f3a21c07b1d --reason "not needed"`,
		Args:    cobra.ExactArgs(1),
	}
	w := a.wishFlags(c)
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
		wish := w.command(core.EnrolTokenRemove, "")
		wish.Enrol = &core.Enrol{ID: args[0]}
		return w.utter(c.Context(), client, wish, args[0], "revoking token "+args[0])
	}
	return c
}
