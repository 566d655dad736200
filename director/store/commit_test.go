package store

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/election"
)

// S4, S15: plan, audit record and result come together, and read back.
func TestCommit(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	if snap := read(t, s); snap.Sealed != nil || snap.ModRevision != 0 {
		t.Fatalf("an empty store: %+v, want no plan", snap)
	}
	first := begin(t, s)
	c := commitOf(t, first.ModRevision, 2, "drain-1", "doc 2")
	got, err := s.Commit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got.GetRevision() != 2 || got.GetEpoch() != 1 || !bytes.Equal(got.GetPlan(), c.Next.Identity.Hash[:]) {
		t.Errorf("result: %v, want the plan's identity filled in", got)
	}
	snap := read(t, s)
	if !bytes.Equal(snap.Sealed.Raw, c.Next.Raw) || snap.ModRevision <= first.ModRevision || snap.Cluster == 0 {
		t.Errorf("read back: %+v", snap)
	}
	audit, err := s.Audit(t.Context(), 0, 0)
	if err != nil || len(audit) != 2 || audit[1].GetRevision() != 2 || audit[1].GetCommand() != "drain-1" || audit[1].GetEpoch() != 1 {
		t.Errorf("audit: %v %v", audit, err)
	}
	if later, err := s.Audit(t.Context(), 2, 1); err != nil || len(later) != 1 || later[0].GetRevision() != 2 {
		t.Errorf("audit from 2: %v %v", later, err)
	}
	blobs, err := s.Chunks(t.Context(), snap.Sealed.Plan.GetSpec().GetChunks())
	if err != nil {
		t.Fatal(err)
	}
	if doc, err := Join(snap.Sealed.Plan.GetSpec(), blobs); err != nil || string(doc) != "doc 2" {
		t.Errorf("spec: %q %v", doc, err)
	}
	if r, err := s.Result(t.Context(), "drain-1"); err != nil || r.GetSummary() != "did drain-1" {
		t.Errorf("result: %v %v", r, err)
	}
	if r, err := s.Result(t.Context(), "never"); err != nil || r != nil {
		t.Errorf("result of an unknown command: %v %v, want none", r, err)
	}
}

