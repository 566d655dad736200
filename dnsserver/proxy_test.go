package dnsserver

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/answer"
)

// header is a PROXY header for a client, with some octets behind the addresses.
func header(kind byte, from netip.AddrPort, behind ...byte) []byte {
	var body []byte
	body = append(body, from.Addr().AsSlice()...)
	body = append(body, from.Addr().AsSlice()...)
	body = binary.BigEndian.AppendUint16(body, from.Port())
	body = binary.BigEndian.AppendUint16(body, 53)
	return raw(0x21, kind, append(body, behind...))
}

func raw(command, kind byte, body []byte) []byte {
	out := append([]byte(proxySignature), command, kind)
	return append(binary.BigEndian.AppendUint16(out, uint16(len(body))), body...)
}

// The PROXY protocol, version 2, section 2.2: whole, or nothing.
func TestProxyHeader(t *testing.T) {
	peer := netip.MustParseAddrPort("192.0.2.1:1000")
	v4, v6 := netip.MustParseAddrPort("198.51.100.7:4000"), netip.MustParseAddrPort("[2001:db8::7]:4000")
	mapped := netip.MustParseAddrPort("[::ffff:198.51.100.7]:4000")
	tests := []struct {
		name string
		data []byte
		from netip.AddrPort // invalid: it is none
	}{
		{"IPv4 by TCP", header(0x11, v4), v4},
		{"IPv4 by UDP", header(0x12, v4), v4},
		{"IPv6", header(0x21, v6), v6},
		{"IPv4 in IPv6", header(0x22, mapped), v4},
		{"with more behind", header(0x11, v4, 4, 0, 1, 0), v4},
		{"LOCAL", raw(0x20, 0, nil), peer},
		{"LOCAL with addresses", raw(0x20, 0x11, make([]byte, 12)), peer},
		{"unknown addresses", raw(0x21, 0, []byte("xyz")), peer},
		{"nothing", nil, netip.AddrPort{}},
		{"a query", []byte("0123456789abcdefghij"), netip.AddrPort{}},
		{"version 1", []byte("PROXY TCP4 198.51.100.7 192.0.2.1 4000 53\r\n"), netip.AddrPort{}},
		{"version 3", raw(0x31, 0x11, make([]byte, 12)), netip.AddrPort{}},
		{"another command", raw(0x22, 0x11, make([]byte, 12)), netip.AddrPort{}},
		{"a unix socket", raw(0x21, 0x31, make([]byte, 216)), netip.AddrPort{}},
		{"another transport", raw(0x21, 0x13, make([]byte, 12)), netip.AddrPort{}},
		{"too short for IPv4", raw(0x21, 0x11, make([]byte, 11)), netip.AddrPort{}},
		{"too short for IPv6", raw(0x21, 0x21, make([]byte, 35)), netip.AddrPort{}},
		{"too long", raw(0x21, 0x11, make([]byte, maxProxy+1)), netip.AddrPort{}},
		{"cut", header(0x11, v4)[:27], netip.AddrPort{}},
		{"multicast", header(0x11, netip.MustParseAddrPort("224.0.0.1:53")), netip.AddrPort{}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			rest, from, ok := cutProxy(append(tc.data, "query"...), peer)
			if tc.name == "cut" {
				rest, from, ok = cutProxy(tc.data, peer)
			}
			if ok != tc.from.IsValid() || ok && (from != tc.from || string(rest) != "query") {
				t.Errorf("a datagram: got %s, %q, %t", from, rest, ok)
			}
			r := bytes.NewReader(append(tc.data, "query"...))
			if tc.name == "cut" {
				r = bytes.NewReader(tc.data)
			}
			from, err := readProxy(r, peer)
			left, _ := io.ReadAll(r)
			if (err == nil) != tc.from.IsValid() || err == nil && (from != tc.from || string(left) != "query") {
				t.Errorf("a connection: got %s, %v, %q left", from, err, left)
			}
		})
	}
}

// FuzzProxy: datagrams and connections read headers alike, and neither crashes (C1:
// one packet was enough for another server).
func FuzzProxy(f *testing.F) {
	f.Add(header(0x11, netip.MustParseAddrPort("198.51.100.7:4000"), 1, 2, 3))
	f.Add(header(0x22, netip.MustParseAddrPort("[2001:db8::7]:4000")))
	f.Add(raw(0x20, 0, nil))
	peer := netip.MustParseAddrPort("192.0.2.1:1000")
	f.Fuzz(func(t *testing.T, data []byte) {
		rest, from, ok := cutProxy(data, peer)
		r := bytes.NewReader(data)
		other, err := readProxy(r, peer)
		if ok != (err == nil) || ok && (from != other || r.Len() != len(rest) || !from.IsValid()) {
			t.Errorf("got %s, %d left, %t, and %s, %d left, %v", from, len(rest), ok, other, r.Len(), err)
		}
	})
}

