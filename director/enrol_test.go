package director

import (
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
