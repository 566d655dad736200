package probe

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are labelled by kind and outcome only: a label per target would grow
// with the spec. Whose probe failed is in the reports.
type metrics struct {
	probes   [kinds][3]prometheus.Counter // by kind; failed, ok, void
	latency  [kinds]prometheus.Observer
	targets  [kinds]prometheus.Gauge
	inFlight prometheus.Gauge
	refused  prometheus.Gauge
	bursts   prometheus.Counter
	stalls   prometheus.Counter
	interval prometheus.Gauge
	stretch  prometheus.Gauge
}

const (
	labelFailed = iota
	labelOK
	labelVoid
)

func newMetrics(r prometheus.Registerer) *metrics {
	probes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "divert_probe_probes_total",
		Help: "Probes ended, by kind and outcome; void ones say nothing of the target.",
	}, []string{"kind", "outcome"})
	latency := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "divert_probe_latency_seconds",
		Help:    "Time to the answer of probes that passed: the handshake's round trip (fast, tcp), or the whole exchange.",
		Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5},
	}, []string{"kind"})
	targets := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "divert_probe_targets",
		Help: "Targets wanted, by kind.",
	}, []string{"kind"})
	m := &metrics{
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "divert_probe_in_flight",
			Help: "Probes sent and not yet ended.",
		}),
		refused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "divert_probe_targets_refused",
			Help: "Targets that are never sent, because the address may not be probed or the request cannot be written.",
		}),
		bursts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "divert_probe_bursts_total",
			Help: "Bursts begun after a first failure or a peer's vote.",
		}),
		stalls: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "divert_probe_stalls_total",
			Help: "Times the scheduler did not run for more than 100 ms, so that the probes in flight were void.",
		}),
		interval: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "divert_probe_fast_interval_seconds",
			Help: "Longest interval now in force between the fast signals of one address, 0 without any.",
		}),
		stretch: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "divert_probe_fast_stretch_ratio",
			Help: "Factor by which fast intervals are stretched to keep within 500 signals a second.",
		}),
	}
	for k := kindFast; k < kinds; k++ {
		m.probes[k] = [3]prometheus.Counter{
			labelFailed: probes.WithLabelValues(k.String(), "failed"),
			labelOK:     probes.WithLabelValues(k.String(), "ok"),
			labelVoid:   probes.WithLabelValues(k.String(), "void"),
		}
		m.latency[k] = latency.WithLabelValues(k.String())
		m.targets[k] = targets.WithLabelValues(k.String())
	}
	if r != nil {
		r.MustRegister(probes, latency, targets, m.inFlight, m.refused, m.bursts, m.stalls, m.interval, m.stretch)
	}
	return m
}

func (m *metrics) ended(k kind, o outcome) {
	switch {
	case o.void:
		m.probes[k][labelVoid].Inc()
	case o.ok:
		m.probes[k][labelOK].Inc()
		m.latency[k].Observe(o.latency.Seconds())
	default:
		m.probes[k][labelFailed].Inc()
	}
}
