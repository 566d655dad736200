package director

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/health"
)

// TestAuditProved (S15): over a real etcd, what commands do is sealed, listed, exported
// and verified; what is altered or deleted in etcd then is found, and where etcd is away
// the log is read all the same (F10).
func TestAuditProved(t *testing.T) {
	d := solo(t)
	gave(t, d, drained("cluster/nyc"))
	gave(t, d, undrained("cluster/nyc"))
	last := d.horizon.current().sealed.Identity.Revision
	all := func() bool {
		v := d.sealedNow()
		return v != nil && v.headOf.Revision >= last
	}
	eventually(t, "all is sealed", all)
	records, err := d.Audit(t.Context(), 0, 100)
	if err != nil || len(records) < 3 || !records[0].Sealed || records[0].Revision != 1 || records[len(records)-1].Revision < last {
		t.Fatalf("records: %+v, %v", records, err)
	}
	if got, err := d.Audit(t.Context(), last, 1); err != nil || len(got) != 1 || got[0].Revision != last {
		t.Errorf("from %d: %+v, %v", last, got, err)
	}
	report, err := d.AuditVerify(t.Context())
	if err != nil || !report.Good || len(report.Findings) > 0 || report.Store != "" || report.Tail != 0 || len(report.Signers) != 1 {
		t.Errorf("verify: %+v, %v", report, err)
	}
	var export bytes.Buffer
	if err := d.AuditExport(t.Context(), &export); err != nil {
		t.Fatal(err)
	}
	keys := audit.Keys{"d1": d.identity.Key.Public().(ed25519.PublicKey)}
	if r, err := audit.Verify(bytes.NewReader(export.Bytes()), keys); err != nil || !r.Good() || r.Records != report.Records || len(r.Findings) > 0 {
		t.Errorf("export: %+v, %v", r, err)
	}
	if r, err := audit.Verify(bytes.NewReader(bytes.Replace(export.Bytes(), []byte("record"), []byte("recorb"), 1)), keys); err != nil || r.Good() {
		t.Errorf("an altered export: %+v, %v", r, err)
	}

	// Every record names its plan's parent, which is the one before.
	var before []byte
	err = d.store.EachAudit(t.Context(), 0, func(revision uint64, raw []byte) error {
		a := &plan.Audit{}
		if err := proto.Unmarshal(raw, a); err != nil || revision > 1 && !bytes.Equal(a.GetParent(), before) || a.GetEpoch() != 1 {
			return fmt.Errorf("revision %d: epoch %d, parent %x, want %x, %w", revision, a.GetEpoch(), a.GetParent(), before, err)
		}
		before = a.GetPlan()
		return nil
	})
	if err != nil {
		t.Error(err)
	}

	v := vault{t, d}
	raw, err := proto.Marshal(&plan.Audit{Revision: 2, Who: "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	v.put(fmt.Sprintf("audit/%020d", 2), string(raw))
	v.remove(fmt.Sprintf("audit/%020d", 1))
	report, err = d.AuditVerify(t.Context())
	said := fmt.Sprint(report.Findings)
	if err != nil || report.Good || !strings.Contains(said, "it is another than the one that was sealed") || !strings.Contains(said, "no more 1 of the records") {
		t.Errorf("altered in etcd: %+v, %v", report, err)
	}
	checked, err := d.CheckStore(t.Context())
	if said := fmt.Sprint(checked.Findings); err != nil || !strings.Contains(said, "(revision 2): in the store it is another than the one that was sealed") || !strings.Contains(said, "no record of revision 1") {
		t.Errorf("check of the store: %s, %v", said, err)
	}
	if got, err := d.Audit(t.Context(), 1, 2); err != nil || len(got) != 2 || got[0].Revision != 1 || got[1].Who == "nobody" {
		t.Errorf("what was sealed is shown: %+v, %v", got, err)
	}

	// Without etcd.
	away, err := store.New(store.Options{Endpoints: []string{"http://127.0.0.1:9"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = away.Close() })
	apart := &Director{settings: d.settings, store: away, sealer: d.sealer, horizon: d.horizon, loop: d.loop}
	eventually(t, "all is sealed", func() bool {
		w := d.sealedNow()
		return w != nil && w.headOf.Revision == d.horizon.current().sealed.Identity.Revision
	})
	if got, err := apart.Audit(t.Context(), 0, 2); err != nil || len(got) != 2 || !got[1].Sealed {
		t.Errorf("etcd is away: %+v, %v", got, err)
	}
	if r, err := apart.AuditVerify(t.Context()); err != nil || r.Store == "" || !r.Good {
		t.Errorf("etcd is away: %+v, %v", r, err)
	}

	// A record altered on this disk, after it was read from there.
	tiles, err := filepath.Glob(filepath.Join(d.settings.DataDir, "audit", "*", "tile-*"))
	if err != nil || len(tiles) != 1 {
		t.Fatalf("tiles: %q, %v", tiles, err)
	}
	raw, err = os.ReadFile(tiles[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tiles[0], bytes.Replace(raw, []byte("nyc"), []byte("fra"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := apart.AuditVerify(t.Context()); err != nil || r.Good || !strings.Contains(fmt.Sprint(r.Findings), "altered on this director's disk") {
		t.Errorf("altered on the disk: %+v, %v", r, err)
	}
}

// TestAuditCollected (S15): records that left the store under its head are no gap there, are
// shown as ever, and are in a backup; a head that is none is found.
func TestAuditCollected(t *testing.T) {
	d := solo(t)
	gave(t, d, drained("cluster/nyc"))
	gave(t, d, undrained("cluster/nyc"))
	eventually(t, "all is sealed", func() bool {
		v := d.sealedNow()
		return v != nil && v.headOf.Revision >= 3
	})
	view, v := d.sealedNow(), vault{t, d}
	head, err := json.Marshal(map[string]any{"collected": 2, "head": string(view.head)})
	if err != nil {
		t.Fatal(err)
	}
	v.put("audithead", string(head))
	v.remove(fmt.Sprintf("audit/%020d", 1))
	v.remove(fmt.Sprintf("audit/%020d", 2))
	if in, err := d.CheckStore(t.Context()); err != nil || len(in.Findings) > 0 {
		t.Errorf("check: %+v, %v", in, err)
	}
	if r, err := d.AuditVerify(t.Context()); err != nil || !r.Good || len(r.Findings) > 0 {
		t.Errorf("verify: %+v, %v", r, err)
	}
	if got, err := d.Audit(t.Context(), 0, 100); err != nil || len(got) < 3 || got[0].Revision != 1 {
		t.Errorf("audit: %+v, %v", got, err)
	}
	var file bytes.Buffer
	if err := d.Backup(t.Context(), &file, false); err != nil {
		t.Fatal(err)
	}
	var held []uint64
	if _, err := store.ReadBackup(&file, func(revision uint64, _ []byte) error {
		held = append(held, revision)
		return nil
	}); err != nil || len(held) < 3 || held[0] != 1 || held[1] != 2 || held[2] != 3 {
		t.Errorf("the backup has %v, %v", held, err)
	}
	v.put("audithead", strings.Replace(string(head), "revision", "rewision", 1))
	if in, err := d.CheckStore(t.Context()); err != nil || !strings.Contains(fmt.Sprint(in.Findings), "in the store") {
		t.Errorf("check of an altered head: %+v, %v", in, err)
	}
	apart := &Director{settings: d.settings, store: d.store, horizon: d.horizon, loop: d.loop} // has sealed nothing
	v.put("audithead", string(head))
	var refused *core.Refusal
	if err := apart.eachAudit(t.Context(), func(uint64, []byte) error { return nil }); !errors.As(err, &refused) {
		t.Errorf("a backup without what was collected: %v", err)
	}
}

// TestAuditSince: transitions of the director's own journal stand among what people did,
// marked, in the order of their times; older ones do not.
func TestAuditSince(t *testing.T) {
	d := solo(t)
	subject := health.Subject{Kind: health.KindSignal, Addr: netip.MustParseAddrPort("192.0.2.1:443")}
	eventually(t, "a journal has begun", func() bool {
		j := d.history.journal.Load()
		return j != nil && !j.Span().First.IsZero()
	})
	d.history.transitions([]health.Certificate{{Subject: subject, N: 1, Reason: "timeout", Proof: [][]byte{[]byte("ballot")}}}, d.now())
	eventually(t, "it is written down", func() bool {
		out, err := d.history.transitionsSince(t.Context(), time.Time{}, 10)
		return err == nil && len(out) > 0
	})
	gave(t, d, drained("cluster/nyc"))
	out, err := d.AuditSince(t.Context(), d.now().Add(-time.Hour), 100)
	if err != nil {
		t.Fatal(err)
	}
	autos := []api.AuditRecord{}
	for i, r := range out {
		if i > 0 && r.At.Before(out[i-1].At) {
			t.Errorf("%s stands behind %s", r.At, out[i-1].At)
		}
		if r.Auto {
			autos = append(autos, r)
		}
	}
	if len(autos) != 1 || autos[0].Via != "d1" || autos[0].Who != autoAuthor || !strings.Contains(autos[0].What, "192.0.2.1 is down") || autos[0].Why != "timeout" || len(out) < 3 {
		t.Errorf("got %+v", out)
	}
	if out, err = d.AuditSince(t.Context(), d.now().Add(time.Hour), 100); err != nil || len(out) != 0 {
		t.Errorf("of the future: %+v, %v", out, err)
	}
	if out, err = d.AuditSince(t.Context(), time.Time{}, 1); err != nil || len(out) != 1 || out[0].Auto {
		t.Errorf("the newest alone: %+v, %v", out, err)
	}
	mute := &Director{log: slog.New(slog.DiscardHandler)}
	if err := mute.AuditExport(context.Background(), nil); err == nil {
		t.Error("a director that seals nothing exported it")
	}
}
