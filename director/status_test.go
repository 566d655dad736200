package director

import (
	"context"
	"crypto/ed25519"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/store"
)

// sound spoils nothing of a disk.
func sound(*store.Generation, []string) {}

// gossiping is a director's links with somebody at the other end.
type gossiping struct {
	mute
	members []gossip.Member
}

func (g gossiping) Members() []gossip.Member { return g.members }

// TestPendingIsHeard: who waits for approval and gossips is there.
func TestPendingIsHeard(t *testing.T) {
	d := onDisk(t, sound, 7)
	own := d.links
	defer func() { d.links = own }()
	d.links = gossiping{members: []gossip.Member{{Name: "d9", Addr: "192.0.2.9:7946"}}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // its loop does not run, and has nothing to tell of peers
	var out api.Status
	d.describeDirectors(ctx, &out, d.horizon.current())
	for _, s := range out.Directors {
		if s.Name == "d9" && s.Standing == "pending" && s.Heard {
			return
		}
	}
	t.Errorf("got %+v, want d9 pending and heard", out.Directors)
}

// TestOutsideTheRoster: a director that is not approved says so of itself, and of what it
// would write.
func TestOutsideTheRoster(t *testing.T) {
	d := onDisk(t, sound, 7)
	d.settings.Name = "d8"
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out api.Status
	d.describeDirectors(ctx, &out, d.horizon.current())
	if s := out.Directors[len(out.Directors)-1]; s.Name != "d8" || s.Standing != "pending" || !strings.Contains(s.Alarm, "divert director approve d8") {
		t.Errorf("got %+v, want d8 pending, with what takes it in", s)
	}
	if !slices.ContainsFunc(out.Alerts, func(a string) bool { return strings.Contains(a, "d8") }) {
		t.Errorf("no alert of d8: %q", out.Alerts)
	}
	c := &commander{name: "d8", key: ed25519.NewKeyFromSeed(append(make([]byte, 31), 99))}
	if r := c.outside(d.horizon.current().sealed); r == nil || !strings.Contains(r.Remedy, "divert director approve d8") {
		t.Errorf("got %v, want what takes d8 in", r)
	}
	c.name = "d2"
	if r := c.outside(d.horizon.current().sealed); r == nil || !strings.Contains(r.Remedy, "divert director remove d2") {
		t.Errorf("got %v, want d2 removed and approved", r)
	}
	c.key = ed25519.NewKeyFromSeed(append(make([]byte, 31), 0))
	if r := c.outside(d.horizon.current().sealed); r != nil {
		t.Errorf("refused for who is in the roster: %v", r)
	}
}

// TestAuditWithoutStore: who only reads is told nothing of changes.
func TestAuditWithoutStore(t *testing.T) {
	d := onDisk(t, sound, 7)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := d.Audit(ctx, 0, 20)
	if err == nil || strings.Contains(err.Error(), "changed") || !strings.Contains(err.Error(), "audit log") {
		t.Errorf("got %v", err)
	}
}
