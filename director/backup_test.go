package director

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/election/etcd"
)

// TestBackupAndRestore: against a real etcd. What a backup holds comes back one epoch
// on, its audit records too, into the fleet that it is of.
func TestBackupAndRestore(t *testing.T) {
	d := solo(t)
	ctx := api.WithUser(t.Context(), "ann")
	gave(t, d, drained("cluster/nyc"))
	var file bytes.Buffer
	if err := d.Backup(ctx, &file, false); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(file.Bytes())
	b, err := store.ReadBackup(bytes.NewReader(whole), nil)
	if err != nil || b.Audits < 2 || b.Plan.Identity != d.horizon.current().sealed.Identity {
		t.Fatalf("backup: %+v, %v", b.Head, err)
	}
	if identity, err := os.ReadFile(filepath.Join(d.settings.DataDir, "identity.json")); err != nil || bytes.Contains(whole, d.identity.Key.Seed()) || len(identity) == 0 {
		t.Errorf("the backup holds the private key, or there is none: %v", err)
	}

	// Somebody applies another spec, and an audit record is lost.
	text := strings.Replace(soloSpec(), "192.0.2.2", "192.0.2.9", 1)
	raws, problems := spec.Parse("mesh.yaml", []byte(text))
	if spec.Failed(problems) {
		t.Fatal(problems)
	}
	gave(t, d, core.Command{ID: newID(), Verb: core.Apply, Objects: raws, Author: "bob", Reason: "oops"})
	before := d.horizon.current().sealed.Identity
	v := vault{t, d}
	v.remove(fmt.Sprintf("audit/%020d", 1))

	restore := func(d *Director, raw []byte, o api.RestoreOptions) api.Outcome {
		t.Helper()
		out, err := d.Restore(ctx, bytes.NewReader(raw), o)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for n := range whole {
		if n%97 == 0 { // each octet is TestBackupDamaged's
			if out := restore(d, whole[:n], api.RestoreOptions{}); out.Code != 1 || !strings.Contains(out.Error, "is no whole backup") {
				t.Fatalf("cut at %d: %+v", n, out)
			}
		}
	}
	if out := restore(d, whole, api.RestoreOptions{DryRun: true}); out.Code != 0 || out.Revision != 0 || len(out.Preview.Changes) == 0 {
		t.Errorf("dry run: %+v", out)
	}
	if got := d.horizon.current().sealed.Identity; got != before {
		t.Errorf("what was refused or tried changed the plan: %v", got)
	}
	out := restore(d, whole, api.RestoreOptions{Reason: "INC-1"})
	if out.Code != 0 || out.Revision == 0 {
		t.Fatalf("restore: %+v", out)
	}
	now := d.horizon.current()
	if now.sealed.Identity.Epoch != before.Epoch+1 || now.sealed.Identity.Revision <= before.Revision {
		t.Errorf("restored as %v after %v", now.sealed.Identity, before)
	}
	if svc := now.spec.Service("pay"); svc.Endpoints[1].Addresses[0].String() != "192.0.2.2" {
		t.Errorf("the spec is not the backup's: %v", svc.Endpoints)
	}
	report, err := d.CheckStore(ctx)
	if err != nil || len(report.Findings) > 0 {
		t.Errorf("afterwards: %+v, %v", report.Findings, err)
	}
	if out := restore(d, whole, api.RestoreOptions{Audit: true}); out.Code != 0 || !strings.HasPrefix(out.Summary, "0 of") {
		t.Errorf("audit again: %+v", out)
	}

	// Another fleet.
	other := solo(t)
	if out := restore(other, whole, api.RestoreOptions{}); out.Code != 1 || !out.CanForce || !strings.Contains(out.Error, "is of fleet") {
		t.Errorf("another fleet: %+v", out)
	}
	if out := restore(other, whole, api.RestoreOptions{Audit: true}); out.Code != 1 {
		t.Errorf("another fleet's audit log: %+v", out)
	}
	fleet := other.horizon.current().sealed.Identity.Fleet
	gave(t, other, core.Command{ID: newID(), Verb: core.Apply, Objects: raws, Author: "bob", Reason: "oops"})
	if out := restore(other, whole, api.RestoreOptions{Force: true}); out.Code != 0 || other.horizon.current().sealed.Identity.Fleet != fleet {
		t.Errorf("by force: %+v", out)
	}
}

// bare makes a director without a plan beside an etcd, which begins no fleet.
func bare(t *testing.T, key, endpoint string) *Director {
	t.Helper()
	return bareOf(t, key, endpoint, func(*spec.Settings) {})
}

func bareOf(t *testing.T, key, endpoint string, edit func(*spec.Settings)) *Director {
	t.Helper()
	dir := t.TempDir()
	if key != "" {
		raw, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "identity.json"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings := spec.DefaultSettings()
	settings.Name, settings.Site, settings.DataDir = "d1", "s1", dir
	settings.DNS.Listen, settings.API.Listen, settings.Gossip.Listen = []string{"127.0.0.1:0"}, "", "127.0.0.1:0"
	settings.Etcd.Embedded, settings.Etcd.Endpoints, settings.Resolvers = false, []string{endpoint}, []string{"127.0.0.1:9"}
	edit(&settings)
	d, err := New(Options{Settings: settings, AwaitRestore: true, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- d.Run(run) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return d
}

// emptyEtcd is a real etcd that holds nothing.
func emptyEtcd(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "divert-") //nolint:usetesting // a unix socket has room for a short path only
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, served := make(chan string, 1), make(chan error, 1)
	go func() {
		served <- etcd.Serve(ctx, etcd.ServerOptions{Data: filepath.Join(dir, "etcd"), Listen: "unix://" + filepath.Join(dir, "s"), Ready: func(e string) { ready <- e }})
	}()
	t.Cleanup(func() { cancel(); <-served; _ = os.RemoveAll(dir) })
	return <-ready
}

// TestRestoreEverything: store and disks are gone. One director that awaits a backup
// takes all of it: the fleet's identity, its drains, its spec and its audit log, one
// epoch on; with another key than it had only by force.
func TestRestoreEverything(t *testing.T) {
	old := solo(t)
	ctx := api.WithUser(t.Context(), "ann")
	gave(t, old, drained("cluster/nyc"))
	var file bytes.Buffer
	if err := old.Backup(ctx, &file, false); err != nil {
		t.Fatal(err)
	}
	id := old.horizon.current().sealed.Identity
	for _, tc := range []struct {
		name  string
		key   string
		force bool
	}{
		{"with its old key", filepath.Join(old.settings.DataDir, "identity.json"), false},
		{"with another key", "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := bare(t, tc.key, emptyEtcd(t))
			eventually(t, "it waits", func() bool { w := d.waiting.Load(); return w != nil && strings.Contains(*w, "divert restore") })
			if tc.force {
				out, err := d.Restore(ctx, bytes.NewReader(file.Bytes()), api.RestoreOptions{})
				if err != nil || out.Code != 1 || !out.CanForce || !strings.Contains(out.Error, "another key for d1") {
					t.Errorf("without force: %+v, %v", out, err)
				}
			}
			out, err := d.Restore(ctx, bytes.NewReader(file.Bytes()), api.RestoreOptions{Force: tc.force})
			if err != nil || out.Code != 0 || out.Revision != id.Revision+1 {
				t.Fatalf("restore: %+v, %v", out, err)
			}
			f := d.horizon.current()
			if f == nil || f.sealed.Identity.Fleet != id.Fleet || f.sealed.Identity.Epoch != id.Epoch+1 || len(f.sealed.Plan.GetOverrides()) != 1 {
				t.Fatalf("in force: %+v", f)
			}
			report, err := d.CheckStore(ctx)
			if err != nil || len(report.Findings) > 0 || report.LastAudit != id.Revision+1 {
				t.Errorf("the store: %+v, %v", report, err)
			}
			if _, err := give(d, undrained("cluster/nyc")); err != nil {
				t.Errorf("a command: %v", err)
			}
		})
	}
}

// TestRestoreTwice: of two directors that restore into one empty store at once, one does,
// and the other is told; both answer from the same plan then, of one fleet (S3, S4).
func TestRestoreTwice(t *testing.T) {
	old := solo(t)
	ctx := api.WithUser(t.Context(), "ann")
	var file bytes.Buffer
	if err := old.Backup(ctx, &file, false); err != nil {
		t.Fatal(err)
	}
	endpoint := emptyEtcd(t)
	all := []*Director{
		bare(t, filepath.Join(old.settings.DataDir, "identity.json"), endpoint),
		bareOf(t, "", endpoint, func(s *spec.Settings) { s.Name = "d2" }),
	}
	var outcomes [2]api.Outcome
	var done sync.WaitGroup
	for i, d := range all {
		eventually(t, "it waits", func() bool { return d.waiting.Load() != nil })
		done.Go(func() {
			out, err := d.Restore(ctx, bytes.NewReader(file.Bytes()), api.RestoreOptions{Force: i == 1})
			if err != nil {
				t.Error(err)
			}
			outcomes[i] = out
		})
	}
	done.Wait()
	written := 0
	for i, out := range outcomes {
		switch {
		case out.Revision != 0:
			written++
		case out.Code == 0: // it had the other's plan already, and the backup's spec with it
		case !strings.Contains(out.Error, "another director wrote to the store meanwhile") && !strings.Contains(out.Error, "which this director does not have yet"):
			t.Errorf("%d: %+v", i, out)
		}
	}
	if written == 0 {
		t.Fatalf("nobody did: %+v", outcomes)
	}
	eventually(t, "both have one plan", func() bool {
		a, b := all[0].horizon.current(), all[1].horizon.current()
		return a != nil && b != nil && a.sealed.Identity == b.sealed.Identity
	})
	report, err := all[0].CheckStore(ctx)
	if err != nil || len(report.Findings) > 0 {
		t.Errorf("the store: %+v, %v", report, err)
	}
}

// TestRestoreBesideTheSilent: who does not answer may hold a newer plan, so nothing is
// restored over it unasked.
func TestRestoreBesideTheSilent(t *testing.T) {
	old := solo(t)
	ctx := api.WithUser(t.Context(), "ann")
	var file bytes.Buffer
	if err := old.Backup(ctx, &file, false); err != nil {
		t.Fatal(err)
	}
	d := bareOf(t, filepath.Join(old.settings.DataDir, "identity.json"), emptyEtcd(t), func(s *spec.Settings) { s.Gossip.Join = []string{"127.0.0.1:9"} })
	out, err := d.Restore(ctx, bytes.NewReader(file.Bytes()), api.RestoreOptions{})
	if err != nil || out.Code != 1 || !out.CanForce || !strings.Contains(out.Error, "127.0.0.1:9") {
		t.Fatalf("got %+v, %v", out, err)
	}
	if out, err = d.Restore(ctx, bytes.NewReader(file.Bytes()), api.RestoreOptions{Force: true}); err != nil || out.Revision == 0 {
		t.Errorf("by force: %+v, %v", out, err)
	}
}

// TestBackupWithoutStore: a backup that lacks the audit log is made only where that is
// said.
func TestBackupWithoutStore(t *testing.T) {
	d := onDisk(t, none, 7)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var r *core.Refusal
	if err := d.Backup(ctx, io.Discard, false); !errors.As(err, &r) || !strings.Contains(r.Remedy, "--local") {
		t.Errorf("got %v", err)
	}
	var file bytes.Buffer
	if err := d.Backup(ctx, &file, true); err != nil {
		t.Fatal(err)
	}
	if b, err := store.ReadBackup(&file, nil); err != nil || !b.Head.NoAudit || b.Plan.Identity != d.horizon.current().sealed.Identity {
		t.Errorf("got %+v, %v", b.Head, err)
	}
}

// TestMigrate: from one real etcd to another under a running director, which then
// refuses commands and says where the store went; started anew there it goes on with the
// very same plan.
func TestMigrate(t *testing.T) {
	d := solo(t)
	ctx := api.WithUser(t.Context(), "ann")
	gave(t, d, drained("cluster/nyc"))
	id := d.horizon.current().sealed.Identity
	to := emptyEtcd(t)
	if out, err := d.Migrate(ctx, api.MigrateOptions{To: []string{"http://192.0.2.1:2379"}}); err != nil || out.Code != 1 || !strings.Contains(out.Error, "mutual TLS") {
		t.Errorf("in the clear over a network: %+v, %v", out, err)
	}
	for range 2 { // again is no harm
		out, err := d.Migrate(ctx, api.MigrateOptions{To: []string{to}})
		if err != nil || out.Code != 0 || !strings.Contains(out.Summary, to) {
			t.Fatalf("migrate: %+v, %v", out, err)
		}
	}
	eventually(t, "status says where it went", func() bool { return strings.Contains(d.Status().Store, "was moved to "+to) })
	if _, _, err := d.commander.commit(ctx, undrained("cluster/nyc"), nil); err == nil || !strings.Contains(err.Error(), "was moved to") {
		t.Errorf("a command to the old store: %v", err)
	}
	if d.horizon.current().sealed.Identity != id {
		t.Error("the plan in force changed")
	}
	next := bare(t, filepath.Join(d.settings.DataDir, "identity.json"), to)
	eventually(t, "it has the plan", func() bool { f := next.horizon.current(); return f != nil && f.sealed.Identity == id })
	if _, err := give(next, undrained("cluster/nyc")); err != nil {
		t.Errorf("a command to the new store: %v", err)
	}
	report, err := next.CheckStore(ctx)
	if err != nil || len(report.Findings) > 0 {
		t.Errorf("the new store: %+v, %v", report.Findings, err)
	}
}

// TestRestoreLitter: what a restore that was interrupted left, up to 2 GiB, goes at the next
// start, and nothing else does.
func TestRestoreLitter(t *testing.T) {
	s := spec.DefaultSettings()
	s.Name, s.Site, s.DataDir = "d1", "d1", t.TempDir()
	s.DNS.Listen = []string{"127.0.0.1:0"}
	s.Gossip.Listen, s.API.Listen = "127.0.0.1:0", "127.0.0.1:0"
	s.Etcd.Embedded, s.Etcd.Endpoints = false, []string{"http://127.0.0.1:1"} // never dialled: nothing runs
	for _, name := range []string{"restore-123.tmp", "restore-me"} {
		if err := os.WriteFile(filepath.Join(s.DataDir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := New(Options{Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	d.close()
	left, err := filepath.Glob(filepath.Join(s.DataDir, "restore*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "restore-me" {
		t.Errorf("left %v, %v, want restore-me alone", left, err)
	}
}
