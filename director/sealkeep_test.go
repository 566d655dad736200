package director

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/election"
)

// keepModel is what etcd does for the log, without an etcd: each call is a transaction.
// Trouble is asked before and after each.
type keepModel struct {
	f       *sealFleet
	head    []byte
	coll    uint64
	mod     int64
	mods    map[uint64]int64
	leader  string
	reads   map[string]uint32 // by director that is heard: of plans
	trouble func(call string) (before, after error)
}

func newKeepModel(f *sealFleet) *keepModel {
	m := &keepModel{f: f, leader: "d1", mods: map[uint64]int64{}, reads: map[string]uint32{"d1": plan.Reader, "d2": plan.Reader, "d3": plan.Reader}, trouble: func(string) (error, error) { return nil, nil }}
	for _, s := range f.nodes {
		m.serve(s)
	}
	return m
}

// serve has a director use it.
func (m *keepModel) serve(s *sealer) {
	readers := func() map[string]uint32 { return maps.Clone(m.reads) }
	s.kept = keeper{store: m, pile: 20, last: 10, readers: readers, term: func() (election.Term, bool) {
		return election.Term{Leader: s.name, Key: s.name, CreateRevision: 1}, m.leader == s.name
	}}
}

func (m *keepModel) AuditHead(context.Context) (store.AuditHead, error) {
	before, _ := m.trouble("read")
	return store.AuditHead{Raw: m.head, Collected: m.coll, Mod: m.mod}, before
}

func (m *keepModel) KeepAuditHead(_ context.Context, read, next store.AuditHead, term election.Term) (store.AuditHead, error) {
	before, after := m.trouble("head")
	if before != nil {
		return read, before
	}
	if read.Mod != m.mod || term.Leader != m.leader {
		return read, store.ErrConflict
	}
	m.mod++
	m.head, m.coll = next.Raw, next.Collected
	next.Mod = m.mod
	return next, after
}

func (m *keepModel) CollectAudits(_ context.Context, head store.AuditHead, from, to uint64, sealed func(uint64, []byte) bool, term election.Term) (removed int, next uint64, err error) {
	before, after := m.trouble("collect")
	if before != nil {
		return 0, from, before
	}
	if head.Mod != m.mod || to > head.Collected || term.Leader != m.leader {
		return 0, from, store.ErrConflict
	}
	looked := 0
	for _, r := range slices.Sorted(maps.Keys(m.f.store)) {
		if r < from || r > to {
			continue
		}
		if looked++; looked > 7 {
			return removed, r, after
		}
		if sealed(r, m.f.store[r]) {
			delete(m.f.store, r)
			removed++
		}
	}
	return removed, 0, after
}

func (m *keepModel) CountAudits(_ context.Context, to uint64) (n int64, err error) {
	for r := range m.f.store {
		if r <= to {
			n++
		}
	}
	before, _ := m.trouble("count")
	return n, before
}

func (m *keepModel) ChangedAudits(_ context.Context, _ uint64, _ int64, each func(uint64, []byte)) (uint64, int64, error) {
	for r, raw := range m.f.store {
		each(r, raw)
	}
	return 0, m.mod, nil
}

