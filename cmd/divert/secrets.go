package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/secret"
	"github.com/divertdns/divert/director/spec"
)

func (a *app) secretsCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "secrets",
		GroupID: groupChange,
		Short:   "List, set, rotate and remove what the directors share",
		Long: `A secret of the fleet is a value that all directors need and nobody else may know:
cookie, from which DNS cookies are made, and tsig/NAME, the secret of the TSIG key
NAME, where a director's settings say fleetSecret: true of it.

It is encrypted here (age), to the key of each director: no director sees it but its
readers, in their memory. Ciphertexts are in etcd and on each director's disk; the
plan has names, versions and hashes.`,
		Example: `  divert secrets list`,
	}, a.secretsList(), a.secretsSet(), a.secretsRotate(), a.secretsRemove())
}

func (a *app) secretsList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the fleet's secrets: versions, readers, age, and who lacks them",
		Long: `List the fleet's secrets by name: of each version its number, what it is used for,
who can read it, who set it and when; whom they wait for; and who could read one and
is no longer in the roster. No value is shown: nobody can.

It takes the role admin.`,
		Example: `  divert secrets list
  divert secrets list -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			s, err := client.Secrets(c.Context())
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(s)
			}
			p := &page{width: a.width(), colour: a.colour}
			secretsPage(p, s, a.now())
			_, err = fmt.Fprint(a.out, p.b.String())
			return err
		},
	}
}

// secretsPage shows secrets in a few lines.
func secretsPage(p *page, s api.Secrets, now time.Time) {
	if len(s.Secrets) == 0 {
		p.line("the fleet has no secrets; DNS cookies are made from the gossip key, TSIG keys are files")
	}
	for _, one := range s.Secrets {
		p.line(clean(one.Name) + " (" + clean(one.Kind) + ")")
		for _, v := range one.Versions {
			state := v.State
			if v.State == "before" {
				state = "accepted until all use the next"
				if v.Until != nil {
					state = "accepted until " + v.Until.UTC().Format(time.RFC3339)
				}
			}
			p.wrapped(2, "", plain, fmt.Sprintf("version %d, %s: %s, by %s (%s); read by %s", v.Version, state, ago(now.Sub(v.Since)), clean(v.Author), clean(v.Reason), clean(strings.Join(v.Readers, ", "))))
			if len(v.Left) > 0 {
				p.wrapped(2, "! ", warn, "could be read by "+clean(strings.Join(v.Left, ", "))+", no longer in the roster: give it a new value")
			}
		}
	}
	for _, w := range s.Waits {
		p.wrapped(0, "waits: ", plain, clean(w.Director)+" "+clean(w.Why))
	}
	if len(s.Silent) > 0 {
		p.wrapped(0, "! ", warn, "not heard, so that nothing is encrypted to it yet: "+clean(strings.Join(s.Silent, ", ")))
	}
}

func (a *app) secretsSet() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "set NAME [--file FILE]",
		Short: "Give the directors a value, or the next one",
		Long: `Give the directors a value, in base64 as one line, from FILE or from standard input:
never as an argument, which others on this machine see. It is encrypted here.

The version before is accepted along with it. Once every registered director has the
new one it is used: for cookies, and to sign NOTIFY. From then on the one before is
accepted for --grace more. Of a TSIG key, give the secondary the new value within
that time. A director that is away is waited for: bring it back, or remove it.`,
		Example: `  divert secrets set tsig/secondary.example.net --file tsig.key --reason "first"`,
		Args:    cobra.ExactArgs(1),
	}
	w := a.wishFlags(c)
	w.forceFlags(c, "NAME")
	grace := graceFlag(c)
	c.Flags().StringVar(&file, "file", "", "a `FILE` with the value, closed to others (default: standard input)")
	c.RunE = func(c *cobra.Command, args []string) error {
		name := strings.ToLower(args[0])
		if err := w.check(args[0]); err != nil {
			return err
		}
		if err := core.CheckSecretName(name); err != nil {
			return err
		}
		value, err := a.secretValue(c.InOrStdin(), file)
		if err != nil {
			return err
		}
		return a.setSecret(c.Context(), w, name, args[0], value, *grace, "setting "+name)
	}
	return c
}

func (a *app) secretsRotate() *cobra.Command {
	c := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Draw a new value of a secret that nobody else needs",
		Long: `Draw 256 random bits here and give them to the directors as the next value, as
divert secrets set does. It is for cookie: no client needs to know it, and none has
its cookie refused meanwhile. A TSIG key's secondary does need its secret: set that.

