package probe

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/health"
)

// TestDNS tries servers by UDP, TCP and TLS: rcodes, answers, and what is none.
func TestDNS(t *testing.T) {
	ca := newAuthority(t)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		add := func(text string) {
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Error(err)
				return
			}
			m.Answer = append(m.Answer, rr)
		}
		switch strings.ToLower(r.Question[0].Name) {
		case "www.example.org.":
			switch r.Question[0].Qtype {
			case dns.TypeA:
				add("www.example.org. 60 CNAME web.example.org.")
				add("web.example.org. 60 A 192.0.2.1")
				add("web.example.org. 60 A 192.0.2.2")
			case dns.TypeAAAA:
				add("www.example.org. 60 AAAA 2001:db8::1")
			case dns.TypeNS:
				add("www.example.org. 60 NS NS1.example.org.")
			case dns.TypeTXT:
				add(`www.example.org. 60 TXT "all" " ok"`)
			}
		case "silent.example.org.":
			return
		case "late.example.org.": // first what answers another query, then this one
			m.Id++
			_ = w.WriteMsg(m)
			m.Id--
		case "other.example.org.":
			m.Question[0].Name = "another.example.org."
		case "short.example.org.":
			m.Truncated = true
		case "broken.example.org.":
			data, _ := m.Pack()
			_, _ = w.Write(data[:len(data)-3])
			return
		default:
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	})
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	streams, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secure, err := tls.Listen("tcp", "127.0.0.1:0", ca.issue(t, "ns1.example.org", -time.Hour, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: streams, Handler: handler}, {Listener: secure, Handler: handler}} {
		started, ended := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(ended); _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown(); <-ended })
	}
	addrs := map[string]netip.AddrPort{
		"udp": netip.MustParseAddrPort(packets.LocalAddr().String()), "tcp": netip.MustParseAddrPort(streams.Addr().String()),
		"tls": netip.MustParseAddrPort(secure.Addr().String()),
	}
	tests := []struct {
		name   string
		dns    DNS
		reason string
		sign   health.Sign
	}{
		{"passes", DNS{Name: "www.example.org"}, "", 0},
		{"in other letters", DNS{Name: "WWW.example.org"}, "", 0},
		{"answers", DNS{Name: "www.example.org", Answers: []string{"192.0.2.2", "192.0.2.1"}}, "", 0},
		{"IPv6", DNS{Name: "www.example.org", Type: "AAAA", Answers: []string{"2001:db8::1"}}, "", 0},
		{"names", DNS{Name: "www.example.org", Type: "NS", Answers: []string{"ns1.example.org"}}, "", 0},
		{"text", DNS{Name: "www.example.org", Type: "TXT", Answers: []string{"all ok"}}, "", 0},
		{"lacks", DNS{Name: "www.example.org", Answers: []string{"192.0.2.1", "192.0.2.3"}}, "answer lacks 192.0.2.3", health.SignWrong},
		{"truncated", DNS{Name: "short.example.org", Answers: []string{"192.0.2.3"}}, "answer is truncated, and lacks 192.0.2.3", health.SignWrong},
		{"rcode", DNS{Name: "nowhere.example.org"}, "rcode NXDOMAIN", health.SignWrong},
		{"rcode wanted", DNS{Name: "nowhere.example.org", Rcodes: []string{"NOERROR", "NXDOMAIN"}}, "", 0},
		{"another question", DNS{Name: "other.example.org"}, "answer to another question", health.SignWrong},
		{"broken", DNS{Name: "broken.example.org"}, "malformed DNS answer", health.SignWrong},
		{"silent", DNS{Name: "silent.example.org"}, "timeout waiting for the answer", health.SignMute},
	}
	for _, tc := range tests {
		for transport, addr := range addrs {
			t.Run(tc.name+"/"+transport, func(t *testing.T) {
				t.Parallel()
				d, sign := tc.dns, tc.sign
				d.Transport, d.SNI = transport, "ns1.example.org"
				target := Target{DNS: &d}
				if strings.HasPrefix(tc.reason, "timeout") {
					target = brief(target)
					if transport == "udp" {
						sign = health.SignSilent
					}
				}
				want(t, once(t, Options{RootCAs: ca.pool()}, addr, target), tc.reason, sign)
			})
		}
	}
	t.Run("late", func(t *testing.T) {
		want(t, once(t, Options{}, addrs["udp"], Target{DNS: &DNS{Name: "late.example.org"}}), "", 0)
		want(t, once(t, Options{}, addrs["tcp"], Target{DNS: &DNS{Name: "late.example.org", Transport: "tcp"}}), "answer to another question", health.SignWrong)
	})
	t.Run("nobody", func(t *testing.T) {
		gone, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := netip.MustParseAddrPort(gone.LocalAddr().String())
		_ = gone.Close()
		want(t, once(t, Options{}, addr, Target{DNS: &DNS{Name: "www.example.org"}}), "connection refused", health.SignRefused)
	})
	t.Run("another name", func(t *testing.T) {
		got := once(t, Options{RootCAs: ca.pool()}, addrs["tls"], Target{DNS: &DNS{Name: "www.example.org", Transport: "tls", Secure: Secure{SNI: "ns2.example.org"}}})
		want(t, got, "certificate is not for ns2.example.org", health.SignWrong)
	})
}
