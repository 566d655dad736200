package relay

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"
	"time"
)

// device is a TUN device whose packets a test sends and sees.
type device struct {
	in, out chan []byte
	closed  chan struct{}
}

func newDevice() *device {
	return &device{in: make(chan []byte), out: make(chan []byte, 100), closed: make(chan struct{})}
}

func (d *device) Read(b []byte) (int, error) {
	select {
	case p := <-d.in:
		return copy(b, p), nil
	case <-d.closed:
		return 0, os.ErrClosed
	}
}

func (d *device) Write(b []byte) (int, error) {
	d.out <- append([]byte(nil), b...)
	return len(b), nil
}

func (d *device) Close() error {
	close(d.closed)
	return nil
}

// packet is an IPv4 header with a number behind it.
func packet(from, to string, number uint32) []byte {
	b := make([]byte, 24)
	b[0] = 0x45
	copy(b[12:], netip.MustParseAddr(from).AsSlice())
	copy(b[16:], netip.MustParseAddr(to).AsSlice())
	binary.BigEndian.PutUint32(b[20:], number)
	return b
}

// TestPackets: packets pass a device unharmed, are cut by the names of their ends,
// one direction at a time, and are delayed and lost as a fault says (F14, F5).
func TestPackets(t *testing.T) {
	const here, there, other = "192.0.2.1", "198.51.100.1", "198.51.100.2"
	d := newDevice()
	r := start(t, Options{Device: d, Sources: map[netip.Addr]string{
		netip.MustParseAddr(here): "d1", netip.MustParseAddr(there): "far",
	}})
	number := uint32(0)
	send := func(from, to string) {
		number++
		d.in <- packet(from, to, number)
	}
	// next is the number of the packet that comes out next.
	next := func() uint32 {
		t.Helper()
		select {
		case b := <-d.out:
			return binary.BigEndian.Uint32(b[20:])
		case <-time.After(patience):
			t.Fatal("no packet came out")
			return 0
		}
	}
	passes := func(from, to string) {
		t.Helper()
		send(from, to)
		if got := next(); got != number {
			t.Errorf("%s to %s: got packet %d, want %d", from, to, got, number)
		}
	}
	d.in <- []byte{0x45, 0, 0} // no IP packet: dropped, and nothing breaks
	passes(here, there)
	passes(there, here)

	r.Cut("d1", "far")
	send(here, there) // what passes next is the one after it
	passes(there, here)
	passes(here, other) // who has no name is called by the address
	r.Cut(Any, other)
	send(here, other)
	passes(there, here)
	r.Heal(Any, Any)
	passes(here, other)

	r.Shape(Any, "far", Fault{Loss: 1})
	send(here, there)
	passes(there, here)
	const delay = 20 * time.Millisecond
	r.Shape(Any, "far", Fault{Delay: delay})
	began := time.Now()
	passes(here, there)
	if took := time.Since(began); took < delay {
		t.Errorf("a packet took %s, want at least %s", took, delay)
	}
	r.Shape(Any, "far", Fault{Duplicate: 1})
	send(here, there)
	if a, b := next(), next(); a != number || b != number {
		t.Errorf("got packets %d and %d, want %d twice", a, b, number)
	}
}

// FuzzEnds: what is no IP packet has no ends, and nothing reads past its end.
func FuzzEnds(f *testing.F) {
	f.Add(packet("192.0.2.1", "198.51.100.1", 1))
	f.Add([]byte{0x60})
	f.Fuzz(func(t *testing.T, b []byte) {
		source, target, ok := ends(b)
		if ok && (!source.IsValid() || !target.IsValid() || source.BitLen() != target.BitLen()) {
			t.Errorf("%x: %v to %v", b, source, target)
		}
	})
}
