package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
)

func backupOf(t testing.TB, sealed *plan.Sealed, doc []byte, audits ...uint64) []byte {
	t.Helper()
	var out bytes.Buffer
	b, err := NewBackupWriter(&out, BackupHead{Made: monday, Director: "d1"}, sealed, doc)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range audits {
		if err := b.Audit(n, auditRecord(t, n, "ann")); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.End(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func auditRecord(t testing.TB, n uint64, who string) []byte {
	t.Helper()
	raw, err := proto.Marshal(&plan.Audit{Revision: n, Who: who})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestBackup: what goes in comes out, pieces of a large spec too.
func TestBackup(t *testing.T) {
	doc := bytes.Repeat([]byte("0123456789"), MaxChunk/4)
	sealed, _ := seal(t, 7, string(doc))
	raw := backupOf(t, sealed, doc, 1, 2, 7)
	var got []uint64
	b, err := ReadBackup(bytes.NewReader(raw), func(n uint64, record []byte) error {
		got = append(got, n)
		if !bytes.Equal(record, auditRecord(t, n, "ann")) {
			t.Errorf("record %d differs", n)
		}
		return nil
	})
	if err != nil || b.Plan.Identity != sealed.Identity || !bytes.Equal(b.Plan.Raw, sealed.Raw) || !bytes.Equal(b.Doc, doc) ||
		b.Audits != 3 || b.Highest != 7 || !slices.Equal(got, []uint64{1, 2, 7}) || b.Head.Revision != 7 || b.Head.Fleet != "f1" {
		t.Errorf("got %+v, %v, audits %v", b.Head, err, got)
	}
	if _, err := ReadBackup(bytes.NewReader(backupOf(t, sealed, doc[1:])), nil); !errors.Is(err, ErrBackup) {
		t.Errorf("another spec than the plan's: got %v", err)
	}
}

// TestBackupDamaged: no octet can be lost, added or changed unnoticed (F17).
func TestBackupDamaged(t *testing.T) {
	sealed, _ := seal(t, 7, "doc")
	whole := backupOf(t, sealed, []byte("doc"), 1)
	for n := range whole {
		if _, err := ReadBackup(bytes.NewReader(whole[:n]), nil); err == nil {
			t.Errorf("cut at %d: taken for whole", n)
		}
		flipped := bytes.Clone(whole)
		flipped[n] ^= 4
		if _, err := ReadBackup(bytes.NewReader(flipped), nil); err == nil {
			t.Errorf("flipped at %d: taken for whole", n)
		}
	}
	if _, err := ReadBackup(bytes.NewReader(append(bytes.Clone(whole), 0)), nil); !errors.Is(err, ErrBackup) {
		t.Errorf("something behind the end: got %v", err)
	}
}

func FuzzReadBackup(f *testing.F) {
	sealed, err := plan.Sign(&plan.Plan{Fleet: "f1", Epoch: 1, Revision: 7, Writer: "d1"}, "d1", testKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(backupOf(f, sealed, nil, 1, 2))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		_, _ = ReadBackup(bytes.NewReader(raw), func(uint64, []byte) error { return nil })
	})
}

// TestPutAudit: the store's word stays, unless it cannot be read (S15).
func TestPutAudit(t *testing.T) {
	s := open(t, shared)
	begin(t, s)
	ctx := t.Context()
	put := func(key, value string) {
		t.Helper()
		if _, err := s.Client().Put(ctx, key, value); err != nil {
			t.Fatal(err)
		}
	}
	put(s.keys.audit(3), string(auditRecord(t, 3, "bob")))
	put(s.keys.audit(4), "\xff\xff garbage")
	put(s.keys.audit(5), string(auditRecord(t, 9, "ann"))) // moved there
	for _, tc := range []struct {
		revision     uint64
		record       []byte
		put, differs bool
	}{
		{2, auditRecord(t, 2, "ann"), true, false},
		{2, auditRecord(t, 2, "ann"), false, false},
		{3, auditRecord(t, 3, "ann"), false, true},
		{4, auditRecord(t, 4, "ann"), true, false},
		{5, auditRecord(t, 5, "ann"), true, false},
		{6, []byte("\xff garbage"), false, false},
	} {
		got, differs, err := s.PutAudit(ctx, tc.revision, tc.record)
		if err != nil || got != tc.put || differs != tc.differs {
			t.Errorf("revision %d: put %t, differs %t, %v", tc.revision, got, differs, err)
		}
	}
	records, err := s.Audit(ctx, 0, 100)
	if err != nil || len(records) != 5 || records[2].GetWho() != "bob" || records[3].GetWho() != "ann" {
		t.Errorf("got %v, %v", records, err)
	}
	if last, err := s.LastAudit(ctx); err != nil || last != 5 {
		t.Errorf("last: got %d, %v", last, err)
	}
}

// TestAuditDamaged: a record that cannot be read hides no other (S15).
func TestAuditDamaged(t *testing.T) {
	s := open(t, shared)
	begin(t, s)
	for n, value := range map[uint64]string{2: "\xff\xff garbage", 3: string(auditRecord(t, 3, "ann"))} {
		if _, err := s.Client().Put(t.Context(), s.keys.audit(n), value); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Audit(t.Context(), 0, 10)
	if err != nil || len(got) != 3 || got[1].GetRevision() != 2 || got[1].GetWhat() == "" || got[2].GetWho() != "ann" {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestAuditNewest: the newest records are as many as are asked for, also where those
// between were lost with a store.
func TestAuditNewest(t *testing.T) {
	s := open(t, shared)
	begin(t, s)
	for _, n := range []uint64{2, 40, 41} {
		if _, _, err := s.PutAudit(t.Context(), n, auditRecord(t, n, "ann")); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Audit(t.Context(), 0, 3)
	if err != nil || len(got) != 3 || got[0].GetRevision() != 2 || got[1].GetRevision() != 40 || got[2].GetRevision() != 41 {
		t.Errorf("got %v, %v, want those of 2, 40 and 41", got, err)
	}
}

// TestEachAudit: pages are put together.
func TestEachAudit(t *testing.T) {
	s := open(t, shared)
	for n := range uint64(2*MaxAudit + 7) {
		if _, err := s.Client().Put(t.Context(), s.keys.audit(n+1), fmt.Sprint(n+1)); err != nil {
			t.Fatal(err)
		}
	}
	next := uint64(5)
	if err := s.EachAudit(t.Context(), 5, func(n uint64, raw []byte) error {
		if n != next || string(raw) != fmt.Sprint(n) {
			t.Fatalf("got %d (%s), want %d", n, raw, next)
		}
		next++
		return nil
	}); err != nil || next != 2*MaxAudit+8 {
		t.Errorf("ended at %d, %v", next, err)
	}
}
