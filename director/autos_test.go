package director

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/health"
)

// falls has directors take transitions in, as their loops do.
func (f *sealFleet) falls(from, n int, names ...string) {
	for i := range n {
		c := health.Certificate{Subject: health.Subject{Kind: health.KindSignal, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 443)}, N: uint64(from + i), Reason: "timeout"}
		for _, name := range names {
			f.of(name).autos.add([]health.Certificate{c}, f.now, func(c health.Certificate) string { return fmt.Sprintf("%s is %s", c.Subject, c.To()) })
		}
	}
}

// journals says how many transitions of each a director has, and that all is well with them.
func (f *sealFleet) journals(name string) string {
	f.t.Helper()
	var out []string
	for _, l := range f.of(name).view.Load().autos {
		out = append(out, fmt.Sprintf("%s %d", l.owner, l.headOf.Size))
		if what := l.check(); what != "" {
			f.t.Errorf("%s: %s", name, what)
		}
	}
	return strings.Join(out, ", ")
}

func (f *sealFleet) allJournals(want string) {
	f.t.Helper()
	for _, s := range f.nodes {
		if got := f.journals(s.name); got != want {
			f.t.Errorf("%s has %q, want %q", s.name, got, want)
		}
		if got := alertsOf(s); got != "" {
			f.t.Errorf("%s: %s", s.name, got)
		}
	}
}

// TestTransitionsSealed (S15, F10): each director's transitions are sealed under its own
// head, with the store away, too, and all others have them, over restarts; one that loses
// its disk has its journal back from them and goes on with it.
func TestTransitionsSealed(t *testing.T) {
	f := newSealFleet(t)
	clear(f.store) // etcd is away
	f.pass(time.Minute)
	f.falls(1, 3, "d1", "d2")
	f.falls(4, 1, "d3")
	f.pass(time.Minute)
	f.journals("d1")
	for _, s := range f.nodes {
		if got := f.journals(s.name); got != "d1 3, d2 3, d3 1" {
			t.Errorf("%s has %s", s.name, got)
		}
	}
	g := newSealFleet(t)
	g.pass(time.Minute)
	for round := range 12 {
		g.falls(100*round, 50, "d1")
		g.pass(3 * time.Minute) // above what one minute may have
	}
	g.falls(2000, 2, "d2")
	g.away["d3"] = true
	g.pass(time.Minute)
	g.away["d3"] = false
	g.restart("d1")
	g.pass(time.Minute)
	g.allJournals("d1 600, d2 2, d3 0")
	g.loseDisk("d1")
	g.falls(3000, 1, "d1")
	g.pass(2 * time.Minute)
	g.allJournals("d1 601, d2 2, d3 0")
	d := &Director{sealer: g.of("d3")}
	got, err := d.sealedTransitions(time.Time{}, 1000)
	if err != nil || len(got.records) != 603 {
		t.Errorf("%d transitions, %v", len(got.records), err)
	}
	if got, err = d.sealedTransitions(g.now.Add(-3*time.Minute), 1000); err != nil || len(got.records) != 1 || got.records[0].Via != "d1" || !got.records[0].Auto || !got.records[0].Sealed {
		t.Errorf("the newest: %+v, %v", got.records, err)
	}
	g.falls(4000, 1, "d1", "d2", "d3")
	g.pass(time.Minute)
	if got, err = d.sealedTransitions(g.now.Add(-2*time.Minute), 1000); err != nil || len(got.records) != 1 || got.records[0].Via != "d1,d2,d3" {
		t.Errorf("of all three: %+v, %v", got.records, err)
	}
}

// TestTransitionStorm: ten thousand transitions at once keep the loop waiting for nothing,
// cost a bounded number of records, and are all counted.
func TestTransitionStorm(t *testing.T) {
	f := newSealFleet(t)
	f.pass(time.Minute)
	for n := range 40 {
		f.falls(1000*n, 250, "d1")
	}
	if q := f.of("d1").autos; len(q.entries) != autosQueue {
		t.Errorf("the queue has %d", len(q.entries))
	}
	f.pass(3 * time.Minute)
	records, err := f.of("d1").view.Load().autos[0].newest(time.Time{}, 100000)
	if err != nil || len(records) > autosBurst+2 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	counted := 0
	for _, a := range records {
		if n := 0; a.GetCommand() != "" {
			counted++
		} else if _, err := fmt.Sscanf(a.GetWhat(), "%d more transitions", &n); err == nil {
			counted += n
		}
	}
	if counted != 10000 {
		t.Errorf("%d are told of", counted)
	}
	f.allJournals(fmt.Sprintf("d1 %d, d2 0, d3 0", len(records)))
}

// alterJournal changes one record of a journal on a disk, with all its sums, or drops it,
// or has it and the next change places.
func (f *sealFleet) alterJournal(at, owner string, rng *rand.Rand) (kind int) {
	f.t.Helper()
	tiles, err := store.OpenTiles(filepath.Join(f.of(at).dir, sealFolder, "f1"+autosFolder, owner))
	if err != nil {
		f.t.Fatal(err)
	}
	raws, err := tiles.Records(0)
	if err != nil || len(raws) < 3 {
		f.t.Fatal(len(raws), err)
	}
	altered, i := slices.Clone(raws), rng.IntN(len(raws)-1)
	switch kind = rng.IntN(3); kind {
	case 0:
		a := &plan.Audit{}
		if err := proto.Unmarshal(raws[i], a); err != nil {
			f.t.Fatal(err)
		}
		a.What = "nothing happened"
		if altered[i], err = proto.Marshal(a); err != nil {
			f.t.Fatal(err)
		}
	case 1:
		altered = slices.Delete(altered, i, i+1)
	case 2:
		altered[i], altered[i+1] = altered[i+1], altered[i]
	}
	if err := tiles.Rewrite(0, altered); err != nil {
		f.t.Fatal(err)
	}
	return kind
}

