package api

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// The values of the label "via".
const (
	viaTCP    = "tcp"
	viaTLS    = "tls"
	viaSocket = "socket"
)

type metrics struct {
	requests    *prometheus.CounterVec
	connections *prometheus.GaugeVec
	streams     prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_api_requests_total",
			Help: "Requests to the API, by listener, path and status code.",
		}, []string{"via", "path", "code"}),
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "divert_api_connections",
			Help: "Connections to the API that are open, by listener.",
		}, []string{"via"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "divert_api_event_streams",
			Help: "Clients that follow the API's events.",
		}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.connections, m.streams} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("registering the API's metrics: %w", err)
		}
	}
	return m, nil
}
