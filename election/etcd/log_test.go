package etcd

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// What is no error at a store's first start is not said; the same for another reason is; and
// strangers who are turned away make one line in ten seconds, however many they are.
func TestLogLines(t *testing.T) {
	var out bytes.Buffer
	ending := &atomic.Bool{}
	log := zapTo(slog.New(slog.NewTextHandler(&out, nil)), ending)
	log.Error("unable to update storage version", zap.Error(errors.New("cannot detect storage schema version: missing term information")))
	log.Warn("Failed to detect schema version", zap.Error(errors.New("missing term information")))
	if out.Len() > 0 {
		t.Errorf("a first start says %s", out.String())
	}
	log.Error("unable to update storage version", zap.Error(errors.New("disk full")))
	if !strings.Contains(out.String(), "disk full") || !strings.Contains(out.String(), "level=ERROR") {
		t.Errorf("of a full disk it says %q", out.String())
	}
	out.Reset()
	began := time.Now()
	reject := func(at time.Duration) {
		e := zapcore.Entry{Level: zapcore.WarnLevel, Time: began.Add(at), Message: "rejected connection on peer endpoint"}
		if c := log.Core().Check(e, nil); c != nil {
			c.Write(zap.Error(errors.New("EOF")))
		}
	}
	for range 1000 {
		reject(0)
	}
	reject(strangersEvery)
	if lines := strings.Count(out.String(), "\n"); lines != 2 || !strings.Contains(out.String(), "more-since-the-last-line:999") {
		t.Errorf("1,001 strangers make %d lines: %s", lines, out.String())
	}
}
