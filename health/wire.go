package health

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Every message is protobuf on the wire, read and written field by field: no
// more is allocated than its bytes hold, unknown fields are passed over, and
// what is too large, of a later format or not canonical is refused whole. The
// director's name, boot, sequence and signature are the envelope's.

const wireFormat = 1

// The bounds of what is read.
const (
	maxBallotVotes = 256
	maxHeard       = 64
	maxHeardBytes  = 768 // of one heartbeat, which with two plan identities must fit in a datagram
	maxName        = 253
	maxIdentity    = 256
	maxReason      = 240
	maxProof       = 16
	maxProofBytes  = 1500 // of one signed ballot; a datagram
	maxCerts       = 4096 // of one message
	maxOpened      = 1024 // signatures checked for one message
	maxStandings   = 65536
)

// maxPayload is the size of one ballot's votes, so that it fits in a datagram
// once it is sealed.
const maxPayload = 1100

var (
	errWire  = errors.New("malformed message")
	errLarge = errors.New("message exceeds its bounds")
)

// field is one protobuf field as read.
type field struct {
	num  protowire.Number
	typ  protowire.Type
	n    uint64 // varint, fixed64
	data []byte // bytes; aliases the input
}

// eachField calls f for every field of a message.
func eachField(b []byte, f func(field) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errWire
		}
		b = b[n:]
		fd := field{num: num, typ: typ}
		switch typ {
		case protowire.VarintType:
			fd.n, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			fd.n, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			fd.data, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return errWire
		}
		b = b[n:]
		if err := f(fd); err != nil {
			return err
		}
	}
	return nil
}

func (f field) is(num protowire.Number, typ protowire.Type) bool { return f.num == num && f.typ == typ }

// format checks a message's format field, number 1 of each.
func (f field) format() error {
	if f.n == 0 || f.n > wireFormat {
		return fmt.Errorf("message has format %d, this director reads up to %d", f.n, wireFormat)
	}
	return nil
}

func (f field) text(most int) (string, error) {
	if len(f.data) > most {
		return "", errLarge
	}
	return printable(string(f.data), most), nil
}

func appendVarint(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendFixed(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, num, protowire.Fixed64Type), v)
}

func appendBytes[T string | []byte](b []byte, num protowire.Number, v T) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(v)))
	return append(b, v...)
}

// EncodeVotes writes the votes of one ballot. Cover may be nil.
func EncodeVotes(votes []Vote, cover *Range) []byte {
	b := appendVarint(nil, 1, wireFormat)
	var one []byte
	for _, v := range votes {
		one = appendVote(one[:0], v)
		b = appendBytes(b, 2, one)
	}
	if cover != nil {
		b = appendFixed(b, 3, cover.Low)
		b = appendFixed(b, 4, cover.High)
	}
	return b
}

func appendVote(b []byte, v Vote) []byte {
	var buf [32]byte
	b = appendBytes(b, 1, appendSubject(buf[:0], v.Subject))
	b = appendVarint(b, 2, v.N)
	if v.To != Unknown {
		b = appendVarint(b, 3, uint64(v.To))
	}
	if v.Suspicion > 0 {
		b = appendVarint(b, 4, uint64(v.Suspicion))
	}
	return b
}

// DecodeVotes reads a ballot's votes and cover; director, boot, sequence and
// the raw message are the envelope's, for the caller to fill in.
func DecodeVotes(payload []byte) (Ballot, error) {
	var out Ballot
	var cover Range
	formatted, low, high := false, false, false
	err := eachField(payload, func(f field) error {
		switch {
		case f.is(1, protowire.VarintType):
			formatted = true
			return f.format()
		case f.is(2, protowire.BytesType):
			if len(out.Votes) >= maxBallotVotes {
				return errLarge
			}
			v, err := decodeVote(f.data)
			if err != nil {
				return err
			}
			out.Votes = append(out.Votes, v)
		case f.is(3, protowire.Fixed64Type):
			cover.Low, low = f.n, true
		case f.is(4, protowire.Fixed64Type):
			cover.High, high = f.n, true
		}
		return nil
	})
	if err == nil && (!formatted || low != high || cover.Low > cover.High) {
		err = errWire
	}
	if err != nil {
		return Ballot{}, fmt.Errorf("reading votes: %w", err)
	}
	if low {
		out.Cover = &cover
	}
	return out, nil
}

