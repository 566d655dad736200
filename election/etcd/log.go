package etcd

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapTo gives etcd a logger that says warnings and worse through slog. etcd's
// information lines are many and mean nothing to who runs a director; while it
// is ending it warns of each listener that it closes itself.
func zapTo(log *slog.Logger, ending *atomic.Bool) *zap.Logger {
	return zap.New(core{log: log, ending: ending}, zap.WithFatalHook(zapcore.WriteThenFatal))
}

// core is a zapcore.Core over slog.
type core struct {
	log    *slog.Logger
	ending *atomic.Bool
	fields []zapcore.Field
}

// Enabled tells which levels are worth a line.
func (c core) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

// With adds fields to every line.
func (c core) With(f []zapcore.Field) zapcore.Core {
	return core{log: c.log, ending: c.ending, fields: slices.Concat(c.fields, f)}
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
	level := slog.LevelWarn
	if e.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	c.log.Log(context.Background(), level, "etcd", slog.String("says", e.Message), slog.Any("detail", enc.Fields))
	return nil
}

// Sync has nothing to do.
func (c core) Sync() error { return nil }

// dull are warnings about choices that were made on purpose.
var dull = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.":              true,
	"simple token is not cryptographically signed":                                                      true,
	"serving insecure client requests on a loopback interface. This is not recommended for production!": true,
}
