package director

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
)

// away is a director that holds an old plan and can ask one other, home.
type away struct {
	*librarian
	home           *librarian
	now            time.Time
	toHome, toAway chan gossip.Message
	answered       int
}

func newAway(t *testing.T, d *Director, from *inForce, kept *missed) *away {
	t.Helper()
	a := &away{now: time.Now(), toHome: make(chan gossip.Message, 64), toAway: make(chan gossip.Message, 64)}
	quiet := slog.New(slog.DiscardHandler)
	post := func(from string, into chan gossip.Message) *courier {
		return newCourier(func(_ string, kind uint8, payload []byte) error {
			into <- gossip.Message{From: from, Kind: kind, Payload: payload, Pinned: true}
			return nil
		}, quiet)
	}
	h := &horizon{texts: d.horizon.texts}
	h.swap(from)
	a.librarian = &librarian{
		name: "d2", horizon: h, courier: post("d2", a.toHome), offered: newWake(), ask: newWake(), log: quiet, changed: func() {},
		refusals: newRefusals(prometheus.NewRegistry(), quiet, h, func() time.Time { return a.now }), places: d.librarian.places, place: func(*inForce) {}, resolver: d.librarian.resolver,
	}
	a.home = &librarian{name: "d1", horizon: d.horizon, courier: post("d1", a.toAway), log: quiet, missed: kept}
	return a
}

// catchUp asks, and takes what comes into force, until something is so.
func (a *away) catchUp(t *testing.T, top plan.Identity, until func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !until(); {
		if time.Now().After(deadline) {
			t.Fatalf("nothing comes of it: at %v", a.horizon.current().sealed.Identity)
		}
		a.horizon.setPeer("d1", top)
		a.librarian.asked = time.Time{}
		a.fetch()
		for quiet := false; !quiet; {
			select {
			case m := <-a.toHome:
				a.home.message(t.Context(), m)
			case m := <-a.toAway:
				a.message(t.Context(), m)
			case <-time.After(10 * time.Millisecond):
				quiet = true
			}
		}
		if f, err := a.horizon.take(); err != nil {
			t.Fatal(err)
		} else if f != nil {
			a.answered++
			a.horizon.swap(f)
		}
	}
}

