package health

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
)

// errSubject is what a malformed binary subject gives.
var errSubject = errors.New("malformed subject")

// Valid reports whether a subject can be voted on: of a known kind, with an
// address without zone, and a definition exactly where its kind has one.
func (s Subject) Valid() bool {
	if !s.Addr.IsValid() || s.Addr.Addr().Zone() != "" {
		return false
	}
	switch s.Kind {
	case KindSignal:
		return s.Def == ""
	case KindCheck, KindSoft:
		return isDefinition(s.Def)
	default:
		return false
	}
}

// grayDefinition is the first 16 hexadecimal digits of the SHA-256 of "gray".
const grayDefinition = "0e92d69f9b951b18"

// Gray is the subject that says whether new connections to an address and port and one
// that stands there disagree: soft, so that it degrades and never fails.
func Gray(at netip.AddrPort) Subject {
	return Subject{Kind: KindSoft, Addr: at, Def: grayDefinition}
}

func isDefinition(def string) bool {
	if len(def) != 16 {
		return false
	}
	for i := range len(def) {
		if c := def[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Compare orders subjects by kind, address, port and definition.
func (s Subject) Compare(o Subject) int {
	return cmp.Or(cmp.Compare(s.Kind, o.Kind), s.Addr.Compare(o.Addr), cmp.Compare(s.Def, o.Def))
}

// appendSubject writes a valid subject: kind, definition (8 octets, unless a
// signal), port, address (4 or 16 octets). One subject has one form.
func appendSubject(dst []byte, s Subject) []byte {
	dst = append(dst, byte(s.Kind))
	if s.Kind != KindSignal {
		dst, _ = hex.AppendDecode(dst, []byte(s.Def)) // Valid has looked
	}
	dst = binary.BigEndian.AppendUint16(dst, s.Addr.Port())
	return append(dst, s.Addr.Addr().AsSlice()...)
}

// parseSubject reads what appendSubject wrote, all of it.
func parseSubject(b []byte) (Subject, error) {
	if len(b) == 0 {
		return Subject{}, errSubject
	}
	s := Subject{Kind: Kind(b[0])}
	b = b[1:]
	if s.Kind == KindCheck || s.Kind == KindSoft {
		if len(b) < 8 {
			return Subject{}, errSubject
		}
		s.Def = hex.EncodeToString(b[:8])
		b = b[8:]
	}
	if len(b) < 2 {
		return Subject{}, errSubject
	}
	addr, ok := netip.AddrFromSlice(b[2:])
	if !ok {
		return Subject{}, errSubject
	}
	s.Addr = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b))
	if !s.Valid() {
		return Subject{}, errSubject
	}
	return s, nil
}

// The digests are XORs of one 64-bit hash per element, so that a change costs
// one element whatever the size of the set. They find differences between
// honest directors; who forges one harms its own votes only.

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func fnv(b []byte) uint64 {
	h := uint64(fnvOffset)
	for _, c := range b {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return h
}

// mix spreads each bit of x over the whole word (SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func subjectHash(s Subject) uint64 {
	var buf [32]byte
	return mix(fnv(appendSubject(buf[:0], s)))
}

// voteHash is one vote's share of a votes digest. A withdrawn vote has none, and
// one without suspicion that of a version which knows of none.
func voteHash(subject, n uint64, to State, suspicion uint16) uint64 {
	if to == Unknown {
		return 0
	}
	return mix(subject ^ mix(n<<2|uint64(to)) ^ mix(uint64(suspicion)))
}

// transitionHash is one transition's share of a certificates digest.
func transitionHash(subject, n uint64) uint64 {
	if n == 0 {
		return 0
	}
	return mix(subject ^ mix(n<<2|3))
}
