package director

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/health"
)

// ward is a fleet of emergencies joined by a network in memory, without loops: what a loop
// would do with an overlay, a test does.
type ward struct {
	t     *testing.T
	f     *inForce
	key   ed25519.PrivateKey
	nodes []*patient // by the test

	mu   sync.Mutex
	wire []*patient // by name, the last of each
}

type patient struct {
	*emergencies
	ward *ward
	mu   sync.Mutex
	cut  bool
	lies atomic.Int64 // that it adds to each age it tells
	end  context.CancelFunc
	done chan struct{}
}

func newWard(t *testing.T) *ward {
	t.Helper()
	seed := sha256.Sum256([]byte("ops"))
	w := &ward{t: t, key: ed25519.NewKeyFromSeed(seed[:])}
	m := meshOf(t, geo.Default())
	w.f = m.plan(func(p *plan.Plan) {
		p.Operators = []*plan.Operator{{Name: "ops", Key: w.key.Public().(ed25519.PublicKey), Revision: 1}}
	}, 1, m.nodes[0])
	for i := range 3 {
		w.nodes = append(w.nodes, w.start(fmt.Sprintf("d%d", i+1), t.TempDir()))
	}
	return w
}

// start runs a director's emergencies on a disk.
func (w *ward) start(name, dir string) *patient {
	p := &patient{ward: w, done: make(chan struct{})}
	h := &horizon{}
	h.swap(w.f)
	p.emergencies = (&emergencies{
		name: name, horizon: h, links: p, file: store.NewEmergencies(dir),
		states: func(context.Context) (a, b map[health.Subject]health.State, err error) { return nil, nil, nil },
		earth:  func() *earth { return newEarth(geo.Default()) }, prepared: new(atomic.Pointer[steer.Prepared]), overlay: &overlay{}, wakeup: newWake(),
		changed: func() {}, log: slog.New(slog.DiscardHandler), now: time.Now, shown: newEmergencyMetrics(prometheus.NewRegistry()),
	}).prepare()
	ctx, end := context.WithCancel(w.t.Context())
	p.end = end
	w.mu.Lock()
	w.wire = append(slices.DeleteFunc(slices.Clone(w.wire), func(o *patient) bool { return o.name == name }), p)
	w.mu.Unlock()
	w.t.Cleanup(func() { end(); <-p.done }) // before its disk goes
	go func() { _ = p.run(ctx); close(p.done) }()
	go func() { // the loop
		for {
			select {
			case <-ctx.Done():
				return
			case <-p.wakeup:
				p.overlay.over(w.f.sealed.Plan)
				p.overlay.took()
			}
		}
	}()
	return p
}

func (w *ward) others() []*patient {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wire
}

func (p *patient) isolate(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
}

func (p *patient) isolated() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

func (p *patient) Alarms() map[string]string { return nil }
func (p *patient) Refresh()                  {}

func (p *patient) Broadcast(kind uint8, payload []byte) (gossip.Message, error) {
	for _, o := range p.ward.others() {
		if o.name != p.name {
			_, _ = p.Send(o.name, kind, payload)
		}
	}
	return gossip.Message{}, nil
}

func (p *patient) Send(to string, kind uint8, payload []byte) (gossip.Message, error) {
	for _, o := range p.ward.others() {
		if o.name == to && !o.isolated() && !p.isolated() {
			if raw, age, err := decodeWord(payload); kind == kindEmergency && err == nil {
				payload = encodeWord(raw, age+time.Duration(p.lies.Load()))
			}
			o.deliver(gossip.Message{Kind: kind, From: p.name, Payload: payload})
		}
	}
	return gossip.Message{}, nil
}

