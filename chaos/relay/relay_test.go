package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"
)

// patience bounds waits for what must happen; nothing is measured by it.
const patience = 10 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", patience, what)
		}
		<-tick.C
	}
}

// start runs a relay until the test ends.
func start(t *testing.T, opts Options) *Relay {
	t.Helper()
	r, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if n := len(r.pairs); n != 0 {
			t.Errorf("%d connections left after Run", n)
		}
	})
	return r
}

// echoTCP answers each line of bytes with itself, and tells who called.
func echoTCP(t *testing.T) (netip.AddrPort, <-chan netip.Addr) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	callers := make(chan netip.Addr, 100)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			callers <- c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort(), callers
}

// echoUDP answers each datagram with itself.
func echoUDP(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func dialFrom(t *testing.T, network, from string, to netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	t.Helper()
	d := net.Dialer{Timeout: timeout}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
	} else {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.DialContext(t.Context(), network, to.String())
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

func ask(t *testing.T, c net.Conn, text string, timeout time.Duration) error {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(text)); err != nil {
		return err
	}
	buf := make([]byte, len(text))
	if _, err := io.ReadFull(c, buf); err != nil {
		return err
	}
	if string(buf) != text {
		t.Errorf("got %q, want %q", buf, text)
	}
	return nil
}

func needLoopbackBlock(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("loopback has one address only")
	}
}

var twoSources = map[netip.Addr]string{
	netip.MustParseAddr("127.0.1.1"): "d1",
	netip.MustParseAddr("127.0.1.2"): "d2",
}

// A cut TCP link is silent: what stands is frozen, what is new gets no answer,
// nothing is reset, and others do not notice. Healed, the frozen is closed.
func TestCutTCP(t *testing.T) {
	needLoopbackBlock(t)
	target, callers := echoTCP(t)
	r := start(t, Options{
		Links:   []Link{{To: "fra", Network: TCP, Listen: "127.0.0.1:0", Target: target.String()}},
		Sources: twoSources,
	})
	c1, err := dialFrom(t, "tcp", "127.0.1.1", r.Addr(0), patience)
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(t, c1, "one", patience); err != nil {
		t.Fatal(err)
	}
	if got := <-callers; got.String() != "127.0.1.1" {
		t.Errorf("the target was called from %s, want the source's own address", got)
	}
	r.Cut("d1", "fra")
	if err := ask(t, c1, "two", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("frozen connection: got %v, want silence", err)
	}
	if _, err := dialFrom(t, "tcp", "127.0.1.1", r.Addr(0), 50*time.Millisecond); err == nil || !isTimeout(err) {
		t.Errorf("connecting over a cut link: got %v, want a timeout", err)
	}
	c2, err := dialFrom(t, "tcp", "127.0.1.2", r.Addr(0), patience)
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(t, c2, "four", patience); err != nil {
		t.Errorf("d2, whose link stands: %v", err)
	}
	if got := r.Heal(Any, Any); got != 1 {
		t.Errorf("healed %d cuts, want 1", got)
	}
	if err := c1.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := c1.Read(make([]byte, 10)); n != 0 || isTimeout(err) || err == nil {
		t.Errorf("frozen connection after healing: got %d octets and %v, want it closed", n, err)
	}
	c3, err := dialFrom(t, "tcp", "127.0.1.1", r.Addr(0), patience)
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(t, c3, "five", patience); err != nil {
		t.Errorf("after healing: %v", err)
	}
	if err := ask(t, c2, "six", patience); err != nil {
		t.Errorf("d2 after healing: %v", err)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// Without listener filters new connections are taken and held, up to a cap; the
// client's going ends them.
func TestHeldConnections(t *testing.T) {
	target, _ := echoTCP(t)
	r := start(t, Options{Links: []Link{{From: "d1", To: "fra", Network: TCP, Listen: "127.0.0.1:0", Target: target.String()}}})
	held := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.pairs)
	}
	r.mu.Lock()
	r.cuts[Rule{"d1", "fra"}] = struct{}{} // as Cut does where there are no filters
	r.mu.Unlock()
	var conns []net.Conn
	for range maxHeld + 5 {
		c, err := dialFrom(t, "tcp", "127.0.0.1", r.Addr(0), patience)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	if err := conns[0].SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conns[0].Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the oldest of too many held connections: got %v, want it closed", err)
	}
	eventually(t, "held connections at the cap", func() bool { return held() == maxHeld })
	for _, c := range conns {
		_ = c.Close()
	}
	eventually(t, "held connections to end with their clients", func() bool { return held() == 0 })
}

// A dead target is a reset, not silence: the link itself stands.
func TestDeadTarget(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := l.Addr().String()
	_ = l.Close()
	r := start(t, Options{Links: []Link{{From: "d1", To: "fra", Network: TCP, Listen: "127.0.0.1:0", Target: target}}})
	c, err := dialFrom(t, "tcp", "127.0.0.1", r.Addr(0), patience)
	if err == nil {
		err = ask(t, c, "hello", patience)
	}
	if err == nil || isTimeout(err) {
		t.Errorf("got %v, want the connection reset", err)
	}
}

