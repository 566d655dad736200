package core

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
)

var (
	keyOne = Fingerprint([]byte("0123456789abcdef"))
	keyTwo = Fingerprint([]byte("fedcba9876543210"))
	keyAlt = Fingerprint([]byte("0000000000000000"))
)

// ringsOf has every director say that it has done the phase in force.
func (w *world) ringsOf(rings map[string][]string) map[string]KeyRing {
	out := map[string]KeyRing{}
	t := w.s.Plan.Plan.GetGossipKey().GetTurn()
	for name, keys := range rings {
		want, held := Turned(t, keys)
		if !held && t.GetPhase() == plan.KeyTurn_ADD { // it is given the key
			want = []string{t.GetFrom(), t.GetTo()}
		}
		rings[name] = want
		out[name] = KeyRing{Keys: want, Turn: t.GetRevision()}
	}
	return out
}

// leadTurn lets the leader write what is due of a turn-over.
func (w *world) leadTurn() bool {
	w.t.Helper()
	for _, c := range Due(w.s) {
		if c.Verb == KeyStep {
			w.do(c)
			return true
		}
	}
	return false
}

func (w *world) joinAll() {
	for _, name := range []string{"d2", "d3"} {
		w.do(Command{Verb: DirectorJoin, Director: &Director{Name: name, Key: public(name)}})
	}
}

func rotate() Command {
	return Command{Verb: KeyRotate, Reason: "d4 was removed", KeyTurn: &KeyTurn{From: keyOne, To: keyTwo}}
}

// A turn-over goes on only when every registered director has said that it has done the
// phase, and names whom it waits for.
func TestKeyTurn(t *testing.T) {
	w := newWorld(t)
	w.joinAll()
	w.do(rotate())
	rings := map[string][]string{"d1": {keyOne}, "d2": {keyOne}, "d3": {keyOne}}
	for _, want := range []struct {
		phase plan.KeyTurn_Phase
		ring  []string
	}{{plan.KeyTurn_ADD, []string{keyOne, keyTwo}}, {plan.KeyTurn_USE, []string{keyTwo, keyOne}}, {plan.KeyTurn_REMOVE, []string{keyTwo}}} {
		turn := w.s.Plan.Plan.GetGossipKey().GetTurn()
		if turn.GetPhase() != want.phase || w.s.Plan.Plan.GetMinReader() < plan.ReaderFleet {
			t.Fatalf("phase %s, reader %d, want %s", turn.GetPhase(), w.s.Plan.Plan.GetMinReader(), want.phase)
		}
		said := w.ringsOf(rings)
		// Whoever is missing, late, or in trouble holds it up, and is named.
		for name := range said {
			for why, spoil := range map[string]func(r KeyRing) (KeyRing, bool){
				"is not heard":         func(KeyRing) (KeyRing, bool) { return KeyRing{}, false },
				"has not done it yet":  func(r KeyRing) (KeyRing, bool) { r.Turn--; return r, true },
				"the disk is full":     func(r KeyRing) (KeyRing, bool) { r.Trouble = "the disk is full"; return r, true },
				"has not got the key ": func(r KeyRing) (KeyRing, bool) { r.Keys = []string{keyAlt}; return r, true },
			} {
				w.s.Rings = maps.Clone(said)
				if r, heard := spoil(said[name]); heard {
					w.s.Rings[name] = r
				} else {
					delete(w.s.Rings, name)
				}
				waits := TurnWaits(w.s.Plan.Plan, w.s.Rings)
				if len(waits) != 1 || waits[0].Director != name || !strings.Contains(waits[0].Why, why) {
					t.Errorf("%s: %s %s: waits for %v", want.phase, name, why, waits)
				}
				if w.leadTurn() {
					t.Fatalf("%s: went on though %s %s", want.phase, name, why)
				}
				if c, err := w.try(Command{ID: turnID(turn), Verb: KeyStep}); err != nil || !c.Noop {
					t.Errorf("%s: a leader that does not look is not held up: %v", want.phase, err)
				}
			}
		}
		for name, ring := range rings {
			if !slices.Equal(ring, want.ring) {
				t.Errorf("%s: ring of %s is %v, want %v", want.phase, name, ring, want.ring)
			}
		}
		w.s.Rings = said
		before := w.s
		if !w.leadTurn() {
			t.Fatalf("%s: does not go on", want.phase)
		}
		if err := Check(before.Plan, w.s.Plan); err != nil {
			t.Errorf("%s: the next plan is refused: %v", want.phase, err)
		}
	}
	k := w.s.Plan.Plan.GetGossipKey()
	if k.GetTurn() != nil || k.GetCurrent() != keyTwo || w.s.Plan.Plan.GetMinReader() >= plan.ReaderFleet {
		t.Errorf("at the end: %v, reader %d", k, w.s.Plan.Plan.GetMinReader())
	}
	for _, a := range w.audit {
		if strings.Contains(a.GetWhat(), keyOne) {
			t.Errorf("a whole fingerprint is of no use to people: %s", a.GetWhat())
		}
	}
}

