package director

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store/fsys"
)

// TokenPrefix begins an enrolment token as people pass it on; 32 octets in base64 follow,
// the seed of an Ed25519 key.
const TokenPrefix = "divert-enrol-"

const (
	claimMail  = 16
	claimEvery = 2 * time.Second
	maxToken   = 1024 // octets of its file
)

var errClaim = errors.New("malformed claim of a token")

// ParseToken reads an enrolment token.
func ParseToken(text string) (ed25519.PrivateKey, error) {
	body, found := strings.CutPrefix(strings.TrimSpace(text), TokenPrefix)
	seed, err := base64.RawURLEncoding.DecodeString(body)
	if !found || err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("it is no token: `divert director token create` prints one")
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// claim is what a director that is not in the roster sends: the token signs its name, site
// and key. The token itself stays where it is.
type claim struct {
	site  string
	token []byte // public
	proof []byte
}

func (c claim) encode() []byte {
	b := putText(putVarint(nil, 1, ringFormat), 2, c.site)
	b = protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), c.token)
	return protowire.AppendBytes(protowire.AppendTag(b, 4, protowire.BytesType), c.proof)
}

func decodeClaim(payload []byte) (c claim, err error) {
	format := uint64(0)
	err = eachPanelField(payload, func(num protowire.Number, n uint64, data []byte) error {
		switch num {
		case 1:
			format = n
		case 2:
			c.site = legible(string(data))
		case 3:
			c.token = data
		case 4:
			c.proof = data
		}
		return nil
	})
	if err == nil && (format != ringFormat || len(c.site) > 100 || len(c.token) != ed25519.PublicKeySize || len(c.proof) != ed25519.SignatureSize) {
		err = errClaim
	}
	return c, err
}

// claimant shows this director's token until it is in the roster.
type claimant struct {
	last time.Time
	said string
}

// claim sends a claim where this director has a token and no place in the roster.
func (d *Director) claim(c *claimant, p *plan.Plan) {
	name := d.settings.Enrol.TokenFile
	if name == "" || p.Holder(d.identity.Public()) != nil || d.now().Sub(c.last) < claimEvery {
		return
	}
	c.last = d.now()
	raw, err := fsys.ReadFile(fsys.OS{}, name, maxToken)
	var token ed25519.PrivateKey
	if err == nil {
		token, err = ParseToken(string(raw))
	}
	if err != nil {
		if word := err.Error(); word != c.said {
			c.said = word
			d.log.Warn("the enrolment token cannot be read", slog.String("file", name), slog.Any("err", err))
		}
		return
	}
	me := core.Director{Name: d.settings.Name, Site: d.settings.Site, Key: d.identity.Public()}
	payload := claim{site: me.Site, token: token.Public().(ed25519.PublicKey), proof: ed25519.Sign(token, core.Claim(p.GetFleet(), me))}.encode()
	if _, err := d.links.Broadcast(kindEnrol, payload); err != nil {
		d.log.Debug("token not shown", slog.Any("err", err))
	}
}

// claimed gives the command that takes in who shows a token that the plan lists; nil: the
// claim is good for nothing. Core looks at the rest.
func (d *Director) claimedToken(p *plan.Plan, m gossip.Message) *core.Command {
	c, err := decodeClaim(m.Payload)
	if err != nil || m.Fleet != p.GetFleet() {
		return nil
	}
	of := core.Director{Name: m.From, Site: c.site, Key: m.Key}
	listed := false
	for _, t := range p.GetEnrolTokens() {
		listed = listed || string(t.GetKey()) == string(c.token)
	}
	if !listed || p.Holder(m.Key) != nil || !ed25519.Verify(c.token, core.Claim(p.GetFleet(), of), c.proof) {
		return nil
	}
	for _, member := range d.links.Members() {
		if member.Name == of.Name && string(member.Meta.Key) == string(m.Key) {
			of.Gossip = member.Addr
		}
	}
	return &core.Command{
		ID: newID(), Verb: core.DirectorEnrol, Author: "director " + d.settings.Name, Reason: fmt.Sprintf("it shows token %s", core.EnrolTokenID(c.token)),
		Director: &of, Enrol: &core.Enrol{Key: c.token, Proof: c.proof},
	}
}
