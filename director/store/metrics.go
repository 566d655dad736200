package store

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	watches prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_store_calls_total",
			Help: "Calls to the store by operation and outcome.",
		}, []string{"operation", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "divert_store_call_seconds",
			Help:    "Time that calls to the store took.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10},
		}, []string{"operation"}),
		watches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "divert_store_watches_broken_total",
			Help: "Watches on the plan that ended and were made anew.",
		}),
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.calls), r.Register(m.seconds), r.Register(m.watches))
}

// start times one call; what it gives is called once, with the outcome, and
// hands the error through.
func (m *metrics) start(operation string) func(error) error {
	began := time.Now()
	return func(err error) error {
		m.seconds.WithLabelValues(operation).Observe(time.Since(began).Seconds())
		m.calls.WithLabelValues(operation, outcome(err)).Inc()
		return err
	}
}

func outcome(err error) string {
	var unknown *UnknownOutcome
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrDone):
		return "done before"
	case errors.Is(err, ErrConflict):
		return "conflict"
	case errors.Is(err, ErrNotLeader):
		return "not leader"
	case errors.As(err, &unknown):
		return "unknown"
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	default:
		return "error"
	}
}
