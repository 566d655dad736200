package gossip

import (
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

// alarms holds what is in doubt about directors' identities. Doubts of a key
// are raised by memberlist's goroutines and the receiver; settle is called by
// the receiver alone, each second.
type alarms struct {
	log     *slog.Logger
	metrics *metrics

	mu    sync.Mutex
	keys  map[string]time.Time // names seen with another key than the roster's, until when
	shown map[string]string
}

func newAlarms(log *slog.Logger, m *metrics) *alarms {
	return &alarms{log: log, metrics: m, keys: map[string]time.Time{}, shown: map[string]string{}}
}

// changedKey records that somebody used a registered name with another key.
func (a *alarms) changedKey(name string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.keys[name]; known || len(a.keys) < maxAlarms {
		a.keys[name] = now.Add(alarmFor)
	}
}

// settle takes the receiver's findings and logs what changed.
func (a *alarms) settle(found map[string]string, now time.Time) {
	next := maps.Clone(found)
	a.mu.Lock()
	for name, until := range a.keys {
		if now.After(until) {
			delete(a.keys, name)
		} else if next[name] == "" {
			next[name] = "somebody uses this name with another key than the roster's, and is ignored. If its disk was replaced: `divert director remove` and `approve` it"
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
