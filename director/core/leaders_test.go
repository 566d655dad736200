package core

import (
	"slices"
	"testing"

	"github.com/divertdns/divert/director/plan"
)

// racer is a leader, or one that does not know yet that it is none: it sees a plan, says
// what is due, decides on what the store holds, and commits. kill -9 is to begin anew, at
// any of these, before or after what was sent has arrived.
type racer struct {
	sees    int    // revision
	command string // that it is about; "" = none
	base    int    // what it has decided on; 0 = nothing yet
}

// race is all that two of them and the store can be in.
type race struct {
	store   int // revision
	leaders [2]racer
}

// TestTwoLeaders: a paced drain of ten steps, and its return, come to the same end by every
// interleaving of two leaders that are killed at any instant, and no step is taken twice (F11,
// F24, S4). Neither is fenced by its term here: that a command's ID follows from what it
// does, and the fence of the plan that was read, are enough.
func TestTwoLeaders(t *testing.T) {
	start := newWorld(t)
	start.seen()
	start.do(start.paced("cluster/fra", ten...))
	first := int(start.s.Plan.Identity.Revision)
	e := &explored{t: t, plans: map[int]*plan.Sealed{first: start.s.Plan}, commands: map[string]int{}, what: map[int]string{}, world: start}
	seen := map[race]bool{}
	todo := []race{{store: first, leaders: [2]racer{{sees: first}, {sees: first}}}}
	ends := map[int]bool{}
	for len(todo) > 0 {
		r := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[r] {
			continue
		}
		seen[r] = true
		if e.over(r.store) {
			ends[r.store] = true
		}
		for i := range r.leaders {
			for _, next := range e.moves(r, i) {
				if !seen[next] {
					todo = append(todo, next)
				}
			}
		}
	}
	writes := 2*len(ten) + 1 // the steps, from when each but the last waits, and that it is complete
	if want := first + writes; len(ends) != 1 || !ends[want] {
		t.Errorf("ends at revisions %v, want %d alone", ends, want)
	}
	last := e.plans[first+writes].Plan
	if o := last.GetOverrides()[0]; o.GetPace().GetState() != plan.Pace_DONE || o.Keep() != 0 || int(o.GetPace().GetWrites()) != writes {
		t.Errorf("the end: %v", o)
	}
	t.Logf("%d states, %d plans", len(seen), len(e.plans))
}

type explored struct {
	t        *testing.T
	world    *world
	plans    map[int]*plan.Sealed // by revision: all ways lead to the same ones
	commands map[string]int       // committed as which revision
	what     map[int]string
}

func (e *explored) state(revision int, me string) State {
	w := &world{t: e.t, s: e.world.s}
	w.s.Plan, w.s.Me = e.plans[revision], me
	w.s.Now = e.plans[revision].Plan.GetWritten().AsTime()
	if next := e.plans[revision].Plan.GetOverrides()[0].GetPace().GetNext(); next != nil {
		w.s.Now = next.AsTime() // its wait is over
	}
	w.seen()
	return w.s
}

func (e *explored) over(revision int) bool { return len(Due(e.state(revision, "d1"))) == 0 }

func (e *explored) moves(r race, i int) (out []race) {
	name := []string{"d1", "d2"}[i]
	with := func(change func(*race, *racer)) {
		next := r
		change(&next, &next.leaders[i])
		out = append(out, next)
	}
	l := r.leaders[i]
	with(func(next *race, l *racer) { *l = racer{sees: next.store} }) // killed, and back
	with(func(next *race, l *racer) { *l = racer{sees: l.sees} })     // killed, and back from its disk
	switch {
	case l.command == "":
		for _, c := range Due(e.state(l.sees, name)) {
			with(func(_ *race, l *racer) { l.command = c.ID })
		}
	case l.base == 0:
		if at, done := e.commands[l.command]; done && at <= r.store {
			with(func(_ *race, l *racer) { l.command = "" }) // the store knows it
			break
		}
		if _, err := e.decide(r.store, name, l.command); err {
			with(func(_ *race, l *racer) { l.command = "" })
			break
		}
		with(func(next *race, l *racer) { l.base = next.store })
	case l.base != r.store:
		with(func(_ *race, l *racer) { l.base = 0 }) // a conflict: read again
	default:
		c, _ := e.decide(l.base, name, l.command)
		e.commit(l.base, name, l.command, c)
		with(func(next *race, l *racer) { next.store, *l = next.store+1, racer{sees: l.sees} })
	}
	return out
}

// decide gives the change; not written: there is none.
func (e *explored) decide(base int, name, id string) (c Change, none bool) {
	s := e.state(base, name)
	c, err := Decide(s, Command{ID: id, Verb: Step, Scope: "cluster/fra", Author: name, Reason: "INC-1"})
	if err != nil {
		e.t.Fatalf("%s by %s on %d: %v", id, name, base, err)
	}
	return c, c.Noop
}

// commit holds what is written against what another order of events wrote there.
func (e *explored) commit(base int, name, id string, c Change) {
	next := base + 1
	if at, twice := e.commands[id]; twice && at != next {
		e.t.Fatalf("%s is revision %d, and %d", id, at, next)
	}
	if what, known := e.what[next]; known && what != c.Audit.GetWhat() {
		e.t.Fatalf("revision %d is %q, and %q", next, what, c.Audit.GetWhat())
	}
	e.commands[id], e.what[next] = next, c.Audit.GetWhat()
	if old := e.plans[next]; old != nil {
		was, is := old.Plan.GetOverrides()[0].GetPace(), c.Plan.GetOverrides()[0].GetPace()
		if !slices.Equal(was.GetSteps(), is.GetSteps()) || was.GetStep() != is.GetStep() || was.GetState() != is.GetState() || was.GetWrites() != is.GetWrites() {
			e.t.Fatalf("revision %d: %v, and %v", next, was, is)
		}
		return
	}
	sealed, err := plan.Sign(c.Plan, "d1", keyOf("d1"))
	if err != nil {
		e.t.Fatal(err)
	}
	if got := sealed.Plan.GetOverrides()[0].GetPace().GetStep(); int(got) != min((next-e.first())/2, len(ten)) {
		e.t.Fatalf("step %d by %s at revision %d", got, name, next)
	}
	e.plans[next] = sealed
}

func (e *explored) first() int {
	first := 1 << 30
	for r := range e.plans {
		first = min(first, r)
	}
	return first
}
