package e2e

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The client that says "0 failed" counts each way in which a query fails, against a server
// that does all of them: of each 10 it answers one not at all, one with another address, one
// with SERVFAIL, and one twice.
func TestConstantCounts(t *testing.T) {
	if runtimeHasOneLoopback() {
		t.Skip("loopback has only 127.0.0.1 here: each source needs an address")
	}
	n := claim(t)
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, n, 7, 1)})
	must(t, err)
	served := make(chan struct{})
	t.Cleanup(func() { _ = server.Close(); <-served })
	go func() {
		defer close(served)
		buf := make([]byte, 512)
		for i := 0; ; i++ {
			size, from, err := server.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(buf[:size]) != nil {
				continue
			}
			m := new(dns.Msg).SetReply(q)
			m.Authoritative = true
			address := net.IPv4(192, 0, 2, 10)
			switch i % 10 {
			case 0:
				continue
			case 1:
				address = net.IPv4(192, 0, 2, 11)
			case 2:
				m.Rcode = dns.RcodeServerFailure
			}
			if m.Rcode == dns.RcodeSuccess {
				m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: address}}
			}
			raw, err := m.Pack()
			if err != nil {
				continue
			}
			_, _ = server.WriteToUDPAddrPort(raw, from)
			if i%10 == 3 {
				_, _ = server.WriteToUDPAddrPort(raw, from)
			}
		}
	}()
	c := newConstant(t, n, []string{server.LocalAddr().String()}, map[string]string{"s1.example.org": "192.0.2.10"})
	c.start(500)
	(&rig{t: t}).until(20*time.Second, "100 queries", func() error {
		sum := 0
		for _, s := range c.sources {
			s.mu.Lock()
			sum += s.counts.sent
			s.mu.Unlock()
		}
		if sum < 100 {
			return errors.New("fewer were asked")
		}
		return nil
	})
	got, _ := c.stop()
	tenth := got.sent / 10
	if got.unanswered < tenth || got.unanswered > tenth+1 {
		t.Errorf("%d of %d queries are unanswered, want one in 10", got.unanswered, got.sent)
	}
	if got.wrong < 3*tenth-1 || got.wrong > 3*tenth+3 {
		t.Errorf("%d of %d answers are wrong, want three in 10", got.wrong, got.sent)
	}
	if got.first == "" || got.failed() != got.unanswered+got.wrong+got.late {
		t.Errorf("got %+v", got)
	}
}
