package api

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"time"
)

// events streams the status: at once, and after each change. It is
// level-triggered: whatever changed while an event was on its way is in the
// next, so that a slow reader costs nothing but its own freshness.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	slots := s.streams[listenerOf(r.Context())]
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	default:
		w.Header().Set("Retry-After", "5")
		fail(w, http.StatusServiceUnavailable, "too many clients follow the events already", "ask for /v1/status instead")
		return
	}
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()

	w.Header().Set("Content-Type", "text/event-stream")
	out := newStream(w)
	for {
		changed := s.director.Changed() // before Status, so that no change falls between
		data, err := json.Marshal(s.director.Status())
		if err != nil {
			s.log.Error("the status cannot be written as JSON", slog.Any("err", err))
			return
		}
		event := append([]byte("event: status\ndata: "), data...)
		if out.write(append(event, "\n\n"...)) != nil || !s.quiet(r, out, changed) {
			return
		}
	}
}

// quiet waits for the next change, with comments as keep-alive. It is false
// when the client or the server is gone, or whoever asked may ask no more: a token may
// be revoked, or a certificate expire, while he looks.
func (s *Server) quiet(r *http.Request, out *stream, changed <-chan struct{}) bool {
	ctx := r.Context()
	tick := time.NewTicker(s.keepAlive)
	defer tick.Stop()
	gap := time.NewTimer(s.gap)
	defer gap.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
			if !s.still(r) || out.write([]byte(": keep-alive\n\n")) != nil {
				return false
			}
			continue
		case <-changed:
		}
		select {
		case <-ctx.Done():
			return false
		case <-gap.C:
			return s.still(r)
		}
	}
}

// stream writes pieces of a long answer, each at once and with a deadline of
// its own.
type stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// newStream lifts the deadline that the request had: net/http would end the
// request's context at it.
func newStream(w http.ResponseWriter) *stream {
	s := &stream{w: w, rc: http.NewResponseController(w)}
	_ = s.rc.SetReadDeadline(time.Time{}) // a connection that is gone shows at the first write
	return s
}

func (s *stream) write(p []byte) error {
	if err := s.rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := s.w.Write(p); err != nil {
		return err
	}
	return s.rc.Flush()
}

// logged gives promhttp its logger.
type logged struct{ log *slog.Logger }

// Println logs what promhttp could not write.
func (l logged) Println(v ...any) { l.log.Warn("gathering metrics", slog.Any("err", v)) }
