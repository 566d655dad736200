package director

import (
	"context"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/dnsserver/geo"
)

// onDisk makes a director d1 whose disk holds one generation for each revision,
// damaged where spoil says so. It is never run.
func onDisk(t *testing.T, spoil func(g *store.Generation, files []string), revisions ...uint64) *Director {
	t.Helper()
	dir := t.TempDir()
	m := &mesh{t: t, ctx: t.Context(), geo: geo.Default()}
	for i := range 3 {
		m.nodes = append(m.nodes, m.node("d"+string(rune('1'+i)), ed25519.NewKeyFromSeed(append(make([]byte, 31), byte(i)))))
	}
	disk, err := store.OpenDisk(filepath.Join(dir, "state"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range revisions {
		f := m.plan(nil, r, m.nodes[0])
		g := store.Generation{Plan: f.sealed.Raw, Doc: f.bytes, Highest: f.sealed.Identity, Saved: time.Now()}
		spoil(&g, nil)
		if err := disk.Save(g); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "state", "generation-*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	spoil(nil, files)
	settings := spec.DefaultSettings()
	settings.Name, settings.Site, settings.DataDir = "d1", "s1", dir
	settings.DNS.Listen, settings.API.Listen, settings.Gossip.Listen = []string{"127.0.0.1:0"}, "", "127.0.0.1:0"
	d, err := New(Options{Settings: settings, Etcd: []string{"false"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // lets go of the sockets
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = d.Run(ctx)
	})
	return d
}

// TestTornGeneration: a director that lost its newest generation answers from
// the one before, says that it is behind, and acknowledges nothing until the
// store or every other director tells what it lost (S3, F17).
func TestTornGeneration(t *testing.T) {
	tear := func(_ *store.Generation, files []string) {
		if len(files) > 0 {
			if err := os.Truncate(files[len(files)-1], 20); err != nil {
				t.Fatal(err)
			}
		}
	}
	d := onDisk(t, tear, 7, 8)
	id, now := d.horizon.current().sealed.Identity, time.Now()
	if id.Revision != 7 || !d.horizon.behind() || !d.horizon.acked().IsZero() {
		t.Errorf("revision %d, behind %t, acknowledges %v; want 7, behind, nothing", id.Revision, d.horizon.behind(), d.horizon.acked())
	}
	d.horizon.setPeer("d2", id)
	d.horizon.hear(2, map[string]bool{"d2": true}, now)
	if !d.horizon.behind() {
		t.Error("one of two others is enough to know what was lost")
	}
	d.horizon.setPeer("d3", id)
	d.horizon.hear(2, map[string]bool{"d2": true, "d3": true}, now)
	if !d.horizon.behind() {
		t.Error("all others are enough, though the store may hold what they have not learnt of")
	}
	d.librarian.learn(t.Context(), d.horizon.known(), store.Snapshot{Sealed: d.horizon.current().sealed})
	d.horizon.hear(2, map[string]bool{"d2": true, "d3": true}, now)
	if d.horizon.behind() || d.horizon.acked() != id {
		t.Error("still behind, though the store and all others hold this plan")
	}

	d = onDisk(t, tear, 7, 8)
	id = d.horizon.current().sealed.Identity
	d.librarian.learn(t.Context(), d.horizon.known(), store.Snapshot{Sealed: d.horizon.current().sealed})
	if !d.horizon.acked().IsZero() {
		t.Error("the store's word is taken before anybody was heard: it may be an old copy's (F25)")
	}
	d.horizon.setPeer("d2", id)
	for wait := time.Duration(0); wait <= core.Patience; wait += time.Second {
		d.horizon.hear(2, map[string]bool{"d2": true}, now.Add(wait))
	}
	if d.horizon.behind() || d.horizon.acked() != id {
		t.Error("still behind, though the store and all that are there hold this plan")
	}
}

// TestForgettingIsKept: what is written to the disk after a loss does not pass for what
// was lost: a director that is started again still acknowledges nothing (S3).
func TestForgettingIsKept(t *testing.T) {
	for _, tc := range []struct{ lost, blank bool }{{true, false}, {false, true}} {
		d := onDisk(t, func(g *store.Generation, _ []string) {
			if g != nil {
				g.Lost, g.Blank = tc.lost, tc.blank
			}
		}, 7)
		if lost, blank := d.horizon.forgotten(); lost != tc.lost || blank != tc.blank || !d.horizon.acked().IsZero() {
			t.Errorf("%+v: lost %t, blank %t, acknowledges %v", tc, lost, blank, d.horizon.acked())
		}
		if err := d.saver.write(d.horizon.current(), nil); err != nil {
			t.Fatal(err)
		}
		if g, _, err := d.disk.Load(); err != nil || g.Lost != tc.lost || g.Blank != tc.blank {
			t.Errorf("%+v: the disk has %t, %t, %v", tc, g.Lost, g.Blank, err)
		}
	}
	if d := onDisk(t, none); !d.horizon.acked().IsZero() {
		t.Error("acknowledges without a plan")
	} else if _, blank := d.horizon.forgotten(); !blank {
		t.Error("an empty disk is not known to be one")
	}
}

func none(*store.Generation, []string) {}

// TestBegunAnew: the first plan of another fleet, which a person asked for, is
// not held against what this disk once knew.
func TestBegunAnew(t *testing.T) {
	h := &horizon{}
	h.raise(plan.Identity{Fleet: "old", Epoch: 1, Revision: 7})
	f := &inForce{sealed: &plan.Sealed{Identity: plan.Identity{Fleet: "new", Epoch: 1, Revision: 1}}}
	h.swap(f)
	if got := h.known(); got != f.sealed.Identity || h.behind() {
		t.Errorf("known: got %v, behind %t, want %v", got, h.behind(), f.sealed.Identity)
	}
}

// TestUnusableLastGood: a last good state that cannot be used costs its answers,
// never the start, and is no new beginning either.
func TestUnusableLastGood(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(g *store.Generation)
	}{
		{"plan", func(g *store.Generation) { g.Plan = []byte("of a later format") }},
		{"document", func(g *store.Generation) { g.Doc = []byte("another") }},
	}
	for _, tc := range tests {
		d := onDisk(t, func(g *store.Generation, _ []string) {
			if g != nil {
				tc.spoil(g)
			}
		}, 7)
		d.horizon.setStore(storeState{ok: true})
		if d.Ready() == nil || d.awaited() == "" {
			t.Errorf("%s: ready %v, waits for %q; want neither ready nor a new fleet", tc.name, d.Ready(), d.awaited())
		}
		known := d.horizon.known()
		older, newer := onDisk(t, none, 6).horizon.current(), onDisk(t, none, 8).horizon.current()
		d.librarian.learn(t.Context(), known, store.Snapshot{Sealed: older.sealed})
		if d.horizon.storeNow().problem == "" {
			t.Errorf("%s: an older plan than this disk knew (%v) is taken from the store (S3)", tc.name, known)
		}
		if d.librarian.offer(t.Context(), newer.sealed, newer.bytes); !d.loop.takeForce(newer, d.now()) || d.Ready() != nil {
			t.Errorf("%s: a newer plan does not help", tc.name)
		}
	}
}

// TestHearForgetsOthers: what a director that has left the roster once named
// must not hold back acknowledgements for ever.
func TestHearForgetsOthers(t *testing.T) {
	h := &horizon{}
	h.setPeer("gone", plan.Identity{Fleet: "x", Epoch: 9, Revision: 9})
	h.setPeer("d2", plan.Identity{Fleet: "x", Epoch: 1, Revision: 1})
	h.hear(2, map[string]bool{"d2": true, "d3": false}, time.Now())
	if got := h.heard(); len(got) != 1 || got[0].Director != "d2" {
		t.Errorf("got %v, want d2 alone", got)
	}
}

// others are links to members that say what they say.
type others struct {
	mute
	members []gossip.Member
	doubted bool // every one of them
}

func (o others) Alarms() map[string]string {
	out := map[string]string{}
	for _, m := range o.members {
		if o.doubted {
			out[m.Name] = "two of them"
		}
	}
	return out
}

func (o others) Members() []gossip.Member { return o.members }

// TestInitBesidePlan: `divert store init` makes no second fleet beside a director
// that holds a plan.
func TestInitBesidePlan(t *testing.T) {
	d := &Director{horizon: &horizon{}, links: others{members: []gossip.Member{{Name: "d2", Meta: gossip.Meta{HasPlan: true}}}}}
	out, err := d.Init(t.Context())
	if err != nil || out.Code != 1 || out.Remedy == "" {
		t.Errorf("got %+v, %v, want a refusal with its remedy", out, err)
	}
}
