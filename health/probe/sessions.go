package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	sessionFor    = time.Minute // then the certificate is looked at again
	sessionsAtOne = 2           // of one address, port, name and authorities
	mostSessions  = 256         // in all: each holds its buffers
	sessionsSwept = 5 * time.Second
	sessionUnused = 30 * time.Second
)

// sessions are TLS connections that answered by HTTP/1.1, kept for the next probe that
// would make the same handshake (see DESIGN.md, Connections that are kept).
type sessions struct {
	mu    sync.Mutex // guards what follows
	at    map[handshake][]*session
	count int
	swept time.Time
}

// handshake is all that what a handshake shows depends on.
type handshake struct {
	addr     netip.AddrPort
	name     string
	protocol string
	insecure bool
	roots    *x509.CertPool
	fail     time.Duration
}

func (r *request) handshakes() handshake {
	h := handshake{addr: r.addr, name: r.tls.ServerName, insecure: r.tls.InsecureSkipVerify, roots: r.tls.RootCAs, fail: r.fail}
	for _, p := range r.tls.NextProtos {
		h.protocol += p + " "
	}
	return h
}

type session struct {
	tcp     *net.TCPConn
	conn    *tls.Conn
	expires time.Time // the certificate
	opened  time.Time
	used    time.Time
}

func (s *session) close() {
	_ = s.tcp.SetLinger(0) // as all connections here
	_ = s.tcp.Close()
}

func (p *sessions) take(of handshake, now time.Time) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep(now)
	list := p.at[of]
	if len(list) == 0 {
		return nil
	}
	s := list[len(list)-1]
	p.at[of] = list[:len(list)-1]
	p.count--
	return s
}

// give keeps a session, or closes it.
func (p *sessions) give(of handshake, s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep(s.used)
	if p.count >= mostSessions || len(p.at[of]) >= sessionsAtOne {
		s.close()
		return
	}
	if p.at == nil {
		p.at = make(map[handshake][]*session)
	}
	p.at[of] = append(p.at[of], s)
	p.count++
}

// sweep closes those that are old, or that nobody has used for long.
func (p *sessions) sweep(now time.Time) {
	if now.Sub(p.swept) >= sessionsSwept {
		p.swept = now
		p.remove(func(s *session) bool {
			return now.Sub(s.opened) >= sessionFor-sessionsSwept || now.Sub(s.used) >= sessionUnused
		})
	}
}

func (p *sessions) remove(which func(*session) bool) {
	for of, list := range p.at {
		left := list[:0]
		for _, s := range list {
			if which(s) {
				s.close()
				p.count--
			} else {
				left = append(left, s)
			}
		}
		clear(list[len(left):])
		if p.at[of] = left; len(left) == 0 {
			delete(p.at, of)
		}
	}
}

func (p *sessions) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(func(*session) bool { return true })
}

// again asks over a session that was kept. False: there is none, or something was wrong
// with it that is to be asked once more over a new one.
func (s *Scheduler) again(ctx context.Context, r *request) (outcome, bool) {
	of := r.handshakes()
	kept := s.sessions.take(of, time.Now())
	if kept == nil {
		return outcome{}, false
	}
	stop, err := bound(ctx, kept.conn)
	if err != nil {
		kept.close()
		return outcome{}, false
	}
	out, reusable := r.http1Page(kept.conn)
	out.expires = kept.expires
	s.leave(of, kept, stop() && out.ok && reusable)
	return out, out.ok || ctx.Err() != nil
}

// leave keeps a session for others, or closes it.
func (s *Scheduler) leave(of handshake, kept *session, keep bool) {
	if !keep || kept.conn.SetDeadline(time.Time{}) != nil {
		kept.close()
		return
	}
	kept.used = time.Now()
	s.sessions.give(of, kept)
}
