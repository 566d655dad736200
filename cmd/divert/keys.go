package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
)

func (a *app) keysCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "keys",
		GroupID: groupChange,
		Short:   "See and change whose keys count",
		Long: `Keys that people hold, and what they count for; and the key that all directors
gossip under. Those of the directors themselves are in ` + "`divert director list`" + `.`,
		Example: `  divert keys operator list
  divert keys status
  divert keys rotate --reason "d4 was removed"`,
	}, a.keysRotate(), a.keysStatus(), group(&cobra.Command{
		Use:   "operator",
		Short: "Keys that may drain while the store is away",
		Long: `An operator is a person, or a team on call, whose key signs emergency drains:
those of ` + "`divert drain --emergency`" + `, while etcd is away. The plan lists the public
half; the file with the private half stays with the people, and no director has it.
Operators are listed beforehand: while etcd is away nothing can be.`,
		Example: `  divert keys operator new ~/oncall.key
  divert keys operator add oncall ~/oncall.key --reason "on call"
  divert keys operator list
  divert keys operator remove oncall --reason "left the team"`,
	}, a.operatorNew(), a.operatorPublic(), a.operatorAdd(), a.operatorRemove(), a.operatorList()))
}

// publicKey is a key as JSON shows it.
type publicKey struct {
	File string `json:"file"`
	Key  string `json:"key"`
}

func (a *app) showPublic(path string, key ed25519.PrivateKey) error {
	shown := publicKey{path, spec.FormatKey(key.Public().(ed25519.PublicKey))}
	if a.json() {
		return a.printJSON(shown)
	}
	_, err := fmt.Fprintln(a.out, shown.Key)
	return err
}

func (a *app) operatorNew() *cobra.Command {
	return &cobra.Command{
		Use:   "new FILE",
		Short: "Make a key, and print its public half",
		Long: `Make an Ed25519 key in a new file that only you can read (mode 0600, PKCS #8 in
PEM), and print its public half. It asks no director. A file that is there already
is never written over.`,
		Example: `  divert keys operator new ~/oncall.key
  divert keys operator new ~/oncall.key -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				return fmt.Errorf("making a key: %w", err)
			}
			der, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				return fmt.Errorf("encoding a key: %w", err)
			}
			f, err := os.OpenFile(args[0], os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("making the key's file: %w", err)
			}
			err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
			if err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
				_ = os.Remove(args[0]) // no half of a key: the next try would find it there
				return fmt.Errorf("writing the key's file: %w", err)
			}
			return a.showPublic(args[0], key)
		},
	}
}

func (a *app) operatorPublic() *cobra.Command {
	return &cobra.Command{
		Use:   "public FILE",
		Short: "Print the public half of a key",
		Long: `Print the public half of a key, as ` + "`divert keys operator add`" + ` takes it and the
plan lists it: ed25519: and 32 octets in base64. It asks no director, and refuses a
file that others can read.`,
		Example: `  divert keys operator public ~/oncall.key`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := readOperatorKey(args[0])
			if err != nil {
				return err
			}
			return a.showPublic(args[0], key)
		},
	}
}

// maxKeyFile is more than any key has.
const maxKeyFile = 16 << 10

// readOperatorKey reads a private key, from a file that others cannot read.
func readOperatorKey(path string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading the operator's key: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeyFile {
		return nil, fmt.Errorf("%s is no key file", path)
	}
	if message, remedy := spec.Exposed(path); message != "" {
		return nil, &exit{code: exitRefused, err: fmt.Errorf("%s: whoever has it may drain", message), remedy: remedy}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the operator's key: %w", err)
	}
	block, rest := pem.Decode(raw)
	if block == nil || block.Type != "PRIVATE KEY" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, fmt.Errorf("%s is no key file: want one PRIVATE KEY in PEM, as `divert keys operator new` makes it", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the operator's key in %s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the key in %s is not one of Ed25519", path)
	}
	return key, nil
}

func (a *app) operatorAdd() *cobra.Command {
	c := &cobra.Command{
		Use:   "add NAME KEY|FILE",
		Short: "List an operator in the plan",
		Long: `List the public half of a key in the plan, which is audited. Give it as it was
printed, ed25519:…, or the file that holds the key, of which only the public half
is sent. It is refused while a director of the roster is too old to know an
emergency; with --force that one stays on the plan before until it is upgraded.`,
		Example: `  divert keys operator add oncall ~/oncall.key --reason "on call"
  divert keys operator add oncall ed25519:LXVaO4Vd4hLLZR3uBpsBJbGFAJCjVMpxSS9lLFJ0nXI= --reason "on call"`,
		Args: cobra.ExactArgs(2),
	}
	w := a.wishFlags(c)
	w.forceFlags(c, "NAME")
	w.glassFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := w.check(args[0]); err != nil {
			return err
		}
		o := &core.Operator{Name: args[0]}
		if strings.HasPrefix(args[1], "ed25519:") {
			key, err := parseKey(args[1])
			if err != nil {
				return err
			}
			o.Key = key
		} else {
			key, err := readOperatorKey(args[1])
			if err != nil {
				return err
			}
			o.Key = key.Public().(ed25519.PublicKey)
		}
		if err := w.needReason(c.Context()); err != nil {
			return err
		}
		client, err := a.changer()
		if err != nil {
			return err
		}
		wish := w.command(core.OperatorAdd, "")
		wish.Operator = o
		return w.utter(c.Context(), client, wish, o.Name, fmt.Sprintf("listing operator %s with key %s", o.Name, spec.FormatKey(o.Key)))
	}
	return c
}

func (a *app) operatorRemove() *cobra.Command {
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "Take an operator out of the plan",
		Long: `Take an operator out of the plan, which is audited. Nothing that its key has said in
an emergency counts any more, on each director as soon as that has the plan. What
has become an ordinary drain stays one.`,
		Example:           `  divert keys operator remove oncall --reason "left the team"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeOperators,
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
		wish := w.command(core.OperatorRemove, "")
		wish.Operator = &core.Operator{Name: args[0]}
		return w.utter(c.Context(), client, wish, args[0], "removing operator "+args[0])
	}
	return c
}

func (a *app) operatorList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the operators",
		Long: `List the operators of the plan in force, with the public halves of their keys, who
listed them and why. It works while etcd is away: the director that is asked knows
them from the plan that it holds.`,
		Example: `  divert keys operator list
  divert keys operator list -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			e, err := client.Emergencies(c.Context())
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(e.Operators)
			}
			p := &page{width: a.width(), colour: a.colour}
			if len(e.Operators) == 0 {
				p.line("there are none, so nobody can drain while etcd is away: `divert keys operator add` lists one")
			} else {
				p.table(0, []string{"NAME", "LISTED BY", "SINCE", "REASON"}, operatorRows(e.Operators))
			}
			_, err = fmt.Fprint(a.out, p.b.String())
			return err
		},
	}
}

func operatorRows(list []api.Operator) []row {
	rows := make([]row, 0, len(list))
	for _, o := range list {
		rows = append(rows, row{
			cells:   []cell{text(o.Name), text(o.Author), text(o.Since.UTC().Format(time.DateOnly)), text(o.Reason)},
			remarks: []cell{{clean(o.Key), dim}},
		})
	}
	return rows
}
