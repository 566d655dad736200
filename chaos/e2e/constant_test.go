package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	// constantPatience is how long a query may take: a resolver asks another director then.
	constantPatience = 2 * time.Second
	// constantSources is how many addresses and ports each director is asked from.
	constantSources = 8
	// constantTick is between two looks at what is due.
	constantTick = time.Millisecond
)

// constant is an open-loop client: what is due is sent when it is due, whatever has come back
// of what was sent before, and each query once. A query has failed unless within
// constantPatience of when it was due one reply came, NOERROR and authoritative, with the one
// address that is right. A query counts from when it was due, so that a client that stands
// still does not flatter the servers.
type constant struct {
	t       *testing.T
	want    map[string]string // host: its address
	queries [][]byte          // ready-made, of each host
	hosts   []string
	sources []*source

	cancel context.CancelFunc
	done   sync.WaitGroup
	began  time.Time
	rate   int // a second, of all
	late   time.Duration
}

// source is one socket, and what it has asked. IDs go round, long after constantPatience.
type source struct {
	server string
	conn   *net.UDPConn

	mu     sync.Mutex // guards the below
	next   uint16
	asked  map[uint16]pending
	counts outcome
}

// pending is a query that is not answered yet.
type pending struct {
	host int
	due  time.Time
}

// outcome is what became of queries.
type outcome struct {
	sent, answered, late, unanswered, wrong int
	first                                   string // what failed first
	took                                    times
}

// failed is how many did.
func (o *outcome) failed() int { return o.late + o.unanswered + o.wrong }

func (o *outcome) fail(count *int, format string, args ...any) {
	*count++
	if o.first == "" {
		o.first = fmt.Sprintf(format, args...)
	}
}

func (o *outcome) add(p outcome) {
	o.sent, o.answered, o.late = o.sent+p.sent, o.answered+p.answered, o.late+p.late
	o.unanswered, o.wrong = o.unanswered+p.unanswered, o.wrong+p.wrong
	o.took = append(o.took, p.took...)
	if o.first == "" {
		o.first = p.first
	}
}

// newConstant opens the sockets, each at an address in a network of its own.
func newConstant(t *testing.T, n byte, servers []string, want map[string]string) *constant {
	t.Helper()
	c := &constant{t: t, want: want}
	for host := range want {
		m := new(dns.Msg)
		m.SetQuestion(dns.Fqdn(host), dns.TypeA)
		m.SetEdns0(1232, false)
		raw, err := m.Pack()
		must(t, err)
		c.hosts, c.queries = append(c.hosts, host), append(c.queries, raw)
	}
	for i, server := range servers {
		to, err := net.ResolveUDPAddr("udp4", server)
		must(t, err)
		for j := range constantSources {
			conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, n, byte(100+i*constantSources+j), 1)}, to)
			must(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			_ = conn.SetReadBuffer(4 << 20)
			c.sources = append(c.sources, &source{server: server, conn: conn, asked: map[uint16]pending{}})
		}
	}
	return c
}

// start begins to ask all servers together, so often a second.
func (c *constant) start(rate int) {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel, c.rate, c.began = cancel, rate, time.Now()
	for _, s := range c.sources {
		c.done.Go(func() { c.read(s) })
	}
	c.done.Go(func() { c.send(ctx) })
}

// send asks from all sources in turn.
func (c *constant) send(ctx context.Context) {
	defer func() {
		for _, s := range c.sources {
			_ = s.conn.SetReadDeadline(time.Now()) // its reader ends
		}
	}()
	tick := time.NewTicker(constantTick)
	defer tick.Stop()
	gap := time.Second / time.Duration(c.rate)
	for sent := 0; ; {
		select {
		case <-ctx.Done():
			<-time.After(constantPatience) // of what was asked last
			return
		case now := <-tick.C:
			for due := c.began.Add(time.Duration(sent) * gap); !due.After(now); due = c.began.Add(time.Duration(sent) * gap) {
				c.late = max(c.late, time.Since(due))
				c.sources[sent%len(c.sources)].ask(sent/len(c.sources)%len(c.hosts), c, due)
				sent++
			}
		}
	}
}