// S4: of writers that read the same plan one wins, the others are told.
func TestOneWriterWins(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	for _, name := range []string{"create", "replace"} {
		before := read(t, s)
		parent := before.ModRevision
		const writers = 8
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for i := range writers {
			c := commitOf(t, parent, revisionOf(before)+1, fmt.Sprintf("%s-%d", name, i), fmt.Sprintf("%s doc %d", name, i))
			wg.Go(func() { _, errs[i] = s.Commit(t.Context(), c) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			switch {
			case err == nil:
				won++
			case !errors.Is(err, ErrConflict):
				t.Errorf("%s: a loser got %v, want ErrConflict", name, err)
			}
		}
		if won != 1 {
			t.Errorf("%s: %d writers won, want 1", name, won)
		}
	}
}

// S5: read, decide, commit, by several at once: no update is lost, and the
// audit log has each revision once.
func TestNoUpdateIsLost(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	begin(t, s)
	const writers, each = 4, 5
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				for {
					snap, err := s.Read(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					doc := fmt.Sprintf("%d %d", w, i)
					_, err = s.Commit(t.Context(), commitOf(t, snap.ModRevision, revisionOf(snap)+1, fmt.Sprintf("w%d-%d", w, i), doc))
					if err == nil {
						break
					}
					if !errors.Is(err, ErrConflict) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if got, want := revisionOf(read(t, s)), uint64(1+writers*each); got != want {
		t.Errorf("revision %d, want %d", got, want)
	}
	audit, err := s.Audit(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range audit {
		if a.GetRevision() != uint64(i+1) {
			t.Fatalf("audit record %d is of revision %d", i, a.GetRevision())
		}
	}
}

// F11: a leader that was paused between reading and writing writes nothing,
// whether its key is gone, another leads, or its key came back younger.
func TestStaleLeaderWritesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	snap := begin(t, s)
	if err := s.ensure(t.Context(), [][]byte{[]byte("nobody's")}); err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(term election.Term){
		"gone":    func(election.Term) {},
		"another": func(election.Term) { lead(t, s, "other") },
		"younger": func(election.Term) { lead(t, s, "younger") },
	}
	for name, then := range tests {
		term := lead(t, s, name)
		c := commitOf(t, snap.ModRevision, 2, "expire-"+name, "doc 2")
		c.Leader = &term
		if _, err := s.Client().Delete(t.Context(), term.Key); err != nil {
			t.Fatal(err)
		}
		then(term)
		if _, err := s.Commit(t.Context(), c); !errors.Is(err, ErrNotLeader) {
			t.Errorf("%s: %v, want ErrNotLeader", name, err)
		}
		if err := s.Collect(t.Context(), nil, term); !errors.Is(err, ErrNotLeader) {
			t.Errorf("%s: collecting: %v, want ErrNotLeader", name, err)
		}
	}
	if got := read(t, s).ModRevision; got != snap.ModRevision {
		t.Error("a stale leader changed the plan")
	}
	if r, _ := s.Result(t.Context(), "expire-another"); r != nil {
		t.Errorf("a stale leader left a result: %v", r)
	}
	for _, bad := range []election.Term{{}, {Key: "k"}, {CreateRevision: 1}} {
		c := commitOf(t, snap.ModRevision, 2, "zero", "doc 2")
		c.Leader = &bad
		if _, err := s.Commit(t.Context(), c); !errors.Is(err, ErrNotLeader) {
			t.Errorf("term %+v: %v, want ErrNotLeader", bad, err)
		}
	}
	term := lead(t, s, "rightful")
	c := commitOf(t, snap.ModRevision, 2, "expire", "doc 2")
	c.Leader = &term
	if _, err := s.Commit(t.Context(), c); err != nil {
		t.Errorf("the leader: %v", err)
	}
}

// S4: one ID is one command, done once.
func TestRepeatedID(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	snap := begin(t, s)
	const writers = 6
	results, errs := make([]*plan.Result, writers), make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		c := commitOf(t, snap.ModRevision, 2, "drain-1", "doc 2")
		c.Result.Summary = fmt.Sprint("writer ", i)
		wg.Go(func() { results[i], errs[i] = s.Commit(t.Context(), c) })
	}
	wg.Wait()
	fresh := 0
	for i, err := range errs {
		switch {
		case err == nil:
			fresh++
		case !errors.Is(err, ErrDone):
			t.Errorf("repeated: %v, want ErrDone", err)
		}
		if results[i].GetRevision() != 2 {
			t.Errorf("repeated: result %v, want that of revision 2", results[i])
		}
	}
	if fresh != 1 {
		t.Errorf("%d writers did it, want 1", fresh)
	}
	// Long after, on a later plan, and from another director's memory.
	again := commitOf(t, read(t, s).ModRevision, 3, "drain-1", "doc 3")
	if r, err := s.Commit(t.Context(), again); !errors.Is(err, ErrDone) || r.GetRevision() != 2 {
		t.Errorf("repeated later: %v %v, want ErrDone and revision 2", r, err)
	}
	again.Result.Command = []byte("something else")
	if r, err := s.Commit(t.Context(), again); !errors.Is(err, ErrReused) || r != nil {
		t.Errorf("the ID of another command: %v %v, want ErrReused", r, err)
	}
	if got := revisionOf(read(t, s)); got != 2 {
		t.Errorf("revision %d, want 2", got)
	}
}

func TestCommitRefuses(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	tests := map[string]struct {
		spoil func(*Commit)
		want  string
	}{
		"no plan":       {func(c *Commit) { c.Next = nil }, "are wanted"},
		"no ID":         {func(c *Commit) { c.Result.Id = "" }, "none given"},
		"long ID":       {func(c *Commit) { c.Result.Id = strings.Repeat("x", 300) }, "at most 253"},
		"binary ID":     {func(c *Commit) { c.Result.Id = "a\xff" }, "broken UTF-8"},
		"large plan":    {func(c *Commit) { c.Next.Raw = make([]byte, MaxPlan+1) }, "too large"},
		"large blob":    {func(c *Commit) { c.Chunks = [][]byte{make([]byte, MaxChunk+1)} }, "too large"},
		"many blobs":    {func(c *Commit) { c.Next.Plan.Spec.Chunks = make([][]byte, MaxChunks+1) }, "too large"},
		"crippled hash": {func(c *Commit) { c.Next.Plan.Spec.Chunks = [][]byte{{1}} }, "1 octets"},
	}
	for name, tc := range tests {
		c := commitOf(t, 0, 1, "c", "doc")
		tc.spoil(&c)
		if _, err := s.Commit(t.Context(), c); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, tc.want)
		}
	}
	if snap := read(t, s); snap.Sealed != nil {
		t.Error("a refused commit wrote a plan")
	}
}

// S15: an audit record is never written over.
func TestAuditIsNotOverwritten(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	snap := begin(t, s)
	if _, err := s.Client().Put(t.Context(), s.keys.audit(2), "what was"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), commitOf(t, snap.ModRevision, 2, "c", "doc")); err == nil || !strings.Contains(err.Error(), "store recover") {
		t.Errorf("got %v, want a refusal that names the remedy", err)
	}
}