// TestSealedCollected (S15): what a majority has sealed leaves the store but for the
// newest, under a head that they have signed; a director that lost its disk has it all
// from the others; with a majority away nothing leaves, nor in a fleet of one.
func TestSealedCollected(t *testing.T) {
	f := newSealFleet(t)
	m := newKeepModel(f)
	f.commit(597)
	f.away["d2"], f.away["d3"] = true, true
	f.pass(5 * time.Minute)
	if len(f.store) != 600 || m.head != nil {
		t.Errorf("with one of three directors there, the store has %d records", len(f.store))
	}
	f.away["d2"] = false
	f.pass(10 * time.Minute)
	if len(f.store) != 10 || f.store[591] == nil || f.store[600] == nil {
		t.Errorf("the store has %d records", len(f.store))
	}
	signed, err := audit.OpenHead(m.head, keysFor(f.sealed))
	if err != nil || !slices.Equal(signed.Directors, []string{"d1", "d2"}) || signed.Size != 600 || m.coll != 590 {
		t.Errorf("the store's head: %+v, %v, collected %d", signed, err, m.coll)
	}
	f.away["d3"] = false // which has nothing, and gets it
	f.pass(2 * time.Minute)
	f.alike(600)
	f.loseDisk("d2")
	m.serve(f.of("d2"))
	f.pass(2 * time.Minute)
	f.alike(600)
	// While those who have them are away it waits, for ever, and says so.
	f.loseDisk("d3")
	m.serve(f.of("d3"))
	f.away["d1"], f.away["d2"] = true, true
	f.pass(10 * time.Minute)
	if v := f.of("d3").view.Load(); v.headOf.Size != 0 || alertsOf(f.of("d3")) == "" {
		t.Errorf("d3 has sealed %d records, %q", v.headOf.Size, alertsOf(f.of("d3")))
	}
	f.away["d1"], f.away["d2"] = false, false
	f.pass(2 * time.Minute)
	f.alike(600)
	// All of it is shown.
	if got, err := sealedFrom(f.of("d3").view.Load(), 5, 3); err != nil || len(got) != 3 || got[0].GetRevision() != 5 {
		t.Errorf("from 5: %v, %v", got, err)
	}

	one := newSealFleet(t)
	one.nodes = one.nodes[:1]
	alone := newKeepModel(one)
	one.commit(60)
	one.pass(5 * time.Minute)
	if len(one.store) != 63 || alone.head != nil {
		t.Errorf("a fleet of one: the store has %d records", len(one.store))
	}
}

// TestCollectedMixed (S15): while a registered director is too old to ask the others for what
// the store has no more, or nobody knows whether it is, nothing leaves the store, nor goes on
// leaving; one that was heard to know and is away since holds up nothing, nor does any once
// plans are for those alone who know.
func TestCollectedMixed(t *testing.T) {
	for name, end := range map[string]func(f *sealFleet, m *keepModel){
		"upgraded": func(_ *sealFleet, m *keepModel) { m.reads["d3"] = keepReader },
		"away since": func(f *sealFleet, m *keepModel) {
			m.reads["d3"] = keepReader
			f.pass(2 * keepLook)
			delete(m.reads, "d3")
		},
		"none may be old": func(f *sealFleet, _ *keepModel) { f.reader = keepReader; f.commit(1) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newSealFleet(t)
			m := newKeepModel(f)
			f.commit(97)
			for _, reads := range []func(){func() { m.reads["d3"] = keepReader - 1 }, func() { delete(m.reads, "d3") }, func() { m.reads["d3"] = 0 }} {
				reads()
				f.pass(5 * time.Minute)
				if len(f.store) != 100 || m.coll != 0 || m.head == nil {
					t.Errorf("d3 reads %v: the store has %d records, collected up to %d, head %t", m.reads, len(f.store), m.coll, m.head != nil)
				}
			}
			if v := f.of("d3").view.Load(); v.headOf.Size != 100 {
				t.Errorf("d3 has sealed %d", v.headOf.Size)
			}
			end(f, m)
			f.pass(5 * time.Minute)
			if len(f.store) > 11 {
				t.Errorf("afterwards the store has %d records", len(f.store))
			}
		})
	}
	f := newSealFleet(t)
	m := newKeepModel(f)
	f.commit(97)
	for len(f.store) == 100 {
		f.pass(sealTick)
	}
	left := len(f.store)
	m.reads["d3"] = keepReader - 1 // put back to its old version in the middle
	if f.pass(5 * time.Minute); len(f.store) != left || left < 20 {
		t.Errorf("of %d records %d are left", left, len(f.store))
	}
	m.reads["d3"] = keepReader
	f.commit(11) // so that there are too many again
	if f.pass(5 * time.Minute); len(f.store) != 10 {
		t.Errorf("afterwards the store has %d records", len(f.store))
	}
}

