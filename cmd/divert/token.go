package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store/fsys"
)

// tokenVariable holds a token, where no file does.
const tokenVariable = "DIVERT_TOKEN"

// maxTokenFile is more than any token has; a device would never end.
const maxTokenFile = 64 << 10

// dial makes the client that every command asks by.
func (a *app) dial() (*api.Client, error) {
	trust := a.trust
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	trust.Token = token
	return api.NewClientWith(a.server, trust)
}

// token is the one to show; "" for none.
func (a *app) token() (string, error) {
	if a.tokenFile == "" {
		return strings.TrimSpace(a.env(tokenVariable)), nil
	}
	info, err := os.Stat(a.tokenFile)
	if err != nil {
		return "", fmt.Errorf("looking at the token's file: %w", err)
	}
	// What Kubernetes hands to a process (root's, for its group alone to read) is closed.
	if message, _ := spec.Exposed(a.tokenFile); info.Mode().Perm()&0o077 != 0 && message != "" {
		return "", &exit{
			code:   exitRefused,
			err:    fmt.Errorf("%s can be read by others (mode %04o): whoever has it may do what the token may", a.tokenFile, info.Mode().Perm()),
			remedy: "chmod 600 " + a.tokenFile + "; if it was copied, revoke it and make another one",
		}
	}
	raw, err := fsys.ReadFile(fsys.OS{}, a.tokenFile, maxTokenFile)
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	text := strings.TrimSpace(string(raw))
	if _, ok := access.SumSecret(text); !ok && (strings.Count(text, ".") != 2 || strings.ContainsAny(text, " \n")) {
		return "", fmt.Errorf("%s holds no token: want one line, as `divert token create` (%s…) and `divert login` make it", a.tokenFile, access.Prefix)
	}
	return text, nil
}

func (a *app) tokenCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "token",
		GroupID: groupChange,
		Short:   "Make, list and revoke tokens for programs",
		Long: `A token lets whoever has it ask and command over the network: with a role, in
scopes, until it ends. --token-file FILE or DIVERT_TOKEN sends it, to https://… or
on the machine itself. The plan has its SHA-256 alone, so that nobody can show it
again, and tokens work while etcd is away; revoking one takes etcd.`,
		Example: `  divert token list`,
	}, a.tokenCreate(), a.tokenList(), a.tokenRevoke())
}

func (a *app) tokenCreate() *cobra.Command {
	var role, lasts, file string
	var scopes []string
	c := &cobra.Command{
		Use:   "create NAME --role ROLE --scope SCOPE --file FILE",
		Short: "Make a token and show it once",
		Long: `Make a token: 256 random bits, made here and sent nowhere; the directors get their
SHA-256. With --file it goes into a new file that only you can read, else it is
printed, once. What is done by it is done by token:NAME, in the audit log too.

Roles: viewer sees, operator moves traffic, admin says what there is. Scopes:
fleet, cluster/NAME, zone/NAME, service/NAME, namespace/NAME; * stands for any
letters.`,
		Example: `  divert token create drills --role operator --scope cluster/fra --for 30d --reason "nightly drills" --file drills.token
  divert token create grafana --role viewer --scope fleet --reason dashboards`,
		Args: cobra.ExactArgs(1),
	}
	w := a.wishFlags(c)
	w.forceFlags(c, "NAME")
	w.glassFlag(c)
	f := c.Flags()
	f.StringVar(&role, "role", "", "`ROLE`: viewer, operator or admin")
	f.StringArrayVar(&scopes, "scope", nil, "a `SCOPE` that it may act in; may be given several times")
	f.StringVar(&lasts, "for", "30d", "how long it lasts, up to 90d")
	f.StringVar(&file, "file", "", "a new `FILE` for it, in place of printing it")
	must(c.MarkFlagRequired("role"))
	must(c.MarkFlagRequired("scope"))
	must(c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"viewer", "operator", "admin"}, cobra.ShellCompDirectiveNoFileComp)))
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := w.check(args[0]); err != nil {
			return err
		}
		d, err := spec.ParseDuration(lasts)
		if err != nil || d <= 0 {
			return usage("--for %q is not a duration such as 30d or 12h", lasts)
		}
		if err := grantable(role, scopes); err != nil {
			return err
		}
		if a.json() && file == "" && !w.dryRun {
			return &exit{code: exitUsage, err: errors.New("a token is not printed as JSON, which is often kept"), remedy: "add --file FILE"}
		}
		if err := w.needReason(c.Context()); err != nil {
			return err
		}
		client, err := a.changer()
		if err != nil {
			return err
		}
		var secret [access.SecretBytes]byte
		if _, err := rand.Read(secret[:]); err != nil {
			return fmt.Errorf("making a token: %w", err)
		}
		text := access.FormatSecret(secret)
		sum, _ := access.SumSecret(text)
		wish := w.command(core.TokenCreate, "")
		wish.For = d
		wish.Token = &core.Token{Name: args[0], Sum: sum[:], Role: role, Scopes: scopes}
		if file != "" && !w.dryRun {
			if err := writeSecret(file, text); err != nil {
				return err
			}
		}
		err = w.utter(c.Context(), client, wish, args[0], fmt.Sprintf("making token %s, %s of %s for %s", args[0], role, strings.Join(scopes, ", "), spec.FormatDuration(d)))
		code := exitDone
		if e := (*exit)(nil); errors.As(err, &e) {
			code = e.code
		} else if err != nil {
			code = exitRefused
		}
		switch {
		case w.dryRun:
		case code != exitDone && code != exitIncomplete: // nobody has it
			if file != "" {
				_ = os.Remove(file)
			}
		case file != "" && !a.json():
			fmt.Fprintf(a.out, "the token is in %s: --token-file %s\n", file, file)
		case file == "":
			fmt.Fprintf(a.out, "%s\n", text)
			fmt.Fprintln(a.err, "divert: keep it now: nobody can show it again")
		}
		return err
	}
	return c
}

