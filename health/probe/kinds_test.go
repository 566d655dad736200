package probe

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/divertdns/divert/health"
)

// once probes one target, beside any schedule.
func once(t *testing.T, o Options, addr netip.AddrPort, target Target) health.Report {
	t.Helper()
	target.Subject = health.Subject{Kind: health.KindCheck, Addr: addr, Def: "0123456789abcdef"}
	if o.Allow == nil {
		o.Allow = loopback()
	}
	if target.Interval == 0 {
		target.Interval, target.Timeout = 10*time.Second, 10*time.Second
	}
	if target.HTTP != nil {
		target.HTTP.Addr = addr
	}
	if target.TCP != nil {
		target.TCP.Addr = addr
	}
	return New(o).Now(t.Context(), target)
}

// want compares a report: passed if reason is "", else failed with a reason that begins
// so and the sign.
func want(t *testing.T, got health.Report, reason string, sign health.Sign) {
	t.Helper()
	if got.Void || got.OK != (reason == "") || !strings.HasPrefix(got.Reason, reason) || !got.OK && got.Sign != sign {
		t.Errorf("got %+v, want reason %q and %v", got, reason, sign)
	}
}

// brief is the time that a target has which is to run out of it.
func brief(target Target) Target {
	target.Interval, target.Timeout = 200*time.Millisecond, 200*time.Millisecond
	return target
}

// TestTalk tries what is sent and expected over TCP, and hostile servers (C12, F23).
func TestTalk(t *testing.T) {
	smtp := func(c net.Conn) {
		_, _ = io.WriteString(c, "220 mail.exa")
		_, _ = io.WriteString(c, "mple.org\r\n")
		silent(c)
	}
	echo := func(c net.Conn) { _, _ = io.Copy(c, c) }
	tests := []struct {
		name   string
		serve  func(net.Conn)
		tcp    TCP
		reason string
		sign   health.Sign
	}{
		{"banner", smtp, TCP{Expect: "220 "}, "", 0},
		{"banner in pieces", smtp, TCP{Expect: "example.org\r\n"}, "", 0},
		{"banner by expression", smtp, TCP{ExpectRegexp: `(?m)^220 .*\.org\r$`}, "", 0},
		{"octets", echo, TCP{Send: "\x00\xff\x80", Expect: "\xff\x80"}, "", 0},
		{"wrong banner", smtp, TCP{Expect: "554"}, `answer lacks "554"`, health.SignWrong},
		{"wrong, then closed", func(c net.Conn) { _, _ = io.WriteString(c, "554 no") }, TCP{Expect: "220"}, `answer lacks "220"`, health.SignWrong},
		{"closed at once", func(net.Conn) {}, TCP{Expect: "220"}, "", health.SignRefused},
		{"says nothing", silent, TCP{Expect: "220"}, "timeout waiting for the answer", health.SignMute},
		{"10 GB", func(c net.Conn) {
			for piece := []byte(strings.Repeat("x", 16<<10)); ; {
				if _, err := c.Write(piece); err != nil {
					return
				}
			}
		}, TCP{Expect: "220"}, `answer lacks "220"`, health.SignWrong},
		{"10 GB, by expression", func(c net.Conn) {
			for piece := []byte(strings.Repeat("x", 16<<10)); ; {
				if _, err := c.Write(piece); err != nil {
					return
				}
			}
		}, TCP{ExpectRegexp: "(x+)+y"}, "answer does not match", health.SignWrong},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			target := Target{TCP: &tc.tcp}
			if strings.HasPrefix(tc.reason, "timeout") || tc.name == "wrong banner" {
				target = brief(target)
			}
			got := once(t, Options{}, newFake(t, tc.serve).addr, target)
			if tc.name == "closed at once" {
				if got.OK || got.Void || got.Sign != tc.sign {
					t.Errorf("got %+v, want refused", got)
				}
				return
			}
			want(t, got, tc.reason, tc.sign)
		})
	}
}

// TestTalkPartsPolitely: a server that is talked to sees an end, not a reset.
func TestTalkPartsPolitely(t *testing.T) {
	ends := make(chan error, 1)
	f := newFake(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 ready\r\n")
		_, err := io.Copy(io.Discard, c)
		ends <- err
	})
	want(t, once(t, Options{}, f.addr, Target{TCP: &TCP{Expect: "220 "}}), "", 0)
	if err := <-ends; err != nil {
		t.Errorf("the server got %v, want an orderly end", err)
	}
}