// TestTransitionsTampered (S15): a journal that is altered on a disk, its own director's or
// another's, is found at the next start, and by verify before, and taken anew from the
// others; a director that seals another history is named by all.
func TestTransitionsTampered(t *testing.T) {
	f := newSealFleet(t)
	f.pass(time.Minute)
	f.falls(1, 40, "d1", "d2")
	f.pass(time.Minute)
	want := "d1 40, d2 40, d3 0"
	f.allJournals(want)
	rng := rand.New(rand.NewPCG(5, 6))
	for n := range 24 {
		at, owner := fmt.Sprint("d", 1+rng.IntN(3)), fmt.Sprint("d", 1+rng.IntN(2))
		kind := f.alterJournal(at, owner, rng)
		found := false
		for _, l := range f.of(at).view.Load().autos {
			found = found || l.check() != ""
		}
		if !found {
			t.Errorf("case %d, kind %d: %s's journal at %s: verify finds nothing", n, kind, owner, at)
		}
		f.restart(at)
		f.pass(time.Minute)
		f.allJournals(want)
	}
	// A director that begins another history while all others are away.
	f.away["d2"], f.away["d3"] = true, true
	if err := os.RemoveAll(filepath.Join(f.of("d1").dir, sealFolder)); err != nil {
		t.Fatal(err)
	}
	f.restart("d1")
	f.falls(500, 5, "d1")
	f.pass(2 * time.Minute)
	f.away["d2"], f.away["d3"] = false, false
	f.pass(time.Minute)
	for _, name := range []string{"d2", "d3"} {
		if got := alertsOf(f.of(name)); !strings.Contains(got, "d1 has sealed other transitions than before") {
			t.Errorf("%s: %q", name, got)
		}
		if got := f.of(name).logs["d1"].headOf.Size; got != 40 {
			t.Errorf("%s has %d of what was before", name, got)
		}
	}
}

// TestTransitionsForged (S15): what somebody gives of another's journal counts only under
// that one's own head.
func TestTransitionsForged(t *testing.T) {
	f := newSealFleet(t)
	f.pass(time.Minute)
	f.falls(1, 5, "d1")
	f.away["d2"] = true
	f.pass(time.Minute)
	f.away["d2"] = false
	liar, forged := f.of("d1"), 0
	honest := liar.post
	liar.post = func(to string, kind uint8, payload []byte) {
		if g, err := audit.DecodeGiven(payload); kind == kindAuditRecords && err == nil && len(g.Records) > 1 && to == "d2" {
			g.Records = slices.Clone(g.Records)
			g.Records[0], forged = g.Records[1], forged+1
			payload = g.Encode()
		}
		honest(to, kind, payload)
	}
	f.pass(time.Minute)
	if forged == 0 || f.of("d2").logs["d1"].tiles.Size() != 0 {
		t.Errorf("forged %d times; d2 has %d of d1's transitions", forged, f.of("d2").logs["d1"].tiles.Size())
	}
	liar.post = honest
	f.pass(time.Minute)
	f.allJournals("d1 5, d2 0, d3 0")
}

// A director that was replaced by one of the same name is accused of nothing by those that
// ran on meanwhile: its journal is another, and the one of before is put aside.
func TestTransitionsOfReplaced(t *testing.T) {
	f := newSealFleet(t)
	f.pass(time.Minute)
	f.falls(1, 5, "d1")
	f.pass(time.Minute)
	f.allJournals("d1 5, d2 0, d3 0")
	for i, s := range f.nodes {
		if s.name != "d1" {
			continue
		}
		n := f.node("d1", t.TempDir())
		n.key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{200}, ed25519.SeedSize))
		f.nodes[i] = n
		f.sealed.Plan.Director("d1").Key = n.key.Public().(ed25519.PublicKey)
	}
	f.falls(100, 3, "d1")
	f.pass(2 * time.Minute)
	for _, name := range []string{"d2", "d3"} {
		if got := alertsOf(f.of(name)); strings.Contains(got, "sealed other transitions") {
			t.Errorf("%s: %s", name, got)
		}
		if got := f.journals(name); got != "d1 3, d2 0, d3 0" {
			t.Errorf("%s has %s", name, got)
		}
		if tiles, err := store.OpenTiles(filepath.Join(f.of(name).dir, sealFolder, "f1"+autosAside, "d1")); err != nil || tiles.Size() != 5 {
			t.Errorf("%s: what was sealed under the key of before is lost: %v", name, err)
		}
	}
}

// What a director has sealed of transitions stays on its disk when the roster has it no
// longer; and what one of the same name and another key had sealed is not lost.
func TestTransitionsOfBefore(t *testing.T) {
	f := newSealFleet(t)
	f.pass(time.Minute)
	f.falls(1, 3, "d1")
	f.pass(time.Minute)
	p := f.sealed.Plan
	was := p.Director("d1").GetKey()
	p.Director("d1").Key = nil
	f.restart("d1")
	f.pass(time.Minute)
	if got := f.journals("d1"); !strings.Contains(got, "d1 3") {
		t.Errorf("out of the roster it has %q", got)
	}
	p.Director("d1").Key = slices.Concat(was[16:], was[:16])
	f.restart("d2")
	f.pass(time.Minute)
	s := f.of("d2")
	if tiles, err := store.OpenTiles(filepath.Join(s.dir, sealFolder, s.fleet+autosAside, "d1")); err != nil || tiles.Size() != 3 {
		t.Errorf("what was sealed under the key of before is lost: %v", err)
	}
}
