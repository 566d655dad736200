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

// The values of the label "reason".
const (
	deniedUnknown   = "unknown"   // no good credential
	deniedForbidden = "forbidden" // not granted
	deniedLimited   = "limited"   // too often
	// Nobody could say whose it is.
	deniedUnavailable = "unavailable"
)

type metrics struct {
	requests    *prometheus.CounterVec
	connections *prometheus.GaugeVec
	streams     prometheus.Gauge
	denied      *prometheus.CounterVec
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
		denied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_api_denied_total",
			Help: "Requests to the API that were denied for who asks: no good credential (unknown), not granted (forbidden), too often (limited), nobody there to say whose the credential is (unavailable).",
		}, []string{"reason"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.connections, m.streams, m.denied} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("registering the API's metrics: %w", err)
		}
	}
	return m, nil
}
