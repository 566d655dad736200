package resolve

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/divertdns/divert/dnsserver/ask"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func ok(ttl time.Duration, list ...string) outcome {
	return outcome{Addresses: ask.Addresses{Addrs: addrs(list...), TTL: ttl}}
}

var none = outcome{}

func no(text string) outcome { return outcome{err: errors.New(text)} }

func permitted(a netip.Addr) error {
	if a.IsLoopback() || a.IsLinkLocalUnicast() {
		return fmt.Errorf("%s is not probed", a)
	}
	return nil
}

// TestUpdate: only other addresses take away what is known; none of a family is
// believed beside some of the other alone.
func TestUpdate(t *testing.T) {
	const s = time.Second
	dual := &Records{Addrs: [2][]netip.Addr{addrs("192.0.2.1"), addrs("2001:db8::1")}, Known: [2]bool{true, true}, TTL: 60 * s}
	v4 := &Records{Addrs: [2][]netip.Addr{addrs("192.0.2.1"), nil}, Known: [2]bool{true, true}, TTL: 60 * s}
	half := &Records{Addrs: [2][]netip.Addr{addrs("192.0.2.1"), nil}, Known: [2]bool{true, false}, TTL: 60 * s}
	tests := []struct {
		name    string
		old     *Records
		got     [2]outcome
		want    *Records
		problem string
		refresh time.Duration
	}{
		{"first, both", nil, [2]outcome{ok(60*s, "192.0.2.1"), ok(70*s, "2001:db8::1")}, dual, "", 60 * s},
		{"first, one and none", nil, [2]outcome{ok(60*s, "192.0.2.1"), none}, v4, "", 60 * s},
		{"first, one and a failure", nil, [2]outcome{ok(60*s, "192.0.2.1"), no("SERVFAIL")}, half, "SERVFAIL", 60 * s},
		{"first, nothing", nil, [2]outcome{none, none}, nil, "the name has no addresses", 0},
		{"first, NXDOMAIN", nil, [2]outcome{{err: ask.ErrNoName}, {err: ask.ErrNoName}}, nil, ask.ErrNoName.Error(), 0},
		{"the same again", dual, [2]outcome{ok(60*s, "192.0.2.1"), ok(70*s, "2001:db8::1")}, dual, "", 60 * s},
		{"the same, to be kept a second less", dual, [2]outcome{ok(65*s, "192.0.2.1"), ok(89*s, "2001:db8::1")}, dual, "", 65 * s},
		{"NXDOMAIN", dual, [2]outcome{{err: ask.ErrNoName}, {err: ask.ErrNoName}}, dual, ask.ErrNoName.Error(), 0},
		{"SERVFAIL", dual, [2]outcome{no("SERVFAIL"), no("SERVFAIL")}, dual, "SERVFAIL", 0},
		{"time-outs", dual, [2]outcome{{err: errSilent}, {err: errSilent}}, dual, errSilent.Error(), 0},
		{"NODATA for both", dual, [2]outcome{none, none}, dual, "the name has no addresses", 0},
		{"NODATA and NXDOMAIN", dual, [2]outcome{none, {err: ask.ErrNoName}}, dual, ask.ErrNoName.Error(), 0},
		{"NODATA and a time-out", dual, [2]outcome{none, {err: errSilent}}, dual, errSilent.Error(), 0},
		{"NODATA beside addresses is believed", dual, [2]outcome{ok(60*s, "192.0.2.1"), none}, v4, "", 60 * s},
		{"a failure beside addresses keeps, and does not confirm", dual, [2]outcome{ok(60*s, "192.0.2.1"), no("SERVFAIL")}, dual, "SERVFAIL", 0},
		{"a family that never was does not fail the other", half, [2]outcome{ok(60*s, "192.0.2.1"), no("SERVFAIL")}, half, "SERVFAIL", 60 * s},
		{"other addresses", dual, [2]outcome{ok(60*s, "192.0.2.2"), ok(60*s, "2001:db8::1")}, &Records{Addrs: [2][]netip.Addr{addrs("192.0.2.2"), addrs("2001:db8::1")}, Known: [2]bool{true, true}, TTL: 60 * s}, "", 60 * s},
		{"a TTL of 0 holds 5 s", nil, [2]outcome{ok(0, "192.0.2.1"), none}, &Records{Addrs: [2][]netip.Addr{addrs("192.0.2.1"), nil}, Known: [2]bool{true, true}, TTL: 5 * s}, "", 5 * s},
		{"a TTL of a day holds an hour", nil, [2]outcome{ok(24*time.Hour, "192.0.2.1"), none}, &Records{Addrs: [2][]netip.Addr{addrs("192.0.2.1"), nil}, Known: [2]bool{true, true}, TTL: time.Hour}, "", time.Hour},
		{"what may not be dialled is left out (C12)", nil, [2]outcome{ok(60*s, "127.0.0.1", "192.0.2.1"), none}, v4, "", 60 * s},
		{"nothing else", dual, [2]outcome{ok(60*s, "127.0.0.1"), ok(60*s, "fe80::1")}, dual, "fe80::1 is not probed", 0},
		{"nothing else, beside none", dual, [2]outcome{ok(60*s, "127.0.0.1"), none}, dual, "127.0.0.1 is not probed", 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, problem, refresh := update(tc.old, tc.got, permitted)
			if (got == nil) != (tc.want == nil) || got != nil && !got.same(tc.want) || (got == tc.old) != (tc.want == tc.old) {
				t.Errorf("got %+v, want %+v, the identity that of what it says", got, tc.want)
			}
			if problem != tc.problem || refresh != tc.refresh {
				t.Errorf("got %q, %v, want %q, %v", problem, refresh, tc.problem, tc.refresh)
			}
		})
	}
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("10.0.0.%d", i+1))
	}
	got, _, _ := update(nil, [2]outcome{ok(60*s, many...), none}, permitted)
	if len(got.Addrs[0]) != MaxAddrs || got.Addrs[0][0] != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("of 40 addresses got %v, want the first %d", got.Addrs[0], MaxAddrs)
	}
}

