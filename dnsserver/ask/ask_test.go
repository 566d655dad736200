package ask

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestPlan(t *testing.T) {
	tests := []struct {
		name   string
		answer func(m *dns.Msg)
		want   string
		fails  bool
	}{
		{name: "one text", answer: func(m *dns.Msg) { txt(m, "fleet=f epoch=1 revision=2 hash=00") }, want: "fleet=f epoch=1 revision=2 hash=00"},
		{name: "split text is joined", answer: func(m *dns.Msg) { txt(m, "fleet=f ", "epoch=1") }, want: "fleet=f epoch=1"},
		{name: "no plan yet", answer: func(m *dns.Msg) { m.Rcode = dns.RcodeRefused }, fails: true},
		{name: "mute", answer: nil, fails: true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			conn, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				serve(conn, tc.answer)
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			got, err := Plan(ctx, conn.LocalAddr().String(), netip.MustParseAddr("127.0.0.1"))
			if (err != nil) != tc.fails {
				t.Errorf("err = %v, want failure %v", err, tc.fails)
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			conn.Close()
			<-done
		})
	}
}

// A packet that is lost is sent again, by the same socket.
func TestLostOnce(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if asked++; asked == 1 {
				continue
			}
			q := new(dns.Msg)
			if q.Unpack(buf[:n]) != nil {
				continue
			}
			m := new(dns.Msg).SetReply(q)
			stranger := m.Copy()
			stranger.Id++
			txt(m, "fleet=f")
			for _, reply := range []*dns.Msg{stranger, m} {
				if out, err := reply.Pack(); err == nil {
					conn.WriteTo(out, from)
				}
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if got, err := Plan(ctx, conn.LocalAddr().String(), netip.Addr{}); got != "fleet=f" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	conn.Close()
	<-done
	if asked < 2 {
		t.Errorf("asked %d times", asked)
	}
}

func txt(m *dns.Msg, parts ...string) {
	m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: PlanName, Rrtype: dns.TypeTXT, Class: dns.ClassCHAOS}, Txt: parts})
}

func serve(conn net.PacketConn, answer func(*dns.Msg)) {
	buf := make([]byte, 512)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		q := new(dns.Msg)
		if q.Unpack(buf[:n]) != nil || answer == nil {
			continue
		}
		m := new(dns.Msg).SetReply(q)
		answer(m)
		if out, err := m.Pack(); err == nil {
			conn.WriteTo(out, from)
		}
	}
}
