package main

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// oneExport is of a fleet f1 whose three records d1 has sealed.
func oneExport(t *testing.T, key ed25519.PrivateKey, more ...ed25519.PrivateKey) []byte {
	t.Helper()
	var tree audit.Tree
	var raws [][]byte
	parent := plan.Hash{}
	for r := uint64(1); r <= 3; r++ {
		h := plan.Sum(fmt.Append(nil, r))
		raw, err := proto.Marshal(&plan.Audit{Revision: r, Who: "ada", What: "drain cluster/fra", Plan: h[:], Epoch: 1, Parent: parent[:]})
		if err != nil {
			t.Fatal(err)
		}
		raws, parent = append(raws, raw), h
		tree.Add(tlog.RecordHash(raw))
	}
	head, err := audit.Head{Fleet: "f1", Size: 3, Root: tree.Root(), Revision: 3}.Sign("d1", key)
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range more {
		next, err := audit.Head{Fleet: "f1", Size: 3, Root: tree.Root(), Revision: 3}.Sign(fmt.Sprint("d", i+2), key)
		if err != nil {
			t.Fatal(err)
		}
		head = audit.Join(head, next)
	}
	var out bytes.Buffer
	err = audit.Write(&out, head, 3, tree.Reader(nil), func(each func([]byte) error) error {
		for _, raw := range raws {
			if err := each(raw); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestAuditFiles: an export is saved whole, over no other file, and verified by the keys
// that a person or a director gives; one that was altered is exit code 1 and says where.
func TestAuditFiles(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	shown := spec.FormatKey(key.Public().(ed25519.PublicKey))
	other := spec.FormatKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize)).Public().(ed25519.PublicKey))
	f := &fake{export: oneExport(t, key), status: api.Status{Directors: []api.DirectorState{
		{Name: "d1", Standing: "active", Key: shown}, {Name: "d9", Standing: "pending", Key: other},
	}}}
	server := serve(t, f)
	dir := t.TempDir()
	file, bad := filepath.Join(dir, "audit.jsonl"), filepath.Join(dir, "bad.jsonl")
	lines := bytes.SplitAfter(f.export, []byte("\n"))
	if err := os.WriteFile(bad, append(append(bytes.Clone(lines[0]), lines[1]...), lines[3]...), 0o600); err != nil {
		t.Fatal(err)
	}
	two, list, none := filepath.Join(dir, "two.jsonl"), filepath.Join(dir, "directors.json"), filepath.Join(dir, "none.json")
	for path, raw := range map[string][]byte{
		two:  oneExport(t, key, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))),
		list: fmt.Appendf(nil, `[{"name":"d1","standing":"active","key":%q},{"name":"d2","standing":"active","key":%q},{"name":"d9","standing":"pending","key":%q}]`, shown, other, other),
		none: []byte(`[]`),
	} {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	away := "http://127.0.0.1:1"
	for _, tc := range []struct {
		line, server string
		code         int
		want         string
	}{
		{"audit export " + file, server, exitDone, "holds 3 sealed records of fleet f1, the last of revision 3, signed by d1"},
		{"audit export " + file, server, exitRefused, "is there already"},
		{"audit verify " + file, server, exitDone, "nothing was altered, dropped or moved"},
		{"audit verify " + file, away, exitRefused, "whose signatures count?"},
		{"audit verify " + file + " --key d1=" + shown, away, exitDone, "nothing was altered"},
		{"audit verify " + file + " --key d1=" + other, away, exitRefused, "signed by nobody whose key counts"},
		{"audit verify " + file + " --key d2=" + shown, away, exitRefused, "signed by nobody whose key counts"},
		{"audit verify " + two + " --key d1=" + shown, away, exitIncomplete, "not verified: the signatures of d2"},
		{"audit verify " + two + " --key d1=" + shown + " -o json", away, exitIncomplete, `"unchecked": [ "d2" ]`},
		{"audit verify " + two + " --key d1=" + shown + " --key d2=" + other, away, exitDone, "signed by d1, d2 nothing was altered"},
		{"audit verify " + two + " --key d1=" + shown + " --key d2=" + shown, away, exitRefused, "with a key that is not known"},
		{"audit verify " + two + " --keys " + list, away, exitDone, "signed by d1, d2 nothing was altered"},
		{"audit verify " + two + " --keys " + none, away, exitRefused, "has no active director's key"},
		{"audit verify " + two + " --keys " + file, away, exitRefused, "has no list of directors"},
		{"audit verify " + two + " --keys " + list + " --key d1=" + other, away, exitUsage, "d1 is given two keys"},
		{"audit verify /dev/zero --keys " + list, away, exitRefused, "no export of an audit log"},
		{"audit verify " + file + " --ca /dev/zero", "https://127.0.0.1:1", exitRefused, "no file of certificates"},
		{"audit verify " + file + " --cert /dev/zero", "https://127.0.0.1:1", exitRefused, "no file of certificates"},
		{"audit verify --keys " + list, server, exitUsage, "is for a FILE"},
		{"audit verify " + two, server, exitRefused, "d2 with a key that is not known"},
		{"audit verify " + bad, server, exitRefused, "record 1: it is missing"},
		{"audit verify " + bad + " -o json", server, exitRefused, `"good": false`},
	} {
		term := newTerminal("")
		code := term.run(t.Context(), append(strings.Fields(tc.line), "--server", tc.server))
		if said := strings.Join(strings.Fields(term.stdout.String()+term.stderr.String()), " "); code != tc.code || !strings.Contains(said, tc.want) {
			t.Errorf("%s: exit %d, want %d and %q; got\n%s", tc.line, code, tc.code, tc.want, said)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the export's file: %v, %v", info, err)
	}
	f.export = f.export[:len(f.export)-10] // it is saved, as evidence
	term := newTerminal("")
	if code := term.run(t.Context(), []string{"audit", "export", filepath.Join(dir, "torn.jsonl"), "--server", server}); code != exitRefused || !strings.Contains(term.stdout.String(), "record 2: its line is not as it was written") {
		t.Errorf("torn: exit %d, %s", code, term.stdout.String())
	}
}

// TestAuditProofPage: what a person reads of a director's own proof, good and bad.
func TestAuditProofPage(t *testing.T) {
	good := api.AuditReport{
		Good: true, Fleet: "f1", Records: 212, Revision: 215, Signers: []string{"d1", "d2"}, Tail: 1,
		Directors: []api.AuditDirector{{Name: "d2", Records: 212, Revision: 215, State: "agrees"}, {Name: "d3", Records: 213, State: "unknown"}},
		Findings:  []api.AuditFinding{{Record: 0, Revision: 4, What: "the log begins here: what came before was lost with a store, or is older than this log", Harmless: true}},
	}
	bad := good
	bad.Good = false
	bad.Directors = append(bad.Directors[:1:1], api.AuditDirector{Name: "d3", Records: 211, State: "differs", Fault: "d3 has sealed another log than this director: they differ within the first 211 records"})
	bad.Findings = append(good.Findings[:1:1],
		api.AuditFinding{Record: 41, Revision: 45, What: "in the store it is another than the one that was sealed: it was altered there"},
		api.AuditFinding{Record: -1, What: bad.Directors[1].Fault})
	a := newTerminal("")
	golden(t, "auditproof", a.proofPage(good, "")+"\n"+a.proofPage(bad, ""))
	for _, tc := range []struct {
		report api.AuditReport
		code   int
	}{{good, exitDone}, {bad, exitRefused}} {
		term := newTerminal("")
		if code := term.run(t.Context(), []string{"audit", "verify", "--server", serve(t, &fake{proof: tc.report})}); code != tc.code {
			t.Errorf("exit %d, want %d: %s", code, tc.code, term.stderr.String())
		}
	}
	term := newTerminal("")
	if code := term.run(t.Context(), []string{"audit", "--since", "24h", "--server", serve(t, &fake{})}); code != exitDone || !strings.Contains(term.stdout.String(), "auto      11:59:00 UTC  auto  d1   fast :443 at 192.0.2.10 is down") {
		t.Errorf("since: exit %d, got\n%s", code, term.stdout.String())
	}
}
