package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// manyPorts is how many ports take turns: a server meets none again within the
	// queries that it may have before it at once, by far.
	manyPorts = 4096
	// missesInRow is after how many sockets without a reply the next ones are left for
	// the next lap. They are looked at in the order of the queries, in which each of
	// a server's threads answers its own.
	missesInRow = 16
)

// ports send each query by a port of its own, as resolvers do, which choose one at
// random against forged replies (RFC 5452 section 9.2). So a server finds no two
// queries of one sender beside each other, and nothing that it could send to both at
// once. For the load that is two system calls a query.
type ports struct {
	*load
	all    []port
	next   int   // the port that asks next
	under  []int // ports with a query under way, the oldest first
	id     uint16
	window int
	random *rand.PCG
	packet [1500]byte
}

// port is a socket with at most one query under way.
type port struct {
	fd   int
	sent int64 // when, 0 = none is under way
	id   uint16
	name uint16
}

func newPorts(l *load) (*ports, error) {
	p := &ports{load: l, window: window(1), random: rand.NewPCG(1, 7)}
	for range manyPorts {
		fd, err := dialOne(l.to)
		if err != nil {
			p.close()
			return nil, fmt.Errorf("port %d of %d: %w (raise the limit of open files: ulimit -n)", len(p.all)+1, manyPorts, err)
		}
		p.all = append(p.all, port{fd: fd})
	}
	return p, nil
}

func (p *ports) close() {
	for i := range p.all {
		closeOne(p.all[i].fd)
	}
}

func (p *ports) waiting() int { return len(p.under) }

// lap reads what is there and sends what may be sent.
func (p *ports) lap(now time.Time, send bool, o *outcome) (got int, err error) {
	left, misses := p.under[:0], 0
	for at, i := range p.under {
		if misses == missesInRow {
			left = append(left, p.under[at:]...)
			break
		}
		reply, err := readOne(p.all[i].fd, p.packet[:])
		if err != nil {
			return got, fmt.Errorf("reading replies: %w", err)
		}
		if reply == nil {
			misses++
			left = append(left, i)
			continue
		}
		misses = 0
		if p.take(&p.all[i], reply, o) {
			got++
		}
	}
	p.under = left
	if got == 0 { // else the reply may be there, and we are late
		p.giveUp(now, o)
	}
	free := p.window - len(p.under)
	if !send || free < p.window/4 && got > 0 {
		return got, nil
	}
	return got, p.ask(min(free, burst), now)
}

// take counts the reply to a port's query.
func (p *ports) take(c *port, reply []byte, o *outcome) bool {
	c.sent = 0
	if len(reply) < 12 || binary.BigEndian.Uint16(reply) != c.id || !p.good(reply, c.name) {
		o.wrong++
		return false
	}
	return true
}

// ask sends n queries.
func (p *ports) ask(n int, now time.Time) error {
	for range n {
		i := p.next
		c := &p.all[i]
		if p.next = (i + 1) % len(p.all); c.sent != 0 {
			continue // its reply is late
		}
		p.id++
		name, length := p.write(p.packet[:], p.id, p.random.Uint64())
		sent, err := writeOne(c.fd, p.packet[:length])
		if err != nil {
			return fmt.Errorf("sending queries: %w", err)
		}
		if !sent {
			return nil
		}
		c.sent, c.id, c.name = now.UnixNano(), p.id, name
		p.under = append(p.under, i)
	}
	return nil
}

// giveUp counts queries that have waited too long as lost.
func (p *ports) giveUp(now time.Time, o *outcome) {
	for len(p.under) > 0 && now.UnixNano()-p.all[p.under[0]].sent >= int64(patient) {
		p.all[p.under[0]].sent = 0
		p.under = p.under[1:]
		o.lost++
	}
}
