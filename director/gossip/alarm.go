package gossip

import (
	"bytes"
	"crypto/ed25519"
	"log/slog"
	"maps"
	"sync"
	"time"
)

// alarmFor is how long an alarm stands after what it was raised for was last
// seen.
const (
	alarmFor  = time.Minute
	maxAlarms = 64
)

// alarms holds what is in doubt about directors' identities. Doubts
// are raised by memberlist's goroutines and the receiver; settle is called by
// the receiver alone, each second.
type alarms struct {
	log     *slog.Logger
	metrics *metrics

	mu     sync.Mutex
	raised map[string]doubt // by director
	shown  map[string]string
}

// doubt is an alarm that stands until it has not been raised again for a while.
type doubt struct {
	text  string
	key   []byte // of a changed key: what was shown instead of the roster's
	until time.Time
}

const (
	textChangedKey = "somebody uses this name with another key than the roster's, and is ignored. If its disk was replaced: `divert director remove` and `approve` it"
	textDoubledUs  = "another process speaks with this director's own identity: peers ignore both. Stop one of them, and give a cloned machine its own dataDir"
)

func newAlarms(log *slog.Logger, m *metrics) *alarms {
	return &alarms{log: log, metrics: m, raised: map[string]doubt{}, shown: map[string]string{}}
}

// raise records a doubt about a director.
func (a *alarms) raise(name string, d doubt, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.raised[name]; known || len(a.raised) < maxAlarms {
		d.until = now.Add(alarmFor)
		a.raised[name] = d
	}
}

// over tells whether a doubt has ended: it was not raised again, or a person has
// since removed the name or approved the key.
func (d doubt) over(pin []byte, now time.Time) bool {
	return now.After(d.until) || len(d.key) > 0 && (len(pin) == 0 || bytes.Equal(pin, d.key))
}

// settle takes the receiver's findings and logs what changed.
func (a *alarms) settle(found map[string]string, pin func(name string) ed25519.PublicKey, now time.Time) {
	next := maps.Clone(found)
	a.mu.Lock()
	for name, d := range a.raised {
		if d.over(pin(name), now) {
			delete(a.raised, name)
		} else if next[name] == "" {
			next[name] = d.text
		}
	}
	before := a.shown
	a.shown = next
	a.mu.Unlock()
	a.metrics.alarms.Set(float64(len(next)))
	for name, text := range next {
		if before[name] != text {
			a.log.Warn("director's identity in doubt", slog.String("director", name), slog.String("why", text))
		}
	}
	for name := range before {
		if next[name] == "" {
			a.log.Info("director's identity no longer in doubt", slog.String("director", name))
		}
	}
}

func (a *alarms) list() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.shown)
}
