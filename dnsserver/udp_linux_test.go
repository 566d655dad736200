package dnsserver

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/geo"
)

// put fills slot i as the kernel does.
func (b *batch) put(i int, from netip.AddrPort, packet []byte) {
	sa := &unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: from.Addr().As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:], from.Port())
	*(*unix.RawSockaddrInet4)(unsafe.Pointer(&b.from[i])) = *sa
	b.in[i].hdr.Namelen = unix.SizeofSockaddrInet4
	b.in[i].length = uint32(copy(b.queries[i][:], packet))
}

func (b *batch) reply(i int) []byte {
	return unsafe.Slice(b.outVec[i].Base, b.outVec[i].Len)
}

func idleWorker(t testing.TB, table *answer.Table) *worker {
	t.Helper()
	o := Options{Table: new(atomic.Pointer[answer.Table])}
	o.Table.Store(table)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s.worker(nil, false)
}

// STYLE 15: the packet path allocates nothing, metrics and recover included.
func TestBatchAllocatesNothing(t *testing.T) {
	w := idleWorker(t, exampleTable(t, ""))
	b := newBatch(false)
	for i := range batchSize {
		b.put(i, netip.MustParseAddrPort("192.0.2.1:4000"), framed(t, uint16(i))[2:])
	}
	if n := testing.AllocsPerRun(100, func() { w.answer(b, batchSize) }); n != 0 {
		t.Errorf("a batch allocates %f times", n)
	}
}

// A batch is answered in its order, what gets no answer left out, each to whom
// it came from.
func TestBatch(t *testing.T) {
	w := idleWorker(t, exampleTable(t, ""))
	b := newBatch(false)
	good := netip.MustParseAddrPort("192.0.2.1:4000")
	response := framed(t, 2)[2:]
	response[2] |= 0x80
	b.put(0, good, framed(t, 0)[2:])
	b.put(1, netip.MustParseAddrPort("192.0.2.1:19"), framed(t, 1)[2:])
	b.put(2, good, response)
	b.put(3, netip.MustParseAddrPort("192.0.2.3:4003"), framed(t, 3)[2:])
	b.put(4, good, framed(t, 4)[2:][:11])
	b.put(5, good, framed(t, 5)[2:][:20])
	n := w.answer(b, 6)
	var got []uint16
	for i := range n {
		got = append(got, binary.BigEndian.Uint16(b.reply(i)))
	}
	if len(got) != 3 || got[0] != 0 || got[1] != 3 || got[2] != 5 {
		t.Fatalf("replies to %v, want 0, 3 and 5", got)
	}
	if from := (*unix.RawSockaddrInet4)(unsafe.Pointer(b.out[1].hdr.Name)); from.Addr != [4]byte{192, 0, 2, 3} {
		t.Errorf("the reply to 3 goes to %v", from.Addr)
	}
	if rcode := b.reply(2)[3] & 15; rcode != dns.RcodeFormatError {
		t.Errorf("half a query has rcode %d", rcode)
	}
}

// C1: a panic costs its packet; those around it are answered, and the same packet
// is not tried again while the table stands.
func TestPanicCostsItsPacket(t *testing.T) {
	w := idleWorker(t, brittleTable(t))
	b := newBatch(false)
	from := netip.MustParseAddrPort("192.0.2.1:4000")
	half := framed(t, 1)[2:][:20] // which is FORMERR
	for round := range 2 {
		b.put(0, from, half)
		b.put(1, from, framed(t, uint16(round))[2:])
		b.put(2, from, half)
		if n := w.answer(b, 3); n != 2 {
			t.Errorf("%d replies, want 2", n)
		}
		if got := w.server.metrics.panics.Load(); got != 1 {
			t.Errorf("round %d: %d panics, want 1", round, got)
		}
		if got := w.server.metrics.poisoned.Load(); got != uint64(round) {
			t.Errorf("round %d: %d packets in quarantine", round, got)
		}
	}
}

