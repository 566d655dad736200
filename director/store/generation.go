package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/divertdns/divert/director/plan"
)

// Generation is what a director needs to answer and to fail over with nobody
// else there (S12).
type Generation struct {
	Plan     []byte        // envelope, as sealed
	Doc      []byte        // marshalled plan.SpecDoc
	Canary   []byte        // likewise, of the plan's rollout; none: there is none under way
	Health   []byte        // certificates and their ages; opaque here
	Resolved []byte        // what hostnames resolved to; opaque here. None: an older divert's, or no hostnames
	Policy   []byte        // bundle of the plan's policy; none: there is none, or it was not at hand
	Highest  plan.Identity // highest plan that this director knew of (S3)
	Saved    time.Time     // wall clock, for people

	// What was written after a loss must not make it be forgotten (S3).
	Lost, Blank bool // the disk had lost its newest generation, or held none, and nobody had said what that was
}

// Docs lists the documents that the plan needs, in the order of plan.Specs.
func (g Generation) Docs() [][]byte {
	if len(g.Canary) == 0 {
		return [][]byte{g.Doc}
	}
	return [][]byte{g.Doc, g.Canary}
}

// A generation's file: 8 octets of magic, the format and the body's length,
// big-endian, the SHA-256 of all that and the body, the body. The body is in
// protobuf's wire encoding, so that a later field is skipped by this code.
const (
	generationMagic  = "divert\x00g"
	generationFormat = 1
	headerLength     = len(generationMagic) + 4 + 8
	bodyOffset       = headerLength + sha256.Size
	// maxGeneration bounds what is read: the largest spec, plan, and health.
	maxGeneration = 2*MaxChunks*MaxChunk + MaxPlan + 32<<20
)

const (
	fieldPlan protowire.Number = iota + 1
	fieldDoc
	fieldHealth
	fieldFleet
	fieldEpoch
	fieldRevision
	fieldHash
	fieldSaved
	fieldResolved
	fieldForgotten
	fieldCanary protowire.Number = 32
	fieldPolicy protowire.Number = 33
)

// errNewer says that a generation was written by a newer divert.
var errNewer = errors.New("was written by a newer divert: upgrade this one")

// encode gives the file's octets.
func (g Generation) encode() ([]byte, error) {
	body := make([]byte, bodyOffset, bodyOffset+len(g.Plan)+len(g.Doc)+len(g.Canary)+len(g.Policy)+len(g.Health)+len(g.Resolved)+256)
	octets := func(n protowire.Number, v []byte) {
		body = protowire.AppendTag(body, n, protowire.BytesType)
		body = protowire.AppendBytes(body, v)
	}
	number := func(n protowire.Number, v uint64) {
		body = protowire.AppendTag(body, n, protowire.Fixed64Type)
		body = protowire.AppendFixed64(body, v)
	}
	octets(fieldPlan, g.Plan)
	octets(fieldDoc, g.Doc)
	octets(fieldHealth, g.Health)
	octets(fieldFleet, []byte(g.Highest.Fleet))
	number(fieldEpoch, g.Highest.Epoch)
	number(fieldRevision, g.Highest.Revision)
	octets(fieldHash, g.Highest.Hash[:])
	if len(g.Resolved) > 0 {
		octets(fieldResolved, g.Resolved)
	}
	if len(g.Canary) > 0 {
		octets(fieldCanary, g.Canary)
	}
	if len(g.Policy) > 0 {
		octets(fieldPolicy, g.Policy)
	}
	if g.Lost || g.Blank {
		number(fieldForgotten, forgotten(g.Lost, g.Blank))
	}
	if !g.Saved.IsZero() {
		number(fieldSaved, uint64(g.Saved.UnixNano()))
	}
	if len(body) > maxGeneration {
		return nil, fmt.Errorf("generation of %d octets, at most %d: %w", len(body), maxGeneration, ErrTooLarge)
	}
	copy(body, generationMagic)
	binary.BigEndian.PutUint32(body[len(generationMagic):], generationFormat)
	binary.BigEndian.PutUint64(body[len(generationMagic)+4:], uint64(len(body)-bodyOffset))
	copy(body[headerLength:], checksum(body))
	return body, nil
}

// forgotten makes bits of what was not known.
func forgotten(lost, blank bool) (bits uint64) {
	if lost {
		bits |= 1
	}
	if blank {
		bits |= 2
	}
	return bits
}

// checksum covers the header and the body of a file.
func checksum(file []byte) []byte {
	h := sha256.New()
	h.Write(file[:headerLength])
	h.Write(file[bodyOffset:])
	return h.Sum(nil)
}

// decode reads a file's octets, which may be torn, flipped or foreign.
func decode(file []byte) (Generation, error) {
	var g Generation
	if len(file) < bodyOffset {
		return g, fmt.Errorf("is torn: %d octets", len(file))
	}
	if string(file[:len(generationMagic)]) != generationMagic {
		return g, errors.New("is no generation")
	}
	// The checksum is judged before the format: a flipped format is damage,
	// and the layout up to the checksum is the same in every format.
	if length := binary.BigEndian.Uint64(file[len(generationMagic)+4:]); length != uint64(len(file)-bodyOffset) {
		return g, fmt.Errorf("is torn: %d octets of %d", len(file)-bodyOffset, length)
	}
	if !bytes.Equal(checksum(file), file[headerLength:bodyOffset]) {
		return g, errors.New("is damaged: its checksum differs")
	}
	if format := binary.BigEndian.Uint32(file[len(generationMagic):]); format != generationFormat {
		return g, fmt.Errorf("has format %d, this director reads %d: it %w", format, generationFormat, errNewer)
	}
	for body := file[bodyOffset:]; len(body) > 0; {
		num, kind, n := protowire.ConsumeTag(body)
		if n < 0 {
			return Generation{}, fmt.Errorf("is damaged: %w", protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(num, kind, body[n:])
		if size < 0 {
			return Generation{}, fmt.Errorf("is damaged: %w", protowire.ParseError(size))
		}
		if err := g.field(num, kind, body[n:n+size]); err != nil {
			return Generation{}, err
		}
		body = body[n+size:]
	}
	return g, nil
}

// field sets one field; those of later formats are skipped.
func (g *Generation) field(num protowire.Number, kind protowire.Type, raw []byte) error {
	var octets []byte
	var number uint64
	switch kind {
	case protowire.BytesType:
		octets, _ = protowire.ConsumeBytes(raw)
	case protowire.Fixed64Type:
		number, _ = protowire.ConsumeFixed64(raw)
	default:
		return nil
	}
	switch num {
	case fieldPlan:
		g.Plan = octets
	case fieldDoc:
		g.Doc = octets
	case fieldHealth:
		g.Health = octets
	case fieldResolved:
		g.Resolved = octets
	case fieldCanary:
		g.Canary = octets
	case fieldPolicy:
		g.Policy = octets
	case fieldFleet:
		g.Highest.Fleet = string(octets)
	case fieldForgotten:
		g.Lost, g.Blank = number&1 != 0, number&2 != 0
	case fieldEpoch:
		g.Highest.Epoch = number
	case fieldRevision:
		g.Highest.Revision = number
	case fieldHash:
		h, err := toHash(octets)
		if err != nil {
			return fmt.Errorf("is damaged: %w", err)
		}
		g.Highest.Hash = h
	case fieldSaved:
		g.Saved = time.Unix(0, int64(number))
	}
	return nil
}