func decodeVote(b []byte) (Vote, error) {
	var v Vote
	err := eachField(b, func(f field) (err error) {
		switch {
		case f.is(1, protowire.BytesType):
			v.Subject, err = parseSubject(f.data)
		case f.is(2, protowire.VarintType):
			v.N = f.n
		case f.is(3, protowire.VarintType):
			if f.n > uint64(Down) {
				return errWire
			}
			v.To = State(f.n)
		case f.is(4, protowire.VarintType):
			if f.n > maxSuspicion {
				return errWire
			}
			v.Suspicion = uint16(f.n)
		}
		return err
	})
	if err == nil && (v.Subject.Kind == KindUnknown || (v.To != Unknown && v.N == 0) || (v.To == Unknown && v.Suspicion > 0)) {
		err = errWire
	}
	return v, err
}

// EncodeHeartbeat writes a heartbeat.
func EncodeHeartbeat(h Heartbeat) []byte {
	b := appendVarint(nil, 1, wireFormat)
	b = appendFixed(b, 2, h.Votes)
	b = appendFixed(b, 3, h.Certificates)
	for _, p := range h.Heard {
		b = appendBytes(b, 4, encodeHeard(p))
	}
	b = appendBytes(b, 5, h.Plan)
	b = appendBytes(b, 6, h.Highest)
	if !h.Wall.IsZero() {
		b = appendVarint(b, 7, protowire.EncodeZigZag(h.Wall.UnixNano()))
	}
	if h.Abstaining {
		b = appendVarint(b, 8, 1)
	}
	return b
}

// DecodeHeartbeat reads a heartbeat; director, boot and sequence are the
// envelope's, for the caller to fill in.
func DecodeHeartbeat(payload []byte) (Heartbeat, error) {
	var h Heartbeat
	formatted := false
	err := eachField(payload, func(f field) (err error) {
		switch {
		case f.is(1, protowire.VarintType):
			formatted = true
			return f.format()
		case f.is(2, protowire.Fixed64Type):
			h.Votes = f.n
		case f.is(3, protowire.Fixed64Type):
			h.Certificates = f.n
		case f.is(4, protowire.BytesType):
			if len(h.Heard) >= maxHeard {
				return errLarge
			}
			p, err := decodeHeard(f.data)
			if err != nil {
				return err
			}
			h.Heard = append(h.Heard, p)
		case f.is(5, protowire.BytesType):
			h.Plan, err = f.text(maxIdentity)
		case f.is(6, protowire.BytesType):
			h.Highest, err = f.text(maxIdentity)
		case f.is(7, protowire.VarintType):
			h.Wall = time.Unix(0, protowire.DecodeZigZag(f.n)).UTC()
		case f.is(8, protowire.VarintType):
			h.Abstaining = f.n != 0
		}
		return err
	})
	if err == nil && !formatted {
		err = errWire
	}
	if err != nil {
		return Heartbeat{}, fmt.Errorf("reading heartbeat: %w", err)
	}
	return h, nil
}

func encodeHeard(h Heard) []byte {
	b := appendBytes(nil, 1, h.Director)
	b = appendVarint(b, 2, h.Boot)
	return appendFixed(b, 3, h.Votes)
}

func decodeHeard(b []byte) (Heard, error) {
	var h Heard
	err := eachField(b, func(f field) (err error) {
		switch {
		case f.is(1, protowire.BytesType):
			h.Director, err = f.text(maxName)
		case f.is(2, protowire.VarintType):
			h.Boot = f.n
		case f.is(3, protowire.Fixed64Type):
			h.Votes = f.n
		}
		return err
	})
	if err == nil && h.Director == "" {
		err = errWire
	}
	return h, err
}
