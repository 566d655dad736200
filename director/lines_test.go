package director

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/divertdns/divert/director/core"
)

// stalled is a reader of a log that takes nothing until it is released.
type stalled struct {
	release chan struct{}

	mu  sync.Mutex
	got bytes.Buffer
}

func (s *stalled) Write(p []byte) (int, error) {
	<-s.release
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(p)
}

// TestStalledLog: whoever reads the log may stall, and a director takes commands,
// answers and stops all the same.
func TestStalledLog(t *testing.T) {
	reader := &stalled{release: make(chan struct{})}
	defer close(reader.release)
	d := aloneWith(t, slog.New(slog.NewTextHandler(reader, nil)))
	for i := range 3 {
		cmd := core.Command{ID: newID(), Verb: core.Drain, Scope: "cluster/fra", Author: "ann", Reason: "test", For: time.Duration(i+1) * time.Hour}
		id, err := give(d, cmd)
		if err != nil {
			t.Fatal(err)
		}
		for d.horizon.acked().Compare(id) < 0 {
			select {
			case <-d.Changed():
			case <-time.After(10 * time.Millisecond):
			}
			if t.Context().Err() != nil {
				t.Fatal("not in force")
			}
		}
	}
}

// TestLines: lines come in order with their attributes; those that found no room
// are counted, and the log says how many they were.
func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := &stalled{release: make(chan struct{})}
		l := newLines()
		lost := 0
		l.lost = func() { lost++ }
		log := l.logger(slog.New(slog.NewTextHandler(reader, nil))).With(slog.String("who", "d1")).WithGroup("g")
		done := make(chan error, 1)
		stop := make(chan struct{})
		go func() { done <- l.keep(func() error { <-stop; return nil }) }()
		log.Info("first")
		synctest.Wait() // in the reader's hands
		for i := range linesKept + 5 {
			log.Info("more", slog.Int("i", i))
		}
		log.Debug("not wanted")
		if lost != 5 {
			t.Errorf("lost %d, want 5", lost)
		}
		close(reader.release)
		close(stop)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		text := reader.got.String()
		if !strings.Contains(text, "msg=first who=d1") || !strings.Contains(text, "g.i=1023") || !strings.Contains(text, "lines=5") || strings.Contains(text, "g.i=1024") {
			t.Errorf("got …%s", text[max(0, len(text)-300):])
		}
	})
}

// TestLinesEnd: a reader that stalls for good does not hold up a stop.
func TestLinesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := &stalled{release: make(chan struct{})}
		l := newLines()
		start := time.Now()
		err := l.keep(func() error { l.logger(slog.New(slog.NewTextHandler(reader, nil))).Info("first"); return nil })
		if took := time.Since(start); err != nil || took != linesPatience {
			t.Errorf("ended after %s with %v, want %s", took, err, linesPatience)
		}
		close(reader.release)
	})
}
