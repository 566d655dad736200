package health

import (
	"strings"
	"testing"
	"time"
)

// newShared watches one signal each of the clusters a, b and c behind one proxy,
// and one of d that is not.
func newShared(t *testing.T) *probed {
	p := &probed{t: t, o: NewObserver(epoch), b: NewBook("d1", rosterOf(5), 0)}
	var watched []Watched
	for i, group := range []string{"a", "b", "c", "d"} {
		w := Watched{Subject: signal(i + 1), Via: "proxy", Group: group}
		if group == "d" {
			w.Via = ""
		}
		watched = append(watched, w)
	}
	p.b.SetSubjects(subjectsOf(4), epoch)
	p.o.Set(watched)
	for _, s := range subjectsOf(4) {
		p.ok(s, 0)
	}
	p.o.Votes(p.b, epoch)
	return p
}

// TestS17SharedDependencyIsUnknown: a proxy dies, and with it all that is reached
// through it seems to. None of it may fall for that, and what does not go through
// the proxy may.
func TestS17SharedDependencyIsUnknown(t *testing.T) {
	p := newShared(t)
	down := func(s Subject) bool { return p.b.topics[s].own.To == Down }
	for i := range 30 {
		d := time.Second + time.Duration(i)*50*ms
		for _, s := range subjectsOf(4) {
			p.miss(s, d)
			p.o.Votes(p.b, at(d))
		}
		for _, s := range subjectsOf(3) {
			if down(s) {
				t.Fatalf("%s is voted down after %d misses", s, i+1)
			}
		}
	}
	p.voted(signal(1), 3*time.Second, Unknown, 0)
	p.voted(signal(4), 3*time.Second, Down, 667)
	if why := p.want(signal(2), 3*time.Second, Unknown); !strings.Contains(why, "proxy") || !strings.Contains(why, "a, b, c") {
		t.Errorf("reason = %q", why)
	}
	deps := p.o.Dependencies()
	if len(deps) != 1 || deps[0].Via != "proxy" || len(deps[0].Groups) != 3 || deps[0].Since.Before(at(time.Second)) {
		t.Errorf("Dependencies = %+v", deps)
	}
	// It comes back, and all behind it votes again.
	for _, s := range subjectsOf(3) {
		p.ok(s, 4*time.Second)
	}
	for _, s := range subjectsOf(3) {
		p.voted(s, 4*time.Second, Up, 0)
	}
	if deps := p.o.Dependencies(); len(deps) != 0 {
		t.Errorf("Dependencies = %+v after all is well", deps)
	}
}

// TestS17OneBehindADependencyFalls: it fails alone, if a little later than others
// would be seen to; and it is no sign against the next that does.
func TestS17OneBehindADependencyFalls(t *testing.T) {
	p := newShared(t)
	p.fails(signal(1), time.Second, fastMisses)
	p.voted(signal(1), 1450*ms, Up, late)
	if votes := p.o.Votes(p.b, at(1500*ms)); len(votes) != 1 || votes[0].To != Down { // without another report
		t.Errorf("votes when it has failed for half a second: %v", votes)
	}
	p.fell(signal(1), 1500*ms)
	p.fails(signal(1), 1500*ms, 40)
	for _, s := range subjectsOf(3)[1:] {
		p.ok(s, 3*time.Second)
	}
	p.fails(signal(2), 3*time.Second, 20)
	p.voted(signal(2), 4*time.Second, Down, 667)
	p.voted(signal(1), 4*time.Second, Down, 0)
	// What is lost now and then behind it does not hold up a third's fall.
	p.ok(signal(2), 5*time.Second)
	p.ok(signal(3), 5*time.Second)
	p.fails(signal(3), 5*time.Second, 2)
	p.fails(signal(2), 5*time.Second, 20)
	p.voted(signal(2), 6*time.Second, Down, 667)
	if deps := p.o.Dependencies(); len(deps) != 0 {
		t.Errorf("Dependencies = %+v", deps)
	}
}

// TestS17WhatSaysNothingIsNoSignOfADependency: a mistyped probe fails behind it in
// every cluster, and a signal that something swallows while the pages come: what then
// dies there falls all the same.
func TestS17WhatSaysNothingIsNoSignOfADependency(t *testing.T) {
	tests := []struct {
		name string
		fail func(p *probed, c Subject)
	}{
		{"a probe that never passed anywhere", func(p *probed, c Subject) { p.miss(c, 100*ms, 200*ms, 300*ms, 400*ms) }},
		{"signals, and the pages come", func(p *probed, c Subject) {
			p.ok(c, 0)
			p.fails(Subject{Kind: KindSignal, Addr: c.Addr}, 100*ms, 10)
			p.ok(c, time.Second)
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			p := newShared(t)
			var watched []Watched
			for i, group := range []string{"a", "b", "c"} {
				watched = append(watched, Watched{Subject: signal(i + 1), Via: "proxy", Group: group})
				if i < 2 {
					watched = append(watched, Watched{Subject: check(i + 1), Signal: signal(i + 1), Via: "proxy", Group: group})
				}
			}
			p.o.Set(watched)
			p.ok(signal(3), 0)
			for i := range 2 {
				tc.fail(p, check(i+1))
			}
			p.o.Votes(p.b, at(time.Second))
			if deps := p.o.Dependencies(); len(deps) != 0 {
				t.Errorf("Dependencies = %+v", deps)
			}
			p.fails(signal(3), time.Second, 20)
			p.voted(signal(3), 2*time.Second, Down, 667)
		})
	}
}

// TestViaIsKeptOverANewSpec: what is known of a dependency stays, and one that no
// longer stands before several groups holds nothing up.
func TestViaIsKeptOverANewSpec(t *testing.T) {
	p := newShared(t)
	for i := range 2 {
		p.fails(signal(i+1), time.Second, 20)
	}
	p.voted(signal(1), 2*time.Second, Unknown, 0)
	p.o.Set([]Watched{{Subject: signal(1), Via: "proxy", Group: "a"}, {Subject: signal(2), Via: "proxy", Group: "b"}})
	p.voted(signal(1), 2*time.Second, Unknown, 0)
	if deps := p.o.Dependencies(); len(deps) != 1 || !deps[0].Since.Before(at(2*time.Second+1)) {
		t.Errorf("Dependencies = %+v", deps)
	}
	p.o.Set([]Watched{{Subject: signal(1), Via: "proxy", Group: "a"}, {Subject: signal(2), Via: "proxy", Group: "a"}})
	p.voted(signal(1), 2*time.Second, Down, 667)
}
