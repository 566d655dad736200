package probe

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/divertdns/divert/health"
)

func named(i int) Target {
	t := deep(i, time.Second)
	t.Hostname = "lb.example.net"
	return t
}

func list(texts ...string) (out []netip.Addr) {
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// lookup has the hostname resolve to addresses.
func (w *world) lookup(addrs ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addrs = list(addrs...)
}

// TestHostnameOrder: of each family in turn, IPv6 first, four at most, the one that
// answered last before all (RFC 8305 section 4).
func TestHostnameOrder(t *testing.T) {
	all := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2", "2001:db8::3"}
	tests := []struct {
		last string
		in   []string
		want []string
	}{
		{"", nil, nil},
		{"", []string{"192.0.2.1"}, []string{"192.0.2.1"}},
		{"", all, []string{"2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"}},
		{"", all[:3], all[:3]},
		{"192.0.2.3", all, []string{"192.0.2.3", "2001:db8::1", "192.0.2.1", "2001:db8::2"}},
		{"2001:db8::3", all, []string{"2001:db8::3", "192.0.2.1", "2001:db8::1", "192.0.2.2"}},
		{"198.51.100.1", all[:2], all[:2]},
	}
	for _, tc := range tests {
		h := &hostname{}
		if tc.last != "" {
			last := netip.MustParseAddr(tc.last)
			h.last.Store(&last)
		}
		if got := h.order(list(tc.in...)); !slices.Equal(got, list(tc.want...)) {
			t.Errorf("last %q: got %v, want %v", tc.last, got, tc.want)
		}
	}
}

// TestHostnameTries: the next address begins when one has failed, or is not connected
// for 50 ms; the first that answers counts, and from then on is the first that is tried.
func TestHostnameTries(t *testing.T) {
	const second = 50 * time.Millisecond
	dead := outcome{reason: "connection refused"}
	tests := []struct {
		name string
		// What each address does, in order of trial.
		answers []func(ctx context.Context, r *request) outcome
		want    outcome
		starts  []time.Duration
	}{
		{"first answers", []func(context.Context, *request) outcome{after2(0, 30*time.Millisecond, outcome{ok: true})}, outcome{ok: true, latency: 30 * time.Millisecond}, []time.Duration{0}},
		{"a page that is slow in coming starts no other", []func(context.Context, *request) outcome{after2(10*time.Millisecond, 500*time.Millisecond, outcome{ok: true})}, outcome{ok: true, latency: 500 * time.Millisecond}, []time.Duration{0}},
		{"refused, at once the next", []func(context.Context, *request) outcome{after2(-1, 5*time.Millisecond, dead), after2(0, time.Millisecond, outcome{ok: true})}, outcome{ok: true, latency: 6 * time.Millisecond}, []time.Duration{0, 5 * time.Millisecond}},
		{"silent, the next after 50 ms", []func(context.Context, *request) outcome{hang, after2(0, time.Millisecond, outcome{ok: true})}, outcome{ok: true, latency: second + time.Millisecond}, []time.Duration{0, second}},
		{"four at most, all silent", []func(context.Context, *request) outcome{hang, hang, hang, hang}, outcome{reason: "timeout", timeout: true, latency: time.Second}, []time.Duration{0, second, 2 * second, 3 * second}},
		{"a refusal is known to be one, whatever is silent", []func(context.Context, *request) outcome{hang, after2(-1, 0, dead), hang, hang}, outcome{reason: "connection refused", latency: time.Second}, []time.Duration{0, second, second, 2 * second}},
		{"503 after it was connected", []func(context.Context, *request) outcome{after2(1, 20*time.Millisecond, outcome{reason: "status 503"}), after2(0, 0, outcome{ok: true})}, outcome{ok: true, latency: 20 * time.Millisecond}, []time.Duration{0, 20 * time.Millisecond}},
		{"no route to one family says nothing", []func(context.Context, *request) outcome{after2(-1, 0, outcome{void: true, reason: "our own side"}), after2(-1, 0, dead), hang, hang}, outcome{reason: "connection refused", latency: time.Second}, []time.Duration{0, 0, 0, second}},
		{"void is void", slices.Repeat([]func(context.Context, *request) outcome{after2(-1, 0, outcome{void: true, reason: "our own side"})}, 4), outcome{void: true, reason: "our own side"}, []time.Duration{0, 0, 0, 0}},
	}
	addrs := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				var mu sync.Mutex
				var starts []time.Duration
				s := New(Options{Lookup: func(string) []netip.Addr { return list(addrs...) }})
				s.ask = func(ctx context.Context, r *request) outcome {
					i := int(r.addr.Addr().As4()[3]) - 1
					mu.Lock()
					starts = append(starts, time.Since(begin))
					mu.Unlock()
					if r.addr.Port() != 443 || i >= len(tc.answers) {
						t.Errorf("asked %s", r.addr)
						return outcome{}
					}
					return tc.answers[i](ctx, r)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				r := s.prepare(named(1))
				got := s.reach(ctx, r)
				if got != tc.want || !slices.Equal(starts, tc.starts) {
					t.Errorf("got %+v, begun at %v, want %+v at %v", got, starts, tc.want, tc.starts)
				}
				if last := r.hostname.last.Load(); (last != nil) != got.ok {
					t.Errorf("the one that answered last: got %v", last)
				}
			})
		})
	}
}

