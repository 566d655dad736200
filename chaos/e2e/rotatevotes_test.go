package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// voting are the kinds of gossip that votes and certificates travel by, and the heartbeats
// that keep votes fresh.
var voting = []string{"ballot", "heartbeat", "summary", "certificates"}

// votes counts what becomes of votes. One is lost where a director has sent it to another and
// that one has not verified and taken it, for whatever reason; and all of a director's are, to
// another, for as long as that one does not hear it.
type votes struct {
	h      *hosts
	before counted
	looks  int
	unwell map[string]int // what was wrong at a look: how often
}

// counted is what all directors have counted, at an instant at which nothing was under way.
type counted struct {
	sent, received float64 // messages of voting
	failed         float64 // of them, to be sent
	dropped        map[string]float64
	overtaken      float64 // by a later word of the same director, which says all that they do
	transitions    float64 // that came into force: certificates
}

const overtaken = `divert_messages_dropped_total{reason="overtaken"}`

// lost is the verdict.
type lost struct {
	sent, lost, dropped, failed, overtaken, transitions float64
	looks, unwell                                       int
	problems                                            []string
}

func (l lost) String() string {
	return fmt.Sprintf("%.0f messages sent (%s): lost %.0f, dropped %.0f, not sent %.0f; overtaken by a later one %.0f; %d looks at all three directors, found unheard, isolated or in doubt %d times; %.0f transitions",
		l.sent, strings.Join(voting, ", "), l.lost, l.dropped, l.failed, l.overtaken, l.looks, l.unwell, l.transitions)
}

// countVotes begins to count.
func (h *hosts) countVotes() *votes {
	return &votes{h: h, before: h.quiet(), unwell: map[string]int{}}
}

// quiet counts when nothing is under way: nobody has sent anything while all were counted, so
// that what was sent before and is received by nobody is lost.
func (h *hosts) quiet() (out counted) {
	h.t.Helper()
	h.until(60*time.Second, "an instant at which no vote is under way", func() error {
		first, err := h.counted()
		if err != nil {
			return err
		}
		if out, err = h.counted(); err != nil {
			return err
		}
		if out.sent != first.sent || out.received != first.received {
			return fmt.Errorf("%.0f were sent meanwhile", out.sent-first.sent)
		}
		return nil
	})
	return out
}

func (h *hosts) counted() (out counted, err error) {
	out.dropped = map[string]float64{}
	for _, site := range h.names() {
		m, err := h.metrics(site)
		if err != nil {
			return out, err
		}
		for _, kind := range voting {
			out.sent += m[`divert_gossip_sent_total{kind="`+kind+`"}`]
			out.failed += m[`divert_gossip_send_failures_total{kind="`+kind+`"}`]
			out.received += m[`divert_gossip_received_total{kind="`+kind+`"}`]
		}
		for name, v := range m {
			if name == overtaken {
				out.overtaken += v
			} else if strings.HasPrefix(name, "divert_gossip_dropped_total{") || strings.HasPrefix(name, "divert_messages_dropped_total{") {
				out.dropped[name] += v
			}
			if strings.HasPrefix(name, "divert_certificates_total{") {
				out.transitions += v
			}
		}
	}
	return out, nil
}

// watch looks at all directors until ctx ends: each hears all three (a word within the last
// second, which is how long a vote stays fresh without one), none is isolated, and all of its
// own votes say that all is up.
func (v *votes) watch(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		v.looks++
		for _, site := range v.h.names() {
			m, err := v.h.metrics(site)
			switch {
			case err != nil:
				v.unwell[fmt.Sprintf("%s: %v", site, err)]++
			case m["divert_directors_heard"] != 3:
				v.unwell[fmt.Sprintf("%s heard %v of 3 directors", site, m["divert_directors_heard"])]++
			case m["divert_isolated"] != 0:
				v.unwell[site+" was isolated"]++
			case m[`divert_votes{vote="down"}`] != 0:
				v.unwell[site+" voted that something is down"]++
			}
		}
	}
}

// judge ends the counting. watch has ended.
func (v *votes) judge() lost { return v.weigh(v.h.quiet()) }

func (v *votes) weigh(after counted) lost {
	out := lost{
		sent: after.sent - v.before.sent, failed: after.failed - v.before.failed, looks: v.looks,
		overtaken: after.overtaken - v.before.overtaken, transitions: after.transitions - v.before.transitions,
	}
	out.lost = out.sent - (after.received - v.before.received)
	add := func(format string, args ...any) { out.problems = append(out.problems, fmt.Sprintf(format, args...)) }
	if out.lost != 0 {
		add("%.0f of %.0f messages did not arrive", out.lost, out.sent)
	}
	if out.failed != 0 {
		add("%.0f messages could not be sent", out.failed)
	}
	for name, n := range after.dropped {
		if n -= v.before.dropped[name]; n != 0 {
			out.dropped += n
			add("%s rose by %.0f", name, n)
		}
	}
	if out.transitions != 0 {
		add("%.0f transitions, while nothing happened", out.transitions)
	}
	if v.looks == 0 || out.sent == 0 {
		add("nothing was counted")
	}
	for what, n := range v.unwell {
		out.unwell += n
		add("%s at %d of %d looks", what, n, v.looks)
	}
	slices.Sort(out.problems)
	return out
}

// The verdict finds each way in which votes are lost, and nothing where none is.
func TestVotesVerdict(t *testing.T) {
	before := counted{sent: 100, received: 98, failed: 3, overtaken: 1, dropped: map[string]float64{"undecryptable": 5}, transitions: 6}
	tests := []struct {
		what  string
		after func(c *counted, v *votes)
		want  int // problems
	}{
		{"all is well", func(*counted, *votes) {}, 0},
		{"one was overtaken", func(c *counted, _ *votes) { c.overtaken++ }, 0},
		{"one did not arrive", func(c *counted, _ *votes) { c.received-- }, 1},
		{"one could not be sent", func(c *counted, _ *votes) { c.failed++ }, 1},
		{"one could not be decrypted", func(c *counted, _ *votes) { c.dropped["undecryptable"]++ }, 1},
		{"one was dropped for a reason that is new", func(c *counted, _ *votes) { c.dropped["stale"] = 1 }, 1},
		{"something came down", func(c *counted, _ *votes) { c.transitions++ }, 1},
		{"one was not heard", func(_ *counted, v *votes) { v.unwell["nyc heard 2 of 3 directors"] = 4 }, 1},
		{"nobody looked", func(_ *counted, v *votes) { v.looks = 0 }, 1},
	}
	for _, tc := range tests {
		after := counted{sent: 200, received: 198, failed: 3, overtaken: 1, dropped: map[string]float64{"undecryptable": 5}, transitions: 6}
		v := &votes{before: before, looks: 10, unwell: map[string]int{}}
		tc.after(&after, v)
		if got := v.weigh(after); len(got.problems) != tc.want {
			t.Errorf("%s: %q, want %d problems", tc.what, got.problems, tc.want)
		}
	}
}
