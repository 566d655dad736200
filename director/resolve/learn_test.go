package resolve

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/divertdns/divert/dnsserver/ask"
)

// TestLearn: who prepares a plan waits for its new names, as long as he likes.
func TestLearn(t *testing.T) {
	run(t, Options{}, func(t *testing.T, r *Resolver, u *upstream) {
		u.took = 300 * time.Millisecond
		u.set(always(time.Hour, "192.0.2.1"))
		start := time.Now()
		r.Learn(t.Context(), []string{"a.example.net", "b.example.net"})
		if took := time.Since(start); took != 300*time.Millisecond || r.first("b.example.net") == "" {
			t.Errorf("got %q after %v, want it at once", r.first("b.example.net"), took)
		}
		start = time.Now()
		r.Learn(t.Context(), []string{"a.example.net"})
		u.set(nil)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		r.Learn(ctx, []string{"a.example.net", "c.example.net"})
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("waited %v for a name that nobody answers, want 2 s", took)
		}
	})
}

// TestLearnOnce: a name that nobody answers holds up the first plan that needs it, and
// not the drain that comes next (L4).
func TestLearnOnce(t *testing.T) {
	run(t, Options{Servers: []string{"s1", "s2", "s3"}}, func(t *testing.T, r *Resolver, _ *upstream) {
		names := []string{"a.example.net", "b.example.net"}
		learn := func() time.Duration {
			start := time.Now()
			r.Learn(t.Context(), names)
			return time.Since(start)
		}
		if took := learn(); took != Patience {
			t.Errorf("the first plan waited %v, want %v", took, Patience)
		}
		if took := learn(); took != 0 {
			t.Errorf("the next plan waited %v for the same names", took)
		}
		r.Set(names)
		time.Sleep(time.Second)
		if took := learn(); took != 0 {
			t.Errorf("a plan waited %v for names that are in force", took)
		}
	})
}

// TestLearnRefused: the names of a plan that never came into force are not asked for
// for ever, and alarm nobody.
func TestLearnRefused(t *testing.T) {
	run(t, Options{}, func(t *testing.T, r *Resolver, u *upstream) {
		u.set(func(string, string, bool) outcome { return outcome{err: ask.ErrNoName} })
		r.Set(nil)
		r.Learn(t.Context(), []string{"typo.example.net"})
		time.Sleep(time.Hour)
		before := u.count()
		time.Sleep(time.Hour)
		if n := u.count() - before; n > 0 || r.oldest() > 0 {
			t.Errorf("asked %d times in the second hour, %v old", n, r.oldest())
		}
		r.Learn(t.Context(), []string{"a.example.net"})
		r.Set([]string{"a.example.net"})
		time.Sleep(time.Hour)
		if before = u.count(); r.oldest() < time.Hour {
			t.Errorf("a name of a plan in force is %v old", r.oldest())
		}
		time.Sleep(time.Hour)
		if u.count() == before {
			t.Error("a name of a plan in force is not asked for")
		}
	})
}

// TestRemembered: however often all names change, no more are remembered than can be
// read from the disk, those wanted first (S12).
func TestRemembered(t *testing.T) {
	r := New(Options{})
	var names []string
	for round := range 4 {
		names = nil
		for i := range MaxNames {
			names = append(names, fmt.Sprintf("lb-%d-%05d.example.net", round, i))
		}
		r.Set(names)
		for _, e := range r.entries { // as if each had resolved
			e.records.Store(&Records{Addrs: [2][]netip.Addr{addrs("192.0.2.1")}, Known: [2]bool{true, true}, TTL: time.Minute})
		}
	}
	after := New(Options{})
	if err := after.Restore(r.Save()); err != nil {
		t.Fatal(err)
	}
	if after.first(names[0]) == "" || after.first(names[MaxNames-1]) == "" {
		t.Error("a name that is wanted was forgotten")
	}
}