func (w *ward) word(counter uint64, id string, change ...func(*plan.Emergency)) *plan.Word {
	w.t.Helper()
	e := &plan.Emergency{Id: id, Operator: "ops", Enrolled: 1, Counter: counter, Scope: "cluster/fra", Reason: "INC-1", Said: timestamppb.New(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), Lasts: durationpb.New(time.Hour)}
	for _, c := range change {
		c(e)
	}
	out, err := plan.SignWord(fleetID, e, w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *ward) say(n int, word *plan.Word) error {
	_, err := w.nodes[n].say(w.t.Context(), w.f, word, false)
	return err
}

// comes gives what a director says of its words: "e1 in force".
func (p *patient) comes() string {
	var parts []string
	_ = p.inspect(p.ward.t.Context(), func(time.Time) {
		for _, j := range p.judged {
			parts = append(parts, j.Word.GetId()+" "+j.State.String())
		}
	})
	return strings.Join(parts, ", ")
}

// TestEmergencyReachesAll: a word is on every director within a second, and each knows of
// the others that they go by it; an undrain ends it everywhere (S6, L4).
func TestEmergencyReachesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t)
		if err := w.say(0, w.word(1, "e1")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for _, n := range w.nodes {
			if got := n.comes(); got != "e1 in force" {
				t.Errorf("%s: %q", n.name, got)
			}
			_ = n.inspect(t.Context(), func(now time.Time) {
				if _, missing := n.standing(w.f, w.word(1, "e1").Sum, nil, now); len(missing) > 0 {
					t.Errorf("%s misses %v", n.name, missing)
				}
			})
		}
		if err := w.say(1, w.word(1, "e9")); err == nil || !strings.Contains(err.Error(), "counter 2") {
			t.Errorf("a counter that was used: %v", err)
		}
		if err := w.say(2, w.word(2, "u1", func(e *plan.Emergency) { e.Ends = "e1" })); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for _, n := range w.nodes {
			if got := n.comes(); got != "e1 undrained, u1 ends another" {
				t.Errorf("%s: %q", n.name, got)
			}
		}
	})
}

// TestEmergencyPartition: a director that was cut off hears of it when it is back, and goes
// by it for what is left, as the others say, not for an hour of its own; what both sides
// said is on both, in one order; what was over before it heard of it never is in force there.
func TestEmergencyPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t)
		w.nodes[2].isolate(true)
		if err := w.say(0, w.word(1, "e1", func(e *plan.Emergency) { e.Lasts = durationpb.New(10 * time.Minute) })); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := w.say(0, w.word(2, "e2", func(e *plan.Emergency) { e.Scope = "service/pay@fra" })); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		w.nodes[2].isolate(false)
		time.Sleep(urgentSummary + time.Second)
		if got := w.nodes[2].comes(); got != "e1 over, e2 in force" {
			t.Errorf("back after half an hour: %q", got)
		}
		time.Sleep(30*time.Minute + time.Second)
		for _, n := range w.nodes {
			if got := n.comes(); got != "e1 over, e2 over" {
				t.Errorf("%s after its hour: %q", n.name, got)
			}
		}
	})
}

// TestEmergencyLiar: one director that says that a word is over ends it nowhere else (S7).
func TestEmergencyLiar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t)
		w.nodes[1].lies.Store(int64(time.Hour))
		if err := w.say(0, w.word(1, "e1")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		var forged []core.Holding
		for range 20 {
			forged = []core.Holding{{ID: core.IDOf(w.word(1, "e1").Sum), Age: time.Hour, State: core.EmergencyOver}}
			for _, b := range encodeHoldings(forged, "d2") {
				w.nodes[2].deliver(gossip.Message{Kind: kindEmergencies, From: "d2", Payload: b})
			}
		}
		time.Sleep(5 * time.Second)
		if got := w.nodes[2].comes(); got != "e1 in force" {
			t.Errorf("got %q", got)
		}
	})
}

// TestEmergencyJournal: a word is on the disk before it is said (a disk that takes none
// takes no command, F16), and from there in the first table after a start (S12, F24).
func TestEmergencyJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t)
		dir := t.TempDir()
		w.nodes[0].end()
		<-w.nodes[0].done
		w.nodes[0] = w.start("d1", dir)
		word := w.word(1, "e1")
		if err := w.say(0, word); err != nil {
			t.Fatal(err)
		}
		// As a crash would leave it.
		raw, err := os.ReadFile(filepath.Join(dir, "emergencies"))
		if err != nil {
			t.Fatal(err)
		}
		crashed := t.TempDir()
		if err := os.WriteFile(filepath.Join(crashed, "emergencies"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		w.nodes[0].end()
		<-w.nodes[0].done
		for _, n := range w.nodes[1:] {
			n.isolate(true)
		}
		again := w.start("d1", crashed)
		first := again.overlay.over(w.f.sealed.Plan)
		if len(first.GetOverrides()) != 1 || first.GetOverrides()[0].GetId() != "e1" {
			t.Errorf("the first table goes by %v", first.GetOverrides())
		}
		w.nodes[0] = again
		again.end()
		<-again.done
		gone := filepath.Join(t.TempDir(), "gone")
		w.nodes[0] = w.start("d1", gone) // no folder: nothing can be written
		var refusal *core.Refusal
		if err := w.say(0, w.word(1, "e1")); !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, "journalled") {
			t.Errorf("said without a disk: %v", err)
		}
		if got := w.nodes[0].comes(); got != "" {
			t.Errorf("gone by without a disk: %q", got)
		}
		damaged := t.TempDir()
		raw[len(raw)-1] ^= 1
		if err := os.WriteFile(filepath.Join(damaged, "emergencies"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		n := w.start("d1", damaged)
		if got := n.comes(); got != "" {
			t.Errorf("a damaged file comes to %q", got)
		}
		n.end()
		<-n.done
	})
}

