package gossip

import (
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
)

// reason says why something was dropped, as a label.
type reason string

// The reasons. Every one is a constant, so the label is bounded.
const (
	malformed         reason = "malformed"
	oversized         reason = "oversized"
	unsigned          reason = "unsigned"
	foreignFleet      reason = "foreign_fleet"
	unknownDirector   reason = "unknown_director"
	changedKey        reason = "changed_key"
	stale             reason = "stale"
	replayed          reason = "replayed"
	duplicateInstance reason = "duplicate_instance"
	overflow          reason = "overflow"
	foreignLabel      reason = "foreign_label" // a packet of another protocol or version
	undecryptable     reason = "undecryptable" // refused by memberlist: wrong gossip key, or corrupt
	connectionLimit   reason = "connection_limit"
	badMeta           reason = "bad_meta"
	memberLimit       reason = "member_limit"
)

func reasons() []reason {
	return []reason{
		malformed, oversized, unsigned, foreignFleet, unknownDirector, changedKey, stale, replayed,
		duplicateInstance, overflow, foreignLabel, undecryptable, connectionLimit, badMeta, memberLimit,
	}
}

// otherKind is the label of a kind that Options.Kinds does not name.
const otherKind = "other"

type metrics struct {
	kinds    map[uint8]string
	sent     *prometheus.CounterVec
	failed   *prometheus.CounterVec
	octets   *prometheus.CounterVec
	udpOut   prometheus.Counter // of octets
	udpIn    prometheus.Counter
	tcpOut   prometheus.Counter
	tcpIn    prometheus.Counter
	received *prometheus.CounterVec
	dropped  *prometheus.CounterVec
	redials  *prometheus.CounterVec
	members  prometheus.Gauge
	alarms   prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, kinds map[uint8]string) (*metrics, error) {
	m := &metrics{
		kinds: kinds,
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_gossip_sent_total", Help: "Messages sent to peers, one for each peer, by kind.",
		}, []string{"kind"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_gossip_send_failures_total", Help: "Messages that could not be sent to a peer, by kind.",
		}, []string{"kind"}),
		octets: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_gossip_bytes_total", Help: "Octets of all gossip, membership included, by transport and direction; of UDP with the headers of IP and UDP.",
		}, []string{"transport", "direction"}),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_gossip_received_total", Help: "Verified messages delivered, by kind.",
		}, []string{"kind"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_gossip_dropped_total", Help: "Input dropped, by reason.",
		}, []string{"reason"}),
		redials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_gossip_redials_total", Help: "Attempts to reach a join address or an absent director, by result.",
		}, []string{"result"}),
		members: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "divert_gossip_members", Help: "Directors that gossip with this one, itself included.",
		}),
		alarms: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "divert_gossip_alarms", Help: "Directors whose identity is in doubt.",
		}),
	}
	m.udpOut, m.udpIn = m.octets.WithLabelValues("udp", "out"), m.octets.WithLabelValues("udp", "in")
	m.tcpOut, m.tcpIn = m.octets.WithLabelValues("tcp", "out"), m.octets.WithLabelValues("tcp", "in")
	for _, r := range reasons() {
		m.dropped.WithLabelValues(string(r))
	}
	for _, r := range []string{"answered", "silent"} {
		m.redials.WithLabelValues(r)
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.sent, m.failed, m.octets, m.received, m.dropped, m.redials, m.members, m.alarms} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) kind(k uint8) string {
	if name, ok := m.kinds[k]; ok {
		return name
	}
	return otherKind
}

func (m *metrics) drop(r reason) { m.dropped.WithLabelValues(string(r)).Inc() }

// datagram is what one of n octets takes on the wire.
func datagram(n int, peer netip.Addr) float64 {
	if peer.Unmap().Is4() {
		return float64(n + 20 + 8)
	}
	return float64(n + 40 + 8)
}
