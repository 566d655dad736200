package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/divertdns/divert/health"
)

// secure makes the handshake of a probe ready.
func (r *request) secure(want Secure, host string, protocols []string, s *Scheduler) error {
	roots, err := s.shared.authorities(want.CA, s.opts.RootCAs)
	if err != nil {
		return err
	}
	r.tls = &tls.Config{
		RootCAs:            roots,
		ServerName:         serverName(want.SNI, host),
		NextProtos:         protocols,
		InsecureSkipVerify: want.Insecure, //nolint:gosec // the spec says so
		// Post-quantum key shares are left out: nothing is sent whose secret must
		// last for years, and they are the dearest part of the handshake.
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384},
	}
	r.warn, r.fail = want.Warn, want.Fail
	return nil
}

// handshake judges the server by its certificate and by the protocol it chose.
func (r *request) handshake(ctx context.Context, conn net.Conn) (*tls.Conn, outcome) {
	secure := tls.Client(conn, r.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, tlsFailure(err, r)
	}
	state := secure.ConnectionState()
	switch {
	case r.h2 == h2Only && state.NegotiatedProtocol != "h2":
		return nil, wrong("does not speak HTTP/2")
	case r.kind == kindTLS && len(r.tls.NextProtos) > 0 && state.NegotiatedProtocol == "":
		return nil, wrong("chose none of the protocols offered (ALPN)")
	case r.tls.InsecureSkipVerify:
		return secure, outcome{ok: true}
	}
	expires := expiry(state.VerifiedChains)
	if left := time.Until(expires); r.fail > 0 && left < r.fail {
		return nil, wrong(fmt.Sprintf("certificate expires at %s, with less than %s left", expires.UTC().Format(time.RFC3339), r.fail))
	}
	return secure, outcome{ok: true, expires: expires}
}

// expiry is when a server's certificate, or one that it hangs on, expires: of several
// chains that verify, that of the one that lasts longest.
func expiry(chains [][]*x509.Certificate) time.Time {
	var longest time.Time
	for _, chain := range chains {
		var first time.Time
		for _, cert := range chain {
			if first.IsZero() || cert.NotAfter.Before(first) {
				first = cert.NotAfter
			}
		}
		if first.After(longest) {
			longest = first
		}
	}
	return longest
}

// Expiry is a certificate with less time left than its probe's warning.
type Expiry struct {
	Subject health.Subject
	At      time.Time
}

// expiries are when the certificates of the targets expire, as last seen.
type expiries struct {
	mu    sync.Mutex // guards what follows
	known map[health.Subject]seen
}

type seen struct {
	at   time.Time
	warn time.Duration
}

func (e *expiries) note(subject health.Subject, at time.Time, warn time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known == nil {
		e.known = make(map[health.Subject]seen)
	}
	e.known[subject] = seen{at, warn}
}

// keep forgets what is no longer probed.
func (e *expiries) keep(wanted map[health.Subject]*entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for subject := range e.known {
		if _, ok := wanted[subject]; !ok {
			delete(e.known, subject)
		}
	}
}

func (e *expiries) warned(now time.Time) []Expiry {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Expiry
	for subject, k := range e.known {
		if k.warn > 0 && k.at.Sub(now) < k.warn {
			out = append(out, Expiry{subject, k.at})
		}
	}
	return out
}

// earliest is the first of all, in Unix time; 0 without any.
func (e *expiries) earliest() float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	var first time.Time
	for _, k := range e.known {
		if first.IsZero() || k.at.Before(first) {
			first = k.at
		}
	}
	if first.IsZero() {
		return 0
	}
	return float64(first.Unix())
}

// Expiring gives the certificates that the probes warn of, by time and subject: as last
// seen, so that of a target that is down is there too.
func (s *Scheduler) Expiring() []Expiry {
	out := s.expiry.warned(time.Now())
	slices.SortFunc(out, func(a, b Expiry) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return a.Subject.Compare(b.Subject)
	})
	return out
}

// shared keeps what many targets ask for in the same words: a service's probe is made
// ready once for each address.
type shared struct {
	mu       sync.Mutex // guards what follows
	pools    map[string]*x509.CertPool
	patterns map[string]*regexp.Regexp
}

const maxShared = 256

var errAuthorities = errors.New("ca of the probe holds no certificate")

func (s *shared) authorities(text string, otherwise *x509.CertPool) (*x509.CertPool, error) {
	if text == "" {
		return otherwise, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if pool := s.pools[text]; pool != nil {
		return pool, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(text)) {
		return nil, errAuthorities
	}
	if s.pools == nil || len(s.pools) >= maxShared {
		s.pools = make(map[string]*x509.CertPool)
	}
	s.pools[text] = pool
	return pool, nil
}

// pattern compiles an expression; nil for none.
func (s *shared) pattern(text string) (*regexp.Regexp, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // none is an answer
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.patterns[text]; p != nil {
		return p, nil
	}
	p, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("expression of the probe: %w", err)
	}
	if s.patterns == nil || len(s.patterns) >= maxShared {
		s.patterns = make(map[string]*regexp.Regexp)
	}
	s.patterns[text] = p
	return p, nil
}
