package gossip

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Three directors find each other through one address, and each hears what
// another says to all, to it alone, and at length.
func TestThreeDirectors(t *testing.T) {
	t.Parallel()
	f := newFleet("fleet-1")
	f.secret = []byte("0123456789abcdef")
	var peers []*peer
	for i, name := range []string{"d1", "d2", "d3"} {
		id := identity(name, "", 1)
		f.register(name, id.Public(), "")
		peers = append(peers, start(t, f, id, join(peers[:min(i, 1)]...)))
	}
	for _, p := range peers {
		eventually(t, p.opts.Name+" to know all", func() bool { return p.names() == "d1 d2 d3" })
	}
	d1, d2, d3 := peers[0], peers[1], peers[2]
	if got := d2.Answered(); !got[d1.Addr().String()] {
		t.Errorf("answered: got %v", got)
	}
	for _, m := range d3.Members() {
		if want := "site-" + m.Name; m.Meta.Site != want || m.Meta.Gossip != m.Addr || m.Meta.Fleet != "fleet-1" || m.Since.IsZero() {
			t.Errorf("member %s: got %+v, want site %s", m.Name, m, want)
		}
	}
	own, err := d1.Broadcast(7, []byte("to all"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d1.Send("d3", 7, []byte("to one")); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", MaxReliable-Overhead("d1"))
	if err := d1.SendReliable("d2", 7, []byte(long)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all messages", func() bool {
		return d2.heard("d1", "to all") && d3.heard("d1", "to all") && d3.heard("d1", "to one") && d2.heard("d1", long)
	})
	if d2.heard("d1", "to one") {
		t.Error("d2 heard what was sent to d3")
	}
	for _, m := range d2.messages() {
		if !m.Pinned || m.Fleet != "fleet-1" || m.Boot != 1 || m.Received.IsZero() || m.Instance != d1.instance {
			t.Errorf("message: %+v", m)
		}
		if string(m.Payload) == "to all" && string(m.Raw) != string(own.Raw) {
			t.Error("the message received is not the one that Broadcast returned")
		}
	}
	if got := testutil.ToFloat64(d2.metrics.received.WithLabelValues("test")); got != 2 {
		t.Errorf("received: counted %v, want 2", got)
	}
	if in, out := testutil.ToFloat64(d2.metrics.tcpIn), testutil.ToFloat64(d1.metrics.tcpOut); in < MaxReliable || out < MaxReliable {
		t.Errorf("by TCP: counted %v octets in and %v out, want %d or more", in, out, MaxReliable)
	}
	if in, out := testutil.ToFloat64(d3.metrics.udpIn), testutil.ToFloat64(d1.metrics.udpOut); in < float64(len(own.Raw)+28) || out < 2*float64(len(own.Raw)+28) {
		t.Errorf("by UDP: counted %v octets in and %v out, of a message of %d", in, out, len(own.Raw))
	}
}

// What is larger than allowed never leaves.
func TestOversizedIsRefused(t *testing.T) {
	t.Parallel()
	f := newFleet("fleet-1")
	p := start(t, f, identity("d1", "", 1), nil)
	if _, err := p.Broadcast(7, make([]byte, MaxDatagram-Overhead("d1"))); err != nil {
		t.Errorf("a datagram that fits: %v", err)
	}
	for what, err := range map[string]error{
		"broadcast": func() error { _, err := p.Broadcast(7, make([]byte, MaxDatagram-Overhead("d1")+1)); return err }(),
		"send":      func() error { _, err := p.Send("d2", 7, make([]byte, MaxDatagram)); return err }(),
		"reliable":  p.SendReliable("d2", 7, make([]byte, MaxReliable)),
	} {
		if err == nil || !strings.Contains(err.Error(), "larger than allowed") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if got := p.droppedFor(oversized); got != 3 {
		t.Errorf("counted %v oversized, want 3", got)
	}
}

// A director that crashed comes back under another address (memberlist alone
// refuses it there) and is spoken to at once.
func TestReturnWithNewAddress(t *testing.T) {
	t.Parallel()
	f := newFleet("fleet-1")
	d1 := identity("d1", "", 1)
	d2 := identity("d2", "", 1)
	f.register("d1", d1.Public(), "")
	f.register("d2", d2.Public(), "")
	slow := func(o *Options) {
		o.tune = func(tu *tuning) { fast(tu); tu.list.DeadNodeReclaimTime = 300 * time.Millisecond }
	}
	p1 := start(t, f, d1, slow)
	p2 := start(t, f, d2, join(p1))
	eventually(t, "both to meet", func() bool { return p1.names() == "d1 d2" && p2.names() == "d1 d2" })
	crash(t, p2)
	d2.Boot++
	again := start(t, f, d2, func(o *Options) { join(p1)(o); slow(o) })
	n := 0
	eventually(t, "d1 to reach d2 where it is now", func() bool {
		n++
		if _, err := p1.Broadcast(7, fmt.Append(nil, n)); err != nil {
			t.Fatal(err)
		}
		return len(again.messages()) > 0
	})
	eventually(t, "memberlist to take the new address", func() bool {
		for _, m := range p1.Members() {
			if m.Name == "d2" && m.Addr == again.Addr().String() {
				return true
			}
		}
		return false
	})
}

// A director is known by its key: another key under a registered name is kept
// out, counted and alarmed (F13).
func TestChangedKey(t *testing.T) {
	t.Parallel()
	f := newFleet("fleet-1")
	d1, d2 := identity("d1", "", 1), identity("d2", "", 1)
	f.register("d1", d1.Public(), "")
	f.register("d2", d2.Public(), "")
	p1 := start(t, f, d1, nil)
	thief := start(t, f, identity("d2", "another", 1), join(p1))
	eventually(t, "the thief to speak", func() bool {
		_, err := thief.Broadcast(7, []byte("vote"))
		if err != nil {
			t.Fatal(err)
		}
		return p1.Alarms()["d2"] != ""
	})
	if got := p1.names(); got != "d1" {
		t.Errorf("members: got %q, want d1 alone", got)
	}
	if p1.heard("d2", "vote") {
		t.Error("the thief was heard")
	}
	if p1.droppedFor(changedKey) == 0 {
		t.Error("nothing counted as changed_key")
	}
}

// A director with another gossip key is never heard, and counted (F13).
func TestWrongGossipKey(t *testing.T) {
	t.Parallel()
	f := newFleet("fleet-1")
	f.secret = []byte("0123456789abcdef")
	p1 := start(t, f, identity("d1", "", 1), nil)
	f.secret = []byte("fedcba9876543210")
	f.peers["d1"] = p1.Addr().String()
	stranger := start(t, f, identity("d2", "", 1), join(p1))
	eventually(t, "the stranger to be counted, by TCP and by UDP", func() bool {
		_, err := stranger.Broadcast(7, []byte("vote"))
		if err != nil {
			t.Fatal(err)
		}
		return p1.droppedFor(undecryptable) >= 5
	})
	if got := p1.names(); got != "d1" {
		t.Errorf("members: got %q, want d1 alone", got)
	}
	if stranger.Answered()[p1.Addr().String()] {
		t.Error("a refusal counts as an answer")
	}
}

// Two fleets that share a network and a gossip key stay two.
func TestFleetsDoNotMix(t *testing.T) {
	t.Parallel()
	f1, f2 := newFleet("fleet-1"), newFleet("fleet-2")
	p1 := start(t, f1, identity("d1", "", 1), nil)
	p2 := start(t, f2, identity("e1", "", 1), join(p1))
	// Its joins reach d1, which must refuse it each time.
	eventually(t, "fleet-1 to refuse fleet-2", func() bool { return p1.droppedFor(foreignFleet) > 0 && p2.droppedFor(foreignFleet) > 0 })
	if p1.names() != "d1" || p2.names() != "e1" {
		t.Errorf("members: got %q and %q", p1.names(), p2.names())
	}
}

// A director without a plan hears the fleet and is heard as a stranger, until
// it is enrolled.
func TestEnrolment(t *testing.T) {
	t.Parallel()
	f := newFleet("fleet-1")
	d1, d2 := identity("d1", "", 1), identity("d2", "", 1)
	f.register("d1", d1.Public(), "")
	p1 := start(t, f, d1, nil)
	none := newFleet("")
	p2 := start(t, none, d2, join(p1))
	say := func(p *peer, text string) func() bool {
		return func() bool {
			_, err := p.Broadcast(7, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			return p1.heard("d2", text) || p2.heard("d1", text)
		}
	}
	eventually(t, "the newcomer to be heard", say(p2, "hello"))
	eventually(t, "the newcomer to hear", say(p1, "welcome"))
	if m := p1.messages()[0]; m.Pinned || m.Fleet != "" || string(m.Key) != string(d2.Public()) {
		t.Errorf("the newcomer's message: %+v", m)
	}
	if m := p2.messages()[0]; m.Pinned || m.Fleet != "fleet-1" {
		t.Errorf("the fleet's message to the newcomer: %+v", m)
	}
	for _, m := range p1.Members() {
		if m.Name == "d2" && (m.Meta.HasPlan || m.Meta.Fleet != "" || string(m.Meta.Key) != string(d2.Public())) {
			t.Errorf("the newcomer's meta: %+v", m.Meta)
		}
	}
	// It takes the plan over, and is approved.
	f.register("d2", d2.Public(), "")
	none.register("d1", d1.Public(), "")
	none.register("d2", d2.Public(), "")
	none.mu.Lock()
	none.id = "fleet-1"
	none.mu.Unlock()
	p2.mu.Lock()
	p2.meta.HasPlan = true
	p2.mu.Unlock()
	p2.Refresh()
	eventually(t, "the newcomer's meta to follow", func() bool {
		for _, m := range p1.Members() {
			if m.Name == "d2" && m.Meta.HasPlan && m.Meta.Fleet == "fleet-1" {
				return true
			}
		}
		return false
	})
	eventually(t, "the newcomer to be pinned", func() bool {
		say(p2, "vote")()
		for _, m := range p1.messages() {
			if string(m.Payload) == "vote" && m.Pinned {
				return true
			}
		}
		return false
	})
}

// state counts what it is given.
type state struct {
	text string
	mu   sync.Mutex
	got  map[string]bool
}

func (s *state) MarshalBinary() ([]byte, error) { return []byte(s.text), nil }

func (s *state) Merge(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[string(b)] = true
}

// Push/pull carries state between registered directors.
func TestState(t *testing.T) {
	t.Parallel()
	f := newFleet("fleet-1")
	d1, d2 := identity("d1", "", 1), identity("d2", "", 1)
	f.register("d1", d1.Public(), "")
	f.register("d2", d2.Public(), "")
	s1, s2 := &state{text: "one", got: map[string]bool{}}, &state{text: "two", got: map[string]bool{}}
	p1 := start(t, f, d1, func(o *Options) { o.State = s1 })
	start(t, f, d2, func(o *Options) { join(p1)(o); o.State = s2 })
	eventually(t, "both states to cross", func() bool {
		s1.mu.Lock()
		defer s1.mu.Unlock()
		s2.mu.Lock()
		defer s2.mu.Unlock()
		return s1.got["two"] && s2.got["one"]
	})
}

// A director that lists itself among its join addresses has its own answer, and
// a silent address delays no other.
func TestJoinSelfAndSilent(t *testing.T) {
	t.Parallel()
	f := newFleet("")
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	own := free.Addr().String()
	_ = free.Close()
	p1 := start(t, f, identity("d1", "", 1), nil)
	p2 := start(t, f, identity("d2", "", 1), func(o *Options) {
		o.Listen = own
		o.Join = []string{silent.Addr().String(), own, p1.Addr().String()}
	})
	eventually(t, "answers", func() bool { a := p2.Answered(); return a[own] && a[p1.Addr().String()] })
	if p2.Answered()[silent.Addr().String()] {
		t.Error("the silent address counts as answered")
	}
}

// While Deliver waits, input is dropped and counted, and memberlist goes on.
func TestSlowReceiver(t *testing.T) {
	t.Parallel()
	f := newFleet("fleet-1")
	d1, d2 := identity("d1", "", 1), identity("d2", "", 1)
	f.register("d1", d1.Public(), "")
	f.register("d2", d2.Public(), "")
	release := make(chan struct{})
	var once sync.Once
	t.Cleanup(func() { once.Do(func() { close(release) }) })
	p1 := start(t, f, d1, func(o *Options) { o.Deliver = func(Message) { <-release } })
	p2 := start(t, f, d2, join(p1))
	eventually(t, "both to meet", func() bool { return p1.names() == "d1 d2" && p2.names() == "d1 d2" })
	eventually(t, "the inbox to overflow", func() bool {
		for range 50 {
			if _, err := p2.Broadcast(7, []byte("more")); err != nil {
				t.Fatal(err)
			}
		}
		return p1.droppedFor(overflow) > 0
	})
	p3 := start(t, f, identity("d3", "", 1), join(p1))
	eventually(t, "a third to be met meanwhile", func() bool { return p1.names() == "d1 d2 d3" && p3.names() == "d1 d2 d3" })
	once.Do(func() { close(release) })
}

// C3: connections are capped, and the cap is counted.
func TestConnectionCap(t *testing.T) {
	t.Parallel()
	f := newFleet("fleet-1")
	p := start(t, f, identity("d1", "", 1), func(o *Options) {
		o.tune = func(tu *tuning) { fast(tu); tu.list.TCPTimeout = patience }
	})
	for range maxFromOne + 3 {
		c, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	eventually(t, "the surplus to be refused", func() bool { return p.droppedFor(connectionLimit) == 3 })
}

// L5: a node that stops leaves nothing running.
func TestStopLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	f := newFleet("fleet-1")
	p1 := start(t, f, identity("d1", "", 1), nil)
	p2 := start(t, f, identity("d2", "", 1), join(p1))
	eventually(t, "both to meet", func() bool { return p1.names() == "d1 d2" })
	p1.stop()
	p2.stop()
	eventually(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
	l, err := net.Listen("tcp", p1.Addr().String())
	if err != nil {
		t.Fatalf("the address is still taken: %v", err)
	}
	_ = l.Close()
}

// The longest name gossips like any other.
func TestLongestName(t *testing.T) {
	t.Parallel()
	f := newFleet("fleet-1")
	long := strings.Repeat("n", MaxName)
	p1 := start(t, f, identity("d1", "", 1), nil)
	p2 := start(t, f, identity(long, "", 1), join(p1))
	eventually(t, "both to meet", func() bool { return p1.names() == "d1 "+long && p2.names() == "d1 "+long })
	eventually(t, "the largest datagram to arrive", func() bool {
		if _, err := p2.Broadcast(7, make([]byte, MaxDatagram-Overhead(long))); err != nil {
			t.Fatal(err)
		}
		return len(p1.messages()) > 0
	})
}

// A stranger that took a name before it was registered does not keep the
// roster's words from the director who owns it.
func TestSquatter(t *testing.T) {
	t.Parallel()
	f := newFleet("fleet-1")
	d1, d2 := identity("d1", "", 1), identity("d2", "", 1)
	f.register("d1", d1.Public(), "")
	p1 := start(t, f, d1, nil)
	start(t, f, identity("d2", "another", 1), join(p1))
	eventually(t, "the stranger to be taken in", func() bool { return p1.names() == "d1 d2" })
	other := newFleet("fleet-1")
	other.register("d1", d1.Public(), "")
	p2 := start(t, other, d2, nil)
	f.register("d2", d2.Public(), p2.Addr().String())
	if got := p1.names(); got != "d1" {
		t.Errorf("members: got %q, want d1 alone", got)
	}
	eventually(t, "d2 to hear d1", func() bool {
		if _, err := p1.Broadcast(7, []byte("vote")); err != nil {
			t.Fatal(err)
		}
		return p2.heard("d1", "vote")
	})
}
