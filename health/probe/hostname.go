package probe

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	// maxTried is how many addresses of a hostname one probe tries.
	maxTried = 4
	// attemptDelay is when the next one begins while the last is not connected: a fifth
	// of RFC 8305 section 5's, since a fast signal has 100 ms for all of them.
	attemptDelay = 50 * time.Millisecond
)

// hostname is the target of a request that goes to whatever a name resolves to.
type hostname struct {
	name string
	last atomic.Pointer[netip.Addr] // that answered last
	skip atomic.Uint32              // of the others, how many were tried since then
}

// reach asks the address of a request, or those of its hostname one after the other
// until one answers (RFC 8305). The next begins when the one before has failed, or is not
// connected in time; a page that is slow in coming starts none. A name of which nothing
// is known says nothing of its target.
func (s *Scheduler) reach(ctx context.Context, r *request) outcome {
	h := r.hostname
	if h == nil {
		return s.ask(ctx, r)
	}
	tries := h.order(s.opts.Lookup(h.name))
	if len(tries) == 0 {
		return outcome{void: true, reason: "our own side: the hostname is not resolved"}
	}
	start := time.Now()
	// Whoever is late finds room, and nobody waits for it.
	ended := make(chan attempt, len(tries))
	opened := make(chan struct{}, len(tries))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := func(addr netip.Addr) {
		one := *r
		one.addr = netip.AddrPortFrom(addr, r.addr.Port())
		one.opened = func() { opened <- struct{}{} }
		go func() { ended <- attempt{addr, s.ask(ctx, &one)} }()
	}
	worst := outcome{void: true}
	delay := time.NewTimer(attemptDelay)
	defer delay.Stop()
	begin(tries[0])
	flying, begun := 1, 1
	result := func() outcome {
		if !worst.ok {
			others := begun
			if last := h.last.Load(); last != nil && tries[0] == *last {
				others--
			}
			h.skip.Add(uint32(others))
		}
		worst.latency = time.Since(start)
		for ; flying > 0; flying-- { // a probe leaves nothing behind it
			cancel()
			<-ended
		}
		return worst
	}
	for {
		another := false
		select {
		case a := <-ended:
			flying--
			if a.out.ok {
				h.last.Store(&a.addr)
				worst = a.out
				return result()
			}
			// A failure is evidence, what is void is none.
			if worst.void && (!a.out.void || worst.reason == "") || !worst.void && !a.out.void && worst.timeout {
				worst = a.out
			}
			another = true
		case <-opened:
			delay.Stop()
		case <-delay.C:
			another = true
		}
		switch {
		case another && begun < len(tries) && ctx.Err() == nil:
			begin(tries[begun])
			flying, begun = flying+1, begun+1
			delay.Reset(attemptDelay)
		case flying == 0:
			return result()
		}
	}
}

// attempt is what came of one address.
type attempt struct {
	addr netip.Addr
	out  outcome
}

// order gives the addresses to try: the one that answered last, then of each family
// in turn, IPv6 first (RFC 8305 section 4). Each probe that fails goes on where the one
// before ended, so that all are tried before long, however many there are.
func (h *hostname) order(addrs []netip.Addr) []netip.Addr {
	var families [2][]netip.Addr // IPv6, IPv4
	var out []netip.Addr
	last := h.last.Load()
	for _, a := range addrs {
		a = a.Unmap()
		switch {
		case last != nil && a == *last:
			out = append(out, a)
		case a.Is4():
			families[1] = append(families[1], a)
		default:
			families[0] = append(families[0], a)
		}
	}
	if len(out) > 0 && out[0].Is6() {
		families[0], families[1] = families[1], families[0]
	}
	var others []netip.Addr
	for len(families[0])+len(families[1]) > 0 {
		if len(families[0]) > 0 {
			others, families[0] = append(others, families[0][0]), families[0][1:]
		}
		families[0], families[1] = families[1], families[0]
	}
	skip := h.skip.Load()
	for i := range uint32(min(len(others), maxTried-len(out))) {
		out = append(out, others[(skip+i)%uint32(len(others))])
	}
	return out
}
