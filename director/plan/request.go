package plan

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// Tags of what directors sign of requests: a signature is good for nothing else.
const (
	tagAsked    = "divert request v1\x00"
	tagApproved = "divert approval v1\x00"
)

// Request finds what waits, or has waited, for a second person, by the command's ID; nil
// when there is none.
func (p *Plan) Request(id string) *Request {
	for _, r := range p.GetRequests() {
		if r.GetId() == id {
			return r
		}
	}
	return nil
}

// Waits tells whether a request may still be approved at an instant.
func (r *Request) Waits(now time.Time) bool {
	return r.GetState() == Request_OPEN && now.Before(r.GetExpires().AsTime())
}

// SignAsked has the director that wrote a request vouch that a person asked for it.
func (r *Request) SignAsked(fleet string, key ed25519.PrivateKey) {
	r.AskedSignature = ed25519.Sign(key, r.asked(fleet))
}

// SignApproved has the director that wrote an approval vouch that another person gave it.
func (r *Request) SignApproved(fleet string, key ed25519.PrivateKey) {
	r.ApprovedSignature = ed25519.Sign(key, r.approved(fleet))
}

// ProvesAsked says why it is not proved that a person asked for what is requested: by the key
// of the director that says so, in the roster of p. nil: it is.
func (r *Request) ProvesAsked(p *Plan) error {
	return vouched(p, r.GetVia(), r.asked(p.GetFleet()), r.GetAskedSignature())
}

// ProvesApproved says why it is not proved that another person approved a request; nil: it is.
func (r *Request) ProvesApproved(p *Plan) error {
	return vouched(p, r.GetByVia(), r.approved(p.GetFleet()), r.GetApprovedSignature())
}

func vouched(p *Plan, director string, octets, signature []byte) error {
	d := p.Director(director)
	if d.GetStanding() != Director_ACTIVE || len(d.GetKey()) != ed25519.PublicKeySize {
		return fmt.Errorf("%q is no director with a key", director)
	}
	if !ed25519.Verify(d.GetKey(), octets, signature) {
		return fmt.Errorf("director %s has not signed it", director)
	}
	return nil
}

// asked gives the octets under the signature of who wrote the request.
func (r *Request) asked(fleet string) []byte {
	out := part([]byte(tagAsked), []byte(fleet))
	for _, s := range []string{r.GetId(), r.GetAuthor(), r.GetVia()} {
		out = part(out, []byte(s))
	}
	for _, b := range [][]byte{r.GetCommand(), r.GetFingerprint(), r.GetEffect(), r.GetParent(), r.GetSpec()} {
		out = part(out, b)
	}
	out = binary.BigEndian.AppendUint64(out, r.GetRevision())
	return instant(instant(out, r.GetAsked()), r.GetExpires())
}

// approved gives those under the signature of who wrote the approval.
func (r *Request) approved(fleet string) []byte {
	out := part([]byte(tagApproved), r.asked(fleet))
	out = part(part(out, []byte(r.GetBy())), []byte(r.GetByVia()))
	return instant(binary.BigEndian.AppendUint64(out, r.GetDone()), r.GetAt())
}

// part adds octets with their length before them, so that no two lists share them.
func part(to, octets []byte) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(octets))), octets...)
}

func instant(to []byte, t *timestamppb.Timestamp) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(to, uint64(t.GetSeconds())), uint32(t.GetNanos()))
}
