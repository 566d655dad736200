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

	standing     int // warm connections
	mostStanding int
}

type flight struct {
	probing  *probing
	req      *request
	fd       int
	start    time.Time
	deadline time.Time
	open     bool // connected
	sent     int  // octets of the request
	urgent   bool
	answer   response
}

func newFlights(source netip.Addr, p policy) *flights {
	return &flights{source: source.Unmap(), policy: p, mostStanding: min(descriptors()/4, mostWarm)}
}

func (f *flights) count() int { return len(f.all) }

// urgent says whether any is worth waking up for: an exchange, whose latency
// is counted until we look, or a signal in doubt.
func (f *flights) urgent() bool { return f.pressed > 0 }

// start connects. What fails before a packet could leave is our own fault.
func (f *flights) start(p *probing, timeout time.Duration, finish func(*probing, outcome)) {
	now, r := time.Now(), p.req
	// At the last moment, as the goroutines' dialer does it in its hook.
	if err := f.policy.check(r.addr.Addr()); err != nil {
		finish(p, outcome{void: true, reason: err.Error()})
		return
	}
	fd, err := f.connect(r.addr)
	if err != nil {
		if fd >= 0 {
			sysClose(fd)
		}
		if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET) {
			o := brokenOff(err)
			o.latency = time.Since(now)
			finish(p, o)
			return
		}
		finish(p, outcome{void: true, reason: "our own side: " + errnoText(err)})
		return
	}
	fl := f.take()
	buf := fl.answer.buf
	*fl = flight{
		probing: p, req: r, fd: fd, start: now, deadline: now.Add(timeout),
		urgent: !p.entry.Fast || p.entry.group.inDoubt, answer: response{req: r, buf: buf},
	}
	if fl.urgent {
		f.pressed++
	}
	f.all = append(f.all, fl)
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
		f.land(fl)
		finish(p, out)
	}
	clear(ended)
	f.ended = ended[:0]
}

// land closes, and keeps the memory for another: some hundred a second would
// else be most of what a quiet director leaves to the collector.
func (f *flights) land(fl *flight) {
	sysClose(fl.fd)
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
		case err != nil:
			o := brokenOff(err)
			o.latency = now.Sub(fl.start)
			return o, true
		}
		if fl.answer.add(n, n == 0) {
			out := fl.answer.out
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
