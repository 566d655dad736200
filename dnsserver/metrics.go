package dnsserver

import (
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/divertdns/divert/dnsserver/answer"
)

// metrics counts without looking a label up: a tally names the place of its
// counter in the table's list. What streams count is here, and the same label set
// has the same counter in every table, so that nothing is lost or counted twice
// over a swap. UDP workers count in shards of their own.
type metrics struct {
	replies [answer.Transports][maxRcode + 1]atomic.Uint64 // by transport and rcode
	rejects [answer.Transports][maxReject]atomic.Uint64    // by transport and class

	panics       atomic.Uint64
	poisoned     atomic.Uint64
	writeErrors  atomic.Uint64
	acceptErrors atomic.Uint64
	proxyErrors  atomic.Uint64

	handshakes [2]atomic.Uint64
	tsig       [tsigKinds]atomic.Uint64

	current atomic.Pointer[counters]

	mu     sync.Mutex // swaps of current and of shards, and scrapes
	labels map[answer.Label]*byFamily
	shards []*shard
}

const (
	maxRcode  = 23 // what is above counts as that; nothing is
	maxReject = answer.Rejects
	// spareLabels is how many label sets of the past are kept.
	spareLabels = 50_000
)

// counters is the list of one table.
type counters struct {
	table *answer.Table
	label []*byFamily
}

// byFamily counts the replies of one label set.
type byFamily [answer.Families]atomic.Uint64

func (b *byFamily) sum() uint64 { return b[answer.IPv4].Load() + b[answer.IPv6].Load() }

func (b *byFamily) add(other *byFamily) {
	for f := range b {
		b[f].Add(other[f].Load())
	}
}

func newMetrics() *metrics {
	return &metrics{labels: make(map[answer.Label]*byFamily)}
}

// of finds the counters of a table; they are made when its first packet comes.
func (m *metrics) of(table *answer.Table) *counters {
	if c := m.current.Load(); c != nil && c.table == table {
		return c
	}
	return m.swap(table)
}

func (m *metrics) swap(table *answer.Table) *counters {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.current.Load(); c != nil && c.table == table {
		return c
	}
	labels := table.Labels()
	if len(m.labels) > len(labels)+spareLabels {
		m.labels = make(map[answer.Label]*byFamily, len(labels))
		if old := m.current.Load(); old != nil {
			for i, label := range old.table.Labels() {
				m.labels[label] = old.label[i]
			}
		}
	}
	c := &counters{table: table, label: make([]*byFamily, len(labels))}
	known := 0
	if old := m.current.Load(); old != nil {
		// A table that took over the numbering of the one before: packets wait here.
		if follows(labels, old.table.Labels()) {
			known = copy(c.label, old.label)
		}
	}
	for i, label := range labels[known:] {
		c.label[known+i] = m.counter(label)
	}
	m.current.Store(c)
	return c
}

// counter finds or makes a label set's counter; it is called with mu held.
func (m *metrics) counter(label answer.Label) *byFamily {
	counter := m.labels[label]
	if counter == nil {
		counter = new(byFamily)
		m.labels[label] = counter
	}
	return counter
}

func (m *metrics) count(c *counters, transport answer.Transport, tally answer.Tally) {
	if tally.Reject != answer.RejectNone {
		m.rejects[int(transport)%answer.Transports][int(tally.Reject)%maxReject].Add(1)
	}
	if tally.Reject == answer.RejectShort || tally.Reject == answer.RejectResponse {
		return // dropped
	}
	m.replies[int(transport)%answer.Transports][min(tally.Rcode, maxRcode)].Add(1)
	if int(tally.Label) < len(c.label) {
		c.label[tally.Label][tally.Family&1].Add(1)
	}
}

// collector exports metrics at a scrape.
type collector struct {
	*metrics
	server *Server

	answers, answered, rejected, dropped, limited, faults *prometheus.Desc
	connections, accepted, closed                         *prometheus.Desc
	handshakes, reloads, expiry                           *prometheus.Desc
	transfers, transferring, notified, signatures         *prometheus.Desc
}

