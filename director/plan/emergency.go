package plan

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
)

// KindEmergency is the kind of envelope that carries an Emergency.
const KindEmergency = "emergency"

// emergencyTag separates operators' signatures from every other use of an Ed25519 key.
const emergencyTag = "divert emergency v1\x00"

// The bounds of an operator's word: one is always small enough for a datagram, with its
// signature and that of the director that passes it on.
const (
	MaxWord         = 1100 // octets of an envelope
	MaxWordID       = 64
	MaxWordScope    = 200
	MaxWordAuthor   = 64
	MaxWordReason   = 200
	MaxOperatorName = 63
	MaxEmergency    = time.Hour
	maxWordFleet    = 64
	// maxCounter leaves room for ever: a counter moves by one for each word.
	maxCounter = 1 << 53
)

// Word is an operator's word with the very bytes that were signed. It is immutable.
type Word struct {
	*Emergency
	Fleet string
	Key   ed25519.PublicKey
	Sum   Hash   // of what was signed, by whom, and the signature: see WordSum
	Raw   []byte // the marshalled Envelope
}

// SignWord seals an operator's word with its key.
func SignWord(fleet string, e *Emergency, key ed25519.PrivateKey) (*Word, error) {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding an emergency: %w", err)
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("signing an emergency: not an Ed25519 key")
	}
	env := &Envelope{Format: Format, Kind: KindEmergency, Fleet: fleet, Payload: payload, Signer: e.GetOperator(), Key: pub}
	env.Signature = ed25519.Sign(key, under(emergencyTag, env))
	raw, err := proto.Marshal(env)
	if err != nil {
		return nil, fmt.Errorf("encoding an emergency's envelope: %w", err)
	}
	return OpenWord(raw)
}