// TestEmergencyJunk: what is forged, of another fleet, of nobody that is listed, or too
// much is counted and changes nothing (F13).
func TestEmergencyJunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t)
		stranger := sha256.Sum256([]byte("x"))
		forged, err := plan.SignWord(fleetID, w.word(1, "e1").Emergency, ed25519.NewKeyFromSeed(stranger[:]))
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := plan.SignWord("other", w.word(1, "e1").Emergency, w.key)
		if err != nil {
			t.Fatal(err)
		}
		n := w.nodes[2]
		for _, raw := range [][]byte{forged.Raw, foreign.Raw, []byte("junk"), nil} {
			n.deliver(gossip.Message{Kind: kindEmergency, From: "d2", Payload: encodeWord(raw, 0)})
		}
		n.deliver(gossip.Message{Kind: kindEmergencies, From: "d2", Payload: []byte{0xff}})
		for i := range 1000 {
			n.deliver(gossip.Message{Kind: kindEmergency, From: "d2", Payload: encodeWord(fmt.Appendf(nil, "junk %d", i), 0)})
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		time.Sleep(time.Second)
		if got := n.comes(); got != "" {
			t.Errorf("got %q", got)
		}
		if err := w.say(0, w.word(1, "e1")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := n.comes(); got != "e1 in force" {
			t.Errorf("a good one afterwards: %q", got)
		}
	})
}

// TestEmergencySettled: what the plan in force settles is dropped once that plan is on the
// disk, not before, and does not come back from a director that is behind.
func TestEmergencySettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t)
		if err := w.say(0, w.word(1, "e1")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		n := w.nodes[1]
		m := meshOf(t, geo.Default())
		next := m.plan(func(p *plan.Plan) {
			p.Operators = []*plan.Operator{{Name: "ops", Key: w.key.Public().(ed25519.PublicKey), Revision: 1, Settled: []*plan.Settled{{Id: "e1", Counter: 1}}}}
			p.Overrides = []*plan.Override{{Id: "e1", Kind: plan.Override_DRAIN, Scope: "cluster/fra", Author: "ops", End: timestamppb.New(time.Now().Add(time.Hour)), Revision: 2}}
		}, 2, m.nodes[0])
		if got := len(core.Overlay(next.sealed.Plan, n.overlay.view.Load().judged).GetOverrides()); got != 1 {
			t.Errorf("under the plan that settles it there are %d drains, want 1", got)
		}
		n.horizon.swap(next)
		time.Sleep(time.Second)
		held := func() (k int) {
			_ = n.inspect(t.Context(), func(time.Time) { k = n.held.Len() })
			return k
		}
		if held() != 1 {
			t.Error("dropped before the plan is on the disk")
		}
		n.horizon.savedNow(next.sealed.Identity)
		time.Sleep(time.Minute)
		if held() != 0 || n.comes() != "" {
			t.Errorf("%d held after a minute in which the others, who are behind, have sent it", held())
		}
	})
}

func FuzzUrgentWire(f *testing.F) {
	f.Add(encodeWord([]byte("word"), time.Second))
	f.Add(encodeHoldings([]core.Holding{{ID: core.WordID{1}, Age: time.Second, State: core.EmergencyInForce, Answered: true}}, "d1")[0])
	f.Fuzz(func(t *testing.T, payload []byte) {
		if raw, age, err := decodeWord(payload); err == nil {
			again, same, err := decodeWord(encodeWord(raw, age))
			if err != nil || string(again) != string(raw) || same != age || age > plan.MaxEmergency {
				t.Errorf("%x, %s: %v", raw, age, err)
			}
		}
		if list, err := decodeHoldings(payload); err == nil {
			got := map[core.Holding]bool{}
			for _, b := range encodeHoldings(list, strings.Repeat("n", gossip.MaxName)) {
				if len(b)+gossip.Overhead(strings.Repeat("n", gossip.MaxName)) > gossip.MaxDatagram {
					t.Errorf("%d octets", len(b))
				}
				more, err := decodeHoldings(b)
				if err != nil {
					t.Fatal(err)
				}
				for _, h := range more {
					got[h] = true
				}
			}
			want := map[core.Holding]bool{}
			for _, h := range list {
				want[h] = true
			}
			if !maps.Equal(got, want) {
				t.Errorf("%d and %d", len(got), len(want))
			}
		}
	})
}
