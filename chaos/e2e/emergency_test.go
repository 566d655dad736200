package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

// emergency finds an emergency drain of a scope on a director, with its state; an ordinary
// one has state "plan".
func (r *rig) emergency(i int, scope, state string) func() error {
	return func() error {
		s, err := r.status(i)
		if err != nil {
			return err
		}
		found := "none"
		for _, o := range s.Overrides {
			if o.Scope != scope || o.Kind != "drain" {
				continue
			}
			if found = "plan"; o.Emergency != nil {
				found = o.Emergency.State
			}
		}
		if found != state {
			return fmt.Errorf("%s: the drain of %s is %s, want %s", local.Name(i), scope, found, state)
		}
		return nil
	}
}

// TestEmergencyDrain: with etcd gone a drain is refused and --emergency is named (F10); an
// operator drains all the same, on every director, never a last site; it outlives a kill -9
// of all directors; when etcd is back it is an ordinary drain of the same ID, once, and no
// answer changes at that (S5, S15).
func TestEmergencyDrain(t *testing.T) {
	r := start(t, local.Options{})
	r.settle()
	ctx := t.Context()
	const host = "pay.example.org"
	key, other := filepath.Join(t.TempDir(), "oncall.key"), filepath.Join(t.TempDir(), "other.key")
	r.must(1, "keys", "operator", "new", key)
	r.must(1, "keys", "operator", "new", other)
	r.must(1, "keys", "operator", "add", "oncall", key, "--reason", "on call")
	if out, code := r.divert(1, "drain", "cluster/fra", "--emergency", "--key", key, "--reason", "INC-20"); code != 1 || !strings.Contains(out, "divert drain") {
		t.Errorf("an emergency while etcd is there: exit %d, want 1:\n%s", code, out)
	}
	must(t, r.Kill("etcd"))
	if out, code := r.divert(1, "drain", "cluster/fra", "--reason", "INC-20"); code != 1 || !strings.Contains(out, "--emergency") {
		t.Errorf("F10: a drain while etcd is away: exit %d, want 1 and --emergency named:\n%s", code, out)
	}
	if out, code := r.divert(1, "drain", "cluster/fra", "--emergency", "--key", other, "--reason", "INC-20"); code != 1 {
		t.Errorf("a key that the plan does not list: exit %d, want 1:\n%s", code, out)
	}
	if out, code := r.divert(1, "drain", "cluster/fra", "--emergency", "--key", key, "--reason", "INC-20", "--dry-run"); code != 0 {
		t.Errorf("a dry run: exit %d:\n%s", code, out)
	}
	if err := r.all(host, "fra")(); err != nil {
		t.Errorf("before: %v", err)
	}
	begun := time.Now()
	out := r.must(1, "drain", "cluster/fra", "--emergency", "--key", key, "--for", "30m", "--reason", "INC-20", "--id", "urgent-1")
	t.Logf("in force on all after %s, the store's silence included:\n%s", time.Since(begun).Round(time.Millisecond), out)
	if err := r.all(host, "nyc")(); err != nil {
		t.Errorf("once it is said to be done: %v", err)
	}
	if out := r.must(3, "explain", host); !strings.Contains(out, "INC-20") || !strings.Contains(out, "oncall") {
		t.Errorf("explain says neither who nor why:\n%s", out)
	}
	r.must(2, "drain", "cluster/nyc", "--emergency", "--key", key, "--reason", "INC-21")
	r.until(5*time.Second, "the second one", r.all(host, "sin"))
	if out, code := r.divert(3, "drain", "cluster/sin", "--emergency", "--key", key, "--reason", "INC-22"); code != 1 || !strings.Contains(out, "last healthy site") {
		t.Errorf("the last site: exit %d, want 1:\n%s", code, out)
	}
	r.must(3, "undrain", "cluster/nyc", "--emergency", "--key", key, "--reason", "over")
	r.until(5*time.Second, "the second one undrained", r.all(host, "nyc"))

	for i := 1; i <= 3; i++ {
		must(t, r.Kill(local.Name(i)))
	}
	for i := 1; i <= 3; i++ {
		must(t, r.Start(ctx, local.Name(i)))
	}
	r.until(10*time.Second, "the drain after a restart of all (S12)", r.all(host, "nyc"))
	for i := 1; i <= 3; i++ {
		r.until(10*time.Second, "it is in force after a restart", r.emergency(i, "cluster/fra", "in force"))
		r.until(10*time.Second, "the other one stays undrained", r.emergency(i, "cluster/nyc", "undrained"))
	}
	must(t, r.Kill("nyc"))
	r.until(10*time.Second, "failover goes on meanwhile", r.all(host, "sin"))
	must(t, r.Kill("sin"))
	r.until(15*time.Second, "the drained site is the last one, and serves", r.all(host, "fra"))
	must(t, r.Start(ctx, "nyc"))
	must(t, r.Start(ctx, "sin"))
	r.until(60*time.Second, "who takes over is back", r.all(host, "nyc"))

	must(t, r.Start(ctx, "etcd"))
	r.holds(100*time.Millisecond, "no answer changes", r.all(host, "nyc"))
	r.until(30*time.Second, "it is an ordinary drain", func() error {
		if err := r.all(host, "nyc")(); err != nil {
			t.Errorf("while it became one: %v", err)
		}
		for i := 1; i <= 3; i++ {
			if err := r.emergency(i, "cluster/fra", "plan")(); err != nil {
				return err
			}
			if err := r.emergency(i, "cluster/nyc", "none")(); err != nil {
				return err
			}
		}
		return nil
	})
	s, err := r.status(2)
	must(t, err)
	if !slices.ContainsFunc(s.Overrides, func(o api.Override) bool { return o.ID == "urgent-1" && o.Emergency == nil }) {
		t.Errorf("it has not kept its ID: %+v", s.Overrides)
	}
	told := 0
	for _, record := range decode[[]api.AuditRecord](t, r.must(2, "audit", "--limit", "100", "-o", "json")) {
		if strings.Contains(record.Command, "settle-urgent-1-") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("S15: %d audit records of it, want 1", told)
	}
	r.must(1, "undrain", "cluster/fra", "--reason", "INC-20 is over")
	r.until(30*time.Second, "undrained as any other", r.all(host, "fra"))
}
