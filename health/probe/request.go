package probe

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
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
	default:
		return "unknown"
	}
}

// request is a target made ready to be sent many times. It is immutable.
type request struct {
	kind     kind
	addr     netip.AddrPort
	plain    bool   // the loop's own sockets can carry it: a connect, or HTTP/1.1 without TLS
	send     []byte // the HTTP request, byte for byte
	head     bool
	statuses []int
	body     string
	tls      *tls.Config
	refused  string // why it is never sent, "" if it is
	hostname *hostname
	opened   func() // told that the connection stands; may be nil
}

// outcome is what came of one.
type outcome struct {
	ok, void bool
	timeout  bool // not ok, and nothing was heard
	sign     health.Sign
	latency  time.Duration
	reason   string
}

func (o outcome) report(subject health.Subject, at time.Time) health.Report {
	return health.Report{Subject: subject, OK: o.ok && !o.void, Void: o.void, At: at, Latency: o.latency, Sign: o.sign, Reason: o.reason}
}

// prepare never fails: a target that cannot be sent is reported void each
// time, with the reason, since the fault is in the spec and not at the target.
func (s *Scheduler) prepare(t Target) *request {
	r := &request{kind: kindTCP, addr: t.Subject.Addr}
	switch {
	case t.Fast:
		r.kind = kindFast
		if t.TCP != nil {
			r.addr = t.TCP.Addr
		} else if t.HTTP != nil {
			r.addr = t.HTTP.Addr
		}
	case t.HTTP != nil:
		r.addr = t.HTTP.Addr
		if err := r.http(*t.HTTP, s.opts); err != nil {
			r.refused = err.Error()
		}
	case t.TCP != nil:
		r.addr = t.TCP.Addr
	}
	r.addr = unmap(r.addr)
	r.plain = r.kind == kindFast || r.kind == kindTCP || r.kind == kindHTTP
	if r.refused == "" && r.addr.Port() == 0 {
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

func (r *request) http(h HTTP, o Options) error {
	method, path, host := h.Method, h.Path, h.Host
	if method == "" {
		method = http.MethodGet
	}
	if path == "" {
		path = "/"
	}
	if host == "" {
		host = h.Addr.String()
	}
	switch h.Scheme {
	case "http":
		r.kind = kindHTTP
	case "https":
		r.kind = kindHTTPS
		r.tls = &tls.Config{
			RootCAs:    o.RootCAs,
			ServerName: serverName(h, host),
			NextProtos: []string{"http/1.1"},
			// Post-quantum key shares are left out: nothing secret is sent,
			// and they are the dearest part of the handshake.
			CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384},
		}
	default:
		return fmt.Errorf("scheme %q is neither http nor https", h.Scheme)
	}
	// A line break or a blank in any of these would let a spec's author write
	// headers, or a second request, of their own.
	for _, part := range []struct{ name, text string }{{"method", method}, {"path", path}, {"host", host}} {
		if part.text == "" || strings.ContainsFunc(part.text, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
			return fmt.Errorf("%s %q of the probe cannot be sent", part.name, part.text)
		}
	}
	if path[0] != '/' && path != "*" {
		return fmt.Errorf("path %q of the probe does not begin with /", path)
	}
	r.head = method == http.MethodHead
	r.body = h.Body
	r.statuses = slices.Clone(h.Statuses)
	if len(r.statuses) == 0 {
		r.statuses = []int{http.StatusOK}
	}
	length := ""
	if method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch {
		length = "Content-Length: 0\r\n"
	}
	r.send = fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: divert-probe\r\nAccept: */*\r\n%sConnection: close\r\n\r\n",
		method, path, host, length)
	return nil
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func serverName(h HTTP, host string) string {
	if h.SNI != "" {
		return h.SNI
	}
	if ap, err := netip.ParseAddrPort(host); err == nil {
		return ap.Addr().String()
	}
	if name, port, ok := strings.Cut(host, ":"); ok && !strings.Contains(port, ":") {
		return name
	}
	return strings.Trim(host, "[]")
}
