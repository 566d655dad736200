package director

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/health"
)

// sealFleet is three directors that seal what one store has; its clock is the test's.
type sealFleet struct {
	t       *testing.T
	now     time.Time
	store   map[uint64][]byte
	sealed  *plan.Sealed
	nodes   []*sealer
	away    map[string]bool
	letters []letter
	epoch   uint64
	reader  uint32 // what its plans take
}

type letter struct {
	to string
	m  gossip.Message
}

func newSealFleet(t *testing.T) *sealFleet {
	f := &sealFleet{t: t, now: time.Date(2026, 3, 9, 12, 0, 0, 0, time.UTC), store: map[uint64][]byte{}, away: map[string]bool{}, epoch: 1, reader: plan.ReaderFirst}
	for i := range 3 {
		f.nodes = append(f.nodes, f.node(fmt.Sprint("d", i+1), t.TempDir()))
	}
	f.commit(3)
	return f
}

func (f *sealFleet) node(name, dir string) *sealer {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{name[1]}, ed25519.SeedSize))
	s := &sealer{
		name: name, key: key, dir: dir, plan: func() *plan.Sealed { return f.sealed }, usable: func() bool { return true },
		records: func(_ context.Context, from uint64, each func(uint64, []byte) error) error {
			for _, r := range slices.Sorted(maps.Keys(f.store)) {
				if r < from {
					continue
				}
				if err := each(r, f.store[r]); err != nil {
					return err
				}
			}
			return nil
		},
		log: slog.New(slog.DiscardHandler), now: func() time.Time { return f.now }, shown: newSealMetrics(prometheus.NewRegistry()),
		changed: func() {}, wanted: newWake(), limits: map[string]*rate.Limiter{}, faults: map[string]string{}, heardAt: map[string]time.Time{},
		autos: &autoQueue{}, autosRate: newAutosRate(), autosMore: map[health.State]int{},
	}
	send := func(to string, kind uint8, payload []byte) {
		f.letters = append(f.letters, letter{to, gossip.Message{Kind: kind, From: name, Key: s.key.Public().(ed25519.PublicKey), Payload: payload, Pinned: true}})
	}
	s.ask, s.post = send, send
	s.tell = func(kind uint8, payload []byte) {
		for _, o := range f.nodes {
			if o.name != name {
				send(o.name, kind, payload)
			}
		}
	}
	return s
}

// commit writes plans and their records, as the store does.
func (f *sealFleet) commit(n int) {
	for range n {
		p := &plan.Plan{Fleet: "f1", Epoch: f.epoch, Revision: 1, MinReader: f.reader}
		if f.sealed != nil {
			p.Revision, p.Parent = f.sealed.Identity.Revision+1, f.sealed.Identity.Hash[:]
			if f.epoch > f.sealed.Identity.Epoch {
				p.Revision += 3 // above all that anybody may know
			}
		}
		for _, s := range f.nodes {
			p.Roster = append(p.Roster, &plan.Director{Name: s.name, Site: s.name, Key: s.key.Public().(ed25519.PublicKey), Standing: plan.Director_ACTIVE})
		}
		var err error
		if f.sealed, err = plan.Sign(p, f.nodes[0].name, f.nodes[0].key); err != nil {
			f.t.Fatal(err)
		}
		h := f.sealed.Identity.Hash
		f.put(&plan.Audit{
			Revision: p.GetRevision(), At: timestamppb.New(f.now), Who: "ann", Via: "d1", What: fmt.Sprint("change ", p.GetRevision()),
			Plan: h[:], Epoch: f.epoch, Parent: p.GetParent(),
		})
	}
}

func (f *sealFleet) put(a *plan.Audit) {
	raw, err := proto.Marshal(a)
	if err != nil {
		f.t.Fatal(err)
	}
	f.store[a.GetRevision()] = raw
}

// forge has the store say that somebody else did it.
func (f *sealFleet) forge(revision uint64) {
	a := &plan.Audit{}
	if err := proto.Unmarshal(f.store[revision], a); err != nil {
		f.t.Fatal(err)
	}
	a.Who = "nobody"
	f.put(a)
}

// pass has time pass, with all that directors do meanwhile.
func (f *sealFleet) pass(d time.Duration) {
	for end := f.now.Add(d); f.now.Before(end); f.now = f.now.Add(sealTick) {
		for _, s := range f.nodes {
			if !f.away[s.name] {
				s.step(f.t.Context())
			}
		}
		for len(f.letters) > 0 {
			l := f.letters[0]
			f.letters = f.letters[1:]
			for _, s := range f.nodes {
				if s.name == l.to && !f.away[s.name] && !f.away[l.m.From] {
					s.message(f.t.Context(), l.m)
				}
			}
		}
	}
}

func (f *sealFleet) of(name string) *sealer {
	for _, s := range f.nodes {
		if s.name == name {
			return s
		}
	}
	f.t.Fatal(name)
	return nil
}

// restart has a director come back with what its disk holds.
func (f *sealFleet) restart(name string) {
	for i, s := range f.nodes {
		if s.name == name {
			f.nodes[i] = f.node(name, s.dir)
		}
	}
}

