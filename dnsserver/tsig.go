package dnsserver

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Key is a secret shared with a secondary (TSIG, RFC 8945).
type Key struct {
	Name      string // a domain name
	Algorithm string // hmac-sha256, hmac-sha384 or hmac-sha512
	Secret    []byte
	Shared    bool // it has no Secret: UseSecrets brings it, and until then nobody can sign with it
}

// The errors of RFC 8945 section 3.
const (
	tsigBadSig   = dns.RcodeBadSig
	tsigBadKey   = dns.RcodeBadKey
	tsigBadTime  = dns.RcodeBadTime
	tsigBadTrunc = dns.RcodeBadTrunc
)

// What a signature was, for the metrics.
const (
	tsigGood = iota
	tsigUnknownKey
	tsigSignature
	tsigTime
	tsigTruncated
	tsigReplay
	tsigFormat
	tsigKinds
)

func tsigKind(fault uint16) int {
	switch fault {
	case tsigBadKey:
		return tsigUnknownKey
	case tsigBadSig:
		return tsigSignature
	case tsigBadTime:
		return tsigTime
	case tsigBadTrunc:
		return tsigTruncated
	}
	return tsigGood
}

const (
	typeTSIG = 250
	// maxFudge bounds for how long a signature is good, whatever its maker says:
	// what was signed can be sent again that long (RFC 8945 section 10).
	maxFudge = 300 // seconds
	// spareHashers is how many of a key wait to be used again.
	spareHashers = 64
	// maxTSIGData is the longest "other data" that is read: six octets have a
	// meaning.
	maxTSIGData = 64
)

// keyring is the keys by name in wire format, lower case. It is not written to.
type keyring map[string]*tsigKey

type tsigKey struct {
	name      []byte
	algorithm []byte
	size      int              // of a whole MAC
	fresh     func() hash.Hash // keyed
	hashers   chan *hasher     // used before; those beyond its room are forgotten
	seen      *replays
	secret    []byte
	older     *tsigKey // of the same name, and good too; nil: none
}

// hasher is what a MAC is made with; its buffer spares allocations.
type hasher struct {
	hash.Hash
	buf [512]byte
	sum [sha512.Size]byte
}

func packName(name string) ([]byte, error) {
	buf := make([]byte, 256)
	n, err := dns.PackDomainName(strings.ToLower(dns.Fqdn(name)), buf, 0, nil, false)
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// signature is the TSIG record of a query, and then what the replies to it are
// signed with.
type signature struct {
	key       *tsigKey // nil: not ours
	name      wireName // as sent, lower case
	algorithm wireName
	time      uint64
	fudge     uint16
	id        uint16 // as the signer wrote it
	mac       [sha512.Size]byte
	macSize   int
	fault     uint16 // the TSIG error of the query; 0 = it is good
	later     bool   // not the first reply: the times alone are signed with it
}

// verify judges the TSIG record at of packet (RFC 8945 section 5.2). With false it is
// none at all: FORMERR. Else fault says what is wrong.
func (k keyring) verify(s *signature, packet []byte, at int, now time.Time) (ok bool) {
	var other []byte
	var wrong uint16
	var mac []byte
	if mac, wrong, other, ok = s.read(packet, at); !ok {
		return false
	}
	s.key = k[string(s.name.bytes())]
	if s.key == nil || string(s.algorithm.bytes()) != string(s.key.algorithm) {
		s.key, s.fault = nil, tsigBadKey
		return true
	}
	if len(mac) > s.key.size || len(mac) < max(10, s.key.size/2) {
		return false // section 5.2.2.1
	}
	for signer := s.key; ; signer = signer.older {
		if signer == nil {
			s.fault = tsigBadSig
			return true
		}
		if signer.signed(s, packet[:at], mac, wrong, other) {
			s.key = signer // and the reply is signed with the same
			break
		}
	}
	s.macSize = copy(s.mac[:], mac)
	switch fudge := int64(min(s.fudge, maxFudge)); {
	case now.Unix() > int64(s.time)+fudge || now.Unix() < int64(s.time)-fudge:
		s.fault = tsigBadTime
	case len(mac) < s.key.size: // section 5.2.4: no client of ours needs to truncate
		s.fault = tsigBadTrunc
	}
	return true
}

// signed tells whether a MAC is of this key.
func (k *tsigKey) signed(s *signature, message, mac []byte, wrong uint16, other []byte) bool {
	h := k.hasher()
	defer k.release(h)
	h.message(message, s.id)
	h.variables(s, wrong, other)
	return hmac.Equal(h.Sum(h.sum[:0])[:len(mac)], mac)
}

// replayed tells whether a good signature came before: for what must not be had by
// sending again what somebody else has sent.
func (s *signature) replayed(now time.Time) bool {
	if s.key.seen.take([sha256.Size]byte(s.mac[:sha256.Size]), s.time, min(s.fudge, maxFudge), now) {
		return false
	}
	s.fault = tsigBadTime
	return true
}

// read takes the record apart; see RFC 8945 section 4.2 for its parts.
func (s *signature) read(packet []byte, at int) (mac []byte, wrong uint16, other []byte, ok bool) {
	if at = s.name.read(packet, at); at < 0 || len(packet) < at+10 {
		return nil, 0, nil, false
	}
	head := packet[at:]
	end := at + 10 + int(binary.BigEndian.Uint16(head[8:]))
	if binary.BigEndian.Uint16(head) != typeTSIG || binary.BigEndian.Uint16(head[2:]) != dns.ClassANY ||
		binary.BigEndian.Uint32(head[4:]) != 0 || end != len(packet) {
		return nil, 0, nil, false
	}
	if at = s.algorithm.read(packet, at+10); at < 0 || len(packet) < at+10 {
		return nil, 0, nil, false
	}
	data := packet[at:]
	s.time = uint64(binary.BigEndian.Uint16(data))<<32 | uint64(binary.BigEndian.Uint32(data[2:]))
	s.fudge = binary.BigEndian.Uint16(data[6:])
	size := int(binary.BigEndian.Uint16(data[8:]))
	if len(data) < 10+size+6 {
		return nil, 0, nil, false
	}
	mac, data = data[10:10+size], data[10+size:]
	s.id, wrong = binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:])
	other = data[6:]
	ok = len(other) == int(binary.BigEndian.Uint16(data[4:])) && len(other) <= maxTSIGData
	return mac, wrong, other, ok
}