Do it after ` + "`divert director remove`" + `: who was removed could read it.`,
		Example: `  divert secrets rotate cookie --reason "every quarter"`,
		Args:    cobra.ExactArgs(1),
	}
	w := a.wishFlags(c)
	w.forceFlags(c, "NAME")
	grace := graceFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := w.check(args[0]); err != nil {
			return err
		}
		if err := core.CheckSecretName(args[0]); err != nil {
			return err
		}
		if args[0] != core.CookieSecret {
			return &exit{code: exitRefused, err: fmt.Errorf("the secondary has the secret of %s, too, and could not have one that is drawn", args[0]), remedy: "make one with `(umask 077; openssl rand -base64 32 > tsig.key)`, give it with `divert secrets set " + args[0] + " --file tsig.key`, and to the secondary"}
		}
		value := make([]byte, 32)
		if _, err := rand.Read(value); err != nil {
			return fmt.Errorf("drawing a secret: %w", err)
		}
		return a.setSecret(c.Context(), w, args[0], args[0], value, *grace, "rotating "+args[0])
	}
	return c
}

func graceFlag(c *cobra.Command) *string {
	return c.Flags().String("grace", "", "how long the one before is accepted once all use this one (default 2h for cookie, else 1d)")
}

// setSecret encrypts a value to the directors that are there, and sends what comes of it.
func (a *app) setSecret(ctx context.Context, w *wish, name, word string, value []byte, grace, intro string) error {
	lasts := core.DefaultGrace(name)
	if grace != "" {
		var err error
		if lasts, err = spec.ParseDuration(grace); err != nil {
			return usage("--grace %q is not a duration such as 2h or 7d", grace)
		}
	}
	if err := w.needReason(ctx); err != nil {
		return err
	}
	client, err := a.changer()
	if err != nil {
		return err
	}
	s, err := client.Secrets(ctx)
	if err != nil {
		return err
	}
	var to []string
	for _, r := range s.Recipients {
		to = append(to, r.Key)
	}
	if len(to) == 0 {
		return &exit{code: exitRefused, err: errors.New("no director has said yet what to encrypt to"), remedy: "repeat it in a few seconds"}
	}
	blob, err := secret.Seal(s.Fleet, name, value, to)
	if err != nil {
		return err
	}
	if len(s.Silent) > 0 && !a.json() {
		fmt.Fprintf(a.out, "not heard now, so the leader encrypts it to these once they are: %s\n", clean(strings.Join(s.Silent, ", ")))
	}
	wish := w.command(core.SecretSet, "")
	wish.For = lasts
	wish.Secret = &core.SecretWish{Name: name, Blob: blob, Recipients: s.Recipients}
	return w.utter(ctx, client, wish, word, fmt.Sprintf("%s, encrypted to %s; reason: %s", intro, count(len(to), "director"), clean(w.reason)))
}

// secretValue reads a value from a file or from standard input. Its errors hold none of it.
func (a *app) secretValue(in io.Reader, file string) ([]byte, error) {
	if file != "" {
		if message, remedy := spec.Exposed(file); message != "" {
			return nil, &exit{code: exitRefused, err: errors.New(message), remedy: remedy}
		}
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("reading the value: %w", err)
		}
		defer func() { _ = f.Close() }() // only read
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, 2*secret.MaxValue+1))
	if err != nil {
		return nil, fmt.Errorf("reading the value: %w", err)
	}
	value, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(raw)))
	if err != nil || len(value) < 16 || len(value) > 512 {
		return nil, &exit{code: exitRefused, err: errors.New("the value is not 16 to 512 octets in base64, as one line"), remedy: "make one with `(umask 077; openssl rand -base64 32 > FILE)`"}
	}
	return value, nil
}

func (a *app) secretsRemove() *cobra.Command {
	var version uint32
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a secret away from the directors, or one of its versions",
		Long: `Take a secret away. Without cookie, DNS cookies are made from the gossip key again;
of a TSIG key, zone transfers that are signed with it are refused.

With --version, the one before is accepted no more from now on; or the next one is
taken back, while it is not used.

Where the ciphertexts are lost in etcd and on all directors' disks, no secret can be
changed. With --force, all that are lost go along with NAME: set them anew.`,
		Example: `  divert secrets remove cookie --version 1 --reason "it was in a log"
  divert secrets remove tsig/secondary.example.net --reason "no such secondary"`,
		Args: cobra.ExactArgs(1),
	}
	w := a.wishFlags(c)
	w.forceFlags(c, "NAME")
	c.Flags().Uint32Var(&version, "version", 0, "the `NUMBER` of the version (default: all of the secret)")
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
		wish := w.command(core.SecretRemove, "")
		wish.Secret = &core.SecretWish{Name: strings.ToLower(args[0]), Version: version}
		return w.utter(c.Context(), client, wish, args[0], "removing "+clean(args[0])+"; reason: "+clean(w.reason))
	}
	return c
}