// upstream is a server in a test.
type upstream struct {
	mu     sync.Mutex
	answer func(server, name string, v6 bool) outcome
	took   time.Duration
	asked  []string
	flying int
	most   int
}

func (u *upstream) ask(ctx context.Context, server, name string, v6 bool) (ask.Addresses, error) {
	u.mu.Lock()
	u.asked = append(u.asked, server+" "+name)
	u.flying++
	u.most = max(u.most, u.flying)
	answer, took := u.answer, u.took
	u.mu.Unlock()
	defer func() { u.mu.Lock(); u.flying--; u.mu.Unlock() }()
	if answer == nil {
		<-ctx.Done()
		return ask.Addresses{}, ctx.Err()
	}
	if took > 0 { // a timer that is over when it begins, of several goroutines at once, crashes Go 1.26's race detector in a bubble
		select {
		case <-time.After(took):
		case <-ctx.Done():
			return ask.Addresses{}, ctx.Err()
		}
	}
	got := answer(server, name, v6)
	return got.Addresses, got.err
}

func (u *upstream) set(answer func(server, name string, v6 bool) outcome) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.asked)
}

func always(ttl time.Duration, v4 string) func(string, string, bool) outcome {
	return func(_, _ string, v6 bool) outcome {
		if v6 {
			return none
		}
		return ok(ttl, v4)
	}
}

// run tests a resolver on virtual time.
func run(t *testing.T, o Options, test func(t *testing.T, r *Resolver, u *upstream)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{}
		if o.Servers == nil {
			o.Servers = []string{"s1"}
		}
		r := New(o)
		r.ask = u.ask
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		test(t, r, u)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: got %v", err)
		}
	})
}

