package resolve

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/divertdns/divert/dnsserver/ask"
)

// metrics have no label by name: it would grow with the spec. Whose answer is old is
// in `status`.
type metrics struct {
	queries [outcomes]prometheus.Counter
	changes prometheus.Counter
}

// The outcomes of a query.
const (
	outcomeAddresses = iota
	outcomeNone
	outcomeNoName
	outcomeTimeout
	outcomeFailed
	outcomes
)

func newMetrics(registerer prometheus.Registerer, r *Resolver) *metrics {
	queries := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "divert_resolve_queries_total",
		Help: "Queries for addresses of hostnames that ended, by outcome.",
	}, []string{"outcome"})
	names := func(name, help string, count func(*entry, time.Time) bool) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			return r.count(count)
		})
	}
	m := &metrics{changes: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "divert_resolve_changes_total",
		Help: "Times the addresses of a hostname, or how long they hold, changed.",
	})}
	for i, outcome := range []string{"addresses", "none", "no_name", "timeout", "failed"} {
		m.queries[i] = queries.WithLabelValues(outcome)
	}
	if registerer == nil {
		return m
	}
	registerer.MustRegister(
		queries, m.changes,
		names("divert_resolve_hostnames", "Hostnames of endpoints that are resolved.", func(*entry, time.Time) bool { return true }),
		names("divert_resolve_hostnames_unknown", "Hostnames of which no address is known.", func(e *entry, _ time.Time) bool { return e.records.Load() == nil }),
		names("divert_resolve_hostnames_failing", "Hostnames that the last try did not resolve.", func(e *entry, _ time.Time) bool { return !e.failing.IsZero() }),
		names("divert_resolve_hostnames_stale", "Hostnames that were last resolved more than an hour ago; alert on it.", func(e *entry, now time.Time) bool { return e.age(now) >= Stale }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "divert_resolve_oldest_seconds",
			Help: "Time since the hostname that was resolved least recently was, 0 without any.",
		}, func() float64 { return r.oldest().Seconds() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "divert_resolve_hostnames_refused",
			Help: "Hostnames beyond the limit, which are not resolved.",
		}, func() float64 {
			r.mu.Lock()
			defer r.mu.Unlock()
			return float64(r.refused)
		}),
	)
	return m
}

func (m *metrics) asked(got ask.Addresses, err error) {
	i := outcomeFailed
	switch {
	case err == nil && len(got.Addrs) > 0:
		i = outcomeAddresses
	case err == nil:
		i = outcomeNone
	case errors.Is(err, ask.ErrNoName):
		i = outcomeNoName
	case errors.Is(err, context.DeadlineExceeded):
		i = outcomeTimeout
	}
	m.queries[i].Inc()
}

func (r *Resolver) count(counts func(*entry, time.Time) bool) float64 {
	now, n := time.Now(), 0
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.entries {
		if e.wanted && counts(e, now) {
			n++
		}
	}
	return float64(n)
}

func (r *Resolver) oldest() (age time.Duration) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.entries {
		if e.wanted {
			age = max(age, e.age(now))
		}
	}
	return age
}
