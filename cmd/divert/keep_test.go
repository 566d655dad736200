package main

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
)

// oneBackup is of a fleet f1 with a spec of nothing.
func oneBackup(t *testing.T) []byte {
	t.Helper()
	sealed, err := plan.Sign(&plan.Plan{Fleet: "f1", Epoch: 2, Revision: 7, Writer: "d1"}, "d1", ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	b, err := store.NewBackupWriter(&out, store.BackupHead{Made: noon}, sealed, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.End(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestBackupCommand: a backup is there whole or not at all, over no other file.
func TestBackupCommand(t *testing.T) {
	f := &fake{backup: oneBackup(t)}
	server := serve(t, f)
	dir := t.TempDir()
	file := filepath.Join(dir, "fleet.backup")
	damaged := filepath.Join(dir, "damaged")
	if err := os.WriteFile(damaged, f.backup[:40], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		line string
		code int
		want string
	}{
		{"backup " + file + ".local --local", exitRefused, "is no whole backup"},
		{"backup " + file, exitDone, "plan 2.7 of fleet f1"},
		{"backup " + file, exitRefused, "is there already"},
		{"backup", exitUsage, "accepts 1 arg"},
		{"backup " + dir + "/none/fleet.backup", exitRefused, "making the file " + dir + "/none/fleet.backup: no such file"},
		{"restore " + file, exitDone, "restored, forced false"},
		{"restore " + file + " --force", exitUsage, "--confirm f1"},
		{"restore " + file + " --force --confirm f2", exitUsage, "--confirm f1"},
		{"restore " + file + " --force --confirm f1", exitDone, "restored, forced true"},
		{"restore " + file + " --confirm f1", exitUsage, "--force, which is not given"},
		{"restore " + damaged, exitRefused, "is no whole backup"},
		{"restore " + file + ".none", exitRefused, "no such file"},
		{"store recover --force", exitUsage, "--confirm store"},
		{"store recover --force --confirm store", exitRefused, "d2 holds a higher plan"},
		{"store migrate", exitUsage, "to"},
		{"store migrate --to https://a:1,https://b:1", exitDone, "https://a:1, https://b:1"},
	} {
		term := newTerminal("")
		code := term.run(t.Context(), append(strings.Fields(tc.line), "--server", server))
		if got := term.stdout.String() + term.stderr.String(); code != tc.code || !strings.Contains(got, tc.want) {
			t.Errorf("%s: exit %d, want %d with %q:\n%s", tc.line, code, tc.code, tc.want, got)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("left behind: %v, %v", files, err)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, f.backup) {
		t.Errorf("the file differs from what was sent: %v", err)
	}
}

// TestBackupText: what a backup lacks is named, and not a reason that nobody knows.
func TestBackupText(t *testing.T) {
	b := store.Backup{Head: store.BackupHead{Fleet: "f1", Epoch: 2, Revision: 7}, Audits: 1}
	if got, want := backupText(b), "plan 2.7 of fleet f1, 0 octets of spec and 1 audit record"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	b.Head.NoAudit, b.Audits = true, 0
	if got, want := backupText(b), "plan 2.7 of fleet f1, 0 octets of spec and no audit log (--local)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	term := newTerminal("")
	if code := term.run(t.Context(), []string{"backup", ""}); code != exitUsage {
		t.Errorf("no name: exit %d", code)
	}
}

// TestStoreCheck: exit code 1 where something is wrong.
func TestStoreCheck(t *testing.T) {
	f := &fake{store: api.StoreReport{Plan: "1.7", Blobs: 2, Audits: 7, LastAudit: 7}}
	server := serve(t, f)
	term := newTerminal("")
	if code := term.run(t.Context(), []string{"store", "check", "--server", server}); code != exitDone || !strings.Contains(term.stdout.String(), "in order") {
		t.Errorf("exit %d: %s", code, term.stdout.String())
	}
	f.store.Findings = []api.Finding{{What: "1 of the 2 pieces of the spec are damaged", Remedy: "divert store recover"}}
	term = newTerminal("")
	if code := term.run(t.Context(), []string{"store", "check", "--server", server}); code != exitRefused || !strings.Contains(term.stdout.String(), "-> divert store recover") {
		t.Errorf("exit %d: %s", code, term.stdout.String())
	}
}