// brittleTable panics at steered names: its geo table was not made by geo.
func brittleTable(t *testing.T) *answer.Table {
	t.Helper()
	return compile(t, answer.Options{Geo: new(geo.Table)})
}

func TestPoisonEndsWithTheTable(t *testing.T) {
	one, two := exampleTable(t, ""), exampleTable(t, "")
	p := newPoison()
	packet, other := framed(t, 1)[2:], framed(t, 2)[2:]
	other[13]++
	if p.holds(one, packet) {
		t.Error("an empty poison holds something")
	}
	p.add(one, packet)
	again := framed(t, 9)[2:]
	for _, tc := range []struct {
		table  *answer.Table
		packet []byte
		want   bool
	}{{one, packet, true}, {one, again, true}, {one, other, false}, {two, packet, false}} {
		if got := p.holds(tc.table, tc.packet); got != tc.want {
			t.Errorf("holds(%p, %x) = %t, want %t", tc.table, tc.packet, got, tc.want)
		}
	}
	for i := range maxPoison {
		p.add(one, []byte{0, 0, byte(i)})
	}
	if p.holds(one, packet) || !p.holds(one, []byte{0, 0, 0}) || len(p.held.Load().hashes) != maxPoison {
		t.Error("it does not keep the latest")
	}
	reported := 0
	for range 100 {
		if p.add(two, packet) {
			reported++
		}
	}
	if reported > poisonReports {
		t.Errorf("%d packets reported", reported)
	}
}

// A reply that the kernel refuses is left out, and those behind it are sent.
func TestSendSkipsWhatIsRefused(t *testing.T) {
	to, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	s := serve(t, exampleTable(t, ""), nil)
	w := s.worker(s.listeners[0].udp[0], false)
	b := newBatch(false)
	for i := range 5 {
		b.put(i, to.LocalAddr().(*net.UDPAddr).AddrPort(), framed(t, uint16(i))[2:])
	}
	n := w.answer(b, 5)
	b.out[0].hdr.Namelen, b.out[3].hdr.Namelen = 1, 1 // EINVAL
	if err := control(w.conn, func(fd uintptr) error { w.send(fd, b, n); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := to.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, maxReply)
	for _, want := range []uint16{1, 2, 4} {
		if _, err := to.Read(packet); err != nil {
			t.Fatal(err)
		}
		if got := binary.BigEndian.Uint16(packet); got != want {
			t.Errorf("got the reply to %d, want that to %d", got, want)
		}
	}
	if got := w.counts.writeErrors.Load(); got != 2 {
		t.Errorf("%d write errors, want 2", got)
	}
}

// Bursts from many clients are all answered, whichever worker they fall to.
func TestManyClients(t *testing.T) {
	s := serve(t, exampleTable(t, ""), nil)
	const clients, queries = 32, 50
	for range clients {
		conn, err := net.Dial("udp", s.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for id := range uint16(queries) {
			if _, err := conn.Write(framed(t, id)[2:]); err != nil {
				t.Fatal(err)
			}
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		packet := make([]byte, maxReply)
		for id := range uint16(queries) {
			if _, err := conn.Read(packet); err != nil {
				t.Fatal(err)
			}
			if got := binary.BigEndian.Uint16(packet); got != id {
				t.Fatalf("reply %d has ID %d", id, got)
			}
		}
	}
	_, sum := s.metrics.sums()
	if got := sum.replies[answer.UDP][dns.RcodeSuccess]; got != clients*queries {
		t.Errorf("%d replies counted, want %d", got, clients*queries)
	}
}

// A port that another program holds is not shared with it.
func TestTakenPortIsNotShared(t *testing.T) {
	shared := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error { return controlRaw(raw, sharePort) }}
	other, err := shared.ListenPacket(context.Background(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_, err = New(Options{Listen: []string{other.LocalAddr().String()}, Table: new(atomic.Pointer[answer.Table])})
	if err == nil {
		t.Error("a port that is taken was shared")
	}
}
