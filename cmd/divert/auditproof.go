package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/store/fsys"
)

func (a *app) auditExport() *cobra.Command {
	return &cobra.Command{
		Use:   "export FILE",
		Short: "Save the sealed audit log with its proofs",
		Long: `Save the sealed audit log to a new file: its head, with the signatures of all the
directors that have sealed the same, and each record with the proof that the head
holds it. The file is there whole or not at all, and is checked before: where it is
not in order it is saved all the same, as evidence, and the exit code is 1.

Whoever has the directors' public keys can verify it for ever, without a director:
keep those apart from it (` + "`divert director list -o json`" + `). It has who did what, and
why, so only you may read it. Records that no director has sealed yet, those of the
last seconds, are not in it.`,
		Example: `  divert audit export audit-2026-03.jsonl
  divert audit export audit.jsonl -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] == "" {
				return usage("the export's file has no name")
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			keys, err := rosterKeys(c.Context(), client)
			if err != nil {
				return err
			}
			wait := a.patience("the export is on its way, for 2m at most; Ctrl-C leaves no file")
			var report audit.Report
			err = saveNew(fsys.OS{}, args[0], "export", func(w io.Writer) error { return client.AuditExport(c.Context(), w) }, func(r io.Reader) error {
				report, err = audit.Verify(r, keys)
				return err
			})
			wait()
			if err != nil {
				return err
			}
			return a.showProof(reportOf(report), args[0]+" holds ")
		},
	}
}

func (a *app) auditVerify() *cobra.Command {
	var given []string
	var list string
	c := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Prove that no audit record was altered, dropped or moved",
		Long: `Without FILE: have a director read all that it has sealed, and hold it against the
head that it has signed, record by record against the store, and against what the
other directors have signed.

With FILE, an export: hold each record against the head, and the head's signatures
against the keys of directors: those given with --key or --keys, or those that a
director names. Keys that somebody else has kept are worth more than those of a
director that may itself be the culprit. With either no director is asked: the file,
the keys and this program are all it takes.

What is wrong is named, by its place in the log and its plan revision; the exit code
is then 1. It is 3 where all holds that could be verified, and the keys of some who
have signed, too, were not given: they are named. 0: all was verified. An export
shows what was so when it was made, and not what came later.`,
		Example: `  divert audit verify
  divert audit verify audit.jsonl
  divert audit verify audit.jsonl --keys directors.json
  divert audit verify audit.jsonl --key d1=ed25519:LXVaO4Vd4hLLZR3uBpsBJbGFAJCjVMpxSS9lLFJ0nXI=`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			keys, err := keysGiven(given, list)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				if len(keys) > 0 {
					return usage("--key, or --keys, is for a FILE: a director goes by the keys of its plan")
				}
				client, err := a.client()
				if err != nil {
					return err
				}
				wait := a.patience("still reading, for 2m at most; Ctrl-C stops that, and changes nothing")
				report, err := client.AuditVerify(c.Context())
				wait()
				if err != nil {
					return err
				}
				return a.showProof(report, "")
			}
			f, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("the export: %w", err)
			}
			defer f.Close()
			verify := audit.VerifyBy
			if len(keys) == 0 {
				verify = audit.Verify
				client, err := a.client()
				if err == nil {
					keys, err = rosterKeys(c.Context(), client)
				}
				if err != nil {
					return &exit{code: exitRefused, err: fmt.Errorf("whose signatures count? %w", err), remedy: "give the directors' keys with --keys FILE, which has what `divert director list -o json` printed, or each with --key NAME=ed25519:…, or ask a director with --server"}
				}
			}
			report, err := verify(until{c.Context(), f}, keys)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return a.showProof(reportOf(report), args[0]+" holds ")
		},
	}
	c.Flags().StringArrayVar(&given, "key", nil, "a director's public `NAME=KEY`, ed25519:…; once for each")
	c.Flags().StringVar(&list, "keys", "", "a `FILE` with what `divert director list -o json` printed")
	return c
}

// until reads while nobody has said to stop.
type until struct {
	ctx context.Context
	r   io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// maxKeyList bounds a file of keys, in octets.
const maxKeyList = 1 << 20

// keysGiven reads keys as a command line has them, and those of a list of directors. One
// name with two keys is refused: somebody is wrong.
func keysGiven(given []string, list string) (audit.Keys, error) {
	keys := audit.Keys{}
	if list != "" {
		if err := listedKeys(list, keys); err != nil {
			return nil, err
		}
	}
	for _, g := range given {
		name, text, ok := strings.Cut(g, "=")
		if !ok || name == "" {
			return nil, usage("--key %q is not NAME=ed25519:…", g)
		}
		key, err := parseKey(text)
		if err != nil {
			return nil, err
		}
		if held := keys[name]; held != nil && !held.Equal(ed25519.PublicKey(key)) {
			return nil, usage("%s is given two keys", name)
		}
		keys[name] = key
	}
	return keys, nil
}

// listedKeys reads the keys of active directors from what `director list -o json` printed.
func listedKeys(path string, keys audit.Keys) error {
	raw, err := fsys.ReadFile(fsys.OS{}, path, maxKeyList)
	if err != nil {
		return fmt.Errorf("the directors' keys: %w", err)
	}
	var listed []api.DirectorState
	if err := json.Unmarshal(raw, &listed); err != nil {
		return &exit{code: exitRefused, err: fmt.Errorf("%s has no list of directors", path), remedy: "save one with `divert director list -o json`"}
	}
	for _, d := range listed {
		if key, err := parseKey(d.Key); err == nil && d.Standing == "active" {
			keys[d.Name] = key
		}
	}
	if len(keys) == 0 {
		return &exit{code: exitRefused, err: fmt.Errorf("%s has no active director's key", path), remedy: "save one with `divert director list -o json`, once the directors have joined"}
	}
	return nil
}

// rosterKeys asks a director for the keys of all.
func rosterKeys(ctx context.Context, client *api.Client) (audit.Keys, error) {
	s, err := client.Status(ctx)
	if err != nil {
		return nil, err
	}
	keys := audit.Keys{}
	for _, d := range s.Directors {
		if key, err := parseKey(d.Key); err == nil && d.Standing == "active" {
			keys[d.Name] = ed25519.PublicKey(key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the director knows of no plan, and so of nobody's key")
	}
	return keys, nil
}

// reportOf has what was found in an export as a director's report has it.
func reportOf(r audit.Report) api.AuditReport {
	out := api.AuditReport{
		Good: r.Good(), Fleet: r.Signed.Fleet, Records: r.Records, Revision: r.Signed.Revision, Root: base64.StdEncoding.EncodeToString(r.Signed.Root[:]),
		Signers: append([]string{}, r.Signed.Directors...), Findings: []api.AuditFinding{}, More: r.More, Unchecked: r.Unchecked,
	}
	for _, f := range r.Findings {
		out.Findings = append(out.Findings, api.AuditFinding(f))
	}
	return out
}

// showProof prints what came of it; what is not in order is exit code 1, and what could not
// all be verified 3.
func (a *app) showProof(r api.AuditReport, holds string) error {
	var err error
	if a.json() {
		err = a.printJSON(r)
	} else {
		_, err = fmt.Fprint(a.out, a.proofPage(r, holds))
	}
	switch {
	case err != nil:
	case !r.Good:
		err = &exit{code: exitRefused}
	case len(r.Unchecked) > 0:
		err = &exit{code: exitIncomplete}
	}
	return err
}

func (a *app) proofPage(r api.AuditReport, holds string) string {
	p := &page{width: a.width(), colour: a.colour}
	what := fmt.Sprintf("%s%s of fleet %s", holds, count(int(r.Records), "sealed record"), r.Fleet)
	if r.Records > 0 {
		what += fmt.Sprintf(", the last of revision %d", r.Revision)
	}
	if len(r.Signers) > 0 {
		what += ", signed by " + strings.Join(r.Signers, ", ")
	}
	p.wrapped(0, "", plain, what)
	if r.Tail > 0 {
		p.wrapped(0, "", plain, count(r.Tail, "record")+" of the store not sealed yet")
	}
	if r.Store != "" {
		p.wrapped(0, "", plain, "the store was not compared: "+r.Store)
	}
	for _, d := range r.Directors {
		if d.Fault == "" {
			p.wrapped(0, "", plain, fmt.Sprintf("%s has %s: %s", d.Name, count(int(d.Records), "record"), standing(d.State)))
		}
	}
	for _, f := range r.Findings {
		mark, style := "! ", warn
		if f.Harmless {
			mark, style = "  ", plain
		}
		p.wrapped(0, mark, style, audit.Finding(f).String())
	}
	if r.More > 0 {
		p.wrapped(0, "! ", warn, fmt.Sprintf("and %d more", r.More))
	}
	if r.Good {
		p.line(p.paint(good, "nothing was altered, dropped or moved"))
	}
	if n := len(r.Unchecked); n > 0 {
		p.wrapped(0, "! ", warn, fmt.Sprintf("not verified: the signatures of %s, whose keys were not given: add --key for each", strings.Join(r.Unchecked, ", ")))
	}
	return p.b.String()
}

// standing says how another's log stands to this one's.
func standing(state string) string {
	switch state {
	case audit.Agrees.String():
		return "the same"
	case audit.Differs.String():
		return "another log"
	default:
		return "more than this director has, which so cannot judge them"
	}
}
