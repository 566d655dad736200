package e2e

import (
	"context"
	endian "encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const (
	// packetBurst is how many packets one system call sends.
	packetBurst = 64
	// packetPool is how many are made before they are sent, over and over: with another
	// source, port and ID each time, but with the same names and the same noise.
	packetPool = 128 * packetBurst
	ethernet   = 14 // octets before the IP header
	forgedRoom = ethernet + 28 + 100
)

// share is a kind of packet and how many of a hundred are of it.
type share struct {
	write  func(random *rand.Rand, p []byte) int // gives the length
	of     int
	victim bool // it comes from the victim's network
}

// attacker sends packets with forged sources.
type attacker struct {
	wire   int // a packet socket of the clients' link
	header [ethernet]byte
	to     [4]byte
	mix    func() []share
}

func (n *network) attacker(director int) *attacker {
	return &attacker{wire: n.wire, header: n.header, to: netip.MustParseAddrPort(n.server(director)).Addr().As4()}
}

// rejects are answered at the least price, and each is answered.
func rejects() []share {
	return []share{{write: named("\x07example\x03net\x00"), of: 70}, {write: broken, of: 30}}
}

// flood is all that a director may see at once.
func flood() []share {
	query := victimQuery()
	return []share{
		{write: named("\x07example\x03org\x00"), of: 40},
		{write: named("\x07example\x03net\x00"), of: 20},
		{write: garbage, of: 15},
		{write: short, of: 10},
		{write: func(_ *rand.Rand, p []byte) int {
			return copy(p, query)
		}, of: 15, victim: true},
	}
}

// victimQuery is the one with the longest answer for its length.
func victimQuery() []byte {
	m := new(dns.Msg)
	m.SetQuestion("example.org.", dns.TypeNS)
	m.SetEdns0(4096, false)
	out, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return out
}

// named asks for a random name below another.
func named(below string) func(*rand.Rand, []byte) int {
	return func(random *rand.Rand, p []byte) int {
		head(p)
		p[12] = 12
		for i := range 12 {
			p[13+i] = 'a' + byte(random.Uint32()%26)
		}
		n := 25 + copy(p[25:], below)
		return n + copy(p[n:], "\x00\x01\x00\x01")
	}
}

// broken ends within its question.
func broken(random *rand.Rand, p []byte) int {
	head(p)
	p[12] = 40
	return 13 + int(random.Uint32()%30)
}

func head(p []byte) {
	copy(p, "\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00")
}

func garbage(random *rand.Rand, p []byte) int { return noise(random, p[:12+random.Uint32()%80]) }
func short(random *rand.Rand, p []byte) int   { return noise(random, p[:random.Uint32()%12]) }

func noise(random *rand.Rand, p []byte) int {
	for i := range p {
		p[i] = byte(random.Uint32())
	}
	return len(p)
}

// start floods at a rate until the returned function is called, which tells how
// many packets left in which time.
func (a *attacker) start(perSecond float64) func() (sent uint64, took time.Duration) {
	type result struct {
		sent uint64
		took time.Duration
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan result)
	go func() {
		// Never unlocked: the core that the thread is kept to goes with it.
		runtime.LockOSThread()
		sent, took := a.send(ctx, perSecond)
		done <- result{sent, took}
	}()
	return func() (uint64, time.Duration) {
		cancel()
		r := <-done
		return r.sent, r.took
	}
}

// run floods for a while.
func (a *attacker) run(perSecond float64, length time.Duration) (sent uint64, took time.Duration) {
	stop := a.start(perSecond)
	<-time.After(length)
	return stop()
}

// ammunition is packets ready to be sent. Its memory never moves.
type ammunition struct {
	messages [packetPool]struct {
		hdr    unix.Msghdr
		length uint32
	}
	vectors [packetPool]unix.Iovec
	octets  [packetPool][forgedRoom]byte
	victim  [packetPool]bool
}

// load makes packets of the mix.
func (a *attacker) load(random *rand.Rand) *ammunition {
	var kinds []share
	for _, s := range a.mix() {
		for range s.of {
			kinds = append(kinds, s)
		}
	}
	m := &ammunition{}
	for i := range packetPool {
		kind := kinds[random.IntN(len(kinds))]
		m.victim[i] = kind.victim
		m.vectors[i].Base = &m.octets[i][0]
		m.vectors[i].SetLen(a.forge(random, m.octets[i][:], kind))
		m.messages[i].hdr.Iov = &m.vectors[i]
		m.messages[i].hdr.SetIovlen(1)
	}
	return m
}

// send keeps to the first core and leaves the others to the servers.
func (a *attacker) send(ctx context.Context, perSecond float64) (sent uint64, took time.Duration) {
	var core unix.CPUSet
	core.Set(0)
	_ = unix.SchedSetaffinity(0, &core) // where it is not allowed, the scheduler knows better
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 20))
	m := a.load(random)
	rest := unix.NsecToTimespec(20_000)
	next := 0
	for began := time.Now(); ; {
		took = time.Since(began)
		if ctx.Err() != nil {
			return sent, took
		}
		// What is late by more than a burst or two is not made up for: the rate is
		// never more than was asked.
		due := uint64(took.Seconds() * perSecond)
		if due < sent+packetBurst/4 {
			_ = unix.Nanosleep(&rest, nil)
			continue
		}
		n := int(min(due-sent, packetBurst, uint64(packetPool-next)))
		for i := next; i < next+n; i++ {
			m.renew(i, random.Uint64())
		}
		for at := next; at < next+n; {
			done, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(a.wire), uintptr(unsafe.Pointer(&m.messages[at])), uintptr(next+n-at), 0, 0, 0)
			if errno != 0 { // no room: that one is not sent
				at++
				continue
			}
			at += int(done)
			sent += uint64(done)
		}
		next = (next + n) % packetPool
		runtime.KeepAlive(m)
	}
}

// forge writes one packet with its headers (RFC 791, RFC 768) and gives its length.
func (a *attacker) forge(random *rand.Rand, p []byte, kind share) int {
	copy(p, a.header[:])
	p = p[ethernet:]
	n := 28 + kind.write(random, p[28:])
	copy(p, []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 198, 18, 0, 0})
	copy(p[16:], a.to[:])
	endian.BigEndian.PutUint16(p[2:], uint16(n))
	endian.BigEndian.PutUint16(p[22:], 53)
	endian.BigEndian.PutUint16(p[24:], uint16(n-20))
	return ethernet + n // the checksum of UDP is 0: there is none
}

// renew gives a packet another source, port and ID.
func (m *ammunition) renew(i int, draw uint64) {
	p := m.octets[i][ethernet:]
	port := 1024 + uint16(draw>>48)%60000
	p[13], p[14], p[15] = 18|byte(draw>>16&1), byte(draw>>8), byte(draw)
	if m.victim[i] {
		p[13], p[14], port = 19, 7, victimPort
	} else if p[13] == 19 && p[14] == 7 {
		p[14]++
	}
	endian.BigEndian.PutUint16(p[20:], port)
	if m.vectors[i].Len >= ethernet+30 {
		endian.BigEndian.PutUint16(p[28:], uint16(draw>>32))
	}
	p[10], p[11] = 0, 0
	sum := uint32(0)
	for at := 0; at < 20; at += 2 {
		sum += uint32(endian.BigEndian.Uint16(p[at:]))
	}
	sum = sum>>16 + sum&0xffff
	endian.BigEndian.PutUint16(p[10:], ^uint16(sum>>16+sum))
}