func TestKeyTurnRefused(t *testing.T) {
	w := newWorld(t)
	w.joinAll()
	w.refused(Command{Verb: KeyRotate, KeyTurn: &KeyTurn{From: keyOne, To: keyTwo}}, "needs a reason")
	w.refused(Command{Verb: KeyRotate, Reason: "r"}, "gossips without a key")
	w.refused(Command{Verb: KeyBack, Reason: "r"}, "no turn-over")
	if c, err := w.try(Command{Verb: KeyRotate, Reason: "r", DryRun: true, KeyTurn: &KeyTurn{From: keyOne}}); err != nil || !c.Noop {
		t.Errorf("a dry run draws no key: %v", err)
	}
	w.s.Readers = map[string]uint32{"d1": plan.Reader, "d2": plan.ReaderOperators, "d3": plan.Reader}
	w.refused(rotate(), "too new for d2")
	w.s.Readers = nil
	w.do(rotate())
	w.refused(rotate(), "under way")
	w.s.Rings = w.ringsOf(map[string][]string{"d1": {keyOne}, "d2": {keyOne}, "d3": {keyOne}})
	for w.leadTurn() {
		w.s.Rings = w.ringsOf(map[string][]string{"d1": {keyTwo, keyOne}, "d2": {keyTwo, keyOne}, "d3": {keyTwo, keyOne}})
		if w.s.Plan.Plan.GetGossipKey().GetTurn().GetPhase() == plan.KeyTurn_REMOVE {
			w.refused(Command{Verb: KeyBack, Reason: "r"}, "no way back")
		}
	}
	w.refused(Command{Verb: KeyRotate, Reason: "r", KeyTurn: &KeyTurn{From: keyOne, To: keyAlt}}, "the fleet's is "+short(keyTwo))
}

// Taken back in either phase in which that is possible, all end with the old key alone.
func TestKeyTurnBeginsWithoutTrouble(t *testing.T) {
	w := newWorld(t)
	w.joinAll()
	w.s.Rings = map[string]KeyRing{"d2": {Keys: []string{keyOne}, Trouble: "cannot write its key file: read-only"}}
	w.refused(rotate(), "d2 cannot write its key file: read-only")
	w.s.Rings["d2"] = KeyRing{Keys: []string{keyOne}}
	w.do(rotate())
}

func TestKeyTurnBack(t *testing.T) {
	for _, at := range []plan.KeyTurn_Phase{plan.KeyTurn_ADD, plan.KeyTurn_USE} {
		w := newWorld(t)
		w.joinAll()
		w.do(rotate())
		rings := map[string][]string{"d1": {keyOne}, "d2": {keyOne}, "d3": {keyOne}}
		for w.s.Plan.Plan.GetGossipKey().GetTurn().GetPhase() != at {
			w.s.Rings = w.ringsOf(rings)
			w.leadTurn()
		}
		rings["d1"], _ = Turned(w.s.Plan.Plan.GetGossipKey().GetTurn(), rings["d1"]) // who is ahead
		before := w.s.Plan
		w.do(Command{Verb: KeyBack, Reason: "second thoughts"})
		if err := Check(before, w.s.Plan); err != nil {
			t.Errorf("%s: %v", at, err)
		}
		if c := w.do(Command{Verb: KeyBack, Reason: "again"}); !c.Noop {
			t.Error("taken back twice")
		}
		for range 5 {
			if w.s.Plan.Plan.GetGossipKey().GetTurn() != nil {
				w.s.Rings = w.ringsOf(rings)
				w.leadTurn()
			}
		}
		if k := w.s.Plan.Plan.GetGossipKey(); k.GetTurn() != nil || k.GetCurrent() != keyOne {
			t.Errorf("%s: ends at %v", at, k)
		}
		for name, ring := range rings {
			if !slices.Equal(ring, []string{keyOne}) {
				t.Errorf("%s: %s is left with %v", at, name, ring)
			}
		}
	}
}