// Each UDP source has its answers from the relay's own address, and its own cut.
func TestCutUDP(t *testing.T) {
	needLoopbackBlock(t)
	target := echoUDP(t)
	r := start(t, Options{
		Links:   []Link{{To: "d3", Network: UDP, Listen: "127.0.0.1:0", Target: target.String()}},
		Sources: twoSources,
	})
	// The sockets are connected: an answer from another address is not theirs.
	c1, err := dialFrom(t, "udp", "127.0.1.1", r.Addr(0), patience)
	if err != nil {
		t.Fatal(err)
	}
	c2, err := dialFrom(t, "udp", "127.0.1.2", r.Addr(0), patience)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{c1, c2} {
		if err := ask(t, c, "hello", patience); err != nil {
			t.Fatal(err)
		}
	}
	r.Cut("d1", Any)
	if err := ask(t, c1, "lost", 50*time.Millisecond); !isTimeout(err) {
		t.Errorf("over a cut link: got %v, want silence", err)
	}
	if err := ask(t, c2, "heard", patience); err != nil {
		t.Errorf("d2, whose link stands: %v", err)
	}
	if got := r.Heal("d2", Any); got != 0 {
		t.Errorf("healing what is not cut healed %d", got)
	}
	if got := r.Cuts(); len(got) != 1 || got[0] != (Rule{"d1", Any}) {
		t.Errorf("cuts: got %v", got)
	}
	r.Heal("d1", Any)
	if err := ask(t, c1, "again", patience); err != nil {
		t.Errorf("after healing: %v", err)
	}
}

// One link carries both networks on one port.
func TestBoth(t *testing.T) {
	tcp, _ := echoTCP(t)
	r := start(t, Options{Links: []Link{{To: "x", Listen: "127.0.0.1:0", Target: tcp.String()}}})
	if len(r.tcp) != 1 || len(r.udp) != 1 || r.tcp[0].listener.Addr().(*net.TCPAddr).Port != r.udp[0].conn.LocalAddr().(*net.UDPAddr).Port {
		t.Fatal("TCP and UDP are not on the same port")
	}
}

// F14: duplicates and delays reach the other side; total loss does not.
func TestFaults(t *testing.T) {
	target := echoUDP(t)
	r := start(t, Options{Seed: 1, Links: []Link{{From: "d1", To: "d2", Network: UDP, Listen: "127.0.0.1:0", Target: target.String()}}})
	c, err := dialFrom(t, "udp", "127.0.0.1", r.Addr(0), patience)
	if err != nil {
		t.Fatal(err)
	}
	r.Shape("d1", "d2", Fault{Delay: time.Millisecond, Jitter: 2 * time.Millisecond, Duplicate: 1})
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("twice")); err != nil {
		t.Fatal(err)
	}
	for range 4 { // twice there, and each of them twice back
		if _, err := c.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	r.Shape("d1", "d2", Fault{Loss: 1})
	if err := ask(t, c, "lost", 50*time.Millisecond); !isTimeout(err) {
		t.Errorf("got %v, want silence", err)
	}
	r.Shape("d1", "d2", Fault{})
	if err := ask(t, c, "fine", patience); err != nil {
		t.Error(err)
	}
}

// The same seed draws the same fate for the same traffic.
func TestSeed(t *testing.T) {
	draw := func(seed uint64) (out []int) {
		r, err := New(Options{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		r.Shape(Any, Any, Fault{Loss: 0.3, Duplicate: 0.3, Jitter: time.Second, Reorder: 0.5})
		for range 200 {
			for _, d := range r.plan("a", "b") {
				out = append(out, int(d))
			}
			out = append(out, -1)
		}
		return out
	}
	equal := func(a, b []int) bool {
		if len(a) != len(b) {
			return false
		}
		for i := range a {
			if a[i] != b[i] {
				return false
			}
		}
		return true
	}
	if !equal(draw(7), draw(7)) {
		t.Error("one seed drew two fates")
	}
	if equal(draw(7), draw(8)) {
		t.Error("two seeds drew one fate")
	}
}

func TestRules(t *testing.T) {
	tests := []struct {
		name     string
		rule     Rule
		from, to string
		want     bool
	}{
		{"exact", Rule{"d1", "fra"}, "d1", "fra", true},
		{"other target", Rule{"d1", "fra"}, "d1", "nyc", false},
		{"other source", Rule{"d1", "fra"}, "d2", "fra", false},
		{"any source", Rule{Any, "fra"}, "d2", "fra", true},
		{"any target", Rule{"d1", Any}, "d1", "etcd", true},
		{"all", Rule{Any, Any}, "d2", "nyc", true},
		{"the other way round", Rule{"d1", "d2"}, "d2", "d1", false},
	}
	for _, tc := range tests {
		if got := tc.rule.covers(tc.from, tc.to); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

// TestNothingAfterTheEnd: a connection that was accepted as the relay ended is
// not held, or Run would wait for its client.
func TestNothingAfterTheEnd(t *testing.T) {
	r, err := New(Options{Links: []Link{{From: "a", To: "b", Listen: "127.0.0.1:0", Target: "127.0.0.1:1"}}})
	if err != nil {
		t.Fatal(err)
	}
	r.Cut("a", "b")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	if _, ok := r.admit("a", "b", here); ok {
		t.Error("it was taken")
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name string
		link Link
	}{
		{"listen without port", Link{Listen: "127.0.0.1", Target: "127.0.0.1:1"}},
		{"target is a name", Link{Listen: "127.0.0.1:0", Target: "example.org:1"}},
	}
	for _, tc := range tests {
		if _, err := New(Options{Links: []Link{tc.link}}); err == nil {
			t.Errorf("%s: taken", tc.name)
		}
	}
}