// TestTLS tries handshakes alone: names, authorities, protocols, dates.
func TestTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	const name = "shop.example.org"
	serve := func(config *tls.Config, protocols ...string) netip.AddrPort {
		config = config.Clone()
		config.NextProtos = protocols
		return newFake(t, secured(config, silent)).addr
	}
	good := ca.issue(t, name, -time.Hour, time.Hour)
	strange := other.issue(t, name, -2*time.Hour, -time.Hour)
	tests := []struct {
		name   string
		addr   netip.AddrPort
		tls    TLS
		reason string
		sign   health.Sign
	}{
		{"passes", serve(good), TLS{}, "", 0},
		{"another name", serve(good), TLS{Secure: Secure{SNI: "pay.example.org"}}, "certificate is not for pay.example.org", health.SignWrong},
		{"unknown authority", serve(other.issue(t, name, -time.Hour, time.Hour)), TLS{}, "certificate signed by an unknown authority", health.SignWrong},
		{"an authority of its own", serve(other.issue(t, name, -time.Hour, time.Hour)), TLS{Secure: Secure{CA: other.text()}}, "", 0},
		{"insecure", serve(strange), TLS{Secure: Secure{Insecure: true}}, "", 0},
		{"expired", serve(ca.issue(t, name, -2*time.Hour, -time.Hour)), TLS{}, "certificate expired at ", health.SignWrong},
		{"too little left", serve(good), TLS{Secure: Secure{Fail: 2 * time.Hour}}, "certificate expires at ", health.SignWrong},
		{"enough left", serve(good), TLS{Secure: Secure{Fail: 30 * time.Minute}}, "", 0},
		{"protocol chosen", serve(good, "imap"), TLS{ALPN: []string{"h2", "imap"}}, "", 0},
		{"protocol refused", serve(good, "imap"), TLS{ALPN: []string{"h2"}}, "TLS alert: no application protocol", health.SignWrong},
		{"no protocols spoken of", serve(good), TLS{ALPN: []string{"h2"}}, "chose none of the protocols offered (ALPN)", health.SignWrong},
		{"no TLS", newFake(t, say("HTTP/1.1 200 OK\r\n\r\n")).addr, TLS{}, "timeout in the TLS handshake", health.SignMute},
		{"hangs", newFake(t, silent).addr, TLS{}, "timeout in the TLS handshake", health.SignMute},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if tc.tls.SNI == "" {
				tc.tls.SNI = name
			}
			target := Target{TLS: &tc.tls}
			if strings.HasPrefix(tc.reason, "timeout") {
				target = brief(target)
			}
			want(t, once(t, Options{RootCAs: ca.pool()}, tc.addr, target), tc.reason, tc.sign)
		})
	}
}

// TestICMP pings this machine, where it may; where not, it says so and is void.
func TestICMP(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		o := Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}
		got := once(t, o, netip.AddrPortFrom(netip.MustParseAddr(addr), 0), Target{ICMP: &ICMP{}})
		switch {
		case got.Void && strings.HasPrefix(got.Reason, "our own side: "):
			t.Logf("%s: %s", addr, got.Reason)
		default:
			want(t, got, "", 0)
			if got.Latency <= 0 {
				t.Errorf("%s: got %+v, want a latency", addr, got)
			}
		}
	}
}

// TestKindsC12: whatever is asked, the address is checked at the moment it is dialled,
// that of a hostname too; and nothing of an answer stands in a reason.
func TestKindsC12(t *testing.T) {
	var seen atomic.Int64
	f := newFake(t, func(c net.Conn) { seen.Add(1); silent(c) })
	packets, err := net.ListenPacket("udp", f.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = packets.Close() })
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		if _, _, err := packets.ReadFrom(make([]byte, 1)); err == nil {
			seen.Add(1)
		}
	}()
	kinds := map[string]Target{
		"fast": {Fast: true}, "connect": {}, "tcp": {TCP: &TCP{Addr: f.addr, Expect: "a"}},
		"http": {HTTP: &HTTP{Scheme: "http", Addr: f.addr}}, "https": {HTTP: &HTTP{Scheme: "https", Addr: f.addr}},
		"h2c": {HTTP: &HTTP{Scheme: "http", Version: "2", Addr: f.addr}}, "h2": {HTTP: &HTTP{Scheme: "https", Version: "2", Addr: f.addr}},
		"regexp": {HTTP: &HTTP{Scheme: "http", Addr: f.addr, BodyRegexp: "a"}},
		"tls":    {TLS: &TLS{}}, "grpc": {GRPC: &GRPC{}}, "grpc without TLS": {GRPC: &GRPC{Plaintext: true}},
		"dns by UDP": {DNS: &DNS{Name: "a"}}, "dns by TCP": {DNS: &DNS{Name: "a", Transport: "tcp"}}, "dns by TLS": {DNS: &DNS{Name: "a", Transport: "tls"}},
		"icmp": {ICMP: &ICMP{}}, "exec": {Exec: &Exec{Command: "/bin/true"}},
	}
	for name, target := range kinds {
		target.Subject = health.Subject{Kind: health.KindCheck, Addr: f.addr, Def: "0123456789abcdef"}
		o := Options{Exec: []string{"/bin/true"}, Lookup: func(string) []netip.Addr { return []netip.Addr{f.addr.Addr()} }}
		for _, host := range []string{"", "lb.example.net"} {
			target.Hostname = host
			if got := New(o).Now(t.Context(), target); !got.Void || !strings.Contains(got.Reason, "127.0.0.1 is not probed: loopback") {
				t.Errorf("%s, hostname %q: got %+v, want void and why", name, host, got)
			}
		}
		target.Hostname = ""
		s := New(o)
		r := s.prepare(target)
		r.refused = "" // as if the address had been let through before
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if got := s.exchange(ctx, r); !got.void || !strings.Contains(got.reason, "loopback") {
			t.Errorf("%s, when dialled: got %+v, want void and why", name, got)
		}
		cancel()
	}
	_ = packets.Close()
	<-heard
	if n := seen.Load(); n != 0 {
		t.Errorf("%d connections or packets arrived where none may go", n)
	}
}
