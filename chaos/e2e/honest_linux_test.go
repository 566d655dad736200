package e2e

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// patience is how long an honest client waits for an answer. It asks once.
const patience = time.Second

// honest are clients that have proved where they are by a cookie (RFC 7873).
type honest struct {
	to      netip.AddrPort
	clients []*honestClient
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

type honestClient struct {
	conn   *net.UDPConn
	cookie string // both parts

	mu    sync.Mutex           // guards the below
	asked map[uint16]time.Time // by ID, not answered yet
	sent  int
	took  times // of the answers in time
	first string
	wrong int
}

// honest gives clients that have learned their cookies.
func (n *network) honest(t *testing.T, director int) *honest {
	t.Helper()
	h := &honest{to: netip.MustParseAddrPort(n.server(director))}
	for _, conn := range n.clients {
		c := &honestClient{conn: conn, asked: map[uint16]time.Time{}}
		own := make([]byte, 8)
		rand.Read(own)
		c.cookie = hex.EncodeToString(own)
		must(t, c.learn(h.to))
		h.clients = append(h.clients, c)
	}
	return h
}

// question asks for a steered name.
func (c *honestClient) question(id uint16) ([]byte, error) {
	m := new(dns.Msg)
	m.SetQuestion("pay.example.org.", dns.TypeA)
	m.Id = id
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: c.cookie})
	return m.Pack()
}

// learn takes the server's part out of a first reply (RFC 7873 section 5.1).
func (c *honestClient) learn(to netip.AddrPort) error {
	q, err := c.question(1)
	if err != nil {
		return err
	}
	if _, err := c.conn.WriteToUDPAddrPort(q, to); err != nil {
		return err
	}
	c.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 4096)
	n, err := c.conn.Read(buf)
	if err != nil {
		return fmt.Errorf("learning a cookie: %w", err)
	}
	c.conn.SetReadDeadline(time.Time{})
	m := new(dns.Msg)
	if err := m.Unpack(buf[:n]); err != nil {
		return err
	}
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if got, ok := o.(*dns.EDNS0_COOKIE); ok && strings.HasPrefix(got.Cookie, c.cookie) && len(got.Cookie) > len(c.cookie) {
				c.cookie = got.Cookie
				return nil
			}
		}
	}
	return fmt.Errorf("no cookie came back:\n%v", m)
}

// start has all clients ask at a rate, together, until stop.
func (h *honest) start(perSecond float64) {
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	for _, c := range h.clients {
		h.done.Go(c.read)
		h.done.Go(func() { c.ask(ctx, h.to, perSecond/float64(len(h.clients))) })
	}
}

// stop waits for what is under way.
func (h *honest) stop() {
	h.cancel()
	h.done.Wait()
}

func (c *honestClient) ask(ctx context.Context, to netip.AddrPort, perSecond float64) {
	defer func() { c.conn.SetReadDeadline(time.Now().Add(patience)) }() // the reader ends by it
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for sent := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(time.Since(began).Seconds() * perSecond); sent < due; sent++ {
			q, err := c.question(uint16(sent))
			if err != nil {
				c.note(err.Error())
				return
			}
			c.mu.Lock()
			c.asked[uint16(sent)] = time.Now()
			c.sent++
			c.mu.Unlock()
			if _, err := c.conn.WriteToUDPAddrPort(q, to); err != nil {
				c.note(err.Error())
			}
		}
	}
}

func (c *honestClient) read() {
	buf := make([]byte, 4096)
	for {
		n, err := c.conn.Read(buf)
		if err != nil {
			return
		}
		at := time.Now()
		m := new(dns.Msg)
		if err := m.Unpack(buf[:n]); err != nil {
			c.note("unreadable: " + err.Error())
			continue
		}
		c.mu.Lock()
		asked, ok := c.asked[m.Id]
		if ok && at.Sub(asked) <= patience && m.Rcode == dns.RcodeSuccess && len(m.Answer) == 1 && !m.Truncated {
			c.took = append(c.took, at.Sub(asked))
			delete(c.asked, m.Id)
		}
		c.mu.Unlock()
		if m.Rcode != dns.RcodeSuccess || m.Truncated {
			c.note(m.String())
		}
	}
}

func (c *honestClient) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrong++; c.first == "" {
		c.first = what
	}
}

// judge wants nearly all to be answered, in time and in full.
func (h *honest) judge(t *testing.T, want float64) {
	t.Helper()
	sent, took, wrong := 0, times{}, []error{}
	for _, c := range h.clients {
		c.mu.Lock()
		sent += c.sent
		took = append(took, c.took...)
		if c.wrong > 0 {
			wrong = append(wrong, fmt.Errorf("%d times: %s", c.wrong, c.first))
		}
		c.mu.Unlock()
	}
	if len(took) == 0 || float64(sent) < 0.95*want {
		t.Fatalf("honest clients asked %d times and got %d answers, want %.0f: nothing is shown by them", sent, len(took), want)
	}
	lost := 1 - float64(len(took))/float64(sent)
	t.Logf("honest clients with cookies: %d queries, %.2f %% lost, answers within %s, p99 %s", sent, 100*lost, took, took.at(99))
	if lost >= floodLost {
		t.Errorf("F20: honest clients lost %.2f %%, want less than %.0f %%", 100*lost, 100*floodLost)
	}
	if err := errors.Join(wrong...); err != nil {
		t.Errorf("honest clients were told what none with a cookie may be: %v", err)
	}
}