// TestStoreHeadTampered (S15): a head that is dropped from the store, put back to an old
// one, altered, of another log, or of nobody's signature is found within minutes by all,
// shown for a while, and written anew; what is sealed is as before.
func TestStoreHeadTampered(t *testing.T) {
	f := newSealFleet(t)
	m := newKeepModel(f)
	f.commit(47)
	f.pass(3 * time.Minute)
	old, oldColl := m.head, m.coll
	f.commit(300)
	f.pass(5 * time.Minute)
	f.alike(350)
	if bytes.Equal(old, m.head) || old == nil {
		t.Fatal("the head has not grown")
	}
	forged := audit.Head{Fleet: "f1", Size: 350, Revision: 350, Root: [32]byte{1}}
	other, err := forged.Sign("d3", f.of("d3").key)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := forged.Sign("d9", f.of("d3").key)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		head []byte
		coll uint64
		want string
	}{
		{"dropped", nil, 0, "it was deleted there"},
		{"rolled back", old, oldColl, "an old one was put back"},
		{"altered", bytes.Replace(m.head, []byte("350"), []byte("349"), 1), 0, "does not hold"},
		{"reordered", bytes.Replace(m.head, []byte("\nrevision"), []byte("\n\nrevision"), 1), 0, "head"},
		{"another log", other, 0, "of another log"},
		{"nobody's", stranger, 0, "signed by nobody whose key counts"},
	} {
		m.mod++
		m.head, m.coll = tc.head, tc.coll
		leader := m.leader
		m.leader = "" // nobody writes it anew before all have looked
		f.pass(4 * keepLook)
		for _, s := range f.nodes {
			if got := alertsOf(s); !strings.Contains(got, tc.want) {
				t.Errorf("%s: %s says %q", tc.name, s.name, got)
			}
		}
		f.restart("d2") // it remembers what the store had
		m.serve(f.of("d2"))
		f.pass(4 * keepLook)
		if got := alertsOf(f.of("d2")); !strings.Contains(got, tc.want) {
			t.Errorf("%s, after a restart: %q", tc.name, got)
		}
		m.leader = leader
		f.pass(3 * keepLook)
		if signed, err := audit.OpenHead(m.head, keysFor(f.sealed)); err != nil || signed.Size != 350 || m.coll == 0 {
			t.Errorf("%s: not written anew: %+v, %v, collected %d", tc.name, signed, err, m.coll)
		}
		f.pass(keepShown + 2*keepLook)
		f.alike(350)
	}
}

// TestStoreRecordTampered (S15): a sealed record that is altered in the store, or put
// there, is found within minutes, is never collected, and is an alert until it is right.
func TestStoreRecordTampered(t *testing.T) {
	f := newSealFleet(t)
	newKeepModel(f)
	f.commit(12)
	f.pass(3 * time.Minute)
	f.alike(15)
	kept := bytes.Clone(f.store[4])
	f.forge(4)
	f.put(&plan.Audit{Who: "nobody"})
	f.pass(2 * keepLook)
	for _, s := range f.nodes {
		got := alertsOf(s)
		if !strings.Contains(got, "the record of revision 4 in the store is another than the one that was sealed") || !strings.Contains(got, "of revision 0, and none is sealed") {
			t.Errorf("%s: %q", s.name, got)
		}
	}
	f.commit(20)
	f.pass(5 * time.Minute)
	if f.store[4] == nil || f.store[5] != nil || len(f.store) != 12 {
		t.Errorf("the store has %v", slices.Sorted(maps.Keys(f.store)))
	}
	f.store[4] = kept
	delete(f.store, 0)
	for _, s := range f.nodes {
		s.doubted.Store(true)
	}
	f.pass(2 * keepLook)
	f.alike(35)
}