func (r *Resolver) first(name string) string {
	if records := r.Records(name); records != nil && len(records.Addrs[0]) > 0 {
		return records.Addrs[0][0].String()
	}
	return ""
}

// TestLastGoodForever: a name is asked for again as its TTL says, and whatever goes
// wrong then, its last good stays (SEMANTICS, DNS; S12).
func TestLastGoodForever(t *testing.T) {
	changes := 0
	run(t, Options{Changed: func(bool) { changes++ }}, func(t *testing.T, r *Resolver, u *upstream) {
		u.set(always(30*time.Second, "192.0.2.1"))
		r.Set([]string{"lb.example.net"})
		synctest.Wait()
		if got := r.first("lb.example.net"); got != "192.0.2.1" || changes != 1 {
			t.Fatalf("got %q, %d changes", got, changes)
		}
		for i, wrong := range []func(string, string, bool) outcome{
			nil,
			func(string, string, bool) outcome { return outcome{err: ask.ErrNoName} },
			func(string, string, bool) outcome { return no("SERVFAIL") },
			func(string, string, bool) outcome { return none },
		} {
			u.set(wrong)
			before := u.count()
			time.Sleep(10 * time.Hour)
			if got := r.first("lb.example.net"); got != "192.0.2.1" || changes != 1 {
				t.Fatalf("got %q, %d changes, want the last good", got, changes)
			}
			if n := u.count() - before; n < 10*60 || n > 10*60*2*3 {
				t.Errorf("asked %d times in ten hours of failures, want about once a minute", n)
			}
			s, _ := r.Status("lb.example.net")
			if !s.Stale || s.Problem == "" || s.Since.IsZero() || s.Gone != (i == 1) {
				t.Errorf("got %+v, want it stale and why", s)
			}
		}
		u.set(always(30*time.Second, "192.0.2.2"))
		time.Sleep(75 * time.Second)
		if s, _ := r.Status("lb.example.net"); r.first("lb.example.net") != "192.0.2.2" || changes != 2 || s.Stale || s.Problem != "" {
			t.Errorf("got %+v, %d changes, want it resolved anew", s, changes)
		}
	})
}

// TestRefresh: between 5 s and an hour, later than the TTL and never sooner.
func TestRefresh(t *testing.T) {
	for _, tc := range []struct{ ttl, want time.Duration }{
		{0, 5 * time.Second}, {30 * time.Second, 30 * time.Second}, {24 * time.Hour, time.Hour},
	} {
		run(t, Options{}, func(t *testing.T, r *Resolver, u *upstream) {
			u.set(always(tc.ttl, "192.0.2.1"))
			r.Set([]string{"lb.example.net"})
			time.Sleep(100 * tc.want)
			synctest.Wait()
			if n := u.count() / 2; n < 90 || n > 101 {
				t.Errorf("TTL %v: asked %d times in a hundred times %v", tc.ttl, n, tc.want)
			}
		})
	}
}

// TestBounds: 64 queries at once, 10,000 names, in bounded time also where no server
// answers.
func TestBounds(t *testing.T) {
	var names []string
	for i := range MaxNames + 5 {
		names = append(names, fmt.Sprintf("lb-%05d.example.net", i))
	}
	run(t, Options{}, func(t *testing.T, r *Resolver, u *upstream) {
		u.took = 10 * time.Millisecond
		u.set(always(time.Hour, "192.0.2.1"))
		r.Set(names)
		time.Sleep(time.Minute)
		synctest.Wait()
		if u.most != 2*atOnce || u.count() != 2*MaxNames {
			t.Errorf("%d queries, %d at once, want %d and %d", u.count(), u.most, 2*MaxNames, 2*atOnce)
		}
		if r.Records(names[MaxNames-1]) == nil || r.Records(names[MaxNames]) != nil {
			t.Error("want the first 10,000 by name resolved, and no more")
		}
	})
	run(t, Options{Servers: []string{"s1", "s2"}}, func(t *testing.T, r *Resolver, u *upstream) {
		r.Set(names[:100])
		time.Sleep(2 * time.Minute)
		if n := u.count(); n < 400 {
			t.Errorf("asked %d times in two minutes of silence, want all names tried", n)
		}
		u.set(always(time.Hour, "192.0.2.1"))
		time.Sleep(2 * time.Minute)
		for _, name := range names[:100] {
			if r.first(name) == "" {
				t.Fatalf("%s is not resolved two minutes after the servers are back", name)
			}
		}
	})
}

