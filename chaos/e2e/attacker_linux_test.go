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

// packetBurst is how many packets one system call sends.
const packetBurst = 64

// share is a kind of packet and how many of a hundred are of it.
type share struct {
	write  func(random *rand.Rand, p []byte) int // gives the length
	of     int
	victim bool // it comes from the victim's network
}

// attacker sends packets with forged sources.
type attacker struct {
	raw int
	to  [4]byte
	mix func() []share
}

func (n *network) attacker(director int) *attacker {
	return &attacker{raw: n.raw, to: netip.MustParseAddrPort(n.server(director)).Addr().As4()}
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
		{write: func(random *rand.Rand, p []byte) int {
			copy(p, query)
			endian.BigEndian.PutUint16(p, uint16(random.Uint32()))
			return len(query)
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
		head(random, p)
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
	head(random, p)
	p[12] = 40
	return 13 + int(random.Uint32()%30)
}

func head(random *rand.Rand, p []byte) {
	copy(p, "\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00")
	endian.BigEndian.PutUint16(p, uint16(random.Uint32()))
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

// packetRoom is the memory of a burst, with the headers of IP and UDP.
type packetRoom struct {
	messages [packetBurst]struct {
		hdr    unix.Msghdr
		length uint32
	}
	vectors [packetBurst]unix.Iovec
	octets  [packetBurst][28 + 256]byte
	to      unix.RawSockaddrInet4
}

// send keeps to the first core and leaves the others to the servers.
func (a *attacker) send(ctx context.Context, perSecond float64) (sent uint64, took time.Duration) {
	var core unix.CPUSet
	core.Set(0)
	_ = unix.SchedSetaffinity(0, &core) // where it is not allowed, the scheduler knows better
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	var kinds []share
	for _, s := range a.mix() {
		for range s.of {
			kinds = append(kinds, s)
		}
	}
	m := &packetRoom{to: unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: a.to}}
	for i := range packetBurst {
		m.vectors[i].Base = &m.octets[i][0]
		h := &m.messages[i].hdr
		h.Iov, h.Name, h.Namelen = &m.vectors[i], (*byte)(unsafe.Pointer(&m.to)), unix.SizeofSockaddrInet4
		h.SetIovlen(1)
	}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 20))
	rest := unix.NsecToTimespec(20_000)
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
		n := int(min(due-sent, packetBurst))
		for i := range n {
			kind := kinds[random.IntN(len(kinds))]
			m.vectors[i].SetLen(a.forge(random, m.octets[i][:], kind))
		}
		for at := 0; at < n; {
			done, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(a.raw), uintptr(unsafe.Pointer(&m.messages[at])), uintptr(n-at), 0, 0, 0)
			if errno != 0 { // no room: that one is not sent
				at++
				continue
			}
			at += int(done)
			sent += uint64(done)
		}
		runtime.KeepAlive(m)
	}
}

// forge writes one packet with its headers (RFC 791, RFC 768) and gives its length.
func (a *attacker) forge(random *rand.Rand, p []byte, kind share) int {
	n := 28 + kind.write(random, p[28:])
	draw, port := random.Uint32(), uint16(1024+random.Uint32()%60000)
	copy(p, []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 198, 18 | byte(draw>>16&1), byte(draw >> 8), byte(draw)})
	if kind.victim {
		p[13], p[14], port = 19, 7, victimPort
	} else if p[13] == 19 && p[14] == 7 {
		p[14]++
	}
	copy(p[16:], a.to[:])
	endian.NativeEndian.PutUint16(p[2:], uint16(n)) // the kernel fills it in, and the checksum: raw(7)
	endian.BigEndian.PutUint16(p[20:], port)
	endian.BigEndian.PutUint16(p[22:], 53)
	endian.BigEndian.PutUint16(p[24:], uint16(n-20))
	endian.BigEndian.PutUint16(p[26:], 0) // no checksum
	return n
}