// OpenWord reads an operator's word, within its bounds, and checks its signature against
// the key that it carries. Whether that key counts is the plan's to say (see Heeds).
func OpenWord(raw []byte) (*Word, error) {
	if len(raw) > MaxWord {
		return nil, fmt.Errorf("emergency of %d octets, at most %d", len(raw), MaxWord)
	}
	var env Envelope
	if err := proto.Unmarshal(raw, &env); err != nil {
		return nil, fmt.Errorf("reading an emergency's envelope: %w", err)
	}
	switch {
	case env.GetFormat() == 0 || env.GetFormat() > Format:
		return nil, fmt.Errorf("emergency has format %d, this director reads up to %d: upgrade it", env.GetFormat(), Format)
	case env.GetKind() != KindEmergency:
		return nil, fmt.Errorf("envelope holds %q, not an emergency", env.GetKind())
	case env.GetFleet() == "" || len(env.GetFleet()) > maxWordFleet:
		return nil, errors.New("emergency names no fleet")
	case len(env.GetKey()) != ed25519.PublicKeySize:
		return nil, errors.New("emergency carries no Ed25519 key")
	case !ed25519.Verify(env.GetKey(), under(emergencyTag, &env), env.GetSignature()):
		return nil, fmt.Errorf("signature of operator %q does not verify", env.GetSigner())
	}
	e := &Emergency{}
	if err := proto.Unmarshal(env.GetPayload(), e); err != nil {
		return nil, fmt.Errorf("reading an emergency: %w", err)
	}
	if e.GetOperator() != env.GetSigner() {
		return nil, fmt.Errorf("emergency of operator %q in an envelope of %q", e.GetOperator(), env.GetSigner())
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return &Word{Emergency: e, Fleet: env.GetFleet(), Key: env.GetKey(), Sum: wordSum(&env), Raw: bytes.Clone(raw)}, nil
}

// WordSum gives the sum of a word without checking it. It is not of its octets: an envelope
// can be written in many by whoever passes it on, and it is one word in all of them.
func WordSum(raw []byte) (Hash, error) {
	var env Envelope
	if len(raw) > MaxWord {
		return Hash{}, fmt.Errorf("emergency of %d octets, at most %d", len(raw), MaxWord)
	}
	if err := proto.Unmarshal(raw, &env); err != nil {
		return Hash{}, fmt.Errorf("reading an emergency's envelope: %w", err)
	}
	return wordSum(&env), nil
}

func wordSum(env *Envelope) Hash {
	return Sum(slices.Concat(env.GetKey(), env.GetSignature(), under(emergencyTag, env)))
}

// check holds a word against its bounds.
func (e *Emergency) check() error {
	for _, f := range []struct {
		name, text string
		least      int
		most       int
	}{
		{"ID", e.GetId(), 1, MaxWordID},
		{"operator", e.GetOperator(), 1, MaxOperatorName},
		{"ends", e.GetEnds(), 0, MaxWordID},
		{"scope", e.GetScope(), 1, MaxWordScope},
		{"author", e.GetAuthor(), 0, MaxWordAuthor},
		{"reason", e.GetReason(), 1, MaxWordReason},
	} {
		switch {
		case len(f.text) < f.least || len(f.text) > f.most:
			return fmt.Errorf("emergency: %s has %d octets, want %d to %d", f.name, len(f.text), f.least, f.most)
		case !utf8.ValidString(f.text) || strings.ContainsFunc(f.text, unicode.IsControl):
			return fmt.Errorf("emergency: %s holds control characters", f.name)
		}
	}
	lasts := e.GetLasts()
	switch {
	case strings.ContainsFunc(e.GetId(), unicode.IsSpace) || e.GetId() == e.GetEnds():
		return fmt.Errorf("emergency: ID %q", e.GetId())
	case e.GetCounter() == 0 || e.GetCounter() > maxCounter:
		return fmt.Errorf("emergency: counter %d", e.GetCounter())
	case e.GetSaid().CheckValid() != nil:
		return errors.New("emergency: when it was said is not said")
	case e.GetEnds() == "" && (lasts.CheckValid() != nil || lasts.AsDuration() <= 0 || lasts.AsDuration() > MaxEmergency):
		return fmt.Errorf("emergency: it lasts %s, want more than 0 and at most %s", lasts.AsDuration(), MaxEmergency)
	}
	return nil
}

// CompareWords is the order in which words are gone by: counter, then ID; and the octets
// of two that have both in common, so that all directors have one order.
func CompareWords(a, b *Word) int {
	return cmp.Or(cmp.Compare(a.GetCounter(), b.GetCounter()), strings.Compare(a.GetId(), b.GetId()), bytes.Compare(a.Sum[:], b.Sum[:]))
}

// Operator finds an operator by name; nil when there is none.
func (p *Plan) Operator(name string) *Operator {
	for _, o := range p.GetOperators() {
		if o.GetName() == name {
			return o
		}
	}
	return nil
}

// Heeds says why a word does not count by a plan, nil: it does. It is asked anew of each
// plan: an operator that is removed has said nothing.
func (p *Plan) Heeds(w *Word) error {
	o := p.Operator(w.GetOperator())
	switch {
	case w.Fleet != p.GetFleet():
		return fmt.Errorf("the word is of fleet %s, this director is of fleet %s", w.Fleet, p.GetFleet())
	case o == nil:
		return fmt.Errorf("the plan lists no operator %q", w.GetOperator())
	case !bytes.Equal(o.GetKey(), w.Key):
		return fmt.Errorf("the word is signed by another key than the plan lists for operator %s", o.GetName())
	case o.GetRevision() != w.GetEnrolled():
		return fmt.Errorf("operator %s was listed anew since: by revision %d, the word says %d", o.GetName(), o.GetRevision(), w.GetEnrolled())
	}
	return nil
}

// Settles tells whether a plan holds what a word says, or that it is over.
func (p *Plan) Settles(w *Word) bool {
	if o := p.Operator(w.GetOperator()); w.GetCounter() <= o.GetFloor() {
		return true
	}
	for _, o := range p.GetOperators() {
		for _, s := range o.GetSettled() {
			if s.GetId() == w.GetId() && s.GetCounter() == w.GetCounter() && o.GetName() == w.GetOperator() || s.GetEnds() == w.GetId() {
				return true
			}
		}
	}
	return slices.ContainsFunc(p.GetOverrides(), func(o *Override) bool { return o.GetId() == w.GetId() })
}

// Counted gives the highest counter that a plan knows of any operator's words.
func (p *Plan) Counted() uint64 {
	n := uint64(0)
	for _, o := range p.GetOperators() {
		n = max(n, o.GetFloor())
		for _, s := range o.GetSettled() {
			n = max(n, s.GetCounter())
		}
	}
	return n
}