// TestCollectedModel (S15): whatever directors and store do between any two calls, die at
// them, lose a disk of three or the lead, at each instant every record is in the store or
// on the disks of two directors; and when all are back all have all, alike.
func TestCollectedModel(t *testing.T) {
	cases := 0
	rapid.Check(t, func(rt *rapid.T) {
		if cases++; cases > 10 && !t.Failed() {
			return // each writes to disks some hundred times
		}
		f := newSealFleet(t)
		m := newKeepModel(f)
		m.trouble = func(call string) (before, after error) {
			switch rapid.IntRange(0, 9).Draw(rt, call) {
			case 0:
				return errors.New("not done"), nil
			case 1:
				return nil, errors.New("done, and nobody knows")
			case 2:
				m.leader = fmt.Sprint("d", rapid.IntRange(1, 3).Draw(rt, "leader"))
			}
			return nil, nil
		}
		all, least := map[uint64][]byte{}, 2
		check := func() {
			for r, raw := range f.store {
				if all[r] == nil {
					all[r] = raw
				}
			}
			for _, s := range f.nodes {
				if s.tiles == nil {
					return // one that has just begun has not looked at its disk
				}
			}
			for r := range all {
				if f.store[r] != nil {
					continue
				}
				on := 0
				for _, s := range f.nodes {
					if raw, err := (&finder{tiles: s.tiles, size: s.tiles.Size()}).find(r); err == nil && bytes.Equal(raw, all[r]) {
						on++
					}
				}
				if on < least {
					rt.Fatalf("record %d is on %d disks, and not in the store", r, on)
				}
			}
		}
		whole := func() bool {
			for _, s := range f.nodes {
				if s.tiles == nil || s.last != f.sealed.Identity.Revision {
					return false
				}
			}
			return true
		}
		f.commit(rapid.IntRange(1, 40).Draw(rt, "records"))
		for range rapid.IntRange(1, 12).Draw(rt, "actions") {
			name := fmt.Sprint("d", rapid.IntRange(1, 3).Draw(rt, "director"))
			switch rapid.IntRange(0, 5).Draw(rt, "action") {
			case 0:
				f.commit(rapid.IntRange(1, 30).Draw(rt, "records"))
			case 1:
				f.restart(name)
				m.serve(f.of(name))
			case 2:
				f.away[name] = !f.away[name]
			case 3:
				if whole() && !slices.Contains(slices.Collect(maps.Values(f.away)), true) { // one disk at a time
					f.loseDisk(name)
					m.serve(f.of(name))
					least = 1
				}
			}
			check()
			for range rapid.IntRange(1, 60).Draw(rt, "ticks") {
				f.pass(sealTick)
				check()
				if whole() {
					least = 2
				}
			}
		}
		clear(f.away)
		m.trouble = func(string) (error, error) { return nil, nil }
		f.pass(4 * time.Minute)
		check()
		f.alike(int64(len(all)))
	})
}

// TestCollectedVoters: how many signatures it takes.
func TestCollectedVoters(t *testing.T) {
	f := newSealFleet(t)
	f.pass(time.Minute)
	s := f.of("d1")
	if got := len(core.Voters(f.sealed.Plan)); got != 3 {
		t.Fatal(got)
	}
	for need, want := range map[int]bool{1: true, 2: true, 3: true, 4: false} {
		if raw, _ := s.joint(f.now, need); (raw != nil) != want {
			t.Errorf("%d signatures: %t", need, raw != nil)
		}
	}
	if raw, _ := s.joint(f.now.Add(keepFresh+time.Minute), 2); raw != nil {
		t.Error("what others said long ago counts")
	}
	a, in := &plan.Audit{}, finder{tiles: s.tiles, size: 3}
	for _, r := range []uint64{1, 2, 3, 4} {
		raw, err := in.find(r)
		if err != nil || (raw != nil) != (r < 4) || raw != nil && (proto.Unmarshal(raw, a) != nil || a.GetRevision() != r) {
			t.Errorf("revision %d: %x, %v", r, raw, err)
		}
	}
}

// Sealed records are found in any order, whichever was found before, and those that are not
// there are not.
func TestSealedFound(t *testing.T) {
	tiles, err := store.OpenTiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	all := map[uint64][]byte{}
	var raws [][]byte
	for r := uint64(3); r <= 2000; r += 3 {
		raw, err := proto.Marshal(&plan.Audit{Revision: r})
		if err != nil {
			t.Fatal(err)
		}
		raws, all[r] = append(raws, raw), raw
	}
	if err := tiles.Append(raws...); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		in := finder{tiles: tiles, size: tiles.Size()}
		for _, r := range rapid.SliceOfN(rapid.Uint64Range(0, 2010), 1, 8).Draw(rt, "revisions") {
			if got, err := in.find(r); err != nil || !bytes.Equal(got, all[r]) {
				rt.Fatalf("revision %d: %x, %v", r, got, err)
			}
		}
	})
	in := finder{tiles: tiles, size: tiles.Size()}
	if _, err := in.find(3); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(10, func() { _, _ = in.find(6) }); n > 0 {
		t.Errorf("the tile of the record before is read again: %.0f allocations", n)
	}
}
