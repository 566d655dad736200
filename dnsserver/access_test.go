package dnsserver

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/answer"
)

// theKey is what the tests sign with.
func theKey() Key {
	return Key{Name: "Secondary.example.net", Algorithm: "hmac-sha256", Secret: []byte("0123456789abcdef0123456789abcdef")}
}

func secretOf(k Key) string { return base64.StdEncoding.EncodeToString(k.Secret) }

// signedBy packs a message with a TSIG record, and gives its MAC.
func signedBy(t testing.TB, m *dns.Msg, k Key, at time.Time) (packet []byte, mac string) {
	t.Helper()
	m = m.Copy()
	m.SetTsig(dns.Fqdn(k.Name), dns.Fqdn(k.Algorithm), 300, at.Unix())
	packet, mac, err := dns.TsigGenerate(m, secretOf(k), "", false)
	if err != nil {
		t.Fatalf("signing: %v", err)
	}
	return packet, mac
}

// exchange sends a packet by any transport and gives the raw reply.
func exchange(t testing.TB, network, addr string, packet []byte) []byte {
	t.Helper()
	var conn net.Conn
	var err error
	switch network {
	case "tls":
		conn, err = tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"dot"}})
	default:
		conn, err = net.Dial(network, addr)
	}
	if err != nil {
		t.Fatalf("%s: %v", network, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if network == "udp" {
		buf := make([]byte, 4096)
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("udp: %v", err)
		}
		return buf[:n]
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)); err != nil {
		t.Fatal(err)
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		t.Fatalf("%s: %v", network, err)
	}
	reply := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, reply); err != nil {
		t.Fatalf("%s: %v", network, err)
	}
	return reply
}

func unpack(t testing.TB, raw []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(raw); err != nil {
		t.Fatalf("unpacking %x: %v", raw, err)
	}
	return m
}

func axfr(zone string) *dns.Msg {
	m := new(dns.Msg)
	m.SetAxfr(zone)
	return m
}

func ixfr(serial uint32) *dns.Msg {
	m := new(dns.Msg)
	m.SetIxfr("example.org.", serial, "a.", "b.")
	return m
}

