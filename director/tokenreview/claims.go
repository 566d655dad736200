package tokenreview

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
)

const (
	maxToken     = 8 << 10 // octets; one of a ServiceAccount has 1 to 2 thousand
	maxAudiences = 16
)

// claims are what a token says of itself. Nobody has proved it: it says whom to ask, and
// until when a good answer may be kept.
type claims struct {
	issuer    string
	audiences []string
	expires   time.Time
}

// readClaims reads those of a JWT (RFC 7519), or tells that it is none that ends, names
// who made it and whom it is for.
func readClaims(token string) (c claims, ok bool) {
	if len(token) > maxToken || strings.Count(token, ".") != 2 {
		return c, false
	}
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return c, false
	}
	var got struct {
		Issuer   string          `json:"iss"`
		Audience json.RawMessage `json:"aud"` // a text, or a list of such
		Expires  float64         `json:"exp"` // seconds since 1970
	}
	if json.Unmarshal(raw, &got) != nil || got.Issuer == "" || !(got.Expires > 0 && got.Expires < math.MaxInt32*64) {
		return c, false
	}
	c = claims{issuer: got.Issuer, expires: time.Unix(int64(got.Expires), 0)}
	if json.Unmarshal(got.Audience, &c.audiences) != nil {
		var one string
		if json.Unmarshal(got.Audience, &one) != nil {
			return c, false
		}
		c.audiences = []string{one}
	}
	return c, len(c.audiences) > 0 && len(c.audiences) <= maxAudiences
}

// meant tells whether a token claims to be a cluster's, for this fleet.
func (c claims) meant(o Cluster) bool {
	return (o.Issuer == "" || o.Issuer == c.issuer) &&
		slices.ContainsFunc(c.audiences, func(a string) bool { return slices.Contains(o.Audiences, a) })
}