func (s *source) ask(host int, c *constant, due time.Time) {
	var out [512]byte
	n := copy(out[:], c.queries[host])
	s.mu.Lock()
	s.next++
	id := s.next
	if q, ok := s.asked[id]; ok {
		s.counts.fail(&s.counts.unanswered, "%s did not answer %s", s.server, c.hosts[q.host])
	}
	s.asked[id] = pending{host: host, due: due}
	s.counts.sent++
	s.mu.Unlock()
	out[0], out[1] = byte(id>>8), byte(id)
	if _, err := s.conn.Write(out[:n]); err != nil {
		s.mu.Lock()
		delete(s.asked, id)
		s.counts.fail(&s.counts.unanswered, "%s: %v", s.server, err)
		s.mu.Unlock()
	}
}

func (c *constant) read(s *source) {
	buf := make([]byte, 4096)
	for {
		n, err := s.conn.Read(buf)
		at := time.Now()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			continue // refused: what was asked is found to be unanswered
		}
		m := new(dns.Msg)
		err = m.Unpack(buf[:n])
		s.mu.Lock()
		q, ok := s.asked[m.Id]
		delete(s.asked, m.Id)
		took := at.Sub(q.due)
		switch {
		case !ok:
			s.counts.fail(&s.counts.wrong, "%s answered what was not asked, or twice", s.server)
		case err != nil:
			s.counts.fail(&s.counts.wrong, "%s: %v", s.server, err)
		case took > constantPatience:
			s.counts.fail(&s.counts.late, "%s answered %s after %s", s.server, c.hosts[q.host], took)
		default:
			s.counts.answered++
			s.counts.took = append(s.counts.took, took)
			if err := right(m, c.hosts[q.host], c.want[c.hosts[q.host]]); err != nil {
				s.counts.fail(&s.counts.wrong, "%s: %v", s.server, err)
			}
		}
		s.mu.Unlock()
	}
}

// right holds a reply against the one address that a host has.
func right(m *dns.Msg, host, want string) error {
	if len(m.Question) != 1 || m.Question[0].Name != dns.Fqdn(host) || !m.Response {
		return fmt.Errorf("no reply to %s: %v", host, m.Question)
	}
	if m.Rcode != dns.RcodeSuccess || !m.Authoritative || m.Truncated || len(m.Answer) != 1 {
		return fmt.Errorf("%s: %s, %d records", host, dns.RcodeToString[m.Rcode], len(m.Answer))
	}
	if a, ok := m.Answer[0].(*dns.A); !ok || a.A.String() != want {
		return fmt.Errorf("%s is at %v, want %s", host, m.Answer[0], want)
	}
	return nil
}

// stop ends the asking, waits for what is under way, and says what became of all.
func (c *constant) stop() (out outcome, took time.Duration) {
	took = time.Since(c.began)
	c.cancel()
	c.done.Wait()
	for _, s := range c.sources {
		for _, q := range s.asked {
			s.counts.fail(&s.counts.unanswered, "%s did not answer %s", s.server, c.hosts[q.host])
		}
		out.add(s.counts)
	}
	return out, took
}

// overTLS asks each server by DNS over TLS, again and again until ctx ends, each time over a
// connection of its own (RFC 7858): what they show is what is served just now.
func overTLS(ctx context.Context, servers []string, want map[string]string) (out outcome) {
	client := &dns.Client{Net: "tcp-tls", Timeout: constantPatience, TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, //nolint:gosec // answers are looked at, and certificates elsewhere
	}}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, server := range servers {
			for host, address := range want {
				m := new(dns.Msg)
				m.SetQuestion(dns.Fqdn(host), dns.TypeA)
				out.sent++
				reply, took, err := client.Exchange(m, server)
				if err != nil {
					out.fail(&out.unanswered, "%s by TLS: %v", server, err)
					continue
				}
				out.answered, out.took = out.answered+1, append(out.took, took)
				if err := right(reply, host, address); err != nil {
					out.fail(&out.wrong, "%s by TLS: %v", server, err)
				}
				select {
				case <-ctx.Done():
					return out
				case <-tick.C:
				}
			}
		}
		if ctx.Err() != nil {
			return out
		}
	}
}