// A plan in the store that cannot be opened is said, with the fence to replace it.
func TestReadForeignPlan(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	if _, err := s.Client().Put(t.Context(), s.keys.plan(), "garbage"); err != nil {
		t.Fatal(err)
	}
	snap, err := s.Read(t.Context())
	if err == nil || snap.ModRevision == 0 || snap.Sealed != nil {
		t.Errorf("got %+v %v, want an error and the mod-revision", snap, err)
	}
}

// S6: an acknowledgement never goes back.
func TestAck(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	ack := func(fleet string, epoch, revision uint64) error {
		return s.Ack(t.Context(), &plan.Ack{Director: "d1", Fleet: fleet, Epoch: epoch, Revision: revision, Plan: []byte("h")})
	}
	steps := []struct {
		fleet           string
		epoch, revision uint64
		refused         bool
	}{
		{"f1", 1, 5, false}, {"f1", 1, 5, false}, {"f1", 1, 4, true}, {"f1", 2, 6, false}, {"f1", 1, 9, true}, {"f2", 1, 1, false},
	}
	for _, st := range steps {
		if err := ack(st.fleet, st.epoch, st.revision); (err != nil) != st.refused {
			t.Errorf("%+v: %v", st, err)
		}
	}
	if _, err := s.Client().Put(t.Context(), s.keys.ack("d2"), "garbage"); err != nil {
		t.Fatal(err)
	}
	acks := read(t, s).Acks
	if len(acks) != 1 || acks["d1"].GetFleet() != "f2" || acks["d1"].GetRevision() != 1 {
		t.Errorf("acks: %v", acks)
	}
}

// The result of a command and the plan are read at one instant.
func TestReadFor(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	snap := begin(t, s)
	for _, id := range []string{"", "c2"} {
		if got, r, err := s.ReadFor(t.Context(), id); err != nil || r != nil || got.ModRevision != snap.ModRevision {
			t.Errorf("%q before it is committed: %+v, %v, %v", id, got, r, err)
		}
	}
	if _, err := s.Commit(t.Context(), commitOf(t, snap.ModRevision, 2, "c2", "doc 2")); err != nil {
		t.Fatal(err)
	}
	got, r, err := s.ReadFor(t.Context(), "c2")
	if err != nil || revisionOf(got) != 2 || r.GetRevision() != 2 || r.GetId() != "c2" {
		t.Errorf("after: %+v, %v, %v", got, r, err)
	}
	if _, _, err := s.ReadFor(t.Context(), "c 2"); err == nil {
		t.Error("an ID with a space was taken")
	}
	// A plan that cannot be read hides neither its fence nor the result.
	if _, err := s.Client().Put(t.Context(), s.keys.plan(), "garbage"); err != nil {
		t.Fatal(err)
	}
	if got, r, err := s.ReadFor(t.Context(), "c2"); err == nil || got.ModRevision == 0 || r.GetId() != "c2" {
		t.Errorf("with a damaged plan: %+v, %v, %v", got, r, err)
	}
}

// S3: a plan that names the blobs of the one before writes none, and gets one back
// that the store has lost all the same.
func TestCommitHeldBlobs(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	snap := begin(t, s)
	c := commitOf(t, snap.ModRevision, 2, "c2", "doc 2")
	if _, err := s.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for i, lose := range []bool{false, true} {
		if lose {
			if _, err := s.Client().Delete(t.Context(), s.keys.blob(plan.Sum(c.Chunks[0]))); err != nil {
				t.Fatal(err)
			}
		}
		again := commitOf(t, read(t, s).ModRevision, uint64(3+i), fmt.Sprintf("c%d", 3+i), "doc 2")
		again.Held = true
		if _, err := s.Commit(t.Context(), again); err != nil {
			t.Fatalf("lost %t: %v", lose, err)
		}
		if held, err := s.Chunks(t.Context(), again.Next.Plan.GetSpec().GetChunks()); err != nil || len(held) != 1 {
			t.Errorf("lost %t: %d blobs, %v", lose, len(held), err)
		}
	}
}

// S6: what this process remembers of its acknowledgement is held against the store:
// whatever became of it there, a higher one is written and a lower one is not.
func TestAckRemembered(t *testing.T) {
	t.Parallel()
	s, other := open(t, shared), open(t, shared)
	ack := func(s *Store, revision uint64) error {
		return s.Ack(t.Context(), &plan.Ack{Director: "d1", Fleet: "f1", Epoch: 1, Revision: revision, Plan: []byte("h")})
	}
	for _, revision := range []uint64{1, 2} {
		if err := ack(s, revision); err != nil {
			t.Fatal(err)
		}
	}
	if err := ack(other, 5); err != nil {
		t.Fatal(err)
	}
	if err := ack(s, 4); err == nil {
		t.Error("4 over 5, by a process that remembers 2")
	}
	if _, err := s.Client().Delete(t.Context(), s.keys.ack("d1")); err != nil { // a store that was replaced
		t.Fatal(err)
	}
	if err := ack(s, 6); err != nil {
		t.Errorf("on a store that has none: %v", err)
	}
	if got := read(t, s).Acks["d1"].GetRevision(); got != 6 {
		t.Errorf("the store has %d, want 6", got)
	}
}