// grantable refuses a role or a scope that there is not, before anybody is asked.
func grantable(role string, scopes []string) error {
	if _, err := access.ParseRole(role); err != nil {
		return usage("--role: %w", err)
	}
	for _, s := range scopes {
		if _, err := access.ParseScope(s); err != nil {
			return usage("--scope: %w", err)
		}
	}
	return nil
}

// writeSecret keeps a secret in a new file.
func writeSecret(file, text string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("making the token's file: %w", err)
	}
	_, err = fmt.Fprintln(f, text)
	if err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		_ = os.Remove(file)
		return fmt.Errorf("writing the token's file: %w", err)
	}
	return nil
}

func (a *app) tokenRevoke() *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Take a token out of the plan",
		Long: `Take a token out of the plan, which is audited. Each director refuses it as soon as
it has that plan, and ends what is followed by it; no command by it is committed
from then on. It is done when all directors have the plan.`,
		Example:           `  divert token revoke drills --reason "it was in a log"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTokens,
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
		wish := w.command(core.TokenRevoke, "")
		wish.Token = &core.Token{Name: args[0]}
		return w.utter(c.Context(), client, wish, args[0], "revoking token "+args[0])
	}
	return c
}

func (a *app) tokenList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tokens",
		Long: `List the tokens of the plan in force: what each may do, until when, who made it and
why. What has expired stands here until the next one is made.`,
		Example: `  divert token list
  divert token list -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			tokens, err := client.Tokens(c.Context())
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(tokens)
			}
			p := &page{width: a.width(), colour: a.colour}
			if len(tokens) == 0 {
				p.line("there are none: `divert token create` makes one")
			} else {
				p.table(0, []string{"NAME", "ROLE", "SCOPES", "UNTIL", "MADE BY"}, tokenRows(tokens))
			}
			_, err = fmt.Fprint(a.out, p.b.String())
			return err
		},
	}
}

func tokenRows(tokens []api.Token) []row {
	rows := make([]row, 0, len(tokens))
	for _, t := range tokens {
		until := cell{t.Expires.UTC().Format("2006-01-02 15:04 UTC"), plain}
		if t.Expired {
			until = cell{"expired", bad}
		}
		rows = append(rows, row{
			cells:   []cell{text(t.Name), text(t.Role), text(strings.Join(t.Scopes, " ")), until, text(t.Author)},
			remarks: remarks(labelled("because: ", clean(t.Reason), plain), labelled("since: ", t.Since.UTC().Format(time.DateOnly), dim)),
		})
	}
	return rows
}
