package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/divertdns/divert/director/plan"
)

// elsewhere is another store in the same etcd, or in one of its own.
func elsewhere(t *testing.T, endpoint string) *Store {
	t.Helper()
	s, err := New(Options{Endpoints: []string{endpoint}, Prefix: prefixOf(t) + "-elsewhere", Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

var there = []string{"https://etcd-1.example.net:2379"}

// everything reads all keys below a store's prefix but the plan's and the election's.
func everything(t *testing.T, s *Store) map[string]string {
	t.Helper()
	resp, err := s.Client().Get(t.Context(), s.keys.prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, kv := range resp.Kvs {
		key := strings.TrimPrefix(string(kv.Key), s.keys.prefix)
		if key != "plan" && !strings.HasPrefix(key, "election/") {
			out[key] = string(kv.Value)
		}
	}
	return out
}

// TestMove: an embedded etcd's store goes to another etcd, both real processes: the
// very same plan, every record, every blob, every command's result with its lease; and
// the old one takes nothing more.
func TestMove(t *testing.T) {
	oldEndpoint, _ := startChild(t)
	newEndpoint, _ := startChild(t)
	s, to := open(t, oldEndpoint), elsewhere(t, newEndpoint)
	ctx := t.Context()
	var snap Snapshot
	until(t, "the old etcd", func() bool {
		_, err := s.Commit(ctx, commitOf(t, 0, 1, "bootstrap", "doc 1"))
		return err == nil || errors.Is(err, ErrDone)
	})
	snap = read(t, s)
	for n := uint64(2); n <= 9; n++ {
		if _, err := s.Commit(ctx, commitOf(t, snap.ModRevision, n, fmt.Sprint("c", n), fmt.Sprint("doc ", n))); err != nil {
			t.Fatal(err)
		}
		snap = read(t, s)
	}
	must(t, s.Ack(ctx, &plan.Ack{Director: "d1", Fleet: "f1", Epoch: 1, Revision: 9}))
	lead(t, s, "1")
	until(t, "the new etcd", func() bool { _, err := to.Read(ctx); return err == nil })
	want := everything(t, s)

	id, err := s.MoveTo(ctx, to, there, monday)
	if err != nil || id != snap.Sealed.Identity {
		t.Fatalf("got %v, %v", id, err)
	}
	got := everything(t, to)
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s: got %q, want %q", key, got[key], value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d keys, want %d", len(got), len(want))
	}
	moved := read(t, to)
	if string(moved.Sealed.Raw) != string(snap.Sealed.Raw) {
		t.Error("the plan is not the very same")
	}
	result, err := to.Result(ctx, "c9")
	if err != nil || result.GetRevision() != 9 {
		t.Errorf("result: %v, %v", result, err)
	}
	kv, err := to.get(ctx, to.keys.command("c9"))
	if err != nil || kv.Lease == 0 {
		t.Errorf("the result would stay for ever: lease %d, %v", kv.Lease, err)
	}
	// S4: the old store says where it went, and a commit on what was read before fails.
	_, err = s.Read(ctx)
	if note, ok := errors.AsType[*Moved](err); !ok || note.To[0] != there[0] {
		t.Errorf("reading the old store: %v", err)
	}
	if _, err := s.Commit(ctx, commitOf(t, snap.ModRevision, 10, "late", "doc 10")); !errors.Is(err, ErrConflict) {
		t.Errorf("a late commit there: %v", err)
	}
	if _, err := to.Commit(ctx, commitOf(t, moved.ModRevision, 10, "c10", "doc 10")); err != nil {
		t.Errorf("a commit here: %v", err)
	}
}

// TestMoveUnderCommands: of commands that are given while the store moves, each that
// was told "done" is in the new store, and the same command again is told so there (S4).
func TestMoveUnderCommands(t *testing.T) {
	s, to := open(t, shared), elsewhere(t, shared)
	snap := begin(t, s)
	ctx := t.Context()
	done := map[string]bool{}
	started := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for n := uint64(2); ; n++ {
			id := fmt.Sprint("c", n)
			_, err := s.Commit(ctx, commitOf(t, snap.ModRevision, n, id, fmt.Sprint("doc ", n)))
			if err == nil {
				done[id] = true
			} else if !errors.Is(err, ErrConflict) {
				t.Errorf("%s: %v", id, err)
			}
			if n == 5 {
				close(started)
			}
			next, err := s.Read(ctx)
			if _, ok := errors.AsType[*Moved](err); ok {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			snap = next
		}
	})
	<-started
	var id plan.Identity
	until(t, "the move", func() bool {
		var err error
		id, err = s.MoveTo(ctx, to, there, monday) // a crowd may win all its rounds
		return err == nil
	})
	all.Wait()
	if got := revisionOf(read(t, to)); got != id.Revision {
		t.Errorf("the new store holds revision %d, want %d", got, id.Revision)
	}
	for c := range done {
		if r, err := to.Result(ctx, c); err != nil || r == nil {
			t.Errorf("%s was done, and the new store does not know: %v", c, err)
		}
	}
	in, err := to.Inspect(ctx)
	if err != nil || len(in.Gaps) > 0 || len(in.Missing) > 0 || in.Last != id.Revision {
		t.Errorf("got %+v, %v", in, err)
	}
}

// TestMoveInterrupted: whatever a move was interrupted at, the same again goes on.
func TestMoveInterrupted(t *testing.T) {
	s, to := open(t, shared), elsewhere(t, shared)
	snap := begin(t, s)
	ctx := t.Context()
	if err := s.copyTo(ctx, to, &copied{blobs: map[string]bool{}}); err != nil {
		t.Fatal(err)
	}
	left, err := s.leave(ctx, snap, Moved{To: there, At: monday, Plan: snap.Sealed.Raw})
	if err != nil || !left {
		t.Fatal(left, err)
	}
	// Here it ended: the plan is in neither. Not even then may it go elsewhere.
	if _, err := s.MoveTo(ctx, to, []string{"https://other.example.net:2379"}, monday); err == nil || !strings.Contains(err.Error(), "was moved to") {
		t.Errorf("to another place: got %v", err)
	}
	for range 2 {
		if id, err := s.MoveTo(ctx, to, there, monday); err != nil || id != snap.Sealed.Identity {
			t.Errorf("again: got %v, %v", id, err)
		}
	}
	if got := read(t, to); got.Sealed == nil || got.Sealed.Identity != snap.Sealed.Identity {
		t.Error("the plan is lost")
	}
}

// TestMoveRefuses: a store that is somebody's, or the same one, is not written to.
func TestMoveRefuses(t *testing.T) {
	s, to := open(t, shared), elsewhere(t, shared)
	begin(t, s)
	ctx := t.Context()
	if _, err := s.MoveTo(ctx, s, there, monday); err == nil || !strings.Contains(err.Error(), "the one in use") {
		t.Errorf("onto itself: got %v", err)
	}
	if _, err := to.Client().Put(ctx, to.keys.audit(1), string(auditRecord(t, 1, "somebody"))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.MoveTo(ctx, to, there, monday); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("onto another audit log: got %v", err)
	}
	if _, err := to.Client().Delete(ctx, to.keys.audit(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Commit(ctx, commitOf(t, 0, 3, "theirs", "doc 3")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.MoveTo(ctx, to, there, monday); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("onto another plan: got %v", err)
	}
	if _, err := s.Read(ctx); err != nil {
		t.Errorf("the old store was left all the same: %v", err)
	}
	empty, err := New(Options{Endpoints: []string{"http://127.0.0.1:1"}, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	if _, err := s.MoveTo(ctx, empty, there, monday); !errors.Is(err, ErrUnavailable) {
		t.Errorf("to nobody: got %v", err)
	}
}
