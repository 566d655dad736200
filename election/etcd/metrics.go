package etcd

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	mine    prometheus.Gauge
	changes prometheus.Counter
	lost    prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		mine: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "divert_election_leading",
			Help: "Whether this director leads (1) or not (0).",
		}),
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "divert_election_changes_total",
			Help: "Changes of who leads, as this director saw them.",
		}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "divert_election_sessions_lost_total",
			Help: "Sessions that ended by anything but this director's stop.",
		}),
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.mine), r.Register(m.changes), r.Register(m.lost))
}