// C5: who may do what is the same by every transport, and no way around a
// credential is open by one of them. RFC 5936 section 5, RFC 8945 section 5.2.
func TestAccessMatrix(t *testing.T) {
	const refused, notAuth, notImp = dns.RcodeRefused, dns.RcodeNotAuth, dns.RcodeNotImplemented
	policies := []struct {
		name      string
		transfers TransferOptions
		// the rcode of a transfer by credential: none, good key
		none, good int
	}{
		{"deny by default", TransferOptions{}, refused, notAuth},
		{"address", TransferOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, 0, notAuth},
		{"another's address", TransferOptions{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, refused, notAuth},
		{"key", TransferOptions{Keys: []Key{theKey()}}, refused, 0},
		{"key and address", TransferOptions{Keys: []Key{theKey()}, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, refused, 0},
		{"key and another's address", TransferOptions{Keys: []Key{theKey()}, Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, refused, refused},
	}
	operations := []struct {
		name string
		q    func() *dns.Msg
		// by transport: the rcode where access is given
		udp, stream int
		transfer    bool
	}{
		{"query", func() *dns.Msg { m := new(dns.Msg); m.SetQuestion("shop.example.org.", dns.TypeA); return m }, 0, 0, false},
		{"axfr", func() *dns.Msg { return axfr("example.org.") }, refused, 0, true},
		{"ixfr", func() *dns.Msg { return ixfr(0) }, 0, 0, true},
		{"notify-in", func() *dns.Msg { m := new(dns.Msg); m.SetNotify("example.org."); return m }, notImp, notImp, false},
	}
	stranger := theKey()
	stranger.Name = "stranger.example.net"
	forged := theKey()
	forged.Secret = []byte("fedcba9876543210")
	for _, policy := range policies {
		s := serveTLS(t, exampleTable(t, ""), func(o *Options, _ *limits) { o.Transfers = policy.transfers })
		for _, network := range []string{"udp", "tcp", "tls"} {
			addr := s.Addrs()[0].String()
			if network == "tls" {
				addr = s.TLSAddrs()[0].String()
			}
			for _, op := range operations {
				open := op.stream
				if network == "udp" {
					open = op.udp
				}
				want := func(rcode int) int { // of an operation to whom a transfer gives rcode
					if op.transfer && rcode != 0 {
						return rcode
					}
					if rcode == notAuth {
						return notAuth
					}
					return open
				}
				check := func(credential string, raw []byte, rcode int, tsig uint16, mac string) {
					t.Helper()
					got := unpack(t, raw)
					name := fmt.Sprintf("%s: %s of %s by %s", policy.name, credential, op.name, network)
					if got.Rcode != rcode {
						t.Errorf("%s: got %s, want %s", name, dns.RcodeToString[got.Rcode], dns.RcodeToString[rcode])
					}
					if (rcode != 0) == (len(got.Answer) > 0) {
						t.Errorf("%s: got %d records", name, len(got.Answer))
					}
					sig := got.IsTsig()
					if credential == "none" {
						if sig != nil {
							t.Errorf("%s: got %v", name, sig)
						}
						return
					}
					if sig == nil || sig.Error != tsig || (sig.MACSize > 0) != (mac != "") {
						t.Errorf("%s: got %v, want TSIG error %d", name, sig, tsig)
						return
					}
					if mac == "" {
						return
					}
					if err := dns.TsigVerify(slices.Clone(raw), secretOf(theKey()), mac, false); err != nil && tsig == 0 {
						t.Errorf("%s: the reply is not signed: %v", name, err)
					}
				}
				q := op.q()
				plain, err := q.Pack()
				if err != nil {
					t.Fatal(err)
				}
				check("none", exchange(t, network, addr, plain), want(policy.none), 0, "")

				raw, _ := signedBy(t, q, stranger, time.Now())
				check("unknown key", exchange(t, network, addr, raw), notAuth, dns.RcodeBadKey, "")

				raw, mac := signedBy(t, q, theKey(), time.Now())
				reply := exchange(t, network, addr, raw)
				if len(policy.transfers.Keys) == 0 {
					check("good key", reply, notAuth, dns.RcodeBadKey, "")
					continue
				}
				check("good key", reply, want(policy.good), 0, mac)

				reply = exchange(t, network, addr, raw)
				if op.transfer {
					check("replayed", reply, notAuth, dns.RcodeBadTime, mac)
				} else {
					check("replayed", reply, open, 0, mac)
				}

				raw, _ = signedBy(t, q, forged, time.Now())
				check("bad key", exchange(t, network, addr, raw), notAuth, dns.RcodeBadSig, "")

				raw, mac = signedBy(t, q, theKey(), time.Now().Add(-time.Hour))
				check("an old signature", exchange(t, network, addr, raw), notAuth, dns.RcodeBadTime, mac)
			}
		}
	}
}

// transferred takes a zone by the library's client, which checks each signature.
func transferred(t testing.TB, addr string, q *dns.Msg, k *Key, secure bool) ([]dns.RR, error) {
	t.Helper()
	tr := &dns.Transfer{DialTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	if secure {
		tr.TLS = &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"dot"}}
	}
	q = q.Copy()
	if k != nil {
		q.SetTsig(dns.CanonicalName(k.Name), dns.Fqdn(k.Algorithm), 300, time.Now().Unix())
		tr.TsigSecret = map[string]string{dns.CanonicalName(k.Name): secretOf(*k)}
	}
	in, err := tr.In(q, addr)
	if err != nil {
		return nil, err
	}
	var out []dns.RR
	for e := range in {
		if e.Error != nil {
			return nil, e.Error
		}
		out = append(out, e.RR...)
	}
	return out, nil
}

// largeTable has a zone of several messages.
func largeTable(t testing.TB, records int) *answer.Table {
	return compileText(t, answer.Options{}, many(records))
}

func many(n int) string {
	var b strings.Builder
	for i := range max(n, 0) {
		fmt.Fprintf(&b, "n%d A 192.0.2.2\n", i)
	}
	return b.String()
}

// RFC 5936 and RFC 8945 section 5.3.1: a zone of many messages, each signed with the
// MAC before it, as another implementation checks them.
func TestSignedTransfer(t *testing.T) {
	for _, algorithm := range []string{"hmac-sha256", "hmac-sha384", "hmac-sha512"} {
		key := theKey()
		key.Algorithm = algorithm
		s := serveTLS(t, largeTable(t, 5000), func(o *Options, _ *limits) { o.Transfers.Keys = []Key{key} })
		for _, secure := range []bool{false, true} {
			addr := s.Addrs()[0].String()
			if secure {
				addr = s.TLSAddrs()[0].String()
			}
			for name, q := range map[string]*dns.Msg{"axfr": axfr("example.org."), "ixfr": ixfr(0)} {
				got, err := transferred(t, addr, q, &key, secure)
				if err != nil || len(got) < 5003 {
					t.Errorf("%s of %s, tls %t: got %d records, %v", name, algorithm, secure, len(got), err)
				}
			}
			if _, err := transferred(t, addr, axfr("example.org."), nil, secure); err == nil {
				t.Error("a zone for nothing")
			}
		}
	}
}

// A transfer holds up no other query of its connection, whatever its length: its
// messages and the replies take turns (RFC 5936 section 4.1, RFC 7766 section 6.2.1.1).
func TestTransferBesideQueries(t *testing.T) {
	s := serve(t, largeTable(t, 60_000), func(o *Options, l *limits) {
		o.Transfers.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		l.idle = 50 * time.Millisecond // no transfer is cut off for it
	})
	conn := dialTCP(t, s)
	q := axfr("example.org.")
	q.Id = 1
	packet, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	both := append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)
	if _, err := conn.Write(append(both, framed(t, 2)...)); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil { // it has said all, and still hears all
		t.Fatal(err)
	}
	soas, behind := 0, -1
	for messages := 0; soas < 2 || behind < 0; messages++ {
		m := readFrame(t, conn)
		if m.Id == 2 {
			behind = messages
			continue
		}
		for _, rr := range m.Answer {
			if rr.Header().Rrtype == dns.TypeSOA {
				soas++
			}
		}
	}
	// As much as the sockets hold may have been on its way.
	if behind > 60 {
		t.Errorf("the reply to a query came behind %d messages of a transfer", behind)
	}
	closed(t, conn)
	if n := s.transfers.counts[transferDone].Load(); n != 1 || s.transfers.underWay() != 0 {
		t.Errorf("%d done, %d under way", n, s.transfers.underWay())
	}
}

// C3: transfers are bounded in number and in time, and end with the server.
func TestTransferLimits(t *testing.T) {
	// More than the sockets of a connection hold.
	table := compileText(t, answer.Options{}, strings.ReplaceAll(many(50_000), "A 192.0.2.2", "TXT "+strings.Repeat("x", 250)))
	begin := func(t *testing.T, s *Server, read bool) (conn net.Conn, first *dns.Msg) {
		conn = dialTCP(t, s)
		if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
			t.Fatal(err)
		}
		packet, err := axfr("example.org.").Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)); err != nil {
			t.Fatal(err)
		}
		if read {
			first = readFrame(t, conn)
		}
		return conn, first
	}
	allow := func(o *Options) { o.Transfers.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }
	ended := func(t *testing.T, conn net.Conn) {
		t.Helper()
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("it goes on")
		}
	}
	for _, tc := range []struct {
		name   string
		change func(*limits)
	}{
		{"in all", func(l *limits) { l.transfers = 1 }},
		{"per client", func(l *limits) { l.transfersPerClient = 1 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, table, func(o *Options, l *limits) { allow(o); tc.change(l) })
			conn, _ := begin(t, s, true)
			_, second := begin(t, s, true)
			if second.Rcode != dns.RcodeServerFailure || s.transfers.underWay() != 1 {
				t.Errorf("beside another: got\n%v", second)
			}
			_ = conn.Close()
			for s.transfers.underWay() > 0 {
				time.Sleep(time.Millisecond)
			}
			if _, third := begin(t, s, true); third.Rcode != dns.RcodeSuccess {
				t.Errorf("after the other: got\n%v", third)
			}
		})
	}
	t.Run("a slow reader", func(t *testing.T) {
		s := serve(t, table, func(o *Options, l *limits) { allow(o); l.write = 20 * time.Millisecond })
		conn, _ := begin(t, s, false)
		for s.transfers.counts[transferBroken].Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		ended(t, conn)
	})
	t.Run("too long", func(t *testing.T) {
		s := serve(t, table, func(o *Options, l *limits) { allow(o); l.transfer = 0 })
		conn, _ := begin(t, s, false)
		ended(t, conn)
		if s.transfers.counts[transferBroken].Load() != 1 {
			t.Error("it is not counted")
		}
	})
	t.Run("the end", func(t *testing.T) {
		stopped := make(chan *Server, 1)
		t.Run("serve", func(t *testing.T) {
			s := serve(t, table, func(o *Options, l *limits) { allow(o); l.write, l.last = time.Hour, time.Millisecond })
			begin(t, s, true)
			stopped <- s
		})
		if s := <-stopped; s.transfers.underWay() != 0 || s.transfers.counts[transferStopped].Load() != 1 {
			t.Errorf("%d under way after the end", s.transfers.underWay())
		}
	})
}
