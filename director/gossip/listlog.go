package gossip

import (
	"bytes"
	"context"
	"log" //nolint:depguard // memberlist takes no other logger
	"log/slog"
)

// listLog takes memberlist's log. All of it goes to debug: what matters of it
// shows as members that come and go, and in metrics.
type listLog struct {
	log     *slog.Logger
	metrics *metrics
}

func newListLogger(l *slog.Logger, m *metrics) *log.Logger {
	return log.New(&listLog{log: l, metrics: m}, "", 0)
}

// Write implements io.Writer. memberlist tells nobody else what it could not
// decrypt, so this counts it (F13).
func (w *listLog) Write(line []byte) (int, error) {
	for _, sign := range []string{"Decrypt packet failed", "installed keys could decrypt", "remote state is not encrypted", "encryption is not configured"} {
		if bytes.Contains(line, []byte(sign)) {
			w.metrics.drop(undecryptable)
			break
		}
	}
	if w.log.Enabled(context.Background(), slog.LevelDebug) {
		w.log.Debug("memberlist", slog.String("line", string(bytes.TrimSpace(line))))
	}
	return len(line), nil
}
