package tap

import "github.com/prometheus/client_golang/prometheus"

// collector exports what became of the packets taken.
type collector struct {
	outlets []*outlet
	taken   *prometheus.Desc
}

// Collector gives the metrics; those of a nil Tap are none.
func (t *Tap) Collector() prometheus.Collector {
	c := &collector{taken: prometheus.NewDesc("divert_dns_tapped_total",
		"Queries of the sample that is shown, by where to and whether they got there.", []string{"outlet", "result"}, nil)}
	if t != nil {
		c.outlets = t.outlets
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) { out <- c.taken }

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, o := range c.outlets {
		out <- prometheus.MustNewConstMetric(c.taken, prometheus.CounterValue, float64(o.written.Load()), o.name, "written")
		out <- prometheus.MustNewConstMetric(c.taken, prometheus.CounterValue, float64(o.dropped.Load()), o.name, "dropped")
	}
}
