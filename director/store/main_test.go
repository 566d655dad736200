package store

import (
	"context"
	"crypto/ed25519"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/election"
	"github.com/divertdns/divert/election/etcd"
)

// shared is an etcd in this process; each test has a prefix of its own in it.
// Where a server must be killed, the test binary plays `divert etcd`.
var shared string

func TestMain(m *testing.M) {
	if os.Getenv("DIVERT_TEST_ROLE") == "etcd" {
		if err := playEtcd(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "divert-store-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- etcd.Serve(ctx, etcd.ServerOptions{
			Data: filepath.Join(dir, "data"), Listen: "unix://" + filepath.Join(dir, "s"), Ready: func(e string) { ready <- e },
		})
	}()
	defer func() { cancel(); <-done }()
	select {
	case shared = <-ready:
	case err := <-done:
		fmt.Fprintln(os.Stderr, err)
		done <- err
		return 1
	}
	return m.Run()
}

func playEtcd() error {
	flags := flag.NewFlagSet("etcd", flag.ExitOnError)
	data, listen := flags.String("data", "", ""), flags.String("listen", "", "")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return etcd.Serve(ctx, etcd.ServerOptions{
		Data: *data, Listen: *listen, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Ready: func(string) {
			tmp := filepath.Join(*data, "pid.tmp")
			_ = os.WriteFile(tmp, []byte(strconv.Itoa(os.Getpid())), 0o600)
			_ = os.Rename(tmp, filepath.Join(*data, "pid"))
		},
	})
}

// startChild runs an etcd in a process of its own, restarted when it dies.
func startChild(t *testing.T) (endpoint, data string) {
	t.Helper()
	data = t.TempDir()
	c, err := etcd.NewChild(etcd.ChildOptions{
		Data: data, Command: []string{os.Args[0]}, Env: []string{"DIVERT_TEST_ROLE=etcd"}, Stderr: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("child: %v", err)
		}
	})
	return c.Endpoint(), data
}

func pidOf(t *testing.T, data string, not int) int {
	t.Helper()
	var pid int
	until(t, "pid of the etcd in "+data, func() bool {
		raw, _ := os.ReadFile(filepath.Join(data, "pid"))
		pid, _ = strconv.Atoi(string(raw))
		return pid != 0 && pid != not
	})
	return pid
}

func sendSignal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
	if s == syscall.SIGSTOP {
		until(t, fmt.Sprintf("process %d to stand still", pid), func() bool { return standsStill(pid) })
	}
}

// standsStill tells whether all threads of a process are stopped. The signal is only
// taken when one of them runs next: on a busy machine the others may still answer for
// milliseconds after it was sent.
func standsStill(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		_, err := os.Stat("/proc/self/task")
		return err != nil // there is nothing to look at on this system
	}
	for _, path := range threads {
		raw, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		if _, rest, _ := strings.Cut(string(raw), ") "); !strings.HasPrefix(rest, "T") {
			return false
		}
	}
	return true
}

// until waits for a condition; the limit is only there so that a failure ends.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long: %s", what)
		}
	}
}

// prefixOf is a test's own, also when it runs again in the same process (-count).
func prefixOf(t *testing.T) string {
	t.Helper()
	return filepath.Base(filepath.Dir(t.TempDir()))
}

func open(t *testing.T, endpoint string) *Store {
	t.Helper()
	s, err := New(Options{
		Endpoints: []string{endpoint}, Prefix: prefixOf(t),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

var testKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// seal makes a plan of a revision, with a spec cut into chunks.
func seal(t *testing.T, revision uint64, doc string) (*plan.Sealed, [][]byte) {
	t.Helper()
	chunks, ref := Split([]byte(doc))
	sealed, err := plan.Sign(&plan.Plan{Fleet: "f1", Epoch: 1, Revision: revision, Writer: "d1", Spec: ref}, "d1", testKey)
	if err != nil {
		t.Fatal(err)
	}
	return sealed, chunks
}

// commitOf is the commit of a plan under an ID, by a person.
func commitOf(t *testing.T, parent int64, revision uint64, id, doc string) Commit {
	t.Helper()
	next, chunks := seal(t, revision, doc)
	return Commit{
		Parent: parent, Next: next, Chunks: chunks,
		Audit: &plan.Audit{Who: "ann", What: id}, Result: &plan.Result{Id: id, Command: []byte(id), Summary: "did " + id},
	}
}

// begin writes the first plan and reads it.
func begin(t *testing.T, s *Store) Snapshot {
	t.Helper()
	if _, err := s.Commit(t.Context(), commitOf(t, 0, 1, "bootstrap", "doc 1")); err != nil {
		t.Fatal(err)
	}
	return read(t, s)
}

func read(t *testing.T, s *Store) Snapshot {
	t.Helper()
	snap, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

func revisionOf(s Snapshot) uint64 {
	if s.Sealed == nil {
		return 0
	}
	return s.Sealed.Identity.Revision
}

// lead puts a leader's key as a campaign would.
func lead(t *testing.T, s *Store, key string) election.Term {
	t.Helper()
	key = s.Prefix() + "election/" + key
	resp, err := s.Client().Put(t.Context(), key, "d1")
	if err != nil {
		t.Fatal(err)
	}
	return election.Term{Leader: "d1", Key: key, CreateRevision: resp.Header.Revision}
}