// TestServers: another server is asked where one fails or is silent; the one that
// answered is asked first from then on.
func TestServers(t *testing.T) {
	for _, bad := range []string{"silent", "SERVFAIL"} {
		run(t, Options{Servers: []string{"s1", "s2"}}, func(t *testing.T, r *Resolver, u *upstream) {
			u.set(func(server, name string, v6 bool) outcome {
				switch {
				case server == "s2":
					return always(5*time.Second, "192.0.2.1")(server, name, v6)
				case bad == "silent":
					time.Sleep(2 * time.Second) // past the patience
					return outcome{err: context.DeadlineExceeded}
				}
				return no(bad)
			})
			r.Set([]string{"lb.example.net"})
			time.Sleep(4 * time.Second)
			synctest.Wait()
			if r.first("lb.example.net") == "" {
				t.Fatalf("%s: not resolved by the other server", bad)
			}
			before := u.count()
			time.Sleep(time.Minute)
			u.mu.Lock()
			defer u.mu.Unlock()
			for _, asked := range u.asked[before:] {
				if !strings.HasPrefix(asked, "s2") {
					t.Fatalf("%s: asked %v, want s2 first", bad, u.asked[before:])
				}
			}
		})
	}
}

// TestSet: names that stay keep what is known and their time; those that go are not
// asked for, and are remembered for an hour in case that they come back.
func TestSet(t *testing.T) {
	run(t, Options{}, func(t *testing.T, r *Resolver, u *upstream) {
		u.set(always(time.Hour, "192.0.2.1"))
		r.Set([]string{"a.example.net", "b.example.net"})
		synctest.Wait()
		r.Set([]string{"a.example.net"})
		synctest.Wait()
		if n := u.count(); n != 4 {
			t.Errorf("asked %d times, want 4: nothing anew for what stays", n)
		}
		u.set(nil)
		time.Sleep(30 * time.Minute)
		r.Set([]string{"a.example.net", "b.example.net"})
		if r.first("b.example.net") != "192.0.2.1" {
			t.Error("a name that came back after half an hour is forgotten")
		}
		r.Set([]string{"a.example.net"})
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if r.Records("b.example.net") != nil {
			t.Error("a name that nobody wants is remembered after two hours")
		}
		if r.first("a.example.net") == "" {
			t.Error("a name that is wanted was forgotten")
		}
	})
}

