package director

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// TestJoiner: whoever is listed without a key is enrolled; whoever is elsewhere
// than the plan remembers is remembered there, once it has settled.
func TestJoiner(t *testing.T) {
	now := time.Now()
	key, other := []byte("key"), []byte("other")
	active := func(name string, key []byte, addr string) *plan.Director {
		return &plan.Director{Name: name, Key: key, Gossip: addr, Standing: plan.Director_ACTIVE}
	}
	tests := []struct {
		name  string // one that says "clone" is in doubt
		entry *plan.Director
		since time.Duration
		key   []byte
		want  bool
	}{
		{"listed without a key", active("d2", nil, ""), 0, key, true},
		{"shows no key", active("d2", nil, ""), 0, nil, false},
		{"where the plan has it", active("d2", key, "192.0.2.2:7946"), time.Hour, key, false},
		{"pinned in the spec, never seen", active("d2", key, ""), time.Hour, key, true},
		{"moved", active("d2", key, "192.0.2.9:7946"), time.Hour, key, true},
		{"moved a moment ago", active("d2", key, "192.0.2.9:7946"), time.Second, key, false},
		{"another key", active("d2", other, "192.0.2.9:7946"), time.Hour, key, false},
		{"removed", &plan.Director{Name: "d2", Key: key, Standing: plan.Director_REMOVED}, time.Hour, key, false},
		{"clone elsewhere", active("d2", key, "192.0.2.9:7946"), time.Hour, key, false},
		{"itself", active("d1", key, ""), time.Hour, key, false},
	}
	for _, tc := range tests {
		d := &Director{settings: spec.Settings{Name: "d1"}, now: func() time.Time { return now }, links: others{doubted: strings.HasPrefix(tc.name, "clone"), members: []gossip.Member{{
			Name: tc.entry.GetName(), Addr: "192.0.2.2:7946", Since: now.Add(-tc.since), Meta: gossip.Meta{Key: tc.key},
		}}}}
		cmd := d.joiner(&plan.Plan{Roster: []*plan.Director{tc.entry}})
		if (cmd != nil) != tc.want {
			t.Errorf("%s: got %+v, want a command: %t", tc.name, cmd, tc.want)
		}
	}
}

// TestEnrols: the first by name of those that are there enrols at once; one that
// does not is not waited for for ever.
func TestEnrols(t *testing.T) {
	key := func(b byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(append(make([]byte, 31), b)) }
	p := &plan.Plan{}
	for i, name := range []string{"d1", "d2", "d3"} {
		p.Roster = append(p.Roster, &plan.Director{Name: name, Key: key(byte(i)).Public().(ed25519.PublicKey), Standing: plan.Director_ACTIVE})
	}
	p.Roster = append(p.Roster, &plan.Director{Name: "d4", Standing: plan.Director_ACTIVE})
	tests := []struct {
		name   string
		self   int
		gone   int // index of one that is silent; -1: none
		waited time.Duration
		want   bool
	}{
		{"the first", 0, -1, 0, true},
		{"the second", 1, -1, time.Second, false},
		{"the second, in vain for the first", 1, -1, enrolPatience, true},
		{"the second, the first gone", 1, 0, 0, true},
		{"the third", 2, -1, enrolPatience, false},
		{"the third, in vain for both", 2, -1, 2 * enrolPatience, true},
		{"one without a key", 3, -1, time.Hour, false},
	}
	for _, tc := range tests {
		d := &Director{identity: gossip.Identity{Key: key(byte(tc.self))}}
		var views []peerView
		for i, e := range p.Roster {
			views = append(views, peerView{name: e.GetName(), self: i == tc.self, heard: i != tc.gone})
		}
		if got := d.enrols(p, views, tc.waited); got != tc.want {
			t.Errorf("%s: got %t, want %t", tc.name, got, tc.want)
		}
	}
}

// TestEnrolTurns: a director whose join is never done, or that comes back all the time, keeps
// no token of another's waiting, nor the other way; and each waits by itself.
func TestEnrolTurns(t *testing.T) {
	join := func(name string) *core.Command {
		return &core.Command{Verb: core.DirectorJoin, Director: &core.Director{Name: name}}
	}
	claim := &core.Command{Verb: core.DirectorEnrol, Director: &core.Director{Name: "d9"}}
	var turns enrolTurns
	begin := time.Unix(1000, 0)
	at := func(tick int) time.Time { return begin.Add(time.Duration(tick) * time.Second) }
	for tick := range 4 { // before there is a claim
		if turn := turns.next(join("d2"), nil, at(tick)); turn == nil || turn.who != "d2" || !turn.since.Equal(begin) {
			t.Fatalf("tick %d: got %+v", tick, turn)
		}
	}
	got := map[string]int{}
	for tick := 4; tick < 24; tick++ {
		turn := turns.next(join([]string{"d2", "d3"}[tick%2]), claim, at(tick)) // others join all the time
		got[string(turn.cmd.Verb)]++
		if turn.cmd == claim && !turn.since.Equal(at(4)) {
			t.Errorf("tick %d: the claim has waited since %s", tick, turn.since)
		}
		turn.said = string(turn.cmd.Verb) // each its own words
	}
	if got[string(core.DirectorEnrol)] != 10 || got[string(core.DirectorJoin)] != 10 {
		t.Errorf("got turns %v", got)
	}
	if turns.join.said != string(core.DirectorJoin) || turns.claim.said != string(core.DirectorEnrol) {
		t.Errorf("said %q and %q", turns.join.said, turns.claim.said)
	}
	if turn := turns.next(nil, claim, at(30)); turn == nil || turn.cmd != claim || !turn.since.Equal(at(4)) {
		t.Errorf("alone: got %+v", turn)
	}
	if turn := turns.next(nil, nil, at(31)); turn != nil {
		t.Errorf("nobody: got %+v", turn)
	}
	if turn := turns.next(nil, claim, at(40)); turn == nil || !turn.since.Equal(at(40)) {
		t.Errorf("anew: got %+v", turn)
	}
}
