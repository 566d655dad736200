package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"
)

// clients are a few that ask much, each by one socket.
type clients struct {
	*load
	all []*client
}

// client is one socket with its queries under way.
type client struct {
	*socket
	window int
	flying int
	next   uint16
	oldest uint16          // no older ID is under way
	sent   [idSpace]int64  // by ID: when, 0 = not under way
	asked  [idSpace]uint16 // by ID: the name
	random *rand.PCG
}

func newClients(l *load) (*clients, error) {
	cs := &clients{load: l}
	for i := range l.clients {
		s, err := dial(l.to)
		if err != nil {
			cs.close()
			return nil, err
		}
		cs.all = append(cs.all, &client{socket: s, window: window(l.clients), random: rand.NewPCG(uint64(i), 7)})
	}
	return cs, nil
}

func (cs *clients) close() {
	for _, c := range cs.all {
		c.close()
	}
}

func (cs *clients) waiting() (n int) {
	for _, c := range cs.all {
		n += c.flying
	}
	return n
}

// lap lets each client read what is there and send what it may.
func (cs *clients) lap(now time.Time, send bool, o *outcome) (got int, err error) {
	for _, c := range cs.all {
		n, err := c.receive()
		if err != nil {
			return got, fmt.Errorf("reading replies: %w", err)
		}
		for i := range n {
			if cs.take(c, c.packet(i), o) {
				got++
			}
		}
		if n == 0 { // else the reply may be there, and we are late
			o.lost += c.giveUp(now)
		}
		free := c.window - c.flying
		if !send || free < c.window/4 && n > 0 || free == 0 {
			continue
		}
		if err := cs.ask(c, min(free, burst), now, o); err != nil {
			return got, fmt.Errorf("sending queries: %w", err)
		}
	}
	return got, nil
}

// take counts a reply.
func (cs *clients) take(c *client, reply []byte, o *outcome) bool {
	if len(reply) < 12 {
		o.wrong++
		return false
	}
	id := binary.BigEndian.Uint16(reply)
	if c.sent[id] == 0 {
		o.wrong++ // nobody asked, or it was given up
		return false
	}
	c.sent[id] = 0
	c.flying--
	if !cs.good(reply, c.asked[id]) {
		o.wrong++
		return false
	}
	return true
}

// ask sends n queries.
func (cs *clients) ask(c *client, n int, now time.Time, o *outcome) error {
	first := c.next
	for i := range n {
		id := first + uint16(i)
		if c.sent[id] != 0 { // the numbers are through, and it has not come back
			o.lost++
			c.sent[id] = 0
			c.flying--
		}
		name, length := cs.write(c.room(i), id, c.random.Uint64())
		c.put(i, length)
		c.asked[id] = name
	}
	sent, err := c.send(n)
	for i := range sent {
		c.sent[first+uint16(i)] = now.UnixNano()
	}
	c.flying += sent
	c.next += uint16(sent)
	return err
}

// giveUp counts queries that have waited too long as lost.
func (c *client) giveUp(now time.Time) (lost uint64) {
	for c.oldest != c.next {
		at := c.sent[c.oldest]
		if at != 0 {
			if now.UnixNano()-at < int64(patient) {
				return lost
			}
			c.sent[c.oldest] = 0
			c.flying--
			lost++
		}
		c.oldest++
	}
	return lost
}