// The header's address is the client for all that depends on who it is: transfers
// here, by each transport; from anybody else a header is garbage.
func TestProxied(t *testing.T) {
	client := netip.MustParseAddrPort("198.51.100.7:4000")
	allow := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	query, err := ixfr(0).Pack()
	if err != nil {
		t.Fatal(err)
	}
	ask := func(t *testing.T, s *Server, network string, head []byte) []byte {
		t.Helper()
		addr := s.Addrs()[0].String()
		if network == "tls" {
			addr = s.TLSAddrs()[0].String()
		}
		conn, err := net.Dial(map[string]string{"udp": "udp", "tcp": "tcp", "tls": "tcp"}[network], addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		if network == "udp" {
			if _, err := conn.Write(append(bytes.Clone(head), query...)); err != nil {
				t.Fatal(err)
			}
			if len(head) > 0 && len(s.proxies) == 0 || len(head) == 0 && len(s.proxies) > 0 {
				return nil // nothing comes: that is TestProxiedDatagrams
			}
			n, err := conn.Read(buf)
			if err != nil {
				return nil
			}
			return buf[:n]
		}
		if _, err := conn.Write(head); err != nil {
			t.Fatal(err)
		}
		if network == "tls" {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
			return nil
		}
		if _, err := io.ReadFull(conn, buf[:2]); err != nil {
			return nil
		}
		n := binary.BigEndian.Uint16(buf)
		if _, err := io.ReadFull(conn, buf[:n]); err != nil {
			return nil
		}
		return buf[:n]
	}
	for _, network := range []string{"udp", "tcp", "tls"} {
		behind := serveTLS(t, exampleTable(t, ""), func(o *Options, _ *limits) {
			o.Transfers.Allow, o.Proxies = allow, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		})
		if reply := ask(t, behind, network, header(0x11, client)); reply == nil || unpack(t, reply).Rcode != dns.RcodeSuccess {
			t.Errorf("%s: the client of the header is not taken for who asks", network)
		}
		if reply := ask(t, behind, network, raw(0x20, 0, nil)); reply == nil || unpack(t, reply).Rcode != dns.RcodeRefused {
			t.Errorf("%s: LOCAL is not the proxy itself", network)
		}
		if network != "udp" {
			if reply := ask(t, behind, network, nil); reply != nil {
				t.Errorf("%s: a proxy needs no header", network)
			}
		}
		plain := serveTLS(t, exampleTable(t, ""), func(o *Options, _ *limits) {
			o.Transfers.Allow, o.Proxies = allow, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		})
		if network != "udp" {
			if reply := ask(t, plain, network, header(0x11, client)); reply != nil {
				t.Errorf("%s: anybody may write a header", network)
			}
		}
		if reply := ask(t, plain, network, nil); network != "udp" && (reply == nil || unpack(t, reply).Rcode != dns.RcodeRefused) {
			t.Errorf("%s: a client beside the proxies is not served", network)
		}
	}
}

// By UDP what has no header, or one that it may not have, gets nothing or an error;
// and no header allocates.
func TestProxiedDatagrams(t *testing.T) {
	packet := framed(t, 1)[2:]
	with := header(0x12, netip.MustParseAddrPort("198.51.100.7:4000"))
	peer := netip.MustParseAddrPort("127.0.0.1:4000")
	if n := testing.AllocsPerRun(100, func() { cutProxy(with, peer) }); n != 0 {
		t.Errorf("a header allocates %f times", n)
	}
	s := serve(t, exampleTable(t, ""), func(o *Options, _ *limits) { o.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} })
	conn, err := net.Dial("udp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
	for s.metrics.proxyErrors.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if reply := exchange(t, "udp", s.Addrs()[0].String(), append(bytes.Clone(with), packet...)); len(unpack(t, reply).Answer) != 1 {
		t.Errorf("got\n%v", unpack(t, reply))
	}
	// A header in front of a query is no query (FORMERR, as any garbage of its length).
	open := serve(t, exampleTable(t, ""), nil)
	reply, _ := open.reply(make([]byte, 0, 2000), append(bytes.Clone(with), packet...), answer.Client{Transport: answer.UDP, Addr: peer})
	if len(reply) > 0 && unpack(t, reply).Rcode == dns.RcodeSuccess {
		t.Errorf("got\n%v", unpack(t, reply))
	}
}

// The caps per client are those of the clients that the headers name, not the
// proxy's.
func TestProxiedCaps(t *testing.T) {
	s := serve(t, exampleTable(t, ""), func(o *Options, l *limits) {
		o.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		l.perClient = 1
	})
	connect := func(from string) net.Conn {
		conn := dialTCP(t, s)
		if _, err := conn.Write(append(header(0x11, netip.MustParseAddrPort(from)), framed(t, 1)...)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	readFrame(t, connect("198.51.100.1:4000"))
	readFrame(t, connect("198.51.100.2:4000"))
	if data, _ := io.ReadAll(connect("198.51.100.1:4001")); len(data) > 0 {
		t.Error("a second connection of a client is served")
	}
}
