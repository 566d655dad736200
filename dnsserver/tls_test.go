package dnsserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/answer"
)

// pair makes a certificate of a name, and its key, as PEM.
func pair(t testing.TB, name string, until time.Time) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func writePair(t testing.TB, o TLSOptions, cert, key []byte) {
	t.Helper()
	for name, data := range map[string][]byte{o.Cert: cert, o.Key: key} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// serveTLS is serve with DNS over TLS beside it.
func serveTLS(t *testing.T, table *answer.Table, change func(*Options, *limits)) *Server {
	t.Helper()
	dir := t.TempDir()
	o := TLSOptions{Listen: []string{"127.0.0.1:0"}, Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	cert, key := pair(t, "ns1.example.org", time.Now().Add(time.Hour))
	writePair(t, o, cert, key)
	return serve(t, table, func(all *Options, l *limits) {
		all.TLS = o
		if change != nil {
			change(all, l)
		}
	})
}

func dialTLS(t *testing.T, s *Server, config *tls.Config) *tls.Conn {
	t.Helper()
	config.InsecureSkipVerify = true
	conn, err := tls.Dial("tcp", s.TLSAddrs()[0].String(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// RFC 7858 section 3: the same answers over TLS, pipelined on one connection, with
// the protocol that RFC 7858's registration names; RFC 8310 section 8 and RFC 9325
// want no TLS older than 1.2.
func TestTLS(t *testing.T) {
	s := serveTLS(t, exampleTable(t, ""), nil)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conn := dialTLS(t, s, &tls.Config{NextProtos: []string{"dot"}, MaxVersion: version})
		if state := conn.ConnectionState(); state.Version != version || state.NegotiatedProtocol != "dot" {
			t.Errorf("got version %x, protocol %q", state.Version, state.NegotiatedProtocol)
		}
		if _, err := conn.Write(append(framed(t, 1), framed(t, 2)...)); err != nil {
			t.Fatal(err)
		}
		for id := range uint16(2) {
			if got := readFrame(t, conn); got.Id != id+1 || len(got.Answer) != 1 {
				t.Errorf("got\n%v", got)
			}
		}
	}
	if conn := dialTLS(t, s, &tls.Config{}); conn.ConnectionState().NegotiatedProtocol != "" {
		t.Error("a protocol that was not asked for")
	}
	for name, config := range map[string]*tls.Config{
		"TLS 1.1": {MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11}, "another protocol": {NextProtos: []string{"h2"}},
	} {
		config.InsecureSkipVerify = true
		if conn, err := tls.Dial("tcp", s.TLSAddrs()[0].String(), config); err == nil {
			conn.Close()
			t.Errorf("%s is spoken", name)
		}
	}
	for s.metrics.handshakes[failed].Load() != 2 { // the test's time is the bound
		time.Sleep(time.Millisecond)
	}
}

// C3 for TLS: who does not shake hands, or stops in the middle, is let go, and the
// caps are those of TCP.
func TestTLSLimits(t *testing.T) {
	t.Run("no handshake", func(t *testing.T) {
		s := serveTLS(t, exampleTable(t, ""), func(_ *Options, l *limits) { l.greeting = 20 * time.Millisecond })
		conn, err := net.Dial("tcp", s.TLSAddrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte{22, 3, 1, 2, 0, 1}); err != nil { // a record that never ends
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("it is waited for")
		}
	})
	t.Run("idle", func(t *testing.T) {
		s := serveTLS(t, exampleTable(t, ""), func(_ *Options, l *limits) { l.idle = 20 * time.Millisecond })
		conn := dialTLS(t, s, &tls.Config{})
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want a proper end", err)
		}
	})
	t.Run("per client, with TCP", func(t *testing.T) {
		s := serveTLS(t, exampleTable(t, ""), func(_ *Options, l *limits) { l.perClient = 1 })
		conn := dialTLS(t, s, &tls.Config{})
		if _, err := conn.Write(framed(t, 1)); err != nil {
			t.Fatal(err)
		}
		readFrame(t, conn)
		closed(t, dialTCP(t, s))
	})
}

// RFC 7830 and RFC 8467 on the wire: replies over TLS come in blocks of 468 octets
// where the query is padded, and RFC 7828 tells how long one may idle.
func TestTLSOptions(t *testing.T) {
	s := serveTLS(t, exampleTable(t, ""), func(o *Options, _ *limits) { o.Transfers.Keys = []Key{theKey()} })
	m := new(dns.Msg)
	m.SetQuestion("shop.example.org.", dns.TypeA)
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_PADDING{Padding: make([]byte, 50)}, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})
	plain, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	signed, _ := signedBy(t, m, theKey(), time.Now())
	for name, packet := range map[string][]byte{"plain": plain, "signed": signed} {
		raw := exchange(t, "tls", s.TLSAddrs()[0].String(), packet)
		var alive *dns.EDNS0_TCP_KEEPALIVE
		for _, o := range unpack(t, raw).IsEdns0().Option {
			if o, ok := o.(*dns.EDNS0_TCP_KEEPALIVE); ok {
				alive = o
			}
		}
		if len(raw) != 468 || alive == nil || alive.Timeout != 100 {
			t.Errorf("%s: got %d octets, keepalive %v", name, len(raw), alive)
		}
	}
}

// RFC 7828 section 3.4: the time to idle shrinks as the places go.
func TestIdleShrinks(t *testing.T) {
	l := &limits{streams: 100, idle: 10 * time.Second}
	for open, want := range map[int]time.Duration{1: 10 * time.Second, 50: 10 * time.Second, 75: 5 * time.Second, 90: 2 * time.Second, 100: time.Second, 101: time.Second} {
		if got := l.idleAt(open); got != want {
			t.Errorf("with %d of %d: got %s, want %s", open, l.streams, got, want)
		}
	}
}

// S12: without a good certificate all else is served, and TLS as soon as there is one.
func TestCertificateLate(t *testing.T) {
	dir := t.TempDir()
	files := TLSOptions{Listen: []string{"127.0.0.1:0"}, Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	s := serve(t, exampleTable(t, ""), func(o *Options, l *limits) { o.TLS, l.certificate = files, time.Millisecond })
	if reply := ask(t, "udp", s.Addrs()[0].String(), "shop.example.org.", dns.TypeA); len(reply.Answer) != 1 {
		t.Errorf("got\n%v", reply)
	}
	addr := s.TLSAddrs()[0].String()
	if conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}); err == nil {
		conn.Close()
		t.Error("a handshake without a certificate")
	}
	cert, key := pair(t, "late", time.Now().Add(time.Hour))
	writePair(t, files, cert, key)
	waitFor(t, "the certificate", func() bool {
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// The files are looked at while the server runs.
func TestCertificateWatched(t *testing.T) {
	var files TLSOptions
	s := serveTLS(t, exampleTable(t, ""), func(o *Options, l *limits) { files, l.certificate = o.TLS, time.Millisecond })
	cert, key := pair(t, "renewed", time.Now().Add(time.Hour))
	writePair(t, files, cert, key)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if dialTLS(t, s, &tls.Config{}).ConnectionState().PeerCertificates[0].Subject.CommonName == "renewed" {
			return
		}
	}
	t.Error("the new certificate is not shown")
}

// A connection by TLS outlives that its socket is handed on, and the next one finds
// the new server.
func TestTLSHandOn(t *testing.T) {
	var files TLSOptions
	old := serveTLS(t, exampleTable(t, ""), func(o *Options, _ *limits) { files = o.TLS })
	conn := dialTLS(t, old, &tls.Config{})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	inherit := handOn(t, old)
	next := serve(t, exampleTable(t, ""), func(o *Options, _ *limits) {
		o.Listen, o.Inherit, o.TLS = []string{old.Addrs()[0].String()}, inherit, files
		o.TLS.Listen = []string{old.TLSAddrs()[0].String()}
	})
	if next.TLSAddrs()[0] != old.TLSAddrs()[0] || len(next.Addrs()) != 1 {
		t.Fatalf("got %v, %v", next.Addrs(), next.TLSAddrs())
	}
	old.Retire()
	for _, c := range []net.Conn{conn, dialTLS(t, next, &tls.Config{})} {
		if _, err := c.Write(framed(t, 1)); err != nil {
			t.Fatal(err)
		}
		if got := readFrame(t, c); len(got.Answer) != 1 {
			t.Errorf("got\n%v", got)
		}
	}
}
