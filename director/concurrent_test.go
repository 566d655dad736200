package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/election/etcd"
)

// alone runs a director of its own fleet over a real etcd in this process, and
// waits until it holds a plan.
func alone(t *testing.T) *Director {
	t.Helper()
	return aloneWith(t, nil)
}

// aloneWith is alone with a log.
func aloneWith(t *testing.T, log *slog.Logger) *Director {
	t.Helper()
	return aloneOf(t, log, meshSpec)
}

// aloneOf is aloneWith with resources of its own.
func aloneOf(t *testing.T, log *slog.Logger, text string, edits ...func(*spec.Settings)) *Director {
	t.Helper()
	d, _ := aloneBeside(t, log, text, edits...)
	return d
}

// aloneBeside is aloneOf, with what stops the etcd beside it.
func aloneBeside(t *testing.T, log *slog.Logger, text string, edits ...func(*spec.Settings)) (d *Director, stopStore func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "divert-") //nolint:usetesting // a unix socket has room for a short path only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithCancel(context.Background())
	ready, served, ran := make(chan string, 1), make(chan error, 1), make(chan error, 1)
	go func() {
		served <- etcd.Serve(ctx, etcd.ServerOptions{
			Data: filepath.Join(dir, "etcd"), Listen: "unix://" + filepath.Join(dir, "s"), Ready: func(e string) { ready <- e },
		})
	}()
	stopStore = sync.OnceFunc(func() { cancel(); <-served })
	t.Cleanup(stopStore)
	endpoint := <-ready
	files := filepath.Join(dir, "spec.yaml")
	if err := os.WriteFile(files, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := spec.DefaultSettings()
	settings.Name, settings.Site, settings.DataDir, settings.Spec = "d1", "s1", filepath.Join(dir, "d1"), []string{files}
	settings.DNS.Listen, settings.API.Listen, settings.Gossip.Listen = []string{"127.0.0.1:0"}, "", "127.0.0.1:0"
	settings.Etcd.Endpoints, settings.Resolvers = []string{endpoint}, []string{"127.0.0.1:9"} // nobody is there to resolve names
	for _, edit := range edits {
		edit(&settings)
	}
	d, err = New(Options{Settings: settings, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(context.Background())
	go func() { ran <- d.Run(run) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	for end := time.Now().Add(20 * time.Second); d.horizon.current() == nil; <-d.Changed() {
		if time.Now().After(end) {
			t.Fatal("no plan")
		}
	}
	return d, stopStore
}

// give commits a command as a patient person does: again, under its ID, while the
// machine is too slow for etcd to answer in time.
func give(d *Director, cmd core.Command) (plan.Identity, error) {
	for {
		_, id, err := d.commander.commit(context.Background(), cmd, nil)
		var unknown *store.UnknownOutcome
		if err == nil || !errors.As(err, &unknown) && !strings.Contains(err.Error(), "does not answer") {
			return id, err
		}
	}
}

// TestCommandsAtOnce: of commands given to one director at the same time (S5) none
// is told that the store was lost because
// another one's plan came between its read and its decision.
func TestCommandsAtOnce(t *testing.T) {
	d := alone(t)
	var wg sync.WaitGroup
	var done atomic.Int64
	for i := range 6 {
		wg.Go(func() {
			for j := range 10 {
				cmd := core.Command{
					ID: newID(), Verb: core.Drain, Scope: "cluster/fra", Author: fmt.Sprint("ann", i), Reason: "test",
					For: time.Hour + time.Duration(60*i+j)*time.Second,
				}
				_, _, err := d.commander.commit(t.Context(), cmd, nil)
				// A crowd, or a machine too slow for etcd, is what it is.
				if err != nil && strings.Contains(err.Error(), "store recover") {
					t.Errorf("%d.%d: %v", i, j, err)
				}
				if err == nil {
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if done.Load() == 0 {
		t.Error("none was done")
	}
}

// TestReadOvertaken: a reading of the store that a newer plan has overtaken is no
// sign of a restored store.
func TestReadOvertaken(t *testing.T) {
	d := onDisk(t, none, 7)
	snap := store.Snapshot{Sealed: d.horizon.current().sealed, ModRevision: 1}
	known := d.horizon.known()
	newer := snap.Sealed.Identity
	newer.Revision++
	d.horizon.raise(newer)
	d.librarian.learn(t.Context(), known, snap)
	if s := d.horizon.storeNow(); !s.ok || s.problem != "" {
		t.Errorf("store: got %+v, want it usable", s)
	}
	if _, err := d.commander.base(t.Context(), known, snap); err != nil {
		t.Errorf("deciding upon it: %v; the fence tells", err)
	}
	if _, err := d.commander.base(t.Context(), d.horizon.known(), snap); err == nil {
		t.Error("a store read since then and older than what is known is not refused")
	}
}
