package director

import (
	"context"
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
