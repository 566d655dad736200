package probe

import (
	"errors"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/divertdns/divert/health"
)

// haveSockets: here the loop drives plain TCP and HTTP itself.
const haveSockets = true

// flights are the probes that the loop carries on non-blocking sockets of its
// own: no goroutine, no netpoller, and one system call looks at them all. Only
// the loop touches them.
type flights struct {
	source  netip.Addr
	policy  policy
	all     []*flight
	polls   []unix.PollFd
	ended   []*flight // of one look; kept for its memory
	free    []*flight // landed, to be used again
	pressed int       // how many of all are urgent
	info    unix.TCPInfo
	kept    pool

	standing     int // warm connections
	mostStanding int
}

type flight struct {
	probing  *probing
	req      *request
	fd       int
	start    time.Time
	deadline time.Time
	opened   time.Time // zero where the connection has answered nothing yet and is not to be kept
	open     bool      // connected
	again    bool      // on a connection that was kept; if that turns out closed, on another
	sent     int       // octets of the request
	urgent   bool
	answer   response
}

func newFlights(source netip.Addr, p policy) *flights {
	return &flights{source: source.Unmap(), policy: p, mostStanding: min(descriptors()/4, mostWarm), kept: newPool(min(descriptors()/4, mostKept))}
}

func (f *flights) count() int { return len(f.all) }

// urgent says whether any is worth waking up for: an exchange, whose latency
// is counted until we look, or a signal in doubt.
func (f *flights) urgent() bool { return f.pressed > 0 }

// start connects, or takes a connection that was kept. What fails before a packet could
// leave is our own fault.
func (f *flights) start(p *probing, timeout time.Duration, finish func(*probing, outcome)) {
	now := time.Now()
	fl := f.take()
	buf := fl.answer.buf
	*fl = flight{
		probing: p, req: p.req, fd: -1, start: now, deadline: now.Add(timeout),
		urgent: !p.entry.Fast || p.entry.group.inDoubt, answer: response{req: p.req, buf: buf},
	}
	if fl.urgent {
		f.pressed++
	}
	if p.reuses() {
		fl.opened = now
		if f.resume(fl, now) {
			f.all = append(f.all, fl)
			return
		}
	}
	if o, failed := f.open(fl); failed {
		f.land(fl)
		finish(p, o)
		return
	}
	f.all = append(f.all, fl)
}

// resume sends the request on a connection that was kept. False: there is none.
func (f *flights) resume(fl *flight, now time.Time) bool {
	for {
		k, ok := f.kept.take(fl.req.addr, now)
		if !ok {
			return false
		}
		if n, err := sysWrite(k.fd, fl.req.send); err == nil {
			fl.fd, fl.opened, fl.open, fl.again, fl.sent = k.fd, k.opened, true, true, n
			return true
		}
		sysClose(k.fd)
	}
}

// open begins a connection of a flight's own.
func (f *flights) open(fl *flight) (o outcome, failed bool) {
	// At the last moment, as the goroutines' dialer does it in its hook (C12).
	if err := f.policy.check(fl.req.addr.Addr()); err != nil {
		return outcome{void: true, reason: err.Error()}, true
	}
	fd, err := f.connect(fl.req.addr)
	fl.fd = fd
	switch {
	case err == nil:
		return outcome{}, false
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ECONNRESET):
		o = brokenOff(err)
		o.latency = time.Since(fl.start)
		return o, true
	}
	return outcome{void: true, reason: "our own side: " + errnoText(err)}, true
}

// renew asks once more over a new connection what went wrong on a kept one: that may say
// only that the server had enough of it (RFC 9112 section 9.3.1, and 408 of RFC 9110).
func (f *flights) renew(fl *flight, now time.Time) (o outcome, failed bool) {
	sysClose(fl.fd)
	fl.fd, fl.open, fl.again, fl.sent, fl.opened = -1, false, false, 0, now
	fl.answer = response{req: fl.req, buf: fl.answer.buf[:0]}
	return f.open(fl)
}

func (f *flights) connect(to netip.AddrPort) (fd int, err error) {
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, err
	}
	// Reset on close: no TIME_WAIT, and half the packets (see DESIGN.md).
	if err := sysLinger(fd); err != nil {
		return fd, err
	}
	if f.source.IsValid() && f.source.Is4() == to.Addr().Is4() {
		lateBind(uintptr(fd))
		if err := sysBind(fd, f.source); err != nil {
			return fd, err
		}
	}
	if err := sysConnect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.EINTR) {
		return fd, err
	}
	return fd, nil
}

// poll looks at all at once and finishes those that have ended or run out of
// time. An answer that is there counts even if it is looked at late.
func (f *flights) poll(now time.Time, finish func(*probing, outcome)) {
	f.kept.sweep(now)
	if len(f.all) == 0 {
		return
	}
	f.polls = f.polls[:0]
	for _, fl := range f.all {
		events := int16(unix.POLLOUT)
		if fl.open && fl.sent == len(fl.req.send) {
			events = unix.POLLIN
		}
		f.polls = append(f.polls, unix.PollFd{Fd: int32(fl.fd), Events: events})
	}
	if n, err := sysPoll(f.polls); err != nil || n == 0 {
		clear(f.polls) // nothing is ready, or we were interrupted: the next look will tell
	}
	kept := f.all[:0]
	ended := f.ended[:0]
	for i, fl := range f.all {
		out, done := outcome{}, false
		if f.polls[i].Revents != 0 {
			out, done = f.step(fl, now)
		}
		if !done && !now.Before(fl.deadline) {
			out, done = fl.timeout(), true
		}
		if !done {
			kept = append(kept, fl)
			continue
		}
		fl.answer.out = out
		ended = append(ended, fl)
	}
	clear(f.all[len(kept):])
	f.all = kept
	for _, fl := range ended { // finish may start others; the list is whole again
		p, out := fl.probing, fl.answer.out
		f.retain(fl, out, now)
		f.land(fl)
		finish(p, out)
	}
	clear(ended)
	f.ended = ended[:0]
}