// S7: a rogue leader that leaves out a phase, or turns to another key half way, is refused.
func TestKeyTurnRogue(t *testing.T) {
	turn := func(phase plan.KeyTurn_Phase, from, to string, back bool) *plan.GossipKey {
		return &plan.GossipKey{Turn: &plan.KeyTurn{Id: "x", From: from, To: to, Phase: phase, Back: back}}
	}
	A, U, R := plan.KeyTurn_ADD, plan.KeyTurn_USE, plan.KeyTurn_REMOVE
	all := map[string]*plan.GossipKey{
		"none": nil, "one": {Current: keyOne}, "two": {Current: keyTwo},
	}
	for _, p := range []plan.KeyTurn_Phase{A, U, R} {
		all[p.String()] = turn(p, keyOne, keyTwo, false)
		all[p.String()+" alt"] = turn(p, keyOne, keyAlt, false)
		all[p.String()+" back"] = turn(p, keyTwo, keyOne, true)
	}
	good := []string{
		"none>ADD", "none>ADD alt", "ADD>USE", "USE>REMOVE", "REMOVE>two", "ADD alt>USE alt", "USE alt>REMOVE alt",
		"ADD>REMOVE back", "USE>USE back", "ADD back>USE back", "USE back>REMOVE back", "REMOVE back>one",
	}
	for name, k := range all { // by force, where its keys are lost
		if k.GetTurn() != nil {
			good = append(good, name+">none")
		}
	}
	for from, was := range all {
		for to, is := range all {
			cur, next := &plan.Plan{GossipKey: was}, &plan.Plan{GossipKey: is}
			step := from + ">" + to
			want := from == to || slices.Contains(good, step)
			if err := checkTurn(cur, next); (err == nil) != want {
				t.Errorf("%s: %v", step, err)
			}
		}
	}
	for _, bad := range []*plan.GossipKey{turn(A, "", keyTwo, false), turn(A, keyOne, keyOne, false), turn(A, keyOne, strings.ToUpper(keyTwo), false), {Current: "secret"}} {
		if checkKey(&plan.Plan{GossipKey: bad}) == nil {
			t.Errorf("took %v", bad)
		}
	}
}

// Whatever order directors take plans in, and whenever one is killed: in every phase, any
// two directors can hear each other, as long as none is let go on before all have done the
// phase before.
func TestKeyTurnHeard(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		w.joinAll()
		w.do(rotate())
		names := []string{"d1", "d2", "d3"}
		rings := map[string][]string{}
		done := map[string]uint64{}
		for _, n := range names {
			rings[n] = []string{keyOne}
		}
		back := rapid.IntRange(0, 30).Draw(rt, "back")
		for i := range 60 {
			turn := w.s.Plan.Plan.GetGossipKey().GetTurn()
			if turn == nil {
				break
			}
			if i == back {
				if _, err := w.try(Command{Verb: KeyBack, Reason: "r"}); err == nil {
					w.do(Command{Verb: KeyBack, Reason: "r"})
				}
			}
			turn = w.s.Plan.Plan.GetGossipKey().GetTurn()
			n := rapid.SampledFrom(names).Draw(rt, "who")
			want, held := Turned(turn, rings[n])
			if !held && turn.GetPhase() == plan.KeyTurn_ADD {
				want = []string{turn.GetFrom(), turn.GetTo()}
			}
			rings[n], done[n] = want, turn.GetRevision()
			for _, a := range names {
				for _, b := range names {
					if !slices.Contains(rings[b], rings[a][0]) {
						rt.Fatalf("%s cannot hear %s in %s: %v", b, a, turn.GetPhase(), rings)
					}
				}
			}
			w.s.Rings = map[string]KeyRing{}
			for _, n := range names {
				w.s.Rings[n] = KeyRing{Keys: rings[n], Turn: done[n]}
			}
			w.leadTurn()
		}
	})
}

// TestKeyTurnRecovered: a turn-over goes on after the store was recovered, by IDs that no
// plan which was given up has used: else the store would say that it is done already (S4).
func TestKeyTurnRecovered(t *testing.T) {
	w := newWorld(t)
	w.do(rotate())
	before := turnID(w.s.Plan.Plan.GetGossipKey().GetTurn())
	got, err := Recover(w.s, Command{ID: "rec", Verb: RecoverStore, Author: "alice", Reason: "x"}, 40)
	if err != nil {
		t.Fatal(err)
	}
	if now := turnID(got.Plan.GetGossipKey().GetTurn()); now == before {
		t.Errorf("the next phase has the ID %s, as in the plan before", now)
	}
}

