package director

import (
	"bytes"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
)

// TestFetchPace: each heartbeat that names a newer plan wakes the librarian. One
// that cannot be used here, of a newer version, is asked for once a second and
// told of once.
func TestFetchPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, n := standing(t)
		top := n.horizon.current().sealed.Identity
		top.Revision++
		n.horizon.setPeer("d2", top)
		var asked atomic.Int64
		var log bytes.Buffer
		l := &librarian{
			horizon: n.horizon, courier: newCourier(func(string, uint8, []byte) error { asked.Add(1); return nil }, slog.New(slog.DiscardHandler)),
			offered: newWake(), ask: newWake(), log: slog.New(slog.NewTextHandler(&log, nil)), changed: func() {}, refusals: newRefusals(prometheus.NewRegistry(), slog.New(slog.DiscardHandler), n.horizon, time.Now),
		}
		for range 8 {
			l.fetch()
			l.message(t.Context(), gossip.Message{Kind: kindPlan, From: "d2", Payload: []byte("of a later format")})
			synctest.Wait()
			time.Sleep(fetchTick / 4)
		}
		if got := asked.Load(); got != 2 {
			t.Errorf("asked %d times in two seconds, want 2", got)
		}
		if got := strings.Count(log.String(), "refused"); got != 1 {
			t.Errorf("told %d times, want once:\n%s", got, log.String())
		}
		top.Revision++
		n.horizon.setPeer("d2", top)
		l.fetch()
		synctest.Wait()
		if got := asked.Load(); got != 3 {
			t.Errorf("a newer one still: asked %d times, want at once", got)
		}
	})
}

// TestPlanOfNoHashes: a plan that one director signs and that names its document by what is
// no hash brings down nobody who asks for it.
func TestPlanOfNoHashes(t *testing.T) {
	m, n := standing(t)
	cur := n.horizon.current()
	for _, ref := range []*plan.SpecRef{
		{Hash: make([]byte, 32), Size: 1, Chunks: [][]byte{{1}}},
		{Hash: []byte{1}, Size: 1, Chunks: cur.ref.GetChunks()},
		{Hash: cur.ref.GetHash(), Size: 1, Chunks: [][]byte{{1}}},
		{},
	} {
		p := proto.CloneOf(cur.sealed.Plan)
		p.Revision, p.Parent, p.Spec = p.GetRevision()+1, cur.sealed.Identity.Hash[:], ref
		sealed, err := plan.Sign(p, m.nodes[1].name, m.nodes[1].key)
		if err != nil {
			t.Fatal(err)
		}
		l := &librarian{
			name: "d1", horizon: n.horizon, courier: newCourier(func(string, uint8, []byte) error { return nil }, slog.New(slog.DiscardHandler)),
			offered: newWake(), ask: newWake(), log: slog.New(slog.DiscardHandler), changed: func() {}, refusals: newRefusals(prometheus.NewRegistry(), slog.New(slog.DiscardHandler), n.horizon, time.Now),
		}
		l.message(t.Context(), gossip.Message{Kind: kindPlan, From: "d2", Payload: sealed.Raw})
		l.message(t.Context(), gossip.Message{Kind: kindChunk, From: "d2", Payload: []byte("x")})
		l.offer(t.Context(), sealed, cur.bytes)
		if n.horizon.newest() != cur {
			t.Errorf("%v: it is taken", ref)
		}
	}
}