// retain keeps the connection of a flight that went well for another.
func (f *flights) retain(fl *flight, out outcome, now time.Time) {
	switch {
	case out.ok && fl.answer.reusable && !fl.opened.IsZero() && fl.probing.reuses():
		f.kept.give(fl.req.addr, kept{fd: fl.fd, opened: fl.opened, used: now})
		fl.fd = -1
	case !out.ok && !out.void && fl.req.kind == kindHTTP:
		f.kept.drop(fl.req.addr) // they may lead to where nobody answers any more
	}
}

// land closes, and keeps the memory for another: some hundred a second would
// else be most of what a quiet director leaves to the collector.
func (f *flights) land(fl *flight) {
	if fl.fd >= 0 {
		sysClose(fl.fd)
	}
	if fl.urgent {
		f.pressed--
	}
	buf := fl.answer.buf[:0]
	if cap(buf) > 16<<10 {
		buf = nil
	}
	*fl = flight{answer: response{buf: buf}}
	if len(f.free) < 128 {
		f.free = append(f.free, fl)
	}
}

func (f *flights) take() *flight {
	if n := len(f.free); n > 0 {
		fl := f.free[n-1]
		f.free = f.free[:n-1]
		return fl
	}
	return &flight{}
}

func (f *flights) close() {
	for _, fl := range f.all {
		sysClose(fl.fd)
	}
	f.all = nil
	f.kept.close()
}

// step goes on as far as it can without waiting.
func (f *flights) step(fl *flight, now time.Time) (outcome, bool) {
	if !fl.open {
		errno, err := sysConnected(fl.fd)
		if err != nil {
			return outcome{void: true, reason: "our own side: " + errnoText(err)}, true
		}
		if errno != 0 {
			return connectFailure(errno, now.Sub(fl.start)), true
		}
		fl.open = true
		if fl.req.kind != kindHTTP {
			return outcome{ok: true, latency: f.roundTrip(fl, now)}, true
		}
	}
	for fl.sent < len(fl.req.send) {
		n, err := sysWrite(fl.fd, fl.req.send[fl.sent:])
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			return outcome{}, false
		case err != nil && fl.again:
			return f.renew(fl, now)
		case err != nil:
			o := brokenOff(err)
			o.latency = now.Sub(fl.start)
			return o, true
		}
		fl.sent += n
	}
	return f.read(fl, now)
}

func (f *flights) read(fl *flight, now time.Time) (outcome, bool) {
	for {
		n, err := sysRead(fl.fd, fl.answer.room())
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			return outcome{}, false
		case err != nil && fl.again:
			return f.renew(fl, now)
		case err != nil:
			o := brokenOff(err)
			o.latency = now.Sub(fl.start)
			return o, true
		}
		if fl.answer.add(n, n == 0) {
			out := fl.answer.out
			if fl.again && !out.ok {
				return f.renew(fl, now)
			}
			out.latency = f.elapsed(fl, now)
			return out, true
		}
	}
}

func (fl *flight) timeout() outcome {
	o := outcome{reason: "timeout connecting", timeout: true, latency: fl.deadline.Sub(fl.start)}
	if fl.open {
		o.reason, o.sign = fl.answer.stage(), health.SignMute
	}
	return o
}

// connectFailure judges an error that came back for a SYN: from the target, or
// from a router on the way. Both are evidence.
func connectFailure(errno syscall.Errno, took time.Duration) outcome {
	switch {
	case errno == syscall.ETIMEDOUT:
		return outcome{reason: "timeout connecting", timeout: true, latency: took}
	case errno != syscall.ENETUNREACH && isLocal(errno):
		return outcome{void: true, reason: "our own side: " + errnoText(errno)}
	}
	return outcome{reason: errnoText(errno), sign: health.SignRefused, latency: took}
}

// roundTrip is the handshake's as the kernel measured it, whenever we look.
func (f *flights) roundTrip(fl *flight, now time.Time) time.Duration {
	if err := sysInfo(fl.fd, &f.info); err == nil && f.info.Rtt > 0 {
		return time.Duration(f.info.Rtt) * time.Microsecond
	}
	return now.Sub(fl.start)
}

// elapsed leaves out how long the last octets lay in the kernel before we
// looked, to the millisecond that the kernel tells it in.
func (f *flights) elapsed(fl *flight, now time.Time) time.Duration {
	d := now.Sub(fl.start)
	if err := sysInfo(fl.fd, &f.info); err == nil {
		if lay := time.Duration(f.info.Last_data_recv) * time.Millisecond; lay < d {
			d -= lay
		}
	}
	return d
}