// After a `store recover` to a plan from before a turn-over, the plan names a gossip key that
// nobody has any more: the next turn-over begins from the one that all have, by force.
func TestKeyTurnAfterRecovery(t *testing.T) {
	w := newWorld(t)
	w.joinAll()
	w.s.Plan.Plan.GossipKey = &plan.GossipKey{Current: keyAlt}
	_, err := w.try(rotate())
	if r, ok := errors.AsType[*Refusal](err); !ok || !r.Force {
		t.Fatalf("got %v", err)
	}
	c := rotate()
	c.Force = true
	if got := w.do(c); !got.Audit.GetForced() {
		t.Error("it is not recorded that it was forced")
	}
	if turn := w.s.Plan.Plan.GetGossipKey().GetTurn(); turn.GetFrom() != keyOne || turn.GetTo() != keyTwo || turn.GetPhase() != plan.KeyTurn_ADD {
		t.Errorf("got %v", turn)
	}
}

// A turn-over that comes back with a backup would wait for ever, for a key that nobody has.
func TestKeyTurnDoesNotComeBack(t *testing.T) {
	w := newWorld(t)
	w.do(rotate())
	saved := w.saved()
	s := w.s
	s.Plan, s.Doc, s.Spec = nil, nil, nil
	c, err := Restored(s, Command{ID: "r1", Verb: Restore, Author: "unix:root", Reason: "lost"}, saved, Director{Name: "d1", Site: "fra-dc1", Key: public("d1")}, 0)
	if err != nil || c.Plan.GetGossipKey() != nil {
		t.Errorf("got %v, %v", c.Plan.GetGossipKey(), err)
	}
}

// TestKeyTurnRush: a rogue leader writes phases that nobody has done the one before of, ends
// turn-overs and begins others, and gives its keys to whom it likes. Whatever the plans say,
// and whoever is late with them, any two directors hear each other (S7).
func TestKeyTurnRush(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		names, keys := []string{"d1", "d2", "d3"}, []string{keyOne, keyTwo, keyAlt}
		p := &plan.Plan{}
		rings := map[string]KeyRing{}
		for _, n := range names {
			p.Roster = append(p.Roster, &plan.Director{Name: n, Key: public(n), Standing: plan.Director_ACTIVE})
			rings[n] = KeyRing{Keys: []string{keyOne}}
		}
		for range 40 {
			turn := &plan.KeyTurn{
				From: rapid.SampledFrom(keys).Draw(rt, "from"), To: rapid.SampledFrom(keys).Draw(rt, "to"),
				Phase: plan.KeyTurn_Phase(rapid.Int32Range(1, 3).Draw(rt, "phase")),
			}
			n := rapid.SampledFrom(names).Draw(rt, "who")
			have := slices.Clone(rings[n].Keys)
			if !slices.Contains(have, turn.GetTo()) && rapid.Bool().Draw(rt, "given") {
				have = []string{have[max(0, slices.Index(have, turn.GetFrom()))], turn.GetTo()}
			}
			want, _ := Turned(turn, have)
			next, why := Toward(p, n, rings[n].Keys, want, rings)
			if len(next) == 0 || len(next) > 2 || why == "" && !slices.Equal(next, want) {
				rt.Fatalf("%s goes from %v to %v for %v: %q", n, rings[n].Keys, next, want, why)
			}
			rings[n] = KeyRing{Keys: next}
			for _, a := range names {
				for _, b := range names {
					if !slices.Contains(rings[b].Keys, rings[a].Keys[0]) {
						rt.Fatalf("%s cannot hear %s: %v", b, a, rings)
					}
				}
			}
		}
	})
}

// Phases that came too early are done all the same, one after another, once all have the key.
func TestKeyTurnCatchesUp(t *testing.T) {
	p := &plan.Plan{}
	rings := map[string]KeyRing{}
	for _, n := range []string{"d1", "d2", "d3"} {
		p.Roster = append(p.Roster, &plan.Director{Name: n, Key: public(n), Standing: plan.Director_ACTIVE})
		rings[n] = KeyRing{Keys: []string{keyOne}}
	}
	turn := &plan.KeyTurn{From: keyOne, To: keyTwo, Phase: plan.KeyTurn_REMOVE}
	for range 4 {
		for _, d := range p.GetRoster() {
			have := rings[d.GetName()].Keys
			want, _ := Turned(turn, append(slices.Clone(have), keyTwo))
			next, _ := Toward(p, d.GetName(), have, want, rings)
			rings[d.GetName()] = KeyRing{Keys: next}
		}
	}
	for n, r := range rings {
		if !slices.Equal(r.Keys, []string{keyTwo}) {
			t.Errorf("%s has %v", n, r.Keys)
		}
	}
	delete(rings, "d3")
	if got, why := Toward(p, "d1", []string{keyTwo, keyOne}, []string{keyTwo}, rings); len(got) != 2 || why != "d3 is not heard" {
		t.Errorf("goes on to %v without one that is not heard: %q", got, why)
	}
}

