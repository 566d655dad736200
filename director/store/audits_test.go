package store

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/election"
)

// audits writes records beside the plan's own, of revisions from 1000 on.
func audits(t *testing.T, s *Store, n int) (raws map[uint64][]byte) {
	t.Helper()
	raws = map[uint64][]byte{}
	for i := range n {
		revision := uint64(1000 + i)
		raw, err := proto.Marshal(&plan.Audit{Revision: revision, Who: "ann"})
		if err != nil {
			t.Fatal(err)
		}
		if put, _, err := s.PutAudit(t.Context(), revision, raw); err != nil || !put {
			t.Fatal(put, err)
		}
		raws[revision] = raw
	}
	return raws
}

// openBelow opens the store below a prefix, with a hook at its steps.
func openBelow(t *testing.T, prefix string, at func(Step)) *Store {
	t.Helper()
	s, err := New(Options{Endpoints: []string{shared}, Prefix: prefix, Registerer: prometheus.NewRegistry(), At: at})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func leftOf(t *testing.T, s *Store) (out []uint64) {
	t.Helper()
	if err := s.EachAudit(t.Context(), 1000, func(revision uint64, _ []byte) error {
		out = append(out, revision)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCollectAudits (S15): what is sealed leaves the store under its head, some at a time;
// what is another than the sealed one stays, and what is past the head; what was written
// since is told from what was not.
func TestCollectAudits(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	begin(t, s)
	term := lead(t, s, "a")
	raws := audits(t, s, 150)
	if h, err := s.AuditHead(t.Context()); err != nil || h.Mod != 0 || h.Raw != nil {
		t.Fatalf("a head of nothing: %+v, %v", h, err)
	}
	_, at, err := s.ChangedAudits(t.Context(), 0, 0, func(uint64, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.put(t.Context(), s.keys.audit(1003), []byte("another"), 0); err != nil {
		t.Fatal(err)
	}
	var changed []uint64
	for next, n := uint64(0), 0; n == 0 || next > 0; n++ {
		if next, _, err = s.ChangedAudits(t.Context(), next, at, func(r uint64, _ []byte) { changed = append(changed, r) }); err != nil || n > 5 {
			t.Fatal(n, err)
		}
	}
	if len(changed) != 1 || changed[0] != 1003 {
		t.Errorf("changed: %v", changed)
	}
	head, err := s.KeepAuditHead(t.Context(), AuditHead{}, AuditHead{Raw: []byte("head"), Collected: 1099}, term)
	if err != nil {
		t.Fatal(err)
	}
	if read, err := s.AuditHead(t.Context()); err != nil || string(read.Raw) != "head" || read.Collected != 1099 || read.Mod != head.Mod {
		t.Errorf("the head reads as %+v, %v", read, err)
	}
	if _, err := s.KeepAuditHead(t.Context(), AuditHead{}, AuditHead{Raw: []byte("x")}, term); !errors.Is(err, ErrConflict) {
		t.Errorf("over a head that was not read: %v", err)
	}
	same := func(r uint64, raw []byte) bool { return bytes.Equal(raws[r], raw) }
	if _, _, err := s.CollectAudits(t.Context(), head, 1, 1100, same, term); !errors.Is(err, ErrConflict) {
		t.Errorf("past the head: %v", err)
	}
	total := 0
	for next := uint64(1000); next > 0; {
		var n int
		if n, next, err = s.CollectAudits(t.Context(), head, next, 1099, same, term); err != nil || n > CollectAudit {
			t.Fatal(n, err)
		}
		total += n
	}
	left := leftOf(t, s)
	if total != 99 || len(left) != 51 || left[0] != 1003 || left[1] != 1100 {
		t.Errorf("removed %d, left %v", total, left)
	}
	if n, err := s.CountAudits(t.Context(), 1101); err != nil || n != 4 { // with the plan's own
		t.Errorf("up to 1101 it has %d, %v", n, err)
	}
	in, err := s.Inspect(t.Context())
	if err != nil || len(in.Without(1099).Gaps) >= len(in.Gaps) {
		t.Errorf("gaps: %v, without what was collected %v, %v", in.Gaps, in.Without(1099).Gaps, err)
	}
	if err := s.put(t.Context(), s.keys.auditHead(), []byte("{"), 0); err != nil {
		t.Fatal(err)
	}
	if h, err := s.AuditHead(t.Context()); !errors.Is(err, ErrAuditHead) || h.Mod == 0 {
		t.Errorf("a damaged head: %+v, %v", h, err)
	}
}

// TestCollectAuditsFenced (F11, F24, S4, S15): a leader that stops at any step, while
// another leads, writes a head, alters a record or commits a plan, removes nothing then;
// one that dies at any step leaves each record, or the head that it is under.
func TestCollectAuditsFenced(t *testing.T) {
	t.Parallel()
	for i, step := range []Step{BeforeRead, AfterRead, BeforeAuditHead, AfterAuditHead, BeforeAuditDelete, AfterAuditDelete} {
		for j, meanwhile := range []string{"nothing", "another leads", "another head", "a record is altered", "it dies"} {
			t.Run(fmt.Sprintf("%s: %s", step, meanwhile), func(t *testing.T) {
				t.Parallel()
				prefix := fmt.Sprintf("/fenced/%d/%d", i, j)
				other := openBelow(t, prefix, nil)
				begin(t, other)
				raws := audits(t, other, 10)
				term := lead(t, other, "a")
				type death struct{}
				hit, dead := 0, false
				hook := func(at Step) {
					if dead {
						panic(death{})
					}
					if at != step || hit > 0 {
						return
					}
					hit++
					switch meanwhile {
					case "another leads":
						if _, err := other.client.Delete(t.Context(), term.Key); err != nil {
							t.Error(err)
						}
					case "another head":
						if err := other.put(t.Context(), other.keys.auditHead(), []byte(`{"collected":0,"head":"other"}`), 0); err != nil {
							t.Error(err)
						}
					case "a record is altered":
						if err := other.put(t.Context(), other.keys.audit(1002), []byte("altered"), 0); err != nil {
							t.Error(err)
						}
					case "it dies":
						dead = true
						panic(death{})
					}
				}
				s := openBelow(t, prefix, hook)
				func() {
					defer func() {
						if r := recover(); r != nil {
							if _, ok := r.(death); !ok {
								panic(r)
							}
						}
					}()
					head, err := s.KeepAuditHead(t.Context(), AuditHead{}, AuditHead{Raw: []byte("head"), Collected: 1009}, term)
					if err != nil {
						return
					}
					_, _, _ = s.CollectAudits(t.Context(), head, 1, 1009, func(r uint64, raw []byte) bool { return bytes.Equal(raws[r], raw) }, term)
				}()
				if hit == 0 {
					t.Fatal("the step was not come to")
				}
				left := leftOf(t, other)
				h, err := other.AuditHead(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				gone := len(left) < 10
				if gone && string(h.Raw) != "head" && step != AfterAuditDelete {
					t.Errorf("records are gone without the head that they are under: %+v", h)
				}
				if meanwhile == "another leads" && step != AfterAuditDelete && gone {
					t.Errorf("a leader of before removed records: %v left", left)
				}
				if kv, err := other.get(t.Context(), other.keys.audit(1002)); meanwhile == "a record is altered" && step != AfterAuditDelete && (err != nil || kv == nil) {
					t.Errorf("the altered record is gone: %v", err)
				}
				if meanwhile == "nothing" && len(left) > 0 {
					t.Errorf("%v are left", left)
				}
			})
		}
	}
	for _, bad := range []election.Term{{}, {Key: "k"}} {
		s := open(t, shared)
		if _, err := s.KeepAuditHead(t.Context(), AuditHead{}, AuditHead{Raw: []byte("x")}, bad); !errors.Is(err, ErrNotLeader) {
			t.Errorf("no leader: %v", err)
		}
	}
}
