package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"time"
)

const (
	warmUp  = 200 * time.Millisecond
	patient = time.Second // a reply that has not come by then is lost
	idSpace = 1 << 16
)

// window is how many queries a client has under way: enough for full batches,
// few enough for the smallest receive buffer that a server has by default.
func window(clients int) int { return max(32, 128/clients) }

// load asks a server for names at random as fast as it answers. One thread plays
// all clients: it sends a quarter of a window at a time, so that servers see the
// same bursts however they answer.
type load struct {
	to        netip.AddrPort
	world     *world
	kind      kind
	clients   int
	echo      bool
	core      int // to run on, -1 = any
	templates [][]byte
	ends      []int
}

// outcome is what came of it.
type outcome struct {
	answers uint64        // within the time measured
	length  time.Duration // measured
	cpu     time.Duration // that the server used in it
	lost    uint64        // in all
	wrong   uint64        // replies that are no answer
	silence time.Duration // the longest time without any reply
	starved time.Duration // the longest time in which the load did not run itself
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

// run loads the server for the warm-up and length. meter reads the CPU time that
// the server has used so far.
func (l *load) run(ctx context.Context, length time.Duration, meter func() (time.Duration, error)) (outcome, error) {
	type result struct {
		outcome
		err error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: what is set for the thread ends with it.
		runtime.LockOSThread()
		o, err := l.play(ctx, length, meter)
		done <- result{o, err}
	}()
	r := <-done
	return r.outcome, r.err
}

func (l *load) play(ctx context.Context, length time.Duration, meter func() (time.Duration, error)) (o outcome, err error) {
	if err := prepareThread(l.core); err != nil {
		return o, err
	}
	l.templates = templates(l.kind)
	for _, t := range l.templates {
		l.ends = append(l.ends, questionEnd(t))
	}
	clients := make([]*client, l.clients)
	for i := range clients {
		s, err := dial(l.to)
		if err != nil {
			return o, err
		}
		defer s.close()
		clients[i] = &client{socket: s, window: window(l.clients), random: rand.NewPCG(uint64(i), 7)}
	}
	begin := time.Now()
	from, until := begin.Add(warmUp), begin.Add(warmUp+length)
	var before time.Duration
	var started time.Time
	var counted uint64
	last, lapped := begin, begin // a reply, a lap
	for lap := 0; ; lap++ {
		now := time.Now()
		o.starved = max(o.starved, now.Sub(lapped))
		lapped = now
		if lap&0xff == 0 && ctx.Err() != nil {
			return o, ctx.Err()
		}
		if started.IsZero() && !now.Before(from) {
			if before, err = meter(); err != nil {
				return o, err
			}
			started, counted = time.Now(), 0
		}
		if !now.Before(until) {
			break
		}
		got, err := l.lap(clients, now, true, &o)
		if err != nil {
			return o, err
		}
		if counted += uint64(got); got > 0 {
			o.silence = max(o.silence, now.Sub(last))
			last = now
		} else {
			nap()
		}
	}
	after, err := meter()
	if err != nil {
		return o, err
	}
	o.length, o.cpu, o.answers = time.Since(started), after-before, counted
	return o, l.drain(ctx, clients, &o)
}

// drain waits for the replies that are still to come.
func (l *load) drain(ctx context.Context, clients []*client, o *outcome) error {
	for end := time.Now().Add(patient); ctx.Err() == nil && time.Now().Before(end); {
		flying := 0
		for _, c := range clients {
			flying += c.flying
		}
		if flying == 0 {
			return nil
		}
		if got, err := l.lap(clients, time.Now(), false, o); err != nil {
			return err
		} else if got == 0 {
			nap()
		}
	}
	for _, c := range clients {
		o.lost += uint64(c.flying)
	}
	return ctx.Err()
}

// lap lets each client read what is there and send what it may.
func (l *load) lap(clients []*client, now time.Time, send bool, o *outcome) (got int, err error) {
	for _, c := range clients {
		n, err := c.receive()
		if err != nil {
			return got, fmt.Errorf("reading replies: %w", err)
		}
		for i := range n {
			if l.take(c, c.packet(i), o) {
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
		if err := l.ask(c, min(free, burst), now, o); err != nil {
			return got, fmt.Errorf("sending queries: %w", err)
		}
	}
	return got, nil
}

// take counts a reply.
func (l *load) take(c *client, reply []byte, o *outcome) bool {
	if len(reply) < 12 {
		o.wrong++
		return false
	}
	id := binary.BigEndian.Uint16(reply)
	if c.sent[id] == 0 {
		o.wrong++ // nobody asked, or it was given up
		return false
	}
	name := c.asked[id]
	c.sent[id] = 0
	c.flying--
	if !answers(reply, l.templates[name], l.ends[name], l.echo) {
		o.wrong++
		return false
	}
	return true
}

// ask sends n queries.
func (l *load) ask(c *client, n int, now time.Time, o *outcome) error {
	first := c.next
	for i := range n {
		id := first + uint16(i)
		if c.sent[id] != 0 { // the numbers are through, and it has not come back
			o.lost++
			c.sent[id] = 0
			c.flying--
		}
		draw := c.random.Uint64()
		name := draw % hosts
		q := c.put(i, l.templates[name])
		binary.BigEndian.PutUint16(q, id)
		if l.kind == ecs {
			s := &l.world.subnets[draw>>32%subnets]
			copy(q[len(q)-3:], s.octets[:])
		}
		c.asked[id] = uint16(name)
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
