package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/divertdns/divert/director/access"
)

// The limits of who asks over the network, or by a grant. Whoever may do all on the
// machine itself is not held up, nor who reads on loopback, as before.
const (
	asksPerSecond = 20
	asksBurst     = 100
	maxAskers     = 1024
	// Refused credentials of one network: beyond this they are not logged, and are told to
	// wait. What is good passes all the same: nobody locks another out.
	refusedPerSecond = 1.0 / 6
	refusedBurst     = 10
	maxRefused       = 1024
	// Lines of net/http's own, such as of handshakes that break off.
	linesPerSecond = 0.2
	linesBurst     = 10
)

// refuse tells whoever brings no good credential so. What was brought is in no log.
func (s *Server) refuse(w http.ResponseWriter, via string, r *http.Request, err error) {
	switch {
	case errors.Is(err, access.ErrUnavailable):
		s.metrics.denied.WithLabelValues(deniedUnavailable).Inc()
		w.Header().Set("Retry-After", "2")
		fail(w, http.StatusServiceUnavailable, err.Error(), "ask again when it answers, or by another credential: a token of `divert token create`, a certificate, or the socket on the director's machine")
		return
	case errors.Is(err, access.ErrHurried):
		s.metrics.denied.WithLabelValues(deniedLimited).Inc()
		w.Header().Set("Retry-After", "2")
		fail(w, http.StatusTooManyRequests, err.Error(), "wait a moment; a token that was good is not held up")
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="divert"`)
	s.metrics.denied.WithLabelValues(deniedUnknown).Inc()
	if !errors.Is(err, errNobody) { // something was brought
		from := network(r.RemoteAddr)
		if !s.refused.Take(from, time.Now()) {
			s.metrics.denied.WithLabelValues(deniedLimited).Inc()
			w.Header().Set("Retry-After", "6")
			fail(w, http.StatusTooManyRequests, "too many refused credentials from "+from, "correct the token or the certificate first; one that is good is not held up")
			return
		}
		s.log.Warn("credential refused", slog.String("from", from), slog.String("via", via), slog.String("path", known(s, r)), slog.Any("err", err))
	}
	fail(w, http.StatusUnauthorized, err.Error(), howToSay)
}

// known is the path where it is a route: what else stands there is a client's to write.
func known(s *Server, r *http.Request) string {
	if _, ok := s.routes[r.URL.Path]; ok {
		return r.URL.Path
	}
	return "other"
}

// network is where a request comes from: an address, or the /64 that an IPv6 one is in, as
// one host has all of that.
func network(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return "this machine"
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return "this machine"
	}
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// hurried tells whether somebody asks more than he may in so short a time.
func (s *Server) hurried(id access.Identity) bool {
	if id.Method == access.Loopback || id.Who == "" {
		return false
	}
	if id.Method == access.Unix {
		if all, _ := access.Allow(id, access.Keep); all {
			return false
		}
	}
	return !s.asks.Take(id.Who, time.Now())
}

// sparse is a log that says so much and then counts: whoever reaches a listener makes
// net/http write a line for each handshake that he breaks off.
type sparse struct {
	slog.Handler
	limit   *access.Limiter
	leftOut *atomic.Uint64
}

func newSparse(h slog.Handler) sparse {
	return sparse{Handler: h, limit: access.NewLimiter(linesPerSecond, linesBurst, 1), leftOut: &atomic.Uint64{}}
}

// Handle writes a line, or counts it.
func (s sparse) Handle(ctx context.Context, r slog.Record) error {
	if !s.limit.Take("", r.Time) {
		s.leftOut.Add(1)
		return nil
	}
	r = r.Clone()
	r.Message = strings.ToValidUTF8(r.Message, "?")
	if n := s.leftOut.Swap(0); n > 0 {
		r.AddAttrs(slog.Uint64("left_out", n))
	}
	return s.Handler.Handle(ctx, r)
}