// TestMissed: of a fleet of two, one director was away for longer than the plan remembers who
// approved what. What it missed is dangerous as a whole, and nobody else can vouch for it; it
// goes through the plans by which something turned, one by one, and holds each to what it
// holds every plan to (S7, S16). Without them it names the writer, as it would a rogue.
func TestMissed(t *testing.T) {
	d := aloneOf(t, nil, pairSpec)
	from := d.horizon.current()
	must := func(c core.Command) {
		t.Helper()
		c.Reason = "x"
		if _, err := give(d, c); err != nil {
			t.Fatal(err)
		}
	}
	must(core.Command{ID: "ops", Verb: core.OperatorAdd, Author: "unix:alice", Operator: &core.Operator{Name: "ops", Key: make([]byte, 32)}})
	must(core.Command{ID: "y", Verb: core.Approve, Scope: "ops", Author: "unix:bob"})
	for i := 0; d.horizon.newest().sealed.Plan.Request("ops") != nil; i++ { // until it has given its place to others
		must(core.Command{ID: fmt.Sprint("r", i), Verb: core.Drain, Scope: "cluster/fra", Author: fmt.Sprint("unix:p", i/4), For: time.Hour, Force: true})
	}
	top := d.horizon.newest().sealed.Identity
	for d.horizon.current().sealed.Identity != top {
		<-d.Changed()
	}
	m := d.librarian.missed
	for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
		m.mu.Lock()
		kept := len(m.plans) > 0 && m.plans[len(m.plans)-1].sealed.Identity == top
		m.mu.Unlock()
		if kept {
			tick.Stop()
			break
		}
	}

	lost := newAway(t, d, from, nil)
	lost.catchUp(t, top, func() bool { return lost.refusals.lacking(top) })
	if lost.horizon.current() != from {
		t.Fatal("S16: what nothing proves is in force")
	}
	c := &commander{name: "d2", librarian: lost.librarian, horizon: lost.horizon, log: lost.log}
	var refusal *core.Refusal
	if _, err := c.base(t.Context(), lost.horizon.known(), store.Snapshot{Sealed: d.horizon.current().sealed}); !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, "was away") {
		t.Errorf("a person's command meanwhile: %v", err)
	}
	if alert := lost.refusals.alert(from.sealed.Identity); alert != "" {
		t.Errorf("names the writer before it has looked: %s", alert)
	}
	lost.now = lost.now.Add(time.Minute)
	lost.catchUp(t, top, func() bool {
		return strings.Contains(lost.refusals.alert(from.sealed.Identity), "d1 wrote a plan that is refused")
	})
	if lost.horizon.current() != from {
		t.Error("S16: what nothing proves is in force after a while")
	}

	back := newAway(t, d, from, m)
	back.catchUp(t, top, func() bool { return back.horizon.current().sealed.Identity == top })
	if back.answered < 3 {
		t.Errorf("came there in %d steps: nothing was missed", back.answered)
	}
	if alert := back.refusals.alert(top); alert != "" {
		t.Errorf("names an honest writer: %s", alert)
	}

	// It is all on the disk of who gives it, and what is damaged there is not given.
	again := newMissed(d.settings.DataDir, slog.New(slog.DiscardHandler))
	again.load()
	if got, want := again.after(wantAfter(from.sealed.Identity), top.Fleet), m.after(wantAfter(from.sealed.Identity), top.Fleet); got == nil || !bytes.Equal(got, want) {
		t.Error("after a start another plan is given, or none")
	}
	chunk := from.stable().ref.GetChunks()[0]
	if got := again.chunk(plan.Hash(chunk)); plan.Sum(got) != plan.Hash(chunk) {
		t.Error("after a start its document is gone")
	}
	files, err := filepath.Glob(filepath.Join(d.settings.DataDir, missedFolder, docFile+"*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("documents: %q, %v", files, err)
	}
	if err := os.WriteFile(files[0], []byte("flipped"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again.chunk(plan.Hash(chunk)) != nil {
		t.Error("gives what is damaged")
	}
	if again.load(); again.after(wantAfter(from.sealed.Identity), top.Fleet) != nil {
		t.Error("gives a plan whose document is damaged")
	}
}

// TestMissedBounds: what is kept is bounded, the oldest goes first, and no file stays that
// nobody needs; what turns nothing is not kept at all.
func TestMissedBounds(t *testing.T) {
	_, n := standing(t)
	m := newMissed(t.TempDir(), slog.New(slog.DiscardHandler))
	f := *n.horizon.current()
	set := *f.spec
	set.Fleet.TwoPersons = true
	f.spec = &set
	keep := func(revision uint64, change func(*plan.Plan)) {
		t.Helper()
		p := proto.CloneOf(f.sealed.Plan)
		p.Revision = revision
		change(p)
		sealed, err := plan.Sign(p, "d1", ed25519.NewKeyFromSeed(make([]byte, 32)))
		if err != nil {
			t.Fatal(err)
		}
		f.sealed = sealed
		if err := m.keep(&f); err != nil {
			t.Fatal(err)
		}
	}
	const more = 5
	for i := range uint64(missedPlans + more) {
		f.bytes = fmt.Append(nil, "document ", i/2)
		keep(10+2*i, func(p *plan.Plan) { p.Overrides = []*plan.Override{{Id: fmt.Sprint(i)}} })
		keep(11+2*i, func(p *plan.Plan) { p.Spill = &plan.Spill{Number: i + 1} })
	}
	if got := len(m.plans); got != missedPlans {
		t.Errorf("keeps %d plans, want %d", got, missedPlans)
	}
	if first := m.plans[0].sealed.Identity.Revision; first != 10+2*more {
		t.Errorf("the oldest is %d, want %d", first, 10+2*more)
	}
	docs, err := filepath.Glob(filepath.Join(m.folder.Dir, docFile+"*"))
	if want := (missedPlans+more+1)/2 - more/2; err != nil || len(docs) != want {
		t.Errorf("%d documents, want %d", len(docs), want)
	}
	plans, err := filepath.Glob(filepath.Join(m.folder.Dir, planFile+"*"))
	if err != nil || len(plans) != missedPlans {
		t.Errorf("%d files of plans", len(plans))
	}
	// The plan that ends it takes two persons itself; who missed it has to see it, and none after it.
	latest := func() uint64 { return m.plans[len(m.plans)-1].sealed.Identity.Revision }
	free := set
	free.Fleet.TwoPersons = false
	f.spec = &free
	keep(900, func(p *plan.Plan) { p.Overrides = []*plan.Override{{Id: "free"}} })
	keep(901, func(p *plan.Plan) { p.Overrides = []*plan.Override{{Id: "freer"}} })
	if got := latest(); got != 900 {
		t.Errorf("the last that is kept is %d, want that by which two persons end", got)
	}
	f.spec = &set
	f.bytes = make([]byte, missedOctets)
	keep(1000, func(p *plan.Plan) { p.Overrides = []*plan.Override{{Id: "large"}} })
	if got := len(m.plans); got != 1 {
		t.Errorf("keeps %d plans beside a document as large as all may be", got)
	}
	for _, want := range [][]byte{nil, {1}, make([]byte, wantSize+1)} {
		if m.after(want, f.sealed.Identity.Fleet) != nil {
			t.Errorf("gives a plan for %x", want)
		}
	}
	if m.after(wantAfter(plan.Identity{}), "another fleet") != nil {
		t.Error("gives another fleet's")
	}
}
