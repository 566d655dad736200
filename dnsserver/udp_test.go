package dnsserver

import (
	"encoding/binary"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/dnsserver/internal/datagram"
)

// desk is a worker that is not running, with a batch of its own and a client.
type desk struct {
	*worker
	t      testing.TB
	batch  *datagram.Batch
	client *net.UDPConn
}

func newDesk(t testing.TB, table *answer.Table) *desk {
	t.Helper()
	o := Options{Listen: []string{"127.0.0.1:0"}, Table: new(atomic.Pointer[answer.Table])}
	o.Table.Store(table)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	// One socket alone: all that is sent comes to it.
	for _, socket := range s.listeners[0].udp[1:] {
		socket.Close()
	}
	socket := s.listeners[0].udp[0]
	client, err := net.DialUDP("udp4", nil, socket.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	d := &desk{worker: s.worker(socket, false), t: t, client: client}
	if d.batch, err = datagram.New(socket, false); err != nil {
		t.Fatal(err)
	}
	return d
}

// receive sends packets and has the batch hold them.
func (d *desk) receive(packets ...[]byte) int {
	d.t.Helper()
	for _, p := range packets {
		if _, err := d.client.Write(p); err != nil {
			d.t.Fatal(err)
		}
	}
	n, err := d.batch.Receive()
	if err != nil || n != len(packets) {
		d.t.Fatalf("Receive() = %d, %v, want %d", n, err, len(packets))
	}
	return n
}

// replies sends what was answered and gives the IDs that come back.
func (d *desk) replies(want int) (ids []uint16) {
	d.t.Helper()
	if refused, err := d.batch.Send(); refused > 0 || err != nil {
		d.t.Fatalf("Send() = %d, %v", refused, err)
	}
	packet := make([]byte, datagram.MaxReply)
	for range want {
		if err := d.client.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			d.t.Fatal(err)
		}
		n, err := d.client.Read(packet)
		if err != nil {
			d.t.Fatalf("after replies to %v: %v", ids, err)
		}
		ids = append(ids, binary.BigEndian.Uint16(packet[:n]))
	}
	return ids
}

// STYLE 15: the packet path allocates nothing, metrics and recover included.
func TestBatchAllocatesNothing(t *testing.T) {
	d := newDesk(t, exampleTable(t, ""))
	var packets [][]byte
	for i := range datagram.Max {
		packets = append(packets, framed(t, uint16(i))[2:])
	}
	n := d.receive(packets...)
	if allocs := testing.AllocsPerRun(100, func() {
		d.answer(d.batch, n)
		if refused, err := d.batch.Send(); refused > 0 || err != nil {
			t.Errorf("Send() = %d, %v", refused, err)
		}
	}); allocs != 0 {
		t.Errorf("a batch allocates %f times", allocs)
	}
}

// A batch is answered in its order; what gets no answer is left out.
func TestBatch(t *testing.T) {
	d := newDesk(t, exampleTable(t, ""))
	response := framed(t, 2)[2:]
	response[2] |= 0x80
	n := d.receive(framed(t, 0)[2:], response, framed(t, 3)[2:], framed(t, 4)[2:][:11], framed(t, 5)[2:][:20])
	d.answer(d.batch, n)
	got := d.replies(3)
	if got[0] != 0 || got[1] != 3 || got[2] != 5 {
		t.Errorf("replies to %v, want 0, 3 and 5", got)
	}
}

// C1: a panic costs its packet; those around it are answered, and the same packet
// is not tried again while the table stands.
func TestPanicCostsItsPacket(t *testing.T) {
	// Its geo table was not made by geo: what is steered panics.
	d := newDesk(t, compile(t, answer.Options{Geo: new(geo.Table)}))
	static := framed(t, 7)[2:][:20] // FORMERR
	for round := range 2 {
		n := d.receive(static, framed(t, uint16(round))[2:], static)
		d.answer(d.batch, n)
		if got := d.replies(2); got[0] != 7 || got[1] != 7 {
			t.Errorf("replies to %v", got)
		}
		if got := d.server.metrics.panics.Load(); got != 1 {
			t.Errorf("round %d: %d panics, want 1", round, got)
		}
		if got := d.server.metrics.poisoned.Load(); got != uint64(round) {
			t.Errorf("round %d: %d packets in quarantine", round, got)
		}
	}
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

// Bursts from many clients are all answered, whichever worker they fall to, and
// counted once.
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
		packet := make([]byte, datagram.MaxReply)
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

// A port that another program holds is not shared with it, even where that would
// share.
func TestTakenPortIsNotShared(t *testing.T) {
	shared := net.ListenConfig{Control: datagram.ShareRaw}
	other, err := shared.ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_, err = New(Options{Listen: []string{other.LocalAddr().String()}, Table: new(atomic.Pointer[answer.Table])})
	if err == nil {
		t.Error("a port that is taken was shared")
	}
}