func (m *metrics) collector(s *Server) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("divert_dns_"+name, help, labels, nil)
	}
	return &collector{
		metrics: m, server: s,
		answers: desc("answers_total", "Replies, by the zone, service and cluster that were answered and the continent of the client.",
			"zone", "service", "cluster", "continent"),
		answered:    desc("replies_total", "Replies, by transport and response code.", "transport", "rcode"),
		rejected:    desc("rejects_total", "Packets that got no proper answer, by transport and reason.", "transport", "reason"),
		dropped:     desc("barred_total", "Packets dropped for their source, which can be no client."),
		limited:     desc("limited_total", "UDP replies above the rate limit of a network, by what became of them.", "action"),
		faults:      desc("faults_total", "Packets or connections lost here, by what went wrong.", "fault"),
		connections: desc("tcp_connections", "TCP connections open, those by TLS included."),
		accepted:    desc("tcp_accepted_total", "TCP connections accepted."),
		closed:      desc("tcp_closed_total", "TCP connections closed for a limit, by which.", "limit"),

		handshakes:   desc("tls_handshakes_total", "TLS handshakes, by how they ended.", "result"),
		reloads:      desc("tls_reloads_total", "New certificates found, by whether they were taken.", "result"),
		expiry:       desc("tls_certificate_expiry_timestamp_seconds", "When the certificate in force ends, in Unix time."),
		transfers:    desc("transfers_total", "Requests for a zone, by what became of them.", "outcome"),
		transferring: desc("transfers_under_way", "Zones being handed out."),
		notified:     desc("notifies_total", "Secondaries told of a new serial of a zone, by what became of it.", "outcome"),
		signatures:   desc("tsig_total", "Signed packets, by what their signature was.", "outcome"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.answers, c.answered, c.rejected, c.dropped, c.limited, c.faults, c.connections, c.accepted, c.closed,
		c.handshakes, c.reloads, c.expiry, c.transfers, c.transferring, c.notified, c.signatures,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector. Counters that never moved are left out
// where there are many.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	values, sum := c.sums()
	for label, n := range values {
		count(c.answers, n, label.Zone, label.Service, label.Cluster, label.Continent)
	}
	for _, transport := range []answer.Transport{answer.UDP, answer.TCP, answer.TLS} {
		for rcode, n := range sum.replies[transport] {
			if n > 0 {
				count(c.answered, n, transport.String(), rcodeName(rcode))
			}
		}
		for reject, n := range sum.rejects[transport] {
			if n > 0 {
				count(c.rejected, n, transport.String(), answer.Reject(reject).String())
			}
		}
	}
	count(c.dropped, sum.barred)
	count(c.limited, sum.limitedTruncated, "truncated")
	count(c.limited, sum.limitedDropped, "dropped")
	count(c.faults, c.panics.Load(), "panic")
	count(c.faults, c.poisoned.Load(), "quarantined")
	count(c.faults, sum.readErrors, "read")
	count(c.faults, sum.writeErrors+c.writeErrors.Load(), "write")
	count(c.faults, c.acceptErrors.Load(), "accept")
	count(c.faults, c.proxyErrors.Load(), "proxy")
	if n, err := c.server.overflows(); err == nil {
		count(c.faults, n, "queue_full")
	}
	streams := c.server.streams
	streams.mu.Lock()
	open, accepted, evicted, refused := len(streams.all), streams.accepted, streams.evicted, streams.refused
	streams.mu.Unlock()
	out <- prometheus.MustNewConstMetric(c.connections, prometheus.GaugeValue, float64(open))
	count(c.accepted, accepted)
	count(c.closed, evicted, "total")
	count(c.closed, refused, "client")
	c.collectSecondaries(out, count)
	if cert := c.server.certificate; cert != nil {
		renewed, refused := cert.Looks()
		for i, result := range []string{"ok", "failed"} {
			count(c.handshakes, c.metrics.handshakes[i].Load(), result)
			count(c.reloads, [...]uint64{renewed, refused}[i], result)
		}
		if pair := cert.Current(); pair != nil {
			out <- prometheus.MustNewConstMetric(c.expiry, prometheus.GaugeValue, float64(pair.Leaf.NotAfter.Unix()))
		}
	}
}

// collectSecondaries exports what concerns whole zones.
func (c *collector) collectSecondaries(out chan<- prometheus.Metric, count func(*prometheus.Desc, uint64, ...string)) {
	s := c.server
	for i := range s.transfers.counts {
		count(c.transfers, s.transfers.counts[i].Load(), transferOutcome(i))
	}
	out <- prometheus.MustNewConstMetric(c.transferring, prometheus.GaugeValue, float64(s.transfers.underWay()))
	for i := range s.notifier.counts {
		count(c.notified, s.notifier.counts[i].Load(), notifyOutcome(i))
	}
	for i := range c.tsig {
		count(c.signatures, c.tsig[i].Load(), [...]string{"good", "key", "signature", "time", "truncated", "replay", "format"}[i])
	}
}

// rcodeName differs from the library's where that names the TSIG error of the
// same number.
func rcodeName(rcode int) string {
	if rcode == dns.RcodeBadVers {
		return "BADVERS"
	}
	return dns.RcodeToString[rcode]
}