// A turn-over whose keys nobody has any more, as after a `store recover` to a plan of long
// ago, is ended by force, in every phase in which there is no other way; and never while one
// that is heard has the key that it goes to.
func TestKeyTurnLost(t *testing.T) {
	ring := func(keys ...string) map[string]KeyRing {
		out := map[string]KeyRing{}
		for _, n := range []string{"d1", "d2", "d3"} {
			out[n] = KeyRing{Keys: keys}
		}
		return out
	}
	tests := []struct {
		name  string
		phase plan.KeyTurn_Phase
		back  bool
		rings map[string]KeyRing
		lost  bool
	}{
		{"both are gone, all remove", plan.KeyTurn_REMOVE, false, ring(keyAlt), true},
		{"the old one is here, all remove", plan.KeyTurn_REMOVE, false, ring(keyOne), true},
		{"both are gone, all use", plan.KeyTurn_USE, false, ring(keyAlt), true},
		{"both are gone, all add", plan.KeyTurn_ADD, false, ring(keyAlt), true},
		{"taken back to one that is gone", plan.KeyTurn_USE, true, ring(keyOne), true},
		{"the old one is here, all add", plan.KeyTurn_ADD, false, ring(keyOne), false},
		{"the new one is here", plan.KeyTurn_REMOVE, false, ring(keyTwo), false},
		{"nobody has looked", plan.KeyTurn_REMOVE, false, nil, false},
		{"one of three is heard", plan.KeyTurn_REMOVE, false, map[string]KeyRing{"d1": {Keys: []string{keyAlt}}}, false},
		{"one of three is heard, and strangers", plan.KeyTurn_REMOVE, false, map[string]KeyRing{"d1": {Keys: []string{keyAlt}}, "d8": {Keys: []string{keyAlt}}, "d9": {Keys: []string{keyAlt}}}, false},
	}
	for _, tc := range tests {
		w := newWorld(t)
		w.joinAll()
		w.do(rotate())
		turn := w.s.Plan.Plan.GetGossipKey().GetTurn()
		turn.Phase, turn.Back = tc.phase, tc.back
		w.s.Rings = tc.rings
		if got := TurnLost(w.s.Plan.Plan, w.s.Rings); got != tc.lost {
			t.Errorf("%s: lost: %t", tc.name, got)
		}
		back := Command{Verb: KeyBack, Reason: "nobody has them", Force: true}
		if !tc.lost {
			if got, err := w.try(back); err == nil && got.Plan.GetGossipKey().GetTurn() == nil {
				t.Errorf("%s: it is ended", tc.name)
			}
			continue
		}
		if waits := TurnWaits(w.s.Plan.Plan, w.s.Rings); len(waits) != 3 {
			t.Errorf("%s: waits for %v", tc.name, waits)
		}
		_, err := w.try(Command{Verb: KeyBack, Reason: "nobody has them"})
		if r, ok := errors.AsType[*Refusal](err); !ok || !r.Force {
			t.Errorf("%s, without --force: %v", tc.name, err)
		}
		before := w.s.Plan
		got := w.do(back)
		if err := Check(before, w.s.Plan); err != nil {
			t.Errorf("%s: the plan that ends it is refused: %v", tc.name, err)
		}
		if k := w.s.Plan.Plan.GetGossipKey(); k.GetTurn() != nil || k.GetCurrent() != "" || !got.Audit.GetForced() {
			t.Errorf("%s: ends at %v, forced %t", tc.name, k, got.Audit.GetForced())
		}
		if least := w.s.Plan.Plan.GetMinReader(); least != plan.ReaderDangers {
			t.Errorf("%s: for readers of %d, who would refuse it", tc.name, least)
		}
		next := Command{Verb: KeyRotate, Reason: "anew", KeyTurn: &KeyTurn{From: tc.rings["d1"].Keys[0], To: Fingerprint([]byte("ffffffffffffffff"))}}
		if w.do(next); w.s.Plan.Plan.GetGossipKey().GetTurn().GetFrom() != next.KeyTurn.From {
			t.Errorf("%s: no other begins", tc.name)
		}
	}
}
