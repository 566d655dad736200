package director

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
)

// gone has the store hold nothing up to a revision.
func (f *sealFleet) gone(upTo uint64) {
	for r := range upTo + 1 {
		delete(f.store, r)
	}
}

func (f *sealFleet) loseDisk(name string) {
	f.t.Helper()
	if err := os.RemoveAll(filepath.Join(f.of(name).dir, sealFolder)); err != nil {
		f.t.Fatal(err)
	}
	f.restart(name)
}

// TestSealedLiar (S15): of what one director gives, nothing counts that is not under what
// two have signed: a forged record is not taken, and the true ones come from the next.
func TestSealedLiar(t *testing.T) {
	f := newSealFleet(t)
	f.commit(297)
	f.pass(time.Minute)
	f.alike(300)
	f.gone(299)
	liar := f.of("d1")
	honest, forged := liar.post, 0
	liar.post = func(to string, kind uint8, payload []byte) {
		if g, err := audit.DecodeGiven(payload); kind == kindAuditRecords && err == nil && len(g.Records) > 3 {
			a, raw := &plan.Audit{}, [][]byte(nil)
			for i, r := range g.Records {
				if i == 3 && proto.Unmarshal(r, a) == nil {
					a.Who = "nobody"
					r, _ = proto.Marshal(a)
					forged++
				}
				raw = append(raw, r)
			}
			g.Records = raw
			payload = g.Encode()
		}
		honest(to, kind, payload)
	}
	f.loseDisk("d3")
	f.pass(3 * time.Minute)
	if forged == 0 {
		t.Error("nobody asked the liar")
	}
	f.alike(300)
}

// TestSealedAlone: a fleet of which one other director is there takes what follows on its
// word, after a while, as no second one comes; a record of another's making that does not
// follow is not taken.
func TestSealedAlone(t *testing.T) {
	f := newSealFleet(t)
	f.away["d2"], f.away["d3"] = true, true
	f.commit(2) // which only d1 seals
	f.pass(time.Minute)
	f.gone(5)
	f.away["d3"] = false
	f.pass(aloneAfter - 2*sealTick)
	if got := f.of("d3").view.Load(); got != nil && got.headOf.Size > 0 {
		t.Errorf("d3 took %d records on one director's word at once", got.headOf.Size)
	}
	f.pass(time.Minute)
	if got := f.of("d3").view.Load(); got.headOf.Root != f.of("d1").view.Load().headOf.Root {
		t.Errorf("d3 has %d records, %q", got.headOf.Size, alertsOf(f.of("d3")))
	}
}

// alterTile replaces a record of a tile's file, with all its sums, as whoever has the disk
// in hand and knows divert would.
func (f *sealFleet) alterTile(name string, record int64) {
	f.t.Helper()
	tiles, err := store.OpenTiles(filepath.Join(f.of(name).dir, sealFolder, "f1"))
	if err != nil {
		f.t.Fatal(err)
	}
	raws, err := tiles.Records(record / audit.TileWidth)
	if err != nil {
		f.t.Fatal(err)
	}
	a := &plan.Audit{}
	if err := proto.Unmarshal(raws[record%audit.TileWidth], a); err != nil {
		f.t.Fatal(err)
	}
	a.Who = "nobody"
	raw, err := proto.Marshal(a)
	if err != nil {
		f.t.Fatal(err)
	}
	altered := append([][]byte{}, raws...)
	altered[record%audit.TileWidth] = raw
	if err := tiles.Rewrite(record/audit.TileWidth, altered); err != nil {
		f.t.Fatal(err)
	}
}

// TestSealedMendedFromOthers (F17, S15): a tile that was altered on one disk, with all its
// sums, is found by what that director has signed, and put right from another's, proved
// under that very head; so is one that cannot be read. The store has nothing of them.
func TestSealedMendedFromOthers(t *testing.T) {
	f := newSealFleet(t)
	f.commit(1400)
	f.pass(time.Minute)
	f.alike(1403)
	f.gone(1402)
	rng := rand.New(rand.NewPCG(3, 4))
	for _, record := range []int64{0, 255, 256, 700, 1279, 1280, 1402, rng.Int64N(1403), rng.Int64N(1403)} {
		f.alterTile("d2", record)
		f.restart("d2")
		f.of("d2").step(t.Context())
		if got := alertsOf(f.of("d2")); !strings.Contains(got, "are not those that it had sealed") {
			t.Errorf("record %d: got %q", record, got)
		}
		f.pass(time.Minute)
		f.alike(1403)
	}
	// Two tiles, and a director that lies on the way.
	liar := f.of("d1")
	honest, lies := liar.post, 0
	liar.post = func(to string, kind uint8, payload []byte) {
		if g, err := audit.DecodeGiven(payload); kind == kindAuditRecords && err == nil && len(g.Under) > 0 {
			g.Under[0].Before, lies = nil, lies+1
			payload = g.Encode()
		}
		honest(to, kind, payload)
	}
	f.alterTile("d2", 300)
	f.alterTile("d2", 1200)
	f.restart("d2")
	f.pass(4 * time.Minute)
	f.alike(1403)
	if lies == 0 {
		t.Error("nobody asked the liar")
	}
	liar.post = honest
	// One that cannot be read, and is found while the process runs.
	tile := filepath.Join(f.of("d2").dir, sealFolder, "f1", "tile-0000000002")
	whole, err := os.ReadFile(tile)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(whole)
	bad[len(bad)-100] ^= 1
	if err := os.WriteFile(tile, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	f.of("d2").doubted.Store(true)
	f.pass(30 * time.Second)
	f.alike(1403)
	if again, err := os.ReadFile(tile); err != nil || !bytes.Equal(again, whole) {
		t.Errorf("the tile was not put right: %v", err)
	}
	// The last one's file, altered under a process that has it in memory.
	tile = filepath.Join(f.of("d2").dir, sealFolder, "f1", "tile-0000000005")
	if err := os.WriteFile(tile, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.of("d2").doubted.Store(true)
	f.pass(10 * time.Second)
	f.restart("d2")
	f.pass(30 * time.Second)
	f.alike(1403)
}

// FuzzAuditMail: whatever a peer says of the audit log changes nothing that is sealed.
func FuzzAuditMail(f *testing.F) {
	f.Add(kindAuditWant, make([]byte, 16))
	f.Add(kindAuditRecords, audit.Given{Records: [][]byte{[]byte("x")}}.Encode())
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		fleet := newSealFleet(t)
		fleet.pass(4 * sealTick)
		s := fleet.of("d1")
		before := s.tiles.Tree().Root()
		s.odd.asking.asked, s.odd.until = "d2", 100
		s.message(context.Background(), gossip.Message{Kind: kind, From: "d2", Key: fleet.of("d2").key.Public().(ed25519.PublicKey), Payload: payload, Pinned: true})
		if s.tiles == nil || s.tiles.Tree().Root() != before {
			t.Errorf("kind %d: %x changed the log", kind, payload)
		}
	})
}