// TestRestore: what was saved is there before anything is asked, and goes on from
// there; octets that cannot be read change nothing.
func TestRestore(t *testing.T) {
	var image []byte
	run(t, Options{}, func(t *testing.T, r *Resolver, u *upstream) {
		u.set(func(_, name string, v6 bool) outcome {
			if v6 {
				return ok(30*time.Second, "2001:db8::2", "2001:db8::1")
			}
			return ok(20*time.Second, "192.0.2.1")
		})
		r.Set([]string{"a.example.net", "b.example.net"})
		synctest.Wait()
		image = r.Save()
	})
	run(t, Options{}, func(t *testing.T, r *Resolver, _ *upstream) {
		if err := r.Restore(image); err != nil {
			t.Fatal(err)
		}
		r.Set([]string{"a.example.net", "c.example.net"})
		time.Sleep(3 * time.Hour)
		got := r.Records("a.example.net")
		if got == nil || !slices.Equal(got.All(), addrs("192.0.2.1", "2001:db8::1", "2001:db8::2")) || got.TTL != 20*time.Second || got.Known != [2]bool{true, true} {
			t.Errorf("got %+v, want what was saved", got)
		}
		if r.Records("b.example.net") != nil || r.Records("c.example.net") != nil {
			t.Error("what is not wanted, or never was known, is known")
		}
		if s, _ := r.Status("a.example.net"); !s.Stale || s.Resolved.IsZero() {
			t.Errorf("got %+v, want its age from the disk", s)
		}
	})
	r := New(Options{})
	if err := r.Restore(image[:len(image)-1]); err == nil || r.Records("a.example.net") != nil {
		t.Errorf("cut short: got %v and %+v, want an error and nothing", err, r.Records("a.example.net"))
	}
	if err := r.Restore(nil); err != nil {
		t.Errorf("an older director's, without the field: %v", err)
	}
	// What may not be used any more (C12).
	strict := New(Options{Permit: func(a netip.Addr) error {
		if a.Is4() || a == netip.MustParseAddr("2001:db8::2") {
			return errors.New("refused")
		}
		return nil
	}})
	if err := strict.Restore(image); err != nil || !slices.Equal(strict.Records("a.example.net").All(), addrs("2001:db8::1")) || strict.Records("a.example.net").Known != [2]bool{false, true} {
		t.Errorf("got %v and %+v, want 2001:db8::1 alone", err, strict.Records("a.example.net"))
	}
	none := New(Options{Permit: func(netip.Addr) error { return errors.New("refused") }})
	if err := none.Restore(image); err != nil || none.Records("a.example.net") != nil {
		t.Errorf("got %v and %+v, want nothing known", err, none.Records("a.example.net"))
	}
	// What a later version adds is skipped.
	if err := r.Restore(append(slices.Clone(image), 0x7a, 1, 0)); err != nil || r.first("a.example.net") == "" {
		t.Errorf("with a later field: got %v", err)
	}
}

func FuzzRead(f *testing.F) {
	r := New(Options{})
	e := &entry{name: "lb.example.net", at: time.Unix(1e9, 0)}
	e.records.Store(&Records{Addrs: [2][]netip.Addr{addrs("192.0.2.1"), addrs("2001:db8::1")}, Known: [2]bool{true, true}, TTL: time.Minute})
	r.entries[e.name] = e
	f.Add(r.Save())
	f.Fuzz(func(t *testing.T, data []byte) {
		saved, err := Read(data)
		if err != nil {
			return
		}
		for name, s := range saved {
			for family, list := range s.Records.Addrs {
				if len(list) > MaxAddrs || !slices.IsSortedFunc(list, netip.Addr.Compare) || slices.ContainsFunc(list, func(a netip.Addr) bool { return a.Is4() == (family == 1) }) {
					t.Errorf("%s: got %v", name, list)
				}
			}
			if s.Records.TTL < minRefresh || s.Records.TTL > maxRefresh {
				t.Errorf("%s: got a TTL of %v", name, s.Records.TTL)
			}
		}
	})
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	run(t, Options{Registerer: registry}, func(t *testing.T, r *Resolver, u *upstream) {
		u.set(always(time.Minute, "192.0.2.1"))
		r.Set([]string{"a.example.net"})
		synctest.Wait()
		u.set(nil)
		time.Sleep(2 * time.Hour)
		want := `
# HELP divert_resolve_hostnames_stale Hostnames that were last resolved more than an hour ago; alert on it.
# TYPE divert_resolve_hostnames_stale gauge
divert_resolve_hostnames_stale 1
# HELP divert_resolve_oldest_seconds Time since the hostname that was resolved least recently was, 0 without any.
# TYPE divert_resolve_oldest_seconds gauge
divert_resolve_oldest_seconds 7200
`
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "divert_resolve_hostnames_stale", "divert_resolve_oldest_seconds"); err != nil {
			t.Error(err)
		}
	})
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("got %v, %v", problems, err)
	}
}