// size is how many octets sign adds to a reply.
func (s *signature) size() int {
	n := s.name.length + 10 + s.algorithm.length + 16
	if s.signs() {
		n += s.key.size
	}
	if s.fault == tsigBadTime {
		n += 6
	}
	return n
}

// signs tells whether a reply gets a MAC: not where who asked may not be who holds
// the key (section 5.3.2).
func (s *signature) signs() bool {
	return s.key != nil && s.fault != tsigBadSig && s.fault != tsigBadKey
}

// sign adds a TSIG record to the reply that begins at base of msg. Each is signed
// with the MAC before it: the query's, then the last reply's (section 5.3.1).
func (s *signature) sign(msg []byte, base int, now time.Time) []byte {
	if len(msg) <= base {
		return msg
	}
	var other []byte
	var clock [6]byte
	sent := *s
	if s.fault == tsigBadTime {
		// Section 5.2.3: the time is the client's, the server's stands beside it.
		put48(clock[:], uint64(now.Unix()))
		other = clock[:]
	} else {
		sent.time, sent.fudge = uint64(now.Unix()), maxFudge
	}
	reply := msg[base:]
	sent.id = binary.BigEndian.Uint16(reply)
	size := 0
	if s.signs() {
		h := s.key.hasher()
		binary.BigEndian.PutUint16(h.buf[:], uint16(s.macSize))
		h.Write(h.buf[:2])
		h.Write(h.buf[:copy(h.buf[:], s.mac[:s.macSize])])
		h.Write(reply) // its count of records is that without the TSIG still
		if s.later {
			put48(h.buf[:], sent.time)
			binary.BigEndian.PutUint16(h.buf[6:], sent.fudge)
			h.Write(h.buf[:8])
		} else {
			h.variables(&sent, s.fault, other)
		}
		size = copy(s.mac[:], h.Sum(h.sum[:0]))
		s.key.release(h)
		s.macSize, s.later = size, true
	}
	binary.BigEndian.PutUint16(reply[10:], binary.BigEndian.Uint16(reply[10:])+1)
	msg = append(msg, s.name.bytes()...)
	msg = append(msg, 0, typeTSIG, 0, dns.ClassANY, 0, 0, 0, 0)
	msg = binary.BigEndian.AppendUint16(msg, uint16(s.algorithm.length+16+size+len(other)))
	msg = append(msg, s.algorithm.bytes()...)
	var signed [8]byte
	put48(signed[:], sent.time)
	binary.BigEndian.PutUint16(signed[6:], sent.fudge)
	msg = append(msg, signed[:]...)
	msg = binary.BigEndian.AppendUint16(msg, uint16(size))
	msg = append(msg, s.mac[:size]...)
	msg = binary.BigEndian.AppendUint16(msg, sent.id)
	msg = binary.BigEndian.AppendUint16(msg, s.fault)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(other)))
	return append(msg, other...)
}

