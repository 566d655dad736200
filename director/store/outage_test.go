package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/election"
)

// F10: with etcd gone New returns at once, and every call says that nothing
// was changed.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	s := open(t, "unix://"+filepath.Join(t.TempDir(), "nobody"))
	h := plan.Sum(nil)
	tests := map[string]func() error{
		"read":    func() error { _, err := s.Read(t.Context()); return err },
		"commit":  func() error { _, err := s.Commit(t.Context(), commitOf(t, 0, 1, "c", "doc")); return err },
		"result":  func() error { _, err := s.Result(t.Context(), "c"); return err },
		"chunks":  func() error { _, err := s.Chunks(t.Context(), [][]byte{h[:]}); return err },
		"audit":   func() error { _, err := s.Audit(t.Context(), 0, 1); return err },
		"ack":     func() error { return s.Ack(t.Context(), &plan.Ack{Director: "d1"}) },
		"collect": func() error { return s.Collect(t.Context(), nil, election.Term{Key: "k", CreateRevision: 1}) },
		"settle": func() error {
			tx, err := prepare(commitOf(t, 0, 1, "c", "doc"))
			if err != nil {
				return err
			}
			_, err = s.settle(t.Context(), tx)
			return err
		},
	}
	for name, call := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := call(); !errors.Is(err, ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
		})
	}
}

// S4: when etcd falls silent while a commit is under way, the outcome is said
// to be unknown; repeating the command tells it, and does it once.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	endpoint, data := startChild(t)
	pid := pidOf(t, data, 0)
	s := open(t, endpoint)
	snap := begin(t, s)
	c := commitOf(t, snap.ModRevision, 2, "drain-1", "doc 2")
	if err := s.ensure(t.Context(), c.Chunks); err != nil {
		t.Fatal(err)
	}
	tx, err := prepare(c)
	if err != nil {
		t.Fatal(err)
	}
	sendSignal(t, pid, syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = s.settle(ctx, tx)
	var unknown *UnknownOutcome
	if !errors.As(err, &unknown) || unknown.ID != "drain-1" || errors.Is(err, ErrUnavailable) {
		t.Errorf("silent etcd: %v, want *UnknownOutcome", err)
	}
	// A read in the same state writes nothing, so it is simply unavailable.
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.Read(ctx); !errors.Is(err, ErrUnavailable) {
		t.Errorf("read: %v, want ErrUnavailable", err)
	}
	sendSignal(t, pid, syscall.SIGCONT)
	// A slow machine may leave it unknown once more; repeating is what one does then.
	var r *plan.Result
	until(t, "an outcome", func() bool {
		r, err = s.Commit(t.Context(), c)
		return !errors.As(err, &unknown) && !errors.Is(err, ErrUnavailable)
	})
	if err != nil && !errors.Is(err, ErrDone) || r.GetRevision() != 2 {
		t.Errorf("repeated: %v %v, want the result", r, err)
	}
	if got := revisionOf(read(t, s)); got != 2 {
		t.Errorf("revision %d, want 2", got)
	}
}

