package store

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/divertdns/divert/director/plan"
)

// blobsOf lists the blobs in the store.
func blobsOf(t *testing.T, s *Store) map[string]bool {
	t.Helper()
	resp, err := s.Client().Get(t.Context(), s.keys.blobs(), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, kv := range resp.Kvs {
		out[strings.TrimPrefix(string(kv.Key), s.keys.blobs())] = true
	}
	return out
}

// S3: collection goes by reference. What the plan in force names stays, and
// what the caller keeps; only what nobody names goes.
func TestCollect(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	term := lead(t, s, "d1")
	if err := s.ensure(t.Context(), [][]byte{[]byte("an early blob")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Collect(t.Context(), nil, term); err != nil {
		t.Fatal(err)
	}
	if len(blobsOf(t, s)) != 1 {
		t.Error("collected in a store without a plan")
	}
	snap := begin(t, s)
	if _, err := s.Commit(t.Context(), commitOf(t, snap.ModRevision, 2, "c2", "doc 2")); err != nil {
		t.Fatal(err)
	}
	if err := s.ensure(t.Context(), [][]byte{[]byte("nobody's"), []byte("kept")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Collect(t.Context(), map[plan.Hash]bool{plan.Sum([]byte("kept")): true}, term); err != nil {
		t.Fatal(err)
	}
	want := []string{plan.Sum([]byte("doc 2")).String(), plan.Sum([]byte("kept")).String()}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(blobsOf(t, s))); !slices.Equal(got, want) {
		t.Errorf("blobs left: %v, want %v", got, want)
	}
	// The plan changed between listing and deleting.
	if err := s.remove(t.Context(), []string{s.keys.blob(plan.Sum([]byte("doc 2")))}, snap.ModRevision, term); !errors.Is(err, ErrConflict) {
		t.Errorf("collecting for an older plan: %v, want ErrConflict", err)
	}
}

// S3: what `divert revert` goes back to stays, and what a rollout tries; the commit of the
// latter wants it there.
func TestCollectKeepsWhatPlansName(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	term := lead(t, s, "d1")
	snap := begin(t, s)
	c := commitOf(t, snap.ModRevision, 2, "c2", "doc 2")
	p := c.Next.Plan
	_, p.Previous = Split([]byte("doc 1"))
	_, canary := Split([]byte("doc 3"))
	p.Rollout = &plan.Rollout{State: plan.Rollout_SOAKING, Canary: canary, On: []string{"d1"}}
	var bundle *plan.SpecRef
	c.Policy, bundle = Split([]byte("rules"))
	p.Policy = &plan.Policy{Bundle: bundle}
	var err error
	if c.Next, err = plan.Sign(p, "d1", testKey); err != nil {
		t.Fatal(err)
	}
	var missing *Missing
	if _, err := s.Commit(t.Context(), c); !errors.As(err, &missing) {
		t.Errorf("committed without what the rollout tries: %v", err)
	}
	c.Chunks = append(c.Chunks, []byte("doc 3"))
	if _, err := s.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := s.ensure(t.Context(), [][]byte{[]byte("nobody's")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Collect(t.Context(), nil, term); err != nil {
		t.Fatal(err)
	}
	got := blobsOf(t, s)
	for _, doc := range []string{"doc 1", "doc 2", "doc 3", "rules"} {
		if !got[plan.Sum([]byte(doc)).String()] {
			t.Errorf("%s was collected", doc)
		}
	}
	if len(got) != 4 {
		t.Errorf("blobs left: %v, want 4", got)
	}

	// A plan that goes on naming a policy does without its bundle: no drain's step waits for it.
	if _, err := s.client.Delete(t.Context(), s.keys.blob(plan.Sum([]byte("rules")))); err != nil {
		t.Fatal(err)
	}
	if in, err := s.Inspect(t.Context()); err != nil || len(in.NoPolicy) != 1 || len(in.Missing) != 0 {
		t.Errorf("inspected: %+v, %v", in, err)
	}
	if snap, err = s.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := commitOf(t, snap.ModRevision, 3, "c3", "doc 2")
	next.Next.Plan.Policy = p.Policy
	if next.Next, err = plan.Sign(next.Next.Plan, "d1", testKey); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), next); err != nil {
		t.Errorf("without the policy's bundle: %v", err)
	}
}

// S3: a blob that was collected between its writing and the plan's commit is
// written again; one that the writer does not have makes the commit fail.
func TestCommitNeverLeavesABlobMissing(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	snap := begin(t, s)
	c := commitOf(t, snap.ModRevision, 2, "c2", strings.Repeat("x", MaxChunk)+"y")
	tx, err := prepare(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ensure(t.Context(), c.Chunks); err != nil {
		t.Fatal(err)
	}
	if err := s.Collect(t.Context(), nil, lead(t, s, "d1")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.settle(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	left := blobsOf(t, s)
	for i, chunk := range c.Chunks {
		if !left[plan.Sum(chunk).String()] {
			t.Errorf("blob %d is missing after the commit", i)
		}
	}

	// So is the bundle of a policy that a plan is the first to name.
	c = commitOf(t, read(t, s).ModRevision, 3, "c3", "doc 3")
	c.Policy, c.Next.Plan.Policy = [][]byte{[]byte("rules")}, &plan.Policy{}
	_, c.Next.Plan.Policy.Bundle = Split([]byte("rules"))
	if c.Next, err = plan.Sign(c.Next.Plan, "d1", testKey); err != nil {
		t.Fatal(err)
	}
	if tx, err = prepare(c); err != nil {
		t.Fatal(err)
	}
	if err := s.ensure(t.Context(), c.Chunks); err != nil {
		t.Fatal(err)
	}
	if _, err := s.settle(t.Context(), tx); err != nil || !blobsOf(t, s)[plan.Sum([]byte("rules")).String()] {
		t.Errorf("a policy's bundle is missing after the commit: %v", err)
	}

	c = commitOf(t, read(t, s).ModRevision, 4, "c4", "unknown")
	c.Chunks = nil
	var missing *Missing
	if _, err := s.Commit(t.Context(), c); !errors.As(err, &missing) || len(missing.Hashes) != 1 {
		t.Errorf("commit without its blob: %v, want *Missing", err)
	}
	if got := revisionOf(read(t, s)); got != 3 {
		t.Errorf("revision %d, want 3", got)
	}
}

func TestChunksAreChecked(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	doc, absent := plan.Sum([]byte("doc")), plan.Sum([]byte("absent"))
	if err := s.ensure(t.Context(), [][]byte{[]byte("doc")}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Chunks(t.Context(), [][]byte{doc[:], absent[:]})
	if err != nil || len(got) != 1 || string(got[doc]) != "doc" {
		t.Errorf("got %v %v, want the one that is there", got, err)
	}
	if _, err := s.Client().Put(t.Context(), s.keys.blob(doc), "dox"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Chunks(t.Context(), [][]byte{doc[:]}); err == nil {
		t.Error("a damaged blob was handed out")
	}
}
