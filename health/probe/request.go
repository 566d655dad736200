package probe

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"regexp"
	"time"

	"github.com/divertdns/divert/health"
)

// kind is what is asked; it labels the metrics.
type kind uint8

const (
	kindUnknown kind = iota
	kindFast
	kindTCP
	kindHTTP
	kindHTTPS
	kindTLS
	kindGRPC
	kindDNS
	kindICMP
	kindExec
	kinds // how many there are
)

func (k kind) String() string {
	switch k {
	case kindFast:
		return "fast"
	case kindTCP:
		return "tcp"
	case kindHTTP:
		return "http"
	case kindHTTPS:
		return "https"
	case kindTLS:
		return "tls"
	case kindGRPC:
		return "grpc"
	case kindDNS:
		return "dns"
	case kindICMP:
		return "icmp"
	case kindExec:
		return "exec"
	default:
		return "unknown"
	}
}

// request is a target made ready to be sent many times. It is immutable.
type request struct {
	kind      kind
	addr      netip.AddrPort
	plain     bool   // the loop's own sockets can carry it: a connect, or HTTP/1.1 without TLS
	send      []byte // what is sent, byte for byte
	head      bool
	statuses  []int
	shareable bool           // it may go over a connection that others have used, and leave it
	shares    bool           // it does, this time
	body      string         // wanted; of tcp in what comes
	pattern   *regexp.Regexp // likewise; nil = any
	h2        int
	page      *http.Request // by HTTP/2
	content   string        // its body
	tls       *tls.Config
	warn      time.Duration // of the certificate, see Secure
	fail      time.Duration
	dns       *question
	exec      *Exec
	refused   string // why it is never sent, "" if it is
	hostname  *hostname
	opened    func() // told that the connection stands; may be nil
}

// outcome is what came of one.
type outcome struct {
	ok, void bool
	timeout  bool // not ok, and nothing was heard
	sign     health.Sign
	latency  time.Duration
	reason   string
	expires  time.Time // the certificate; zero where none was looked at
}

func (o outcome) report(subject health.Subject, at time.Time) health.Report {
	return health.Report{Subject: subject, OK: o.ok && !o.void, Void: o.void, At: at, Latency: o.latency, Sign: o.sign, Reason: o.reason}
}

// prepare never fails: a target that cannot be sent is reported void each
// time, with the reason, since the fault is in the spec and not at the target.
func (s *Scheduler) prepare(t Target) *request {
	r := &request{kind: kindTCP, addr: t.Subject.Addr}
	if err := r.of(t, s); err != nil {
		r.refused = err.Error()
	}
	r.addr = unmap(r.addr)
	if r.refused == "" && r.addr.Port() == 0 && r.kind != kindICMP && r.kind != kindExec {
		r.refused = "probe without a port"
	}
	if t.Hostname != "" {
		r.hostname = &hostname{name: t.Hostname}
		return r // its addresses are checked when they are dialled
	}
	if err := s.policy.check(r.addr.Addr()); err != nil && r.refused == "" {
		r.refused = err.Error()
	}
	return r
}

// of fills in what the kind of a target asks.
func (r *request) of(t Target, s *Scheduler) error {
	switch {
	case t.Fast:
		r.kind, r.plain = kindFast, true
		if t.TCP != nil {
			r.addr = t.TCP.Addr
		} else if t.HTTP != nil {
			r.addr = t.HTTP.Addr
		}
		return nil
	case t.HTTP != nil:
		r.addr = t.HTTP.Addr
		if err := r.http(*t.HTTP, s); err != nil {
			return err
		}
		// An expression may take its time, which the loop has not.
		r.plain = r.tls == nil && r.h2 == h2Never && r.pattern == nil
		return nil
	case t.TLS != nil:
		r.kind = kindTLS
		return r.secure(t.TLS.Secure, r.addr.Addr().String(), t.TLS.ALPN, s)
	case t.GRPC != nil:
		return r.grpc(*t.GRPC, s)
	case t.DNS != nil:
		return r.question(*t.DNS, s)
	case t.ICMP != nil:
		r.kind = kindICMP
		return nil
	case t.Exec != nil:
		return r.program(t.Exec, s.opts.Exec)
	default:
		return r.tcp(t.TCP, s)
	}
}

// tcp makes a connect ready, and what is said over it.
func (r *request) tcp(t *TCP, s *Scheduler) (err error) {
	if t == nil {
		r.plain = true
		return nil
	}
	r.addr, r.send, r.body = t.Addr, []byte(t.Send), t.Expect
	r.pattern, err = s.shared.pattern(t.ExpectRegexp)
	r.plain = !r.talks()
	return err
}

// talks says whether a TCP probe does more than connect.
func (r *request) talks() bool { return len(r.send) > 0 || r.body != "" || r.pattern != nil }

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