func put48(b []byte, v uint64) {
	binary.BigEndian.PutUint16(b, uint16(v>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(v))
}

func (k *tsigKey) hasher() *hasher {
	select {
	case h := <-k.hashers:
		h.Reset()
		return h
	default:
		return &hasher{Hash: k.fresh()}
	}
}

func (k *tsigKey) release(h *hasher) {
	select {
	case k.hashers <- h:
	default:
	}
}

// message digests a query as it was when it was signed: the signer's ID, and no TSIG
// record counted (section 4.3.2).
func (h *hasher) message(packet []byte, id uint16) {
	copy(h.buf[:12], packet)
	binary.BigEndian.PutUint16(h.buf[:], id)
	binary.BigEndian.PutUint16(h.buf[10:], binary.BigEndian.Uint16(packet[10:])-1)
	h.Write(h.buf[:12])
	h.Write(packet[12:])
}

// variables digests what is signed of the TSIG record itself (section 4.3.3).
func (h *hasher) variables(s *signature, fault uint16, other []byte) {
	h.Write(h.buf[:copy(h.buf[:], s.name.bytes())])
	copy(h.buf[:], "\x00\xff\x00\x00\x00\x00") // class ANY, TTL 0
	n := 6 + copy(h.buf[6:], s.algorithm.bytes())
	h.Write(h.buf[:n])
	put48(h.buf[:], s.time)
	binary.BigEndian.PutUint16(h.buf[6:], s.fudge)
	binary.BigEndian.PutUint16(h.buf[8:], fault)
	binary.BigEndian.PutUint16(h.buf[10:], uint16(len(other)))
	h.Write(h.buf[:12+copy(h.buf[12:], other)])
}

// wireName is a name in wire format, lower case.
type wireName struct {
	octets [255]byte
	length int
}

func (n *wireName) bytes() []byte { return n.octets[:n.length] }

// read follows pointers, each further to the front than the last, so that there is
// no loop (C2). It gives where the name ends in the packet; below 0 it is none.
func (n *wireName) read(packet []byte, at int) (end int) {
	n.length, end = 0, -1
	for limit := at; at < len(packet); {
		size := int(packet[at])
		switch {
		case size >= 0xc0:
			if at+1 >= len(packet) {
				return -1
			}
			if end < 0 {
				end = at + 2
			}
			if at = (size&0x3f)<<8 | int(packet[at+1]); at >= limit {
				return -1
			}
			limit = at
		case size > 63 || n.length+1+size > len(n.octets) || at+1+size > len(packet):
			return -1
		default:
			for i, c := range packet[at : at+1+size] {
				if i > 0 && c-'A' < 26 {
					c += 'a' - 'A'
				}
				n.octets[n.length+i] = c
			}
			n.length += 1 + size
			at += 1 + size
			if size == 0 {
				if end < 0 {
					end = at
				}
				return end
			}
		}
	}
	return -1
}

// maxReplays is how many signatures of a key are remembered.
const maxReplays = 256

// replays remembers the good signatures of a key for as long as they are good. When
// there are too many, what is no younger than one forgotten counts as seen.
type replays struct {
	mu    sync.Mutex
	ring  [maxReplays]replay
	next  int
	floor uint64 // of times
}

type replay struct {
	mac   [sha256.Size]byte
	time  uint64
	until uint64
}

// take tells whether a signature is new, and remembers it.
func (r *replays) take(mac [sha256.Size]byte, at uint64, fudge uint16, now time.Time) (fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at <= r.floor {
		return false
	}
	for i := range r.ring {
		if r.ring[i].mac == mac && r.ring[i].time == at {
			return false
		}
	}
	old := &r.ring[r.next]
	if old.until >= uint64(now.Unix()) { // good still, and about to be forgotten
		r.floor = max(r.floor, old.time)
		if at <= r.floor {
			return false
		}
	}
	*old = replay{mac: mac, time: at, until: at + uint64(fudge)}
	r.next = (r.next + 1) % maxReplays
	return true
}
