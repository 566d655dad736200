//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/divertdns/divert/chaos/relay"
)

// The lab's network is the block for benchmarks (RFC 2544), in namespaces alone. In the
// middle is the hub, where the lab itself is: it routes between directors, rivals and
// clusters, each with a namespace and a link of its own, and drops what a fault drops.
// Some addresses of the first cluster are beyond a relay for packets, the wire.
const (
	netAll    = "198.18.0.0/15"
	netWire   = "198.19.48.0/20" // of the first cluster, through the relay
	wireLink  = "wire"
	wireTable = 100 // routes of what comes out of the wire
	backTable = 101 // routes of what comes back into it
	openPort  = 80  // every address of a cluster answers here
	lonePort  = 81  // only a process of its own answers here, and the fallbacks
)

var clusterNames = [...]string{"fra", "nyc", "sin"}

// addressOf puts a number into a block of links: the hub's end, and the other one.
func addressOf(block, n int) (hub, end netip.Addr) {
	n = n*4 + 1
	hub = netip.AddrFrom4([4]byte{198, 18, byte(block + n/256), byte(n % 256)})
	return hub, hub.Next()
}

// The blocks of links.
const (
	directorBlock = 1
	rivalBlock    = 2
	clusterBlock  = 3
	rackBlock     = 8 // up to 198.18.255.255
)

func directorAddress(i int) netip.Addr { _, end := addressOf(directorBlock, i); return end }

func gossipAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 0, byte(10 + i)}) }

// serviceAddress gives the n-th address, from 0, in a cluster's own block, from 0.
func serviceAddress(cluster, n int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 19, byte(64*cluster + n/250), byte(1 + n%250)})
}

// wireAddress gives the n-th address of the k-th kind beyond the wire.
func wireAddress(kind, n int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 19, byte(48 + kind), byte(1 + n)})
}

// world is the network.
type world struct {
	ctx       context.Context // of the namespaces: it ends last
	dir       string
	processes *processes
	hub       *space // where the lab's process is
	directors []*space
	clusters  [len(clusterNames)]*space
	relay     *relay.Relay
	racks     atomic.Int64
	addresses atomic.Int64
}

// newWorld lays out all but the racks. The process is in the hub's namespace already.
func newWorld(ctx context.Context, dir string, directors int, delay time.Duration) (*world, error) {
	w := &world{ctx: ctx, dir: dir, processes: &processes{dir: dir, all: map[*process]struct{}{}}}
	w.hub = &space{name: "hub", work: make(chan func())}
	go w.hub.serve(ctx)
	for path, value := range map[string]string{
		"ip_forward": "1", "conf/all/rp_filter": "0", "conf/default/rp_filter": "0", "conf/all/send_redirects": "0", "conf/default/send_redirects": "0",
	} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+path, []byte(value), 0o644); err != nil {
			return nil, fmt.Errorf("the hub's routing: %w", err)
		}
	}
	lines := []string{"link set lo up"}
	for i := 1; i <= directors; i++ {
		lines = append(lines, fmt.Sprintf("address add %s/32 dev lo", gossipAddress(i)))
	}
	if err := ip(lines...); err != nil {
		return nil, err
	}
	if err := nft(tables); err != nil {
		return nil, err
	}
	for i := 1; i <= directors; i++ {
		s, err := w.link(fmt.Sprintf("d%d", i), directorBlock, i)
		if err != nil {
			return nil, err
		}
		w.directors = append(w.directors, s)
	}
	for i, name := range clusterNames {
		s, err := w.link(name, clusterBlock, i)
		if err != nil {
			return nil, err
		}
		w.clusters[i] = s
		block := netip.PrefixFrom(serviceAddress(i, 0), 18).Masked()
		_, end := addressOf(clusterBlock, i)
		if err := errors.Join(ip(fmt.Sprintf("route add %s via %s", block, end)),
			s.run(ctx, func() error { return ip(fmt.Sprintf("route add local %s dev lo", block)) })); err != nil {
			return nil, err
		}
	}
	device, err := w.wire()
	if err != nil {
		return nil, err
	}
	if err := w.relays(device, directors, delay); err != nil {
		return nil, errors.Join(err, device.Close())
	}
	return w, nil
}

// link makes a namespace with a link to the hub.
func (w *world) link(name string, block, n int) (*space, error) {
	s, err := newSpace(w.ctx, name)
	if err != nil {
		return nil, err
	}
	return s, w.join(s, block, n)
}

func (w *world) join(s *space, block, n int) error {
	hub, end := addressOf(block, n)
	return errors.Join(
		ip(fmt.Sprintf("link add %s type veth peer name eth0 netns %d", s.name, s.tid),
			fmt.Sprintf("link set %s up", s.name), fmt.Sprintf("address add %s/30 dev %s", hub, s.name)),
		s.run(w.ctx, func() error {
			return ip("link set eth0 up", fmt.Sprintf("address add %s/30 dev eth0", end), fmt.Sprintf("route add default via %s", hub))
		}))
}

