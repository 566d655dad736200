package director

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// A rogue leader that has all remove the old key at once, while it has given the new one to
// nobody, or to one alone, parts nobody (S7): what a director does to its ring, it does by
// what the others have said of theirs.
func TestKeyringRush(t *testing.T) {
	w := newRingWorld(t)
	hear := func(when string) {
		t.Helper()
		for a, of := range w.used {
			for b, takes := range w.used {
				if !slices.ContainsFunc(takes, func(k []byte) bool { return bytes.Equal(k, of[0]) }) {
					t.Fatalf("%s: %s cannot hear %s", when, b, a)
				}
			}
		}
	}
	w.plan.GossipKey = &plan.GossipKey{Turn: &plan.KeyTurn{Id: "t", From: core.Fingerprint(oldKey), To: core.Fingerprint(newKey), Phase: plan.KeyTurn_REMOVE, Revision: 10}}
	deaf := w.rings["d3"]
	delete(w.rings, "d3") // it is given nothing
	w.rings["d2"].got = newKey
	for range 3 {
		w.tick(1)
		hear("d2 alone has the key")
	}
	if said := w.rings["d1"].rings()["d2"].Trouble; !strings.Contains(said, "cannot do it yet: d") {
		t.Errorf("d2 says %q", said)
	}
	w.rings["d3"] = deaf
	for range 8 {
		w.tick(1)
		hear("all are there")
	}
	if waits := core.TurnWaits(w.plan, w.rings["d1"].rings()); len(waits) > 0 {
		t.Errorf("it does not come to its end: waits for %v", waits)
	}
}

// A turn-over to a key that nobody has is told, with the way out of it.
func TestKeyringLost(t *testing.T) {
	w := newRingWorld(t)
	w.plan.GossipKey = &plan.GossipKey{Turn: &plan.KeyTurn{Id: "t", From: core.Fingerprint(newKey), To: core.Fingerprint([]byte("00000000000000001111111111111111")), Phase: plan.KeyTurn_REMOVE, Revision: 10}}
	w.tick(2)
	var s api.Status
	s.Now = w.now
	w.rings["d1"].describe(&s, w.plan)
	if got := strings.Join(s.Alerts, "\n"); !strings.Contains(got, "keys rotate --back --force") {
		t.Errorf("got %q", got)
	}
	if len(w.used["d1"]) != 1 || !bytes.Equal(w.used["d1"][0], oldKey) {
		t.Errorf("its ring is another: %q", w.used["d1"])
	}
}

// What a director has drawn for the next turn-over outlives what it does for the last one,
// also where both come at once: else the plan would name a key that nobody has.
func TestKeyringKeepsWhatIsDrawn(t *testing.T) {
	w := newRingWorld(t)
	k := w.rings["d1"]
	next, err := k.propose(false)
	if err != nil {
		t.Fatal(err)
	}
	k.undraw([][]byte{oldKey, newKey}) // as after a phase of a turn-over that another began
	if got := k.drawn(); got == nil || core.Fingerprint(got) != next.To {
		t.Fatal("the key that was proposed is gone")
	}
	k.undraw([][]byte{oldKey, k.drawn()})
	if k.drawn() != nil {
		t.Error("a key that is in use stays in the data folder")
	}
}

// What directors say of their rings counts when a person begins a turn-over, and when he
// ends one: one that cannot write its key file lets none begin, and one whose keys nobody
// has, as after a `store recover` to an old plan, ends by force.
func TestKeysByWhatIsHeard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gossip.key")
	if err := os.WriteFile(path, gossip.FormatSecrets([][]byte{oldKey}), 0o600); err != nil {
		t.Fatal(err)
	}
	d := aloneOf(t, nil, strings.Replace(pairSpec, ", safety: {twoPersons: true}", "", 1), func(s *spec.Settings) { s.Gossip.KeyFile = path })
	lost := core.Command{ID: "r", Verb: core.KeyRotate, Author: "unix:alice", Reason: "x", KeyTurn: &core.KeyTurn{From: core.Fingerprint(newKey), To: core.Fingerprint([]byte("00000000000000001111111111111111"))}}
	if _, err := give(d, lost); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(strings.Join(d.Status().Alerts, "\n"), "keys rotate --back --force") {
		<-d.Changed()
	}
	back := core.Command{ID: "b", Verb: core.KeyBack, Author: "unix:alice", Reason: "x"}
	if _, err := give(d, back); err == nil || !strings.Contains(err.Error(), "no director that is heard holds the key") {
		t.Errorf("without --force: %v", err)
	}
	back.Force = true
	if _, err := give(d, back); err != nil {
		t.Errorf("with --force: %v", err)
	}
	if p := d.horizon.newest().sealed.Plan; p.GetGossipKey().GetTurn() != nil {
		t.Errorf("it goes on: %v", p.GetGossipKey())
	}

	add := core.Command{ID: "d2", Verb: core.DirectorAdd, Author: "unix:alice", Reason: "x", Director: &core.Director{Name: "d2", Site: "s2", Key: make([]byte, 32)}}
	if _, err := give(d, add); err != nil {
		t.Fatal(err)
	}
	word := ringWord{ring: core.KeyRing{Keys: []string{core.Fingerprint(oldKey)}, Trouble: "cannot write its key file"}, public: make([]byte, ringPublic)}
	d.keys.deliver(gossip.Message{From: "d2", Kind: kindKeyRing, Payload: word.encode(), Pinned: true})
	for d.keys.rings()["d2"].Trouble == "" {
		<-d.Changed()
	}
	lost.ID = "again"
	if _, err := give(d, lost); err == nil || !strings.Contains(err.Error(), "d2 cannot write its key file") {
		t.Errorf("begun where one cannot write its key file: %v", err)
	}
}
