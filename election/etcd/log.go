package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapTo gives etcd a logger that says warnings and worse through slog. etcd's
// information lines are many and mean nothing to who runs a director; while it
// is ending it warns of each listener that it closes itself.
func zapTo(log *slog.Logger, ending *atomic.Bool) *zap.Logger {
	return zap.New(core{log: log, ending: ending, strangers: &strangers{}}, zap.WithFatalHook(zapcore.WriteThenFatal))
}

// strangersEvery is between two lines of connections that were turned away: anybody makes
// as many as he likes.
const strangersEvery = 10 * time.Second

// strangers counts the lines that are not said.
type strangers struct {
	mu    sync.Mutex
	said  time.Time
	quiet int // since then
}

// say tells whether a line is to be said now, and how many were not.
func (s *strangers) say(now time.Time) (quiet int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.said.IsZero() && now.Sub(s.said) < strangersEvery {
		s.quiet++
		return 0, false
	}
	quiet, s.quiet, s.said = s.quiet, 0, now
	return quiet, true
}

// core is a zapcore.Core over slog.
type core struct {
	log       *slog.Logger
	ending    *atomic.Bool
	strangers *strangers
	fields    []zapcore.Field
}

// Enabled tells which levels are worth a line.
func (c core) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

// With adds fields to every line.
func (c core) With(f []zapcore.Field) zapcore.Core {
	return core{log: c.log, ending: c.ending, strangers: c.strangers, fields: slices.Concat(c.fields, f)}
}

// Check registers the core for an entry that it would write.
func (c core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) || dull[e.Message] || c.ending.Load() && e.Level <= zapcore.ErrorLevel {
		return ce
	}
	return ce.AddCore(e, c)
}

// Write says one line.
func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range c.fields {
		f.AddTo(enc)
	}
	for _, f := range fields {
		f.AddTo(enc)
	}
	if young(e.Message, enc.Fields) {
		return nil
	}
	if strings.HasPrefix(e.Message, "rejected connection on ") {
		quiet, ok := c.strangers.say(e.Time)
		if !ok {
			return nil
		}
		if quiet > 0 {
			enc.AddInt("more-since-the-last-line", quiet)
		}
	}
	level := slog.LevelWarn
	if e.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	c.log.Log(context.Background(), level, "etcd", slog.String("says", e.Message), slog.Any("detail", enc.Fields))
	return nil
}

// Sync has nothing to do.
func (c core) Sync() error { return nil }

// young tells what a store says that is so new that it has written no snapshot: which version
// of etcd its data are of is not in them yet. It looks again with the first one.
func young(message string, fields map[string]any) bool {
	return (strings.HasSuffix(message, " to detect schema version") || strings.HasSuffix(message, " to update storage version")) &&
		strings.Contains(fmt.Sprint(fields["error"]), "missing term information")
}

// dull are warnings about choices that were made on purpose.
var dull = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.":              true,
	"simple token is not cryptographically signed":                                                      true,
	"serving insecure client requests on a loopback interface. This is not recommended for production!": true,
}
