package gossip

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"
)

// Limits of a sealed message. A datagram of MaxDatagram octets with
// memberlist's framing, its encryption and an IPv6 header still fits an
// Ethernet frame, so that it never depends on fragments.
const (
	MaxDatagram = 1400    // octets, sealed, by UDP
	MaxReliable = 1 << 20 // octets, sealed, by TCP
	MaxName     = 100     // octets of a director's name
	maxFleet    = 64      // octets of a fleet ID
)

// The layout of version 1, integers big-endian:
//
//	version 1 | kind 1 | fleet digest 8 | boot 8 | instance 4 | seq 8 | key 32 |
//	name length 1 | name | payload | signature 64
//
// The signature covers a domain tag, the fleet ID with its length, and all that
// comes before it. The digest tells another fleet's message before any
// signature is checked; the ID itself is bound by the signature.
const (
	envelopeVersion = 1
	headerSize      = 1 + 1 + 8 + 8 + 4 + 8 + ed25519.PublicKeySize + 1
	messageTag      = "divert message v1\x00"
)

// What is wrong with a message that Open refuses.
var (
	ErrMalformed       = errors.New("message is malformed")
	ErrOversized       = errors.New("message is larger than allowed")
	ErrForeignFleet    = errors.New("message is of another fleet")
	ErrUnsigned        = errors.New("message signature does not verify")
	ErrUnknownDirector = errors.New("message is of a director that is not in the roster")
	ErrChangedKey      = errors.New("message is signed with another key than the roster's")
)

// Message is a payload with its author, as opened.
type Message struct {
	Kind     uint8
	From     string
	Key      ed25519.PublicKey // verified: the author holds its private half
	Boot     uint64
	Instance uint32
	Seq      uint64
	Payload  []byte
	Raw      []byte // the signed bytes as received

	// Fleet is what the message was sealed under: "" before its author knew a
	// plan.
	Fleet string
	// Pinned says that the key is the one that the roster holds for the name,
	// and that the message was sealed under this director's own fleet. Any
	// other message is a hint for enrolment and never a vote.
	Pinned bool
	// Received is the time of arrival, with its monotonic reading. Zero from
	// Open, which has no clock.
	Received time.Time
}

// Overhead gives the octets that Seal adds to a payload of a director.
func Overhead(name string) int { return headerSize + len(name) + ed25519.SignatureSize }

// Seal signs a payload. Kind 0 is this package's own.
func Seal(fleet string, kind uint8, from string, key ed25519.PrivateKey, boot uint64, instance uint32, seq uint64, payload []byte) []byte {
	raw := make([]byte, 0, Overhead(from)+len(payload))
	raw = append(raw, envelopeVersion, kind)
	raw = append(raw, fleetDigest(fleet)...)
	raw = binary.BigEndian.AppendUint64(raw, boot)
	raw = binary.BigEndian.AppendUint32(raw, instance)
	raw = binary.BigEndian.AppendUint64(raw, seq)
	raw = append(raw, key[ed25519.PrivateKeySize-ed25519.PublicKeySize:]...)
	raw = append(raw, byte(len(from)))
	raw = append(raw, from...)
	raw = append(raw, payload...)
	return append(raw, ed25519.Sign(key, underSignature(fleet, raw))...)
}

// Open checks a message of a registered director: its form, its fleet, that
// key knows its name, that the key is the same, and its signature. It is pure
// as far as key is. The Message aliases raw.
func Open(fleet string, raw []byte, key func(name string) ed25519.PublicKey) (Message, error) {
	m, err := parse(raw)
	if err != nil {
		return Message{}, err
	}
	if !sealedUnder(raw, fleet) {
		return Message{}, ErrForeignFleet
	}
	want := key(m.From)
	switch {
	case len(want) == 0:
		return Message{}, ErrUnknownDirector
	case !bytes.Equal(want, m.Key):
		return Message{}, ErrChangedKey
	case !verified(fleet, raw, m.Key):
		return Message{}, ErrUnsigned
	}
	m.Fleet, m.Pinned = fleet, true
	return m, nil
}

// parse reads the form of a message and nothing else: it costs no signature.
func parse(raw []byte) (Message, error) {
	switch {
	case len(raw) > MaxReliable:
		return Message{}, ErrOversized
	case len(raw) < headerSize+1+ed25519.SignatureSize || raw[0] != envelopeVersion:
		return Message{}, ErrMalformed
	}
	m := Message{Kind: raw[1], Raw: raw}
	rest := raw[10:]
	m.Boot, rest = binary.BigEndian.Uint64(rest), rest[8:]
	m.Instance, rest = binary.BigEndian.Uint32(rest), rest[4:]
	m.Seq, rest = binary.BigEndian.Uint64(rest), rest[8:]
	m.Key, rest = ed25519.PublicKey(rest[:ed25519.PublicKeySize:ed25519.PublicKeySize]), rest[ed25519.PublicKeySize:]
	size, rest := int(rest[0]), rest[1:]
	if size > len(rest)-ed25519.SignatureSize || !validName(string(rest[:size])) {
		return Message{}, ErrMalformed
	}
	m.From = string(rest[:size])
	end := len(rest) - ed25519.SignatureSize
	m.Payload = rest[size:end:end]
	if m.Boot == 0 || m.Seq == 0 {
		return Message{}, ErrMalformed
	}
	return m, nil
}

// validName holds what a director may be called. Names reach logs, metrics and
// memberlist's maps, so nothing but plain characters passes.
func validName(name string) bool {
	if name == "" || len(name) > MaxName {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}

func sealedUnder(raw []byte, fleet string) bool { return bytes.Equal(raw[2:10], fleetDigest(fleet)) }

func verified(fleet string, raw []byte, key ed25519.PublicKey) bool {
	end := len(raw) - ed25519.SignatureSize
	return ed25519.Verify(key, underSignature(fleet, raw[:end]), raw[end:])
}

func fleetDigest(fleet string) []byte {
	sum := sha256.Sum256([]byte(fleet))
	return sum[:8]
}

func underSignature(fleet string, body []byte) []byte {
	out := make([]byte, 0, len(messageTag)+2+len(fleet)+len(body))
	out = append(out, messageTag...)
	out = binary.BigEndian.AppendUint16(out, uint16(min(len(fleet), 1<<16-1)))
	out = append(out, fleet...)
	return append(out, body...)
}
