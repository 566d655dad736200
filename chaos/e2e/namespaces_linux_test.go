package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The two namespaces and what is between them. All forged sources lie in the block
// for benchmarks (RFC 2544), which the fleet's side routes to the clients' side,
// where nobody has them: replies end there unseen. One network of the block is the
// victim's: there they are read, and there the honest clients live, so that the
// share of their network is used up and their cookies alone let them through.
const (
	netServers = "192.0.2."      // 1 to 3: the directors
	netGateway = "192.0.2.100"   // the clients' side
	netForged  = "198.18.0.0/15" // RFC 2544
	netVictim  = "198.19.7."     // the first octets of a /24 of it
	victimPort = 4242            // that the forged queries come from
	clientPool = 8               // honest addresses
	serverLink = "servers"       // names of the two ends
	clientLink = "clients"
)

// network is the clients' side.
type network struct {
	victim  *victim
	wire    int            // a packet socket of the link, which sends what it is given
	header  [ethernet]byte // of a frame to the servers
	clients []*net.UDPConn
}

// server gives a director's DNS address.
func (*network) server(i int) string { return netServers + strconv.Itoa(i) + ":53" }

// newNetwork lays both sides out, this process being in the namespace of the
// servers. The other one lives as long as its sockets.
func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{}
	ready, linked, done := make(chan int), make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread, and with it where it is, ends here
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			close(ready)
			done <- err
			return
		}
		ready <- unix.Gettid()
		<-linked
		done <- n.open()
	}()
	if tid, ok := <-ready; ok {
		lines := []string{
			"link set lo up",
			fmt.Sprintf("link add %s type veth peer name %s netns %d", serverLink, clientLink, tid),
			"link set " + serverLink + " up",
		}
		for i := 1; i <= 3; i++ {
			lines = append(lines, fmt.Sprintf("address add %s%d/24 dev %s", netServers, i, serverLink))
		}
		err := ip(append(lines, fmt.Sprintf("route add %s via %s dev %s", netForged, netGateway, serverLink))...)
		if err != nil {
			t.Fatal(err) // the goroutine ends with this process
		}
		servers, err := net.InterfaceByName(serverLink)
		if err != nil {
			t.Fatal(err)
		}
		copy(n.header[:], servers.HardwareAddr)
		close(linked)
	}
	must(t, <-done)
	t.Cleanup(func() {
		unix.Close(n.wire)
		n.victim.close()
		for _, c := range n.clients {
			c.Close()
		}
	})
	return n
}

// open makes the sockets; the thread that calls it is in the clients' namespace.
func (n *network) open() error {
	lines := []string{"link set lo up", "link set " + clientLink + " up", "address add " + netGateway + "/24 dev " + clientLink}
	lines = append(lines, "route add blackhole "+netForged, "route add local "+netVictim+"0/24 dev lo")
	if err := ip(lines...); err != nil {
		return err
	}
	link, err := net.InterfaceByName(clientLink)
	if err != nil {
		return err
	}
	copy(n.header[6:], link.HardwareAddr)
	n.header[12] = 0x08 // and 0: IPv4
	// Protocol 0: nothing that comes is given to it.
	if n.wire, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	if err := unix.Bind(n.wire, &unix.SockaddrLinklayer{Ifindex: link.Index}); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	_ = unix.SetsockoptInt(n.wire, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	if n.victim, err = newVictim(); err != nil {
		return err
	}
	for i := range clientPool {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(fmt.Sprintf("%s%d:0", netVictim, 101+i))))
		if err != nil {
			return err
		}
		n.clients = append(n.clients, c)
	}
	return nil
}

// ip runs `ip` in the namespace of the thread that calls it.
func ip(lines ...string) error {
	for _, line := range lines {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		out, err := exec.CommandContext(ctx, "ip", strings.Fields(line)...).CombinedOutput()
		cancel()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	return nil
}

// replied counts the packets that the servers' side has sent.
func (*network) replied(t *testing.T) uint64 {
	t.Helper()
	// Not that of /proc/self: the main thread may be the one that went to the other side.
	b, err := os.ReadFile("/proc/thread-self/net/dev")
	must(t, err)
	for line := range strings.Lines(string(b)) {
		name, counts, _ := strings.Cut(line, ":")
		// Received octets, packets and six more, then the same sent.
		if f := strings.Fields(counts); strings.TrimSpace(name) == serverLink && len(f) == 16 {
			sent, err := strconv.ParseUint(f[9], 10, 64)
			must(t, err)
			return sent
		}
	}
	t.Fatalf("there is no %s in /proc/thread-self/net/dev", serverLink)
	return 0
}

// victim reads what comes for the network whose addresses are forged the most.
type victim struct {
	conn   *net.UDPConn
	query  int // octets of each forged query
	reader sync.WaitGroup

	mu                        sync.Mutex // guards the below
	replies, octets           uint64
	full, truncated, overlong uint64 // longer than the query; with TC; both
	longest                   int
}

func newVictim() (*victim, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: victimPort})
	if err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) })
	v := &victim{conn: c, query: len(victimQuery())}
	v.reader.Go(v.read)
	return v, nil
}

func (v *victim) close() {
	v.conn.Close()
	v.reader.Wait()
}

func (v *victim) read() {
	buf := make([]byte, 4096)
	for {
		n, err := v.conn.Read(buf)
		if err != nil {
			return
		}
		v.mu.Lock()
		v.replies++
		v.octets += uint64(n)
		v.longest = max(v.longest, n)
		truncated := n > 2 && buf[2]&2 != 0
		switch {
		case truncated && n > v.query:
			v.overlong++
		case truncated:
			v.truncated++
		case n > v.query:
			v.full++
		}
		v.mu.Unlock()
	}
}

// judge holds what the victim got against what it may get (C10).
func (v *victim) judge(t *testing.T, took time.Duration, limited float64) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	t.Logf("one forged /24: %d replies, %d of them whole and up to %d octets for a query of %d, %d truncated; limited %.0f; octets %.2f times those of as many queries",
		v.replies, v.full, v.longest, v.query, v.truncated, limited, float64(v.octets)/float64(max(1, v.replies)*uint64(v.query)))
	if v.full == 0 || limited == 0 {
		t.Error("the victim got nothing, or no limit was reached: nothing is shown by it")
	}
	if most := floodPerNet * (took.Seconds() + 2); float64(v.full) > most {
		t.Errorf("C10: it got %d whole replies, want at most %.0f", v.full, most)
	}
	if v.overlong > 0 {
		t.Errorf("C10: %d truncated replies are longer than their query", v.overlong)
	}
}
