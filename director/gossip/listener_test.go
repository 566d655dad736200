package gossip

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"
)

func dialFrom(t *testing.T, from string, p *peer) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(t.Context(), "tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// hungUp waits until the other end has let go.
func hungUp(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection was never ended")
	}
}

// C3: who has no key, and as many addresses as he likes, leaves half of the places to
// addresses that directors are known to have.
func TestStrangersLeavePlaces(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	f := newFleet("fleet-1")
	f.register("d2", identity("d2", "", 1).Public(), "127.0.9.2:7946")
	p := start(t, f, identity("d1", "", 1), func(o *Options) {
		o.tune = func(tu *tuning) { fast(tu); tu.list.TCPTimeout = patience }
	})
	eventually(t, "the address of d2 to be known", func() bool {
		p.transport.mu.Lock()
		defer p.transport.mu.Unlock()
		return p.transport.known[netip.MustParseAddr("127.0.9.2")]
	})
	const surplus = 10
	for i := range maxStranger + surplus {
		dialFrom(t, fmt.Sprintf("127.0.8.%d", 1+i), p)
	}
	eventually(t, "the surplus to be refused", func() bool { return p.droppedFor(connectionLimit) == surplus })
	for range maxFromOne {
		dialFrom(t, "127.0.9.2", p)
	}
	eventually(t, "the director's connections to be in", func() bool {
		p.transport.mu.Lock()
		defer p.transport.mu.Unlock()
		total := 0
		for _, n := range p.transport.inbound {
			total += n
		}
		return total == maxStranger+maxFromOne
	})
	if got := p.droppedFor(connectionLimit); got != surplus {
		t.Errorf("%v connections were refused, want %v", got, surplus)
	}
}

// C3: a connection ends at a time of its own, not with the last octet; and what one
// brings is bounded, whatever length it announces.
func TestStreamBounds(t *testing.T) {
	t.Parallel()
	labelled := append([]byte{labelType, byte(len(label))}, label...)
	encrypted := append(append([]byte(nil), labelled...), 10, 0x01, 0x3f, 0xff, 0xff) // memberlist's encryptMsg, of 20 MB
	tests := []struct {
		name  string
		begin []byte
	}{
		{"nothing", nil},
		{"half a label", labelled[:3]},
		{"a label", labelled},
		{"an encrypted message of 20 MB", encrypted},
		{"another protocol", []byte("GET / HTTP/1.1\r\n")},
	}
	for _, tc := range tests {
		for _, flood := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, flood %v", tc.name, flood), func(t *testing.T) {
				t.Parallel()
				f := newFleet("fleet-1")
				f.secret = []byte("0123456789abcdef")
				p := start(t, f, identity("d1", "", 1), func(o *Options) {
					o.tune = func(tu *tuning) { fast(tu); tu.list.TCPTimeout = 300 * time.Millisecond }
				})
				conn := dialFrom(t, "127.0.0.1", p)
				if _, err := conn.Write(tc.begin); err != nil {
					t.Fatal(err)
				}
				go write(conn, flood, len(tc.begin) > 0)
				hungUp(t, conn)
				eventually(t, "its place to be given back", func() bool {
					p.transport.mu.Lock()
					defer p.transport.mu.Unlock()
					return len(p.transport.inbound) == 0 && len(p.transport.open) == 0
				})
			})
		}
	}
}

// write sends without end: as much as goes, or an octet now and then, or nothing.
func write(conn net.Conn, flood, begun bool) {
	if !flood && !begun {
		return
	}
	octets := make([]byte, 1)
	if flood {
		octets = make([]byte, 64<<10)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := conn.Write(octets); err != nil {
			return
		}
		if !flood {
			<-tick.C
		}
	}
}

// The hard end of an inbound connection holds whatever deadlines are set on it, and a
// stream gives no more than its bound.
func TestStreamConnIsBounded(t *testing.T) {
	t.Parallel()
	m, err := newMetrics(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := &streamConn{Conn: ours, left: maxStream, metrics: m, closed: func() {}}
	defer c.Close()
	go write(theirs, true, true)
	n, err := io.Copy(io.Discard, c)
	if n != maxStream || !errors.Is(err, errStreamTooLong) {
		t.Errorf("read %d octets, then %v; want %d", n, err, maxStream)
	}
}