// F10, F25: the watch outlives a restart, a compaction, and, once a read has
// seen it, a swapped store; commits go on after a kill; an empty store is seen
// to be one, and takes no commit that was decided on the old one.
func TestWatchOutlivesEtcd(t *testing.T) {
	t.Parallel()
	endpoint, data := startChild(t)
	pid := pidOf(t, data, 0)
	s, writer := open(t, endpoint), open(t, endpoint)
	snap := begin(t, writer)
	wakes := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Watch(ctx, wakes) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watch: %v", err)
		}
	}()
	// woken waits until a woken reader sees a revision.
	woken := func(want uint64) {
		t.Helper()
		until(t, "wake-up", func() bool {
			select {
			case <-wakes:
			default:
				return false
			}
			snap, err := s.Read(t.Context())
			return err == nil && revisionOf(snap) == want
		})
	}
	woken(1)

	if _, err := writer.Client().Compact(t.Context(), snap.StoreRevision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	next := commitOf(t, snap.ModRevision, 2, "c2", "doc 2")
	if _, err := writer.Commit(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	woken(2)

	sendSignal(t, pid, syscall.SIGKILL)
	pid = pidOf(t, data, pid)
	var mod int64
	until(t, "a read after the kill", func() bool {
		snap, err := writer.Read(t.Context())
		mod = snap.ModRevision
		return err == nil && revisionOf(snap) == 2
	})
	// Compacted while the watch may be away: it begins anew.
	if _, err := writer.Commit(t.Context(), commitOf(t, mod, 3, "c3", "doc 3")); err != nil {
		t.Fatal(err)
	}
	woken(3)
	old := read(t, s)

	// F25: an empty one in its place.
	sendSignal(t, pid, syscall.SIGSTOP)
	if err := os.Rename(filepath.Join(data, "member"), filepath.Join(t.TempDir(), "member")); err != nil {
		t.Fatal(err)
	}
	sendSignal(t, pid, syscall.SIGKILL)
	pidOf(t, data, pid)
	until(t, "a read of the empty store", func() bool {
		snap, err := s.Read(t.Context())
		if err == nil && (snap.Sealed != nil || snap.Cluster == old.Cluster) {
			t.Fatalf("after the swap: %+v, want another cluster without a plan", snap)
		}
		return err == nil
	})
	if _, err := s.Commit(t.Context(), commitOf(t, old.ModRevision, 4, "c4", "doc 4")); !errors.Is(err, ErrConflict) {
		t.Errorf("commit on the swapped store: %v, want ErrConflict", err)
	}
	// A lease of the old store is not in the way of a commit on the new one.
	if _, err := writer.Commit(t.Context(), commitOf(t, 0, 4, "c4", "doc 4")); err != nil {
		t.Errorf("writer with a lease of the old store: %v", err)
	}
	woken(4)
}

func TestCommandsExpire(t *testing.T) {
	t.Parallel()
	s := open(t, shared)
	begin(t, s)
	get, err := s.Client().Get(t.Context(), s.keys.command("bootstrap"))
	if err != nil || len(get.Kvs) != 1 {
		t.Fatalf("%v %v", get, err)
	}
	ttl, err := s.Client().TimeToLive(t.Context(), clientv3.LeaseID(get.Kvs[0].Lease))
	if err != nil {
		t.Fatal(err)
	}
	left := time.Duration(ttl.TTL) * time.Second
	if left < resultLife || left > resultLife+bucketReuse {
		t.Errorf("a result lives %s, want a day and at most an hour more", left)
	}
	plans, err := s.Client().Get(t.Context(), s.keys.plan())
	if err != nil || plans.Kvs[0].Lease != 0 {
		t.Errorf("the plan hangs on a lease: %v %v", plans, err)
	}
}

// etcd over its quota refuses, and sometimes says so of a write that it did.
// Either way the commit says what is so, and reading goes on.
func TestOutOfSpace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u := url.URL{Scheme: "unix", Path: filepath.Join(dir, "s")}
	cfg := embed.NewConfig()
	cfg.Dir, cfg.QuotaBackendBytes = filepath.Join(dir, "data"), 4<<20
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{u}, []url.URL{u}
	cfg.ListenPeerUrls = nil
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	defer server.Server.HardStop()
	<-server.Server.ReadyNotify()

	s := open(t, u.String())
	snap := begin(t, s)
	if refuses, fills, err := s.Space(t.Context()); err != nil || refuses != "" || fills != "" {
		t.Errorf("its space while there is some: got %q, %q, %v", refuses, fills, err)
	}
	known := map[uint64]bool{1: true}
	// Plans of the greatest size, until one is refused.
	for revision := uint64(2); ; revision++ {
		c := commitOf(t, snap.ModRevision, revision, fmt.Sprint("c", revision), "doc")
		c.Next.Plan.Writer = strings.Repeat("x", MaxPlan-1000)
		c.Next, err = plan.Sign(c.Next.Plan, "d1", testKey)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Commit(t.Context(), c)
		snap = read(t, s)
		if err != nil {
			break
		}
		known[revision] = true
	}
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "free space") {
		t.Errorf("out of space: %v, want ErrUnavailable and the remedy", err)
	}
	if refuses, _, err := s.Space(t.Context()); err != nil || refuses == "" {
		t.Errorf("its space: got %q, %v, want the alarm", refuses, err)
	}
	if got := revisionOf(snap); !known[got] || known[got+1] {
		t.Errorf("the store holds revision %d, reported as done: %v", got, known)
	}
}
