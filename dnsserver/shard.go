package dnsserver

import (
	"sync/atomic"

	"github.com/divertdns/divert/dnsserver/answer"
)

// shard is what one UDP worker counts. It alone writes, so no two cores share a
// line of cache for it; a scrape reads and adds up.
type shard struct {
	metrics *metrics

	replies [maxRcode + 1]atomic.Uint64
	rejects [maxReject]atomic.Uint64

	barred           atomic.Uint64
	limitedTruncated atomic.Uint64
	limitedDropped   atomic.Uint64
	readErrors       atomic.Uint64
	writeErrors      atomic.Uint64

	current atomic.Pointer[shardCounts] // swapped with metrics.mu held
}

// shardCounts is the list of one table.
type shardCounts struct {
	table  *answer.Table
	labels []answer.Label
	n      []byFamily
}

// shard makes one more.
func (m *metrics) shard() *shard {
	s := &shard{metrics: m}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shards = append(m.shards, s)
	return s
}

// of finds the counters of a table; they are made when its first packet comes.
func (s *shard) of(table *answer.Table) *shardCounts {
	if c := s.current.Load(); c != nil && c.table == table {
		return c
	}
	return s.swap(table)
}

func (s *shard) swap(table *answer.Table) *shardCounts {
	m := s.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	labels := table.Labels()
	c := &shardCounts{table: table, labels: labels}
	old := s.current.Load()
	switch {
	case old == nil || !follows(labels, old.labels):
		if old != nil {
			m.fold(old)
		}
		c.n = make([]byFamily, len(labels))
	case len(labels) == len(old.labels):
		c.n = old.n
	default:
		c.n = make([]byFamily, len(labels))
		for i := range old.n {
			c.n[i].add(&old.n[i])
		}
	}
	s.current.Store(c)
	return c
}

// follows tells whether labels goes on where before ends.
func follows(labels, before []answer.Label) bool {
	return len(before) > 0 && len(before) <= len(labels) && &before[0] == &labels[0]
}

// fold adds what a worker has counted to what all have; it is called with mu held.
func (m *metrics) fold(c *shardCounts) {
	for i := range c.n {
		if c.n[i].sum() > 0 {
			m.counter(c.labels[i]).add(&c.n[i])
		}
	}
}

func (s *shard) count(c *shardCounts, tally answer.Tally) {
	if tally.Reject != answer.RejectNone {
		s.rejects[int(tally.Reject)%maxReject].Add(1)
	}
	if tally.Reject == answer.RejectShort || tally.Reject == answer.RejectResponse {
		return // dropped
	}
	s.replies[min(tally.Rcode, maxRcode)].Add(1)
	if int(tally.Label) < len(c.n) {
		c.n[tally.Label][tally.Family&1].Add(1)
	}
}

// sums is all that was counted, at one instant for each shard.
type sums struct {
	replies [answer.Transports][maxRcode + 1]uint64
	rejects [answer.Transports][maxReject]uint64

	barred, limitedTruncated, limitedDropped, readErrors, writeErrors uint64
}

func (m *metrics) sums() (values map[answer.Label]uint64, sum sums) {
	m.mu.Lock()
	defer m.mu.Unlock()
	values = make(map[answer.Label]uint64, len(m.labels))
	for label, counter := range m.labels {
		if n := counter.sum(); n > 0 {
			values[label] = n
		}
	}
	for t := range m.replies {
		for i := range m.replies[t] {
			sum.replies[t][i] = m.replies[t][i].Load()
		}
		for i := range m.rejects[t] {
			sum.rejects[t][i] = m.rejects[t][i].Load()
		}
	}
	for _, s := range m.shards {
		for i := range s.replies {
			sum.replies[answer.UDP][i] += s.replies[i].Load()
		}
		for i := range s.rejects {
			sum.rejects[answer.UDP][i] += s.rejects[i].Load()
		}
		sum.barred += s.barred.Load()
		sum.limitedTruncated += s.limitedTruncated.Load()
		sum.limitedDropped += s.limitedDropped.Load()
		sum.readErrors += s.readErrors.Load()
		sum.writeErrors += s.writeErrors.Load()
		if c := s.current.Load(); c != nil {
			for i := range c.n {
				if n := c.n[i].sum(); n > 0 {
					values[c.labels[i]] += n
				}
			}
		}
	}
	return values, sum
}

// Site is one endpoint in answers: a service on a cluster.
type Site struct{ Service, Cluster string }

// Answered counts, since the server began, the replies that named each site, by
// family. Services too many to be counted by themselves are one, "other" (see
// answer.Label). It adds up what the workers count and costs a packet nothing.
func (s *Server) Answered() map[Site][answer.Families]uint64 {
	m := s.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[Site][answer.Families]uint64)
	take := func(label *answer.Label, n *byFamily) {
		if label.Cluster == "" || n.sum() == 0 {
			return
		}
		site := Site{Service: label.Service, Cluster: label.Cluster}
		sum := out[site]
		for f := range sum {
			sum[f] += n[f].Load()
		}
		out[site] = sum
	}
	for label, n := range m.labels {
		take(&label, n)
	}
	for _, s := range m.shards {
		if c := s.current.Load(); c != nil {
			for i := range c.n {
				take(&c.labels[i], &c.n[i])
			}
		}
	}
	return out
}
