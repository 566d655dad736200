package director

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/gossip"
)

// faulty is an outbox that may send nothing.
type faulty struct {
	outbox
	err error
}

func (f *faulty) Broadcast(kind uint8, payload []byte) (gossip.Message, error) {
	if f.err != nil {
		return gossip.Message{}, f.err
	}
	return f.outbox.Broadcast(kind, payload)
}

// A director whose heartbeats do not leave looks well to itself and dead to all
// others: it warns once and alerts until they leave again. One that fails alone is
// nothing, and who may not speak at all has an alert of its own.
func TestHeartbeatsNotSent(t *testing.T) {
	_, n := standing(t)
	out := &faulty{outbox: n.loop.outbox}
	n.loop.outbox = out
	var text bytes.Buffer
	n.loop.log = slog.New(slog.NewTextHandler(&text, nil))
	beat := func(err error, times int) {
		out.err = err
		for range times {
			n.heartbeat(time.Now())
		}
	}
	alerted := func() bool {
		var s api.Status
		n.describe(&s, time.Now())
		return slices.ContainsFunc(s.Alerts, func(a string) bool { return strings.Contains(a, "heartbeats cannot be sent") })
	}
	big := errors.New("too large")
	for _, tc := range []struct {
		what    string
		err     error
		times   int
		alerted bool
		logged  string
	}{
		{"a few", big, unsaidLimit - 1, false, ""},
		{"one that is sent", nil, 1, false, ""},
		{"as few again", big, unsaidLimit - 1, false, ""},
		{"one more", big, 1, true, "WARN"},
		{"many more", big, 20, true, ""},
		{"one that is sent", nil, 1, false, "INFO"},
		{"mute", errMute, 20, false, ""},
	} {
		text.Reset()
		beat(tc.err, tc.times)
		if got := alerted(); got != tc.alerted {
			t.Errorf("%s: alerted %v, want %v", tc.what, got, tc.alerted)
		}
		if got := text.String(); (tc.logged == "") != (got == "") || !strings.Contains(got, tc.logged) || strings.Count(got, "\n") > 1 {
			t.Errorf("%s: logged %q, want one line of level %q", tc.what, got, tc.logged)
		}
	}
}