func alertsOf(s *sealer) string {
	var out api.Status
	s.describe(&out)
	return strings.Join(out.Alerts, "\n")
}

// alike wants all directors to have sealed the same, all of it, and nobody to complain.
func (f *sealFleet) alike(records int64) {
	f.t.Helper()
	for _, s := range f.nodes {
		v := s.view.Load()
		if v == nil || v.headOf.Size != records || v.headOf.Root != f.nodes[0].view.Load().headOf.Root || v.headOf.Revision != f.sealed.Identity.Revision || len(v.holders()) != len(f.nodes) {
			f.t.Errorf("%s: got %d records, %d here, sealed on %d, want %d on all", s.name, v.headOf.Size, s.tiles.Size(), len(v.holders()), records)
		}
		if got := alertsOf(s); got != "" {
			f.t.Errorf("%s: %s", s.name, got)
		}
	}
}

// TestSealed (S15): all directors come to one log, over restarts and tiles' edges, and
// each has the others' signatures for it.
func TestSealed(t *testing.T) {
	f := newSealFleet(t)
	f.pass(time.Minute)
	f.alike(3)
	f.commit(600)
	f.pass(10 * time.Second)
	f.alike(603)
	f.away["d3"] = true
	f.commit(5)
	f.pass(time.Minute)
	if v := f.of("d1").view.Load(); !slices.Equal(v.holders(), []string{"d1", "d2"}) {
		t.Errorf("d3 is away: sealed on %v", v.holders())
	}
	f.away["d3"] = false
	f.restart("d3")
	f.pass(30 * time.Second)
	f.alike(608)
}

// TestSealedFromOthers (S15): what the store lost of what others have sealed, or what was
// damaged there, comes from them; so it does for a director whose disk was lost.
func TestSealedFromOthers(t *testing.T) {
	f := newSealFleet(t)
	f.away["d3"] = true
	f.commit(297)
	f.pass(time.Minute)
	delete(f.store, 2)
	delete(f.store, 270)
	delete(f.store, 271)
	f.store[290] = []byte("garbage")
	f.store[291] = append(bytes.Clone(f.store[291]), f.store[292]...) // of two revisions
	delete(f.store, 300)                                              // the last
	f.away["d3"] = false
	f.pass(2 * time.Minute)
	f.alike(300)
	// A disk that was lost, and a store that has hardly anything.
	for r := uint64(1); r < 299; r++ {
		delete(f.store, r)
	}
	if err := os.RemoveAll(filepath.Join(f.of("d2").dir, sealFolder)); err != nil {
		t.Fatal(err)
	}
	f.restart("d2")
	f.pass(2 * time.Minute)
	f.alike(300)
	f.commit(1)
	f.pass(time.Minute)
	f.alike(301)
}

// TestSealedGap (S15): of a record that was deleted before anybody sealed it, all say for
// ever that it is missing, and the log goes on alike; alterations that a plan or the next
// record shows are named.
func TestSealedGap(t *testing.T) {
	f := newSealFleet(t)
	f.pass(time.Minute)
	f.commit(3)
	delete(f.store, 5)
	f.pass(2 * time.Minute)
	for _, life := range []string{"", "after a restart"} {
		for _, s := range f.nodes {
			if v := s.view.Load(); v.headOf.Size != 5 || v.headOf.Root != f.nodes[0].view.Load().headOf.Root {
				t.Errorf("%s %s: %d records, %s", s.name, life, v.headOf.Size, v.headOf.Root)
			}
			if got := alertsOf(s); !strings.Contains(got, "record 4 (revision 6): the record before it is missing: of revision 5") {
				t.Errorf("%s %s: got %q", s.name, life, got)
			}
		}
		for i := range f.nodes {
			f.restart(f.nodes[i].name)
		}
		f.pass(30 * time.Second)
	}
	// One whose plan is not the one in force is not sealed.
	f.commit(1)
	a := &plan.Audit{}
	if err := proto.Unmarshal(f.store[7], a); err != nil {
		t.Fatal(err)
	}
	a.Plan = bytes.Repeat([]byte{1}, 32)
	f.put(a)
	f.pass(time.Minute)
	for _, s := range f.nodes {
		if v := s.view.Load(); v.headOf.Size != 5 || !strings.Contains(alertsOf(s), "revision 7 in the store is not that of the plan in force") {
			t.Errorf("%s: %d records, %q", s.name, v.headOf.Size, alertsOf(s))
		}
	}
}

