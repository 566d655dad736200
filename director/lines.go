package director

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// lines stands between everything here and the log that a director is given:
// whoever reads that may stall, a full pipe, a journal whose disk is slow, and
// neither failover nor a command may wait for it. Beyond what the queue holds
// lines are dropped and counted.
type lines struct {
	queue   chan line
	dropped atomic.Int64 // since last told
	lost    func()       // for the metric; set before anything runs
}

type line struct {
	to     slog.Handler
	record slog.Record
}

const (
	linesKept = 1024
	// linesPatience bounds what a stop waits for the last lines: a reader that
	// has stalled for good is left behind.
	linesPatience = time.Second
)

func newLines() *lines { return &lines{queue: make(chan line, linesKept), lost: func() {}} }

// logger gives a logger that never waits for log.
func (l *lines) logger(log *slog.Logger) *slog.Logger {
	return slog.New(lineHandler{to: log.Handler(), lines: l})
}

// run hands lines on until done is closed and all that is queued is written.
func (l *lines) run(done <-chan struct{}) {
	for {
		select {
		case e := <-l.queue:
			l.write(e)
		case <-done:
			l.flush()
			return
		}
	}
}

// flush writes what is queued.
func (l *lines) flush() {
	for {
		select {
		case e := <-l.queue:
			l.write(e)
		default:
			return
		}
	}
}

func (l *lines) write(e line) {
	ctx := context.Background()
	if n := l.dropped.Swap(0); n > 0 {
		r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines were dropped, since whoever reads the log stalled", 0)
		r.AddAttrs(slog.Int64("lines", n))
		_ = e.to.Handle(ctx, r)
	}
	_ = e.to.Handle(ctx, e.record) // there is nobody to tell
}

// keep runs the queue beside what it is given, and waits for its last lines.
func (l *lines) keep(run func() error) error {
	done, written := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(written)
		l.run(done)
	}()
	err := run()
	close(done)
	patience := time.NewTimer(linesPatience)
	defer patience.Stop()
	select {
	case <-written:
	case <-patience.C:
	}
	return err
}

// lineHandler is a slog.Handler that queues.
type lineHandler struct {
	to    slog.Handler
	lines *lines
}

// Enabled implements slog.Handler.
func (h lineHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.to.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h lineHandler) Handle(_ context.Context, r slog.Record) error {
	select {
	case h.lines.queue <- line{to: h.to, record: r.Clone()}:
	default:
		h.lines.dropped.Add(1)
		h.lines.lost()
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lineHandler{to: h.to.WithAttrs(attrs), lines: h.lines}
}

// WithGroup implements slog.Handler.
func (h lineHandler) WithGroup(name string) slog.Handler {
	return lineHandler{to: h.to.WithGroup(name), lines: h.lines}
}
