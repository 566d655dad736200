package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
)

func (a *app) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "whoami",
		GroupID: groupSee,
		Short:   "Show who you are to a director, and what you may do",
		Long: `Show who the director that is asked takes you for: by the user of the socket, a
certificate, a token, or nobody in particular on loopback; and what was granted.`,
		Example: `  divert whoami
  divert whoami --server https://d1.example.net:8053 --token-file ci.token -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			me, err := client.Whoami(c.Context())
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(me)
			}
			p := &page{width: a.width(), colour: a.colour}
			p.line(clean(me.Who))
			for _, g := range me.Groups {
				p.line("  " + clean(g))
			}
			for _, g := range me.Grants {
				p.line(fmt.Sprintf("  %s of %s", clean(g.Role), clean(strings.Join(g.Scopes, ", "))))
			}
			switch {
			case me.Method == "loopback":
				p.line("  reads, and changes nothing: whoever asks on loopback without a token is nobody in particular")
			case len(me.Grants) == 0:
				p.line("  was granted nothing: an admin does it under api.grants in the directors' settings")
			}
			if me.Expires != nil {
				p.line("  until " + me.Expires.UTC().Format("2006-01-02 15:04 UTC"))
			}
			_, err = fmt.Fprint(a.out, p.b.String())
			return err
		},
	}
}

func (a *app) openAPICommand() *cobra.Command {
	return &cobra.Command{
		Use:     "openapi",
		GroupID: groupSee,
		Short:   "Print the description of the API (OpenAPI 3.1)",
		Long: `Print what a director of this version serves, as OpenAPI 3.1 in JSON: every path and
method, what each takes and gives, and the role that it takes. It is made of the
table that the director serves by, and asks nobody; a director serves its own at
/v1/openapi.json.`,
		Example: `  divert openapi
  divert openapi -o json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			data, err := api.OpenAPI()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.out, string(data))
			return err
		},
	}
}

func (a *app) canCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "can ACTION [SCOPE]",
		GroupID: groupSee,
		Short:   "Ask whether you may do something, without doing it",
		Long: `Ask whether you may do something, and why; nothing is done. An action is the verb of
a command (drain, undrain, freeze, thaw, readmit, apply, revert, interlock-on,
rollout-abort, director-approve, token-create and so on), or see, probe, backup,
check (the store), keep (the store, restore) and tokens. A scope is written as for
that command; of apply it is the resource: cluster/fra, service/shop or
zone/example.org. It says nothing of rules, interlocks and policies.

Exit codes: 0 you may; 1 you may not, or nobody answers; 2 usage.`,
		Example: `  divert can drain cluster/fra
  divert can apply zone/example.org --server https://d1.example.net:8053 --cert ann.pem`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			scope := ""
			if len(args) > 1 {
				scope = args[1]
			}
			got, err := client.Can(c.Context(), args[0], scope)
			if refusal := (*api.Error)(nil); errors.As(err, &refusal) && refusal.Code == http.StatusBadRequest { // no such action: that is no "no"
				return &exit{code: exitUsage, err: err}
			}
			if err != nil {
				return err
			}
			if a.json() {
				err = a.printJSON(got)
			} else {
				word := "yes: "
				if !got.Can {
					word = "no: "
				}
				_, err = fmt.Fprintln(a.out, word+clean(got.Why))
			}
			if err == nil && !got.Can {
				return &exit{code: exitRefused}
			}
			return err
		},
	}
}
