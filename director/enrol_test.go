package director

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

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
