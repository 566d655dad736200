package gossip

import (
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A network that takes nothing more costs datagrams, and holds up nobody: who
// sends them decides who is down.
func TestStalledNetwork(t *testing.T) {
	// The thread keeps to a network of its own, and ends with this goroutine.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network of its own can be made here (%v); CI's machine can", err)
	}
	for _, line := range []string{
		"ip link add v0 type veth peer name v1", "ip link set v0 up", "ip link set v1 up", "ip addr add 192.0.2.1/24 dev v0",
		"ip neigh add 192.0.2.7 lladdr 02:00:00:00:00:01 dev v0", "tc qdisc add dev v0 root tbf rate 1kbit burst 1600 limit 10000000",
	} {
		arg := strings.Fields(line)
		if out, err := exec.CommandContext(t.Context(), arg[0], arg[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%s: %v: %s", line, err, out)
		}
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &transport{udp: conn, metrics: m}
	done := make(chan int, 1)
	go func() {
		lost := 0
		for range 300 {
			if _, err := tr.WriteTo(make([]byte, MaxDatagram), "192.0.2.7:7946"); err != nil {
				lost++
			}
		}
		done <- lost
	}()
	select {
	case lost := <-done:
		if lost == 0 {
			t.Error("nothing was lost: the network did not stall")
		}
	case <-time.After(patience):
		t.Error("a sender waits for the network")
	}
	_ = conn.Close()
}
