package probe

import (
	"time"

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
	late     prometheus.Counter
	gray     prometheus.Gauge
	answers  prometheus.Counter
	interval prometheus.Gauge
	stretch  prometheus.Gauge
	deep     prometheus.Gauge
	host     prometheus.Gauge
}

const (
	labelFailed = iota
	labelOK
	labelVoid
)

func newMetrics(r prometheus.Registerer, e *expiries) *metrics {
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
			Help: "Times that doubt began about an address and port: something was late, failed, or doubted by a peer.",
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
			Help: "Factor by which fast intervals are stretched, where there is no doubt, to keep within 500 signals a second.",
		}),
		late: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "divert_probe_late_total",
			Help: "Probes without an answer when there usually is one, the first since the last answer.",
		}),
		gray: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "divert_probe_gray_failures",
			Help: "Addresses and ports where the warm connection and new ones disagree.",
		}),
		answers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "divert_probe_late_answers_total",
			Help: "Answers to fast signals that had been counted as missed.",
		}),
		deep: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "divert_probe_deep_stretch_ratio",
			Help: "Factor by which the intervals of deep probes are stretched, where there is no doubt, to keep within 5,000 a second.",
		}),
		host: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "divert_probe_host_stretch_ratio",
			Help: "Longest factor by which the intervals of deep probes to one address are stretched to keep within 200 a second.",
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
	expiring := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "divert_probe_certificates_expiring",
		Help: "Probed targets whose certificate has less time left than their probe's warning; many may show the same one.",
	}, func() float64 { return float64(len(e.warned(time.Now()))) })
	earliest := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "divert_probe_certificate_expiry_timestamp_seconds",
		Help: "Unix time at which the first of the probed targets' certificates expires, 0 without any.",
	}, e.earliest)
	if r != nil {
		r.MustRegister(probes, latency, targets, m.inFlight, m.refused, m.bursts, m.stalls, m.late, m.gray, m.answers, m.interval, m.stretch, m.deep, m.host, expiring, earliest)
	}
	return m
}

// limits shows by how much intervals are stretched, and the longest there is.
func (m *metrics) limits(s *schedule) {
	m.deep.Set(s.limits.deep.calm)
	host := 1.0
	for _, h := range s.hosts {
		host = max(host, h.stretch())
	}
	m.host.Set(host)
	m.interval.Set(s.limits.fast.calm * s.longest.Seconds())
}

// ended counts a probe when its outcome is known, and not again if it was missed then
// and is answered now.
func (m *metrics) ended(k kind, o outcome, missed bool) {
	switch {
	case missed:
		m.answers.Inc()
	case o.void:
		m.probes[k][labelVoid].Inc()
	case o.ok:
		m.probes[k][labelOK].Inc()
		m.latency[k].Observe(o.latency.Seconds())
	default:
		m.probes[k][labelFailed].Inc()
	}
}
