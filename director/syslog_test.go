package director

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/divertdns/divert/director/audit"
)

// collector is a syslog server that counts octets.
type collector struct {
	net.Listener
	got chan string
}

func collectorOn(t *testing.T, l net.Listener, err error) *collector {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{l, make(chan string, 1000)}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.read(conn)
		}
	}()
	return c
}

func (c *collector) read(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		length, err := r.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSpace(length))
		if err != nil {
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(r, message); err != nil {
			return
		}
		c.got <- string(message)
	}
}

// revisions wants messages of some revisions, in order.
func (c *collector) revisions(t *testing.T, from, to uint64) {
	t.Helper()
	for r := from; r <= to; r++ {
		if got := within(t, c.got, "a message"); !strings.Contains(got, fmt.Sprintf(`"revision":%d,`, r)) {
			t.Fatalf("got %s, want revision %d", got, r)
		}
	}
}

func (f *sealFleet) syslogger(address, ca string, format audit.Format) *syslogger {
	return &syslogger{
		address: address, ca: ca, format: format, name: "d1", version: "1.0", dir: filepath.Join(f.of("d1").dir, sealFolder),
		view: func() *sealView { return f.of("d1").view.Load() }, log: slog.New(slog.DiscardHandler), now: func() time.Time { return f.now },
		shown: newSyslogMetrics(prometheus.NewRegistry()), changed: func() {},
	}
}

// TestSyslogStream (F16): records go out once each, in order, from when the server is
// first named; what comes while it is away waits, also over a restart, and alerts.
func TestSyslogStream(t *testing.T) {
	f := newSealFleet(t)
	f.pass(10 * time.Second)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	c := collectorOn(t, l, err)
	s := f.syslogger("tcp://"+l.Addr().String(), "", audit.FormatJSON)
	t.Cleanup(func() { s.hangUp() })
	s.step(t.Context())
	f.commit(250)
	f.pass(10 * time.Second)
	s.step(t.Context())
	c.revisions(t, 4, 253)
	if s.alert() != "" {
		t.Error(s.alert())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s.hangUp()
	f.commit(2)
	f.pass(10 * time.Second)
	s.step(t.Context())
	if got := s.alert(); !strings.Contains(got, "wait on this director's disk") {
		t.Errorf("the server is away: %q", got)
	}
	l, err = net.Listen("tcp", l.Addr().String())
	c = collectorOn(t, l, err)
	s.hangUp()
	s = f.syslogger(s.address, "", audit.FormatJSON) // another process
	t.Cleanup(func() { s.hangUp() })
	s.step(t.Context())
	c.revisions(t, 254, 255)
	s.step(t.Context())
	if s.alert() != "" || len(c.got) > 0 {
		t.Errorf("%q, and %d more", s.alert(), len(c.got))
	}
}

// TestSyslogUDP: a record is a datagram.
func TestSyslogUDP(t *testing.T) {
	f := newSealFleet(t)
	f.pass(10 * time.Second)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := f.syslogger("udp://"+conn.LocalAddr().String(), "", audit.FormatCEF)
	defer s.hangUp()
	s.step(t.Context())
	f.commit(1)
	f.pass(10 * time.Second)
	s.step(t.Context())
	buf := make([]byte, 2048)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, _, err := conn.ReadFrom(buf)
	if got := string(buf[:n]); err != nil || !strings.HasPrefix(got, "<109>1 ") || !strings.Contains(got, "CEF:0|Divert|divert|1.0|audit|change 4|3|externalId=4 ") {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestSyslogTLS: the server's certificate must be of the CA that the settings name.
func TestSyslogTLS(t *testing.T) {
	f := newSealFleet(t)
	f.pass(10 * time.Second)
	dir := t.TempDir()
	cert, ca := selfSigned(t, dir, "ca.pem")
	_, other := selfSigned(t, dir, "other.pem")
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	c := collectorOn(t, l, err)
	address := "tls://" + l.Addr().String()
	first := f.syslogger(address, ca, audit.FormatJSON)
	first.step(t.Context())
	f.commit(1)
	f.pass(10 * time.Second)
	for _, tc := range []struct {
		ca   string
		want string
	}{{other, "certificate"}, {filepath.Join(dir, "none.pem"), "audit.syslog.ca"}, {ca, ""}} {
		s := f.syslogger(address, tc.ca, audit.FormatJSON)
		s.step(t.Context())
		if got := s.alert(); !strings.Contains(got, tc.want) || (tc.want == "") != (got == "") {
			t.Errorf("%s: %q, want %q", filepath.Base(tc.ca), got, tc.want)
		}
		s.hangUp()
	}
	c.revisions(t, 4, 4)
}

func selfSigned(t *testing.T, dir, name string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}
