package main

import (
	"context"
	"encoding/binary"
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
	clients   int // 0 = each query comes by a port of its own
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

// asker has queries under way.
type asker interface {
	// lap reads what is there and, with send, asks what it may.
	lap(now time.Time, send bool, o *outcome) (got int, err error)
	// waiting is how many queries have no reply yet.
	waiting() int
	close()
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
	asker, err := l.asker()
	if err != nil {
		return o, err
	}
	defer asker.close()
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
		got, err := asker.lap(now, true, &o)
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
	return o, drain(ctx, asker, &o)
}

// asker dials.
func (l *load) asker() (asker, error) {
	if l.clients == 0 {
		return newPorts(l)
	}
	return newClients(l)
}

// drain waits for the replies that are still to come.
func drain(ctx context.Context, a asker, o *outcome) error {
	for end := time.Now().Add(patient); ctx.Err() == nil && time.Now().Before(end); {
		if a.waiting() == 0 {
			return nil
		}
		if got, err := a.lap(time.Now(), false, o); err != nil {
			return err
		} else if got == 0 {
			nap()
		}
	}
	o.lost += uint64(a.waiting())
	return ctx.Err()
}

// write makes a query with an ID for a name into to, and gives how long it is.
func (l *load) write(to []byte, id uint16, draw uint64) (name uint16, length int) {
	name = uint16(draw % hosts)
	length = copy(to, l.templates[name])
	binary.BigEndian.PutUint16(to, id)
	if l.kind == ecs {
		s := &l.world.subnets[draw>>32%subnets]
		copy(to[length-3:], s.octets[:])
	}
	return name, length
}

// good tells whether a reply is one to a query for name.
func (l *load) good(reply []byte, name uint16) bool {
	return answers(reply, l.templates[name], l.ends[name], l.echo)
}
