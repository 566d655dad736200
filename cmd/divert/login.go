package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/oidc"
)

// loggedIn is what a login came to, as JSON shows it: where the token is, never the token.
type loggedIn struct {
	File    string    `json:"file"`
	Expires time.Time `json:"expires"`
}

func (a *app) loginCommand() *cobra.Command {
	o := oidc.Options{}
	var file string
	var scopes []string
	c := &cobra.Command{
		Use:     "login --issuer URL --client-id ID --file FILE",
		GroupID: groupSee,
		Short:   "Log in at an OpenID provider, for a token that directors believe",
		Long: `Log in at the OpenID provider that the directors believe (api.oidc in their
settings), by the device flow: it prints where to go and what to type there, in any
browser, and waits until you have. The ID token goes into a file that only you can
read; --token-file FILE shows it. It ends when the provider says, often within the
hour; then log in again. Nothing else of the login is kept.`,
		Example: `  divert login --issuer https://login.example.net/realms/ops --client-id divert --file ops.token`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			token, until, err := oidc.Login(c.Context(), o, scopes, func(where, code string) {
				fmt.Fprintf(a.err, "Open %s\nand type %s; waiting, Ctrl-C ends it\n", clean(where), clean(code))
			})
			if err != nil {
				return err
			}
			if err := replaceSecret(file, token); err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(loggedIn{File: file, Expires: until.UTC()})
			}
			_, err = fmt.Fprintf(a.out, "logged in until %s; the token is in %s: --token-file %s\n", until.UTC().Format("2006-01-02 15:04 UTC"), file, file)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Issuer, "issuer", a.env("DIVERT_OIDC_ISSUER"), "`URL` of the provider (default: DIVERT_OIDC_ISSUER)")
	f.StringVar(&o.ClientID, "client-id", a.env("DIVERT_OIDC_CLIENT"), "`ID` of the client there (default: DIVERT_OIDC_CLIENT)")
	f.StringVar(&o.CA, "issuer-ca", "", "`FILE` of who signs the provider's certificate (default: the system's)")
	f.StringArrayVar(&scopes, "scope", nil, "a further `SCOPE` to ask for, such as email or groups")
	f.StringVar(&file, "file", "", "`FILE` for the token; one that is there is replaced")
	must(c.MarkFlagRequired("file"))
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if o.Issuer == "" || o.ClientID == "" {
			return &exit{code: exitUsage, err: errors.New("where to log in is not said"), remedy: "give --issuer and --client-id, as in api.oidc of the directors' settings"}
		}
		return run(c, args)
	}
	for _, name := range []string{"issuer", "client-id"} {
		f.Lookup(name).DefValue = ""
	}
	return c
}

// replaceSecret keeps a secret in a file, in place of one that is there, whole or not at
// all.
func replaceSecret(file, text string) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".divert-token-") // mode 0600
	if err != nil {
		return fmt.Errorf("making the token's file: %w", err)
	}
	_, err = fmt.Fprintln(f, text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("writing the token's file: %w", err)
	}
	return nil
}