// wire makes the TUN device that the packets of netWire are led through, both ways.
func (w *world) wire() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	var request struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], wireLink)
	request.flags = unix.IFF_TUN | unix.IFF_NO_PI
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return nil, errors.Join(fmt.Errorf("TUN device: %w", errno), unix.Close(fd))
	}
	device := os.NewFile(uintptr(fd), wireLink) // not before: an unbound one cannot be polled
	_, end := addressOf(clusterBlock, 0)
	err = ip("link set "+wireLink+" up",
		fmt.Sprintf("route add %s dev %s", netWire, wireLink),
		fmt.Sprintf("rule add iif %s to %s lookup %d", wireLink, netWire, wireTable),
		fmt.Sprintf("route add %s via %s table %d", netWire, end, wireTable),
		fmt.Sprintf("rule add from %s iif %s lookup %d", netWire, clusterNames[0], backTable),
		fmt.Sprintf("route add default dev %s table %d", wireLink, backTable))
	if err != nil {
		return nil, errors.Join(err, device.Close())
	}
	return device, nil
}

// relays puts a delay between directors, and names what is beyond the wire.
func (w *world) relays(device *os.File, directors int, delay time.Duration) (err error) {
	o := relay.Options{Device: device, Sources: map[netip.Addr]string{}}
	for i := 1; i <= directors; i++ {
		name := fmt.Sprintf("d%d", i)
		o.Sources[directorAddress(i)] = name
		o.Links = append(o.Links, relay.Link{To: name, Listen: gossipAddress(i).String() + ":7946", Target: directorAddress(i).String() + ":7946"})
	}
	for kind, name := range wireKinds {
		for n := range 250 {
			o.Sources[wireAddress(kind, n)] = name
		}
	}
	if w.relay, err = relay.New(o); err != nil {
		return err
	}
	for i := 1; i <= directors; i++ {
		w.relay.Shape(relay.Any, fmt.Sprintf("d%d", i), relay.Fault{Delay: delay})
	}
	return nil
}

// What is beyond the wire; a name's place is its kind.
const (
	kindBurst  = iota // each director's path by itself loses all for 200 ms at a time
	kindUplink        // all paths at once do
	kindSlow          // packets are late, out of order and doubled
)

var wireKinds = []string{"burst", "uplink", "slow"}

// fresh gives an address of the first cluster that nobody has asked for yet.
func (w *world) fresh() netip.Addr { return serviceAddress(0, int(w.addresses.Add(1))) }

// rack is a host with a link of its own, which can be taken down.
type rack struct {
	*space
	address netip.Addr
	process *process
	end     context.CancelFunc // of its namespace
}

func (w *world) rack() (*rack, error) {
	ctx, cancel := context.WithCancel(w.ctx)
	n := int(w.racks.Add(1))
	s, err := newSpace(ctx, fmt.Sprintf("r%d", n))
	if err != nil {
		cancel()
		return nil, err
	}
	r := &rack{space: s, end: cancel}
	_, r.address = addressOf(rackBlock, n)
	if err := w.join(s, rackBlock, n); err != nil {
		cancel()
		return nil, err
	}
	if r.process, err = w.backend(s, fmt.Sprintf("%s:%d", r.address, openPort)); err != nil {
		cancel()
		return nil, err
	}
	return r, nil
}

// down takes the link down at the rack's end: nothing goes out, nothing comes in, and
// the hub sees no carrier.
func (r *rack) down(ctx context.Context) error {
	return r.run(ctx, func() error { return ip("link set eth0 down") })
}

// backend starts a server that says that all is well.
func (w *world) backend(where *space, listen ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return w.processes.start(w.ctx, where, "backends", append([]string{self, backendWord}, listen...)...)
}

// tables are what the hub drops. All but F9 and F6 go both ways.
const tables = `table ip lab {
	set dead { type ipv4_addr; }
	set lossy { type ipv4_addr; }
	set blind { type ipv4_addr . ipv4_addr; }
	set mute { type ipv4_addr . inet_service; }
	chain forward {
		type filter hook forward priority 0; policy accept;
		ip daddr @dead drop
		ip saddr @dead drop
		ip daddr @lossy numgen random mod 10 < 1 drop
		ip saddr @lossy numgen random mod 10 < 1 drop
		ip saddr . ip daddr @blind drop
		ip daddr . tcp dport @mute drop
	}
}`

// nft runs nft(8) in the hub.
func nft(text string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}

// drop begins a fault, pass ends it.
func drop(set, element string) error {
	return nft(fmt.Sprintf("add element ip lab %s { %s }", set, element))
}

func pass(set, element string) error {
	return nft(fmt.Sprintf("delete element ip lab %s { %s }", set, element))
}
