package plan

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// KindPlan is the kind of envelope that carries a Plan.
const KindPlan = "plan"

// tag separates plan signatures from every other use of a director's key.
const tag = "divert plan v1\x00"

// ErrNewer says that a plan was written by a newer divert, and is not damaged.
var ErrNewer = errors.New("upgrade it")

// Sealed is a plan with the very bytes that were signed. It is immutable.
type Sealed struct {
	Plan     *Plan
	Identity Identity
	Signer   string
	Key      ed25519.PublicKey
	Raw      []byte // the marshalled Envelope, as stored and sent
}

// Sign seals a plan with its writer's key.
func Sign(p *Plan, signer string, key ed25519.PrivateKey) (*Sealed, error) {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encoding plan: %w", err)
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("signing plan: not an Ed25519 key")
	}
	env := &Envelope{Format: Format, Kind: KindPlan, Fleet: p.GetFleet(), Payload: payload, Signer: signer, Key: pub}
	env.Signature = ed25519.Sign(key, signed(env))
	raw, err := proto.Marshal(env)
	if err != nil {
		return nil, fmt.Errorf("encoding plan envelope: %w", err)
	}
	return Open(raw)
}

// Open reads an envelope and checks its signature against the key that it
// carries. Whether that key may write plans for this fleet is the caller's
// question (see Trusted).
func Open(raw []byte) (*Sealed, error) {
	var env Envelope
	if err := proto.Unmarshal(raw, &env); err != nil {
		return nil, fmt.Errorf("reading plan envelope: %w", err)
	}
	switch {
	case env.GetFormat() == 0:
		return nil, errors.New("it is no plan envelope")
	case env.GetFormat() > Format:
		return nil, fmt.Errorf("plan envelope has format %d, this director reads up to %d: %w", env.GetFormat(), Format, ErrNewer)
	case env.GetKind() != KindPlan:
		return nil, fmt.Errorf("envelope holds %q, not a plan", env.GetKind())
	case len(env.GetKey()) != ed25519.PublicKeySize:
		return nil, errors.New("plan envelope carries no Ed25519 key")
	case !ed25519.Verify(env.GetKey(), signed(&env), env.GetSignature()):
		return nil, fmt.Errorf("plan signature of %s does not verify", env.GetSigner())
	}
	p := &Plan{}
	if err := proto.Unmarshal(env.GetPayload(), p); err != nil {
		return nil, fmt.Errorf("reading plan: %w", err)
	}
	switch {
	case p.GetFleet() != env.GetFleet() || p.GetFleet() == "":
		return nil, fmt.Errorf("plan of fleet %q in an envelope of fleet %q", p.GetFleet(), env.GetFleet())
	case p.GetMinReader() > Reader:
		return nil, fmt.Errorf("plan %d.%d wants a reader of format %d, this director reads %d: %w", p.GetEpoch(), p.GetRevision(), p.GetMinReader(), Reader, ErrNewer)
	case p.GetEpoch() == 0 || p.GetRevision() == 0:
		return nil, errors.New("plan has no epoch or no revision")
	}
	return &Sealed{
		Plan:     p,
		Identity: Identity{Fleet: p.GetFleet(), Epoch: p.GetEpoch(), Revision: p.GetRevision(), Hash: Sum(env.GetPayload())},
		Signer:   env.GetSigner(), Key: env.GetKey(), Raw: raw,
	}, nil
}

// Trusted says whether next may replace cur on a director that holds cur (nil:
// none yet): same fleet, higher order (or the very same plan), and signed by a
// key of cur's roster, or of next's own where revisions in between were missed.
// S3, S7.
func Trusted(cur, next *Sealed) error {
	if cur != nil {
		switch c := next.Identity.Compare(cur.Identity); {
		case next.Identity.Fleet != cur.Identity.Fleet:
			return fmt.Errorf("plan is of fleet %s, this director is of fleet %s", next.Identity.Fleet, cur.Identity.Fleet)
		case c < 0:
			return fmt.Errorf("plan %d.%d is older than %d.%d in force", next.Identity.Epoch, next.Identity.Revision, cur.Identity.Epoch, cur.Identity.Revision)
		case c == 0 && next.Identity.Hash != cur.Identity.Hash:
			return fmt.Errorf("two plans claim %d.%d: %s in force and %s", cur.Identity.Epoch, cur.Identity.Revision, cur.Identity.Hash.Short(), next.Identity.Hash.Short())
		case c == 0:
			return nil
		}
		if cur.Plan.Holder(next.Key) != nil {
			return nil
		}
		// The parent is the plan in force: its roster alone decides who may sign.
		if string(next.Plan.GetParent()) == string(cur.Identity.Hash[:]) {
			return fmt.Errorf("plan %d.%d is signed by %s, whose key is not in the roster", next.Identity.Epoch, next.Identity.Revision, next.Signer)
		}
	}
	if next.Plan.Holder(next.Key) == nil {
		return fmt.Errorf("plan %d.%d is signed by %s, whose key is not in its roster", next.Identity.Epoch, next.Identity.Revision, next.Signer)
	}
	return nil
}

// signed gives the octets under a plan's signature.
func signed(e *Envelope) []byte { return under(tag, e) }

// under gives the octets under a signature. Every part but the last has its length before
// it, so that no two envelopes share them.
func under(tag string, e *Envelope) []byte {
	out := []byte(tag)
	out = fmt.Appendf(out, "%d:%d:%s:%d:%s:", e.GetFormat(), len(e.GetKind()), e.GetKind(), len(e.GetFleet()), e.GetFleet())
	return append(out, e.GetPayload()...)
}