// TestHostnameTriesAll: where only some of a name's addresses answer they are found,
// however many do not, and however few a probe has time for.
func TestHostnameTriesAll(t *testing.T) {
	var addrs []netip.Addr
	for i := range 16 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 15: byte(i + 1)}))
	}
	for _, patience := range []time.Duration{100 * time.Millisecond, time.Second} {
		for _, alive := range addrs {
			synctest.Test(t, func(t *testing.T) {
				s := New(Options{Lookup: func(string) []netip.Addr { return addrs }})
				s.ask = func(ctx context.Context, r *request) outcome {
					if r.addr.Addr() == alive {
						return outcome{ok: true}
					}
					return hang(ctx, r)
				}
				r := s.prepare(named(1))
				probes := 0
				for r.hostname.last.Load() == nil {
					if probes++; probes > 17 {
						t.Fatalf("%s was not tried in %d probes of %v", alive, probes, patience)
					}
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					s.reach(ctx, r)
					cancel()
				}
				alive = addrs[(slices.Index(addrs, alive)+5)%len(addrs)] // and when that one dies
				for probes = 0; *r.hostname.last.Load() != alive; probes++ {
					if probes > 40 {
						t.Fatalf("%s was not tried in %d probes of %v", alive, probes, patience)
					}
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					s.reach(ctx, r)
					cancel()
				}
			})
		}
	}
}

// after2 connects after one time, unless that is negative, and ends after another.
func after2(connected, ended time.Duration, out outcome) func(context.Context, *request) outcome {
	return func(ctx context.Context, r *request) outcome {
		if connected >= 0 {
			time.Sleep(connected)
			r.opened()
		}
		select {
		case <-ctx.Done():
			return outcome{reason: "timeout", timeout: true}
		case <-time.After(ended - max(connected, 0)):
		}
		return out
	}
}

// TestHostnameRhythm: what a name resolves to may change at any time; its probe's
// rhythm and history do not. Of nothing known it says nothing (S17).
func TestHostnameRhythm(t *testing.T) {
	run(t, func(w *world) {
		w.lookup()
		w.Set([]Target{named(1)})
		time.Sleep(10 * time.Second)
		w.mu.Lock()
		if len(w.reports) < 8 {
			t.Errorf("got %d reports in 10 s", len(w.reports))
		}
		for _, r := range w.reports {
			if !r.Void || !strings.Contains(r.Reason, "not resolved") {
				t.Fatalf("got %+v, want it void", r)
			}
		}
		w.reports = nil
		w.mu.Unlock()
		begin := time.Now()
		for i := range 100 {
			w.lookup(address(i%2 + 10).Addr().String())
			w.Set([]Target{named(1)})
			time.Sleep(100 * time.Millisecond)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, r := range w.reports {
			if !r.OK || r.Subject != named(1).Subject {
				t.Errorf("got %+v, want it passed, and reported of what stands for the name", r)
			}
		}
		if n := len(w.reports); n < 8 || n > 13 {
			t.Errorf("got %d probes in 10 s while the addresses changed each 100 ms, want about 10", n)
		}
		total := 0
		for addr, kinds := range w.starts {
			if addr == named(1).Subject.Addr {
				t.Errorf("what stands for the name was dialled: %s", addr)
			}
			for _, at := range kinds[kindHTTP] {
				if !at.Before(begin) {
					total++
				}
			}
		}
		if total != len(w.reports) {
			t.Errorf("got %d attempts of %d probes", total, len(w.reports))
		}
	})
}

// TestHostnameC12: the address is checked when it is dialled, whatever looked it up.
func TestHostnameC12(t *testing.T) {
	hit := newFake(t, func(conn net.Conn) { _ = conn.Close() })
	target := Target{Subject: health.Subject{Kind: health.KindSignal, Addr: netip.AddrPortFrom(netip.MustParseAddr("100::1"), hit.addr.Port())}, Fast: true, Hostname: "lb.example.net"}
	lookup := func(string) []netip.Addr {
		return []netip.Addr{hit.addr.Addr(), netip.MustParseAddr("169.254.169.254")}
	}
	for name, way := range ways() {
		t.Run(name, func(t *testing.T) {
			if r := way(t, Options{Lookup: lookup}, target); !r.Void || !strings.Contains(r.Reason, "is not probed") {
				t.Errorf("got %+v, want it void", r)
			}
			if r := way(t, Options{Lookup: lookup, Allow: loopback()}, target); !r.OK {
				t.Errorf("allowed: got %+v, want it passed", r)
			}
		})
	}
}

func TestPermit(t *testing.T) {
	permit := Permit([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	for addr, want := range map[string]bool{"192.0.2.1": true, "127.0.0.1": true, "::1": false, "169.254.169.254": false, "64:ff9b::a9fe:a9fe": false} {
		if err := permit(netip.MustParseAddr(addr)); (err == nil) != want {
			t.Errorf("%s: got %v", addr, err)
		}
	}
}