// The largest document is within what etcd takes of operations in a transaction, for
// the leader too.
func TestLargestCommit(t *testing.T) {
	c := commitOf(t, 1, 2, "c1", "doc")
	c.Leader = &election.Term{Key: "leader", CreateRevision: 1}
	c.Read, c.Interlocks = 1, map[string][]byte{}
	for i := range MaxInterlockKeys {
		c.Interlocks[fmt.Sprint("rule/", i)] = []byte("x")
	}
	c.Next.Plan.Spec.Chunks = nil
	for i := range MaxChunks {
		sum := plan.Sum([]byte{byte(i)})
		c.Next.Plan.Spec.Chunks = append(c.Next.Plan.Spec.Chunks, sum[:])
	}
	tx, err := prepare(c)
	if err != nil {
		t.Fatal(err)
	}
	const most = 128 // etcd's --max-txn-ops
	k := keys{}
	if a, b, w := len(tx.compares(k)), len(tx.questions(k)), len(tx.writes(k, 0)); a > most || b > most || w > most || len(tx.blobs) != MaxChunks {
		t.Errorf("%d compares, %d questions about %d blobs, %d writes", a, b, len(tx.blobs), w)
	}
	c.Interlocks["one-more"] = nil
	if _, err := prepare(c); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%d keys of interlocks: %v, want ErrTooLarge", len(c.Interlocks), err)
	}
}

// S4: the key of every interlock is compared in the transaction. A switch turned between
// the read and the commit refuses it, by the fence of the plan and by its own.
func TestInterlockFence(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	begin(t, s)
	turn := func(revision uint64, value string) Commit {
		snap := read(t, s)
		c := commitOf(t, snap.ModRevision, revision, fmt.Sprintf("turn-%d", revision), "doc 1")
		c.Read, c.Interlocks = snap.StoreRevision, map[string][]byte{"switch/fra-work": []byte(value)}
		return c
	}
	if _, err := s.Commit(t.Context(), turn(2, "on since revision 2")); err != nil {
		t.Fatal(err)
	}
	snap := read(t, s)
	drain := func(id string) Commit {
		c := commitOf(t, snap.ModRevision, revisionOf(snap)+1, id, "doc 1")
		c.Read = snap.StoreRevision
		return c
	}
	// What is no interlock's, and was written before the read, is in nobody's way.
	if err := s.Ack(t.Context(), &plan.Ack{Director: "d1", Fleet: "f1", Epoch: 1, Revision: 2, Plan: []byte("h")}); err != nil {
		t.Fatal(err)
	}
	off := turn(3, "off since revision 3")
	if _, err := s.Commit(t.Context(), off); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), drain("drain-1")); !errors.Is(err, ErrConflict) {
		t.Errorf("a switch was turned by another plan: %v, want ErrConflict", err)
	}

	// Its own fence alone: the plan is as it was read.
	snap = read(t, s)
	key := s.keys.interlocks() + "switch/fra-work"
	if _, err := s.Client().Put(t.Context(), key, "on since revision 2"); err != nil {
		t.Fatal(err)
	}
	term := lead(t, s, "rightful")
	for i, leader := range []*election.Term{nil, &term} {
		c := drain(fmt.Sprintf("drain-2-%d", i))
		c.Leader = leader
		if _, err := s.Commit(t.Context(), c); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "switch/fra-work") {
			t.Errorf("a switch was turned beside the plan: %v, want ErrConflict that names it", err)
		}
	}
	if got := read(t, s); revisionOf(got) != 3 || got.ModRevision != snap.ModRevision {
		t.Errorf("a refused commit wrote plan %d", revisionOf(got))
	}
	// One that reads again, with what it finds, is not refused for ever.
	snap = read(t, s)
	gone := drain("prune")
	gone.Interlocks = map[string][]byte{"switch/fra-work": nil, "rule/fra": []byte("sum")}
	if _, err := s.Commit(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Get(t.Context(), s.keys.interlocks(), clientv3.WithPrefix())
	if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "sum" {
		t.Errorf("keys of interlocks: %v, %v", resp.Kvs, err)
	}
}
