package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

// TestRestartWithoutStore: everything stops, the store is gone for good, and
// each director still answers from its disk, drains included (S12).
func TestRestartWithoutStore(t *testing.T) {
	r := start(t, local.Options{})
	r.settle()
	r.must(1, "drain", "cluster/fra", "--reason", "INC-6")
	must(t, r.Kill("etcd"))
	for i := 1; i <= 3; i++ {
		must(t, r.Kill(local.Name(i)))
	}
	for i := 1; i <= 3; i++ {
		must(t, r.Start(t.Context(), local.Name(i)))
	}
	r.until(10*time.Second, "the last good answers", r.all("pay.example.org", "nyc"))
	must(t, r.Kill("nyc"))
	r.until(10*time.Second, "failover from the last good state, without a store", r.all("pay.example.org", "sin"))
}

// TestStoreSwapped: an empty store, or one restored from an old copy, changes no
// answer and takes no command until it is recovered (F25, S3).
func TestStoreSwapped(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	ctx := t.Context()
	must(t, r.Stop("etcd"))
	old := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(old, os.DirFS(r.EtcdDir())))
	must(t, r.Start(ctx, "etcd"))
	r.until(20*time.Second, "a drain", func() error {
		if out, code := r.divert(2, "drain", "cluster/fra", "--reason", "INC-7"); code != 0 {
			return fmt.Errorf("exit %d: %s", code, out)
		}
		return nil
	})
	for _, tc := range []struct {
		name string
		swap func() error
	}{
		{"restored from an old copy", func() error { return os.CopyFS(r.EtcdDir(), os.DirFS(old)) }},
		{"replaced by an empty one", func() error { return nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			must(t, r.Stop("etcd"))
			must(t, os.RemoveAll(r.EtcdDir()))
			must(t, tc.swap())
			must(t, r.Start(ctx, "etcd"))
			r.until(20*time.Second, "it is recognised", func() error {
				out, code := r.divert(1, "drain", "cluster/nyc", "--reason", "INC-8")
				if code != 1 || !strings.Contains(out, "store recover") {
					return fmt.Errorf("exit %d: %s", code, out)
				}
				return nil
			})
			r.holds(3*time.Second, "no answer changes", r.all("pay.example.org", "nyc"))
			r.must(1, "store", "recover")
			r.must(1, "drain", "cluster/sin", "--reason", "INC-9")
			r.must(1, "undrain", "cluster/sin", "--reason", "over")
			if err := r.all("pay.example.org", "nyc")(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRecoverOnLowerDirector: a director that knows of a higher plan and does not
// hold it refuses to recover the store, and names one that does (S3, F25).
func TestRecoverOnLowerDirector(t *testing.T) {
	long(t)
	const host = "pay.example.org"
	r := start(t, local.Options{})
	r.settle()
	ctx := t.Context()
	// d3 hears the others' heartbeats and gets no plan, neither from them nor from
	// the store.
	must(t, r.Cut(ctx, "d3", local.Etcd))
	must(t, r.Cut(ctx, "d3", local.Streams))
	out, code := r.divert(1, "drain", "cluster/fra", "--reason", "INC-12", "--timeout", "2s")
	if code != 3 || !strings.Contains(out, "d3") {
		t.Errorf("a drain that d3 cannot get: exit %d, want 3 and its name:\n%s", code, out) // S6
	}
	if err := r.answers(3, host, "fra")(); err != nil {
		t.Error(err)
	}
	r.until(5*time.Second, "d3 is behind, and says so", func() error {
		s, err := r.status(3)
		if d3 := directorIn(s, "d3"); err == nil && (!s.Behind || d3.Plan != "") {
			err = fmt.Errorf("behind %v, and acknowledges plan %q", s.Behind, d3.Plan)
		}
		return err
	})

	must(t, r.Stop("etcd"))
	must(t, os.RemoveAll(r.EtcdDir()))
	must(t, r.Start(ctx, "etcd"))
	must(t, r.Heal(ctx, "d3", local.Etcd))
	r.until(20*time.Second, "d3 sees that the store is empty", func() error {
		s, err := r.status(3)
		if err == nil && !strings.Contains(s.Store, "store recover") {
			err = fmt.Errorf("store: %s", s.Store)
		}
		return err
	})
	out, code = r.divert(3, "store", "recover")
	if code != 1 || !strings.Contains(out, "d1 holds plan") {
		t.Errorf("recovering on the lower director: exit %d, want 1 and who holds the highest:\n%s", code, out)
	}
	r.until(20*time.Second, "the one that holds it recovers", func() error {
		if out, code := r.divert(1, "store", "recover"); code != 0 {
			return fmt.Errorf("exit %d: %s", code, out)
		}
		return nil
	})
	if err := r.all(host, "nyc")(); err != nil {
		t.Errorf("after the recovery, d3 included: %v", err)
	}
	must(t, r.Heal(ctx, "d3", local.Streams))
	r.settle()
}

// TestRepeatedID: the same command ID is the same command, whatever became of its
// first try (S4). The store goes away while each is under way.
func TestRepeatedID(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	ctx := t.Context()
	first := decode[api.Outcome](t, r.must(1, "drain", "cluster/fra", "--reason", "INC-13", "--id", "once", "-o", "json"))
	for i := 1; i <= r.Directors(); i++ {
		again := decode[api.Outcome](t, r.must(i, "drain", "cluster/fra", "--reason", "INC-13", "--id", "once", "-o", "json"))
		if again.Revision != first.Revision || again.Code != 0 {
			t.Errorf("repeated on d%d: revision %d with code %d, want %d with 0", i, again.Revision, again.Code, first.Revision)
		}
	}
	if out, code := r.divert(2, "drain", "cluster/nyc", "--reason", "INC-13", "--id", "once"); code != 1 || !strings.Contains(out, "another command") {
		t.Errorf("another command under the same ID: exit %d, want 1:\n%s", code, out)
	}
	r.must(1, "undrain", "cluster/fra", "--reason", "over")
	r.must(2, "drain", "cluster/fra", "--reason", "INC-13", "--id", "once") // it was done, and is not done again
	if err := r.all("pay.example.org", "fra")(); err != nil {
		t.Errorf("an old command came back: %v", err)
	}

	client := r.client(1)
	codes := map[int]int{}
	for n := range 16 {
		cmd := core.Command{ID: fmt.Sprintf("cut-%d", n), Verb: core.Drain, Scope: "service/api@sin", Reason: "INC-14", For: time.Hour}
		if n%2 == 1 {
			cmd.Verb, cmd.For = core.Undrain, 0
		}
		cut := make(chan error, 1)
		time.AfterFunc(time.Duration(n)*2*time.Millisecond, func() { cut <- r.Cut(ctx, "d1", local.Etcd) })
		o, err := client.Do(ctx, cmd, 20*time.Second, nil)
		must(t, err)
		codes[o.Code]++
		must(t, <-cut)
		must(t, r.Heal(ctx, "d1", local.Etcd))
		r.until(20*time.Second, "the command is done", func() error {
			o, err := client.Do(ctx, cmd, 10*time.Second, nil)
			if err == nil && o.Code != 0 {
				err = fmt.Errorf("code %d: %s", o.Code, o.Error)
			}
			return err
		})
	}
	t.Logf("exit codes while the store went away: %v", codes)
	counts := map[string]int{}
	for _, record := range decode[[]api.AuditRecord](t, r.must(2, "audit", "--limit", "100", "-o", "json")) {
		counts[record.Command]++
	}
	for n := range 16 {
		if id := fmt.Sprintf("cut-%d", n); counts[id] != 1 {
			t.Errorf("%s has %d audit records, want 1", id, counts[id])
		}
	}
	if counts["once"] != 1 {
		t.Errorf("the first command has %d audit records, want 1", counts["once"])
	}
}
