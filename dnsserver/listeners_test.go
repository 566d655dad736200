package dnsserver

import (
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// F21: ten thousand connections that say nothing, by TCP and by TLS, from as many
// addresses as it takes: no more than the cap are kept, and whoever asks by UDP, TCP or
// TLS is answered at once.
func TestIdleConnections(t *testing.T) {
	const idle = 10_000
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < idle+3000 { // Go has raised it to what is allowed
		t.Skipf("a process may have %d open files here, and this takes %d: raise `ulimit -Hn`", limit.Cur, idle+3000)
	}
	s := serveTLS(t, exampleTable(t, ""), nil)
	addrs := []string{s.Addrs()[0].String(), s.TLSAddrs()[0].String()}
	for i := range idle {
		d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i/50), 1)}}
		conn, err := d.DialContext(t.Context(), "tcp", addrs[i%2])
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer conn.Close()
		if i%2 == 1 {
			if _, err := conn.Write([]byte{22, 3, 1, 2, 0, 1}); err != nil { // a handshake that never ends
				t.Fatal(err)
			}
		}
		if i%1000 != 999 {
			continue
		}
		for network, addr := range map[string]string{"udp": addrs[0], "tcp": addrs[0], "tcp-tls": addrs[1]} {
			m := new(dns.Msg).SetQuestion("shop.example.org.", dns.TypeA)
			c := &dns.Client{Net: network, Timeout: time.Second, TLSConfig: &tls.Config{InsecureSkipVerify: true}}
			if reply, _, err := c.Exchange(m, addr); err != nil || len(reply.Answer) != 1 {
				t.Errorf("%s among %d idle connections: %v, %v", network, i+1, reply, err)
			}
		}
	}
	s.streams.mu.Lock()
	open, evicted := len(s.streams.all), s.streams.evicted
	s.streams.mu.Unlock()
	if open > s.limits.streams || evicted < uint64(idle-s.limits.streams-3000) {
		t.Errorf("%d connections are open, %d gave way", open, evicted)
	}
}

// C3: who sends an octet at a time, before or in a query, by TCP or in the middle of a
// TLS handshake, is let go at the deadline of the whole.
func TestSlowLoris(t *testing.T) {
	short := func(_ *Options, l *limits) { l.message, l.greeting = 200*time.Millisecond, 200*time.Millisecond }
	s := serveTLS(t, exampleTable(t, ""), short)
	for name, addr := range map[string]string{"tcp": s.Addrs()[0].String(), "tls": s.TLSAddrs()[0].String()} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		begin := []byte{1, 0}
		if name == "tls" {
			begin = []byte{22, 3, 1, 1, 0}
		}
		ended := make(chan error, 1)
		began := time.Now()
		go func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			_, err := conn.Write(begin)
			for err == nil {
				<-tick.C
				_, err = conn.Write([]byte{1})
			}
			ended <- err
		}()
		_, _ = io.Copy(io.Discard, conn)
		<-ended
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: let go after %v, want 200 ms", name, took)
		}
	}
}

// C3: a gigabyte by TCP ends with the first length that no query has.
func TestStreamFlood(t *testing.T) {
	s := serve(t, exampleTable(t, ""), nil)
	conn := dialTCP(t, s)
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	chunk, taken := make([]byte, 64<<10), 0
	for i := range chunk {
		chunk[i] = 0xff
	}
	for taken < 1<<30 {
		n, err := conn.Write(chunk)
		if taken += n; err != nil {
			break
		}
	}
	if taken > 16<<20 { // the system's buffers hold some
		t.Errorf("%d octets were taken", taken)
	}
}