// TestSealedRecovered (F25, S15): a store that was lost and recovered is no alert: the log
// goes on, a director that lost its disk then has what came before from the others, and
// those whose store lost it and who never sealed it say where their log begins.
func TestSealedRecovered(t *testing.T) {
	f := newSealFleet(t)
	f.commit(4)
	f.pass(time.Minute)
	f.alike(7)
	clear(f.store)
	f.epoch++
	f.commit(2)
	f.pass(time.Minute)
	f.alike(9)
	if err := os.RemoveAll(filepath.Join(f.of("d3").dir, sealFolder)); err != nil {
		t.Fatal(err)
	}
	f.restart("d3")
	f.pass(2 * time.Minute)
	f.alike(9)
	// A plan that nobody went on from is no alert either.
	kept := f.sealed
	f.commit(1)
	f.pass(time.Minute)
	f.sealed = kept
	f.epoch++
	f.commit(1)
	f.pass(time.Minute)
	f.alike(11)
	for _, s := range f.nodes {
		if err := os.RemoveAll(filepath.Join(s.dir, sealFolder)); err != nil {
			t.Fatal(err)
		}
		f.restart(s.name)
	}
	f.pass(2 * time.Minute)
	f.alike(4) // what the store still has
	for _, s := range f.nodes {
		if found := s.view.Load().findings; len(found) != 2 || !strings.Contains(found[0].What, "the log begins here") || !strings.Contains(found[1].What, "given up") {
			t.Errorf("%s: %v", s.name, found)
		}
	}
}

// TestWitnessed (S15): who sealed another history is named by all others. One that was
// edited in the store before one director sealed it is found, too.
func TestWitnessed(t *testing.T) {
	f := newSealFleet(t)
	f.pass(time.Minute)
	f.alike(3)
	// d2 signs what is no extension of what it signed before.
	forged := audit.Head{Fleet: "f1", Size: 3, Revision: 3, Root: [32]byte{1}}
	raw, err := forged.Sign("d2", f.of("d2").key)
	if err != nil {
		t.Fatal(err)
	}
	f.away["d2"] = true // it says nothing else
	for _, name := range []string{"d1", "d3"} {
		f.of(name).message(t.Context(), gossip.Message{Kind: kindAuditHead, From: "d2", Key: f.of("d2").key.Public().(ed25519.PublicKey), Payload: raw, Pinned: true})
	}
	f.pass(sealTick)
	for _, life := range []string{"", "after a restart"} {
		for _, name := range []string{"d1", "d3"} {
			got := alertsOf(f.of(name))
			if !strings.Contains(got, "d2 has signed two logs of 3 records") || strings.Count(got, "\n") != 0 {
				t.Errorf("%s %s: got %q", name, life, got)
			}
			f.pass(sealTell) // until it is on the disk
			f.restart(name)
		}
		f.pass(sealTell + sealTick)
	}
	// It was put right, and has gone on with what all have.
	f.away["d2"] = false
	f.restart("d2")
	f.commit(1)
	f.pass(time.Minute)
	f.alike(4)

	f.away["d3"] = true
	f.commit(2)
	f.pass(time.Minute)
	f.forge(5)
	f.away["d3"] = false
	f.pass(time.Minute)
	if a, c := alertsOf(f.of("d1")), alertsOf(f.of("d3")); !strings.Contains(a, "d3 has sealed another log") || strings.Contains(a, "d2 has") || !strings.Contains(c, "d1 has sealed another log") || !strings.Contains(c, "d2 has sealed another log") {
		t.Errorf("d1 says %q, d3 says %q", a, c)
	}
}

// TestSealedDisk (F16, F17, S15): a director whose tiles were lost signs nothing before it
// has them again; one that was flipped is written anew from the store; one that cannot
// write says so.
func TestSealedDisk(t *testing.T) {
	f := newSealFleet(t)
	f.commit(597)
	f.pass(time.Minute)
	f.alike(600)
	tile := filepath.Join(f.of("d2").dir, sealFolder, "f1", "tile-0000000001")
	whole, err := os.ReadFile(tile)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(whole)
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(tile, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	f.restart("d2")
	f.pass(sealTell + sealTick)
	f.alike(600)
	if again, err := os.ReadFile(tile); err != nil || !bytes.Equal(again, whole) {
		t.Errorf("the tile was not put right: %v", err)
	}
	// The tiles' folder is a file.
	dir := filepath.Join(f.of("d3").dir, sealFolder)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.restart("d3")
	f.commit(1)
	f.pass(time.Minute)
	if got := alertsOf(f.of("d3")); !strings.Contains(got, "audit records are not sealed on this director's disk") {
		t.Errorf("d3: got %q", got)
	}
	if got := alertsOf(f.of("d1")); got != "" || len(f.of("d1").view.Load().holders()) != 2 {
		t.Errorf("d1: got %q, sealed on %v", got, f.of("d1").view.Load().holders())
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	f.pass(time.Minute)
	f.alike(601)
	// Of a disk that lost its tiles and not its word, while store and others are away.
	if err := os.Remove(filepath.Join(f.of("d1").dir, sealFolder, "f1", "tile-0000000002")); err != nil {
		t.Fatal(err)
	}
	f.away["d2"], f.away["d3"] = true, true
	kept := maps.Clone(f.store)
	clear(f.store)
	f.restart("d1")
	f.pass(time.Minute)
	if got := alertsOf(f.of("d1")); !strings.Contains(got, "of the 601 audit records that this director had sealed, its disk has 512") {
		t.Errorf("d1: got %q", got)
	}
	f.store = kept
	f.away["d2"], f.away["d3"] = false, false
	f.pass(time.Minute)
	f.alike(601)
}
