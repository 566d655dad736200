package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"
	"time"
)

// What a bearer's secret looks like: Prefix, by which a scanner of repositories knows
// one, and 32 random octets in base64url.
const (
	Prefix      = "divert_"
	SecretBytes = 32
)

// Bearer is a token as it is kept: of its secret only the SHA-256, which for 256
// random bits is as good as any slower hash.
type Bearer struct {
	Name     string
	Sum      [sha256.Size]byte
	Grant    Grant
	Expires  time.Time
	Revision uint64 // of the plan that brought it: another one of the same name is another
}

// FormatSecret gives a secret as people and programs carry it.
func FormatSecret(secret [SecretBytes]byte) string {
	return Prefix + base64.RawURLEncoding.EncodeToString(secret[:])
}

// SumSecret gives what is kept of a secret; false: it is none.
func SumSecret(text string) ([sha256.Size]byte, bool) {
	rest, ok := strings.CutPrefix(text, Prefix)
	if !ok || len(rest) != base64.RawURLEncoding.EncodedLen(SecretBytes) {
		return [sha256.Size]byte{}, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil {
		return [sha256.Size]byte{}, false
	}
	return sha256.Sum256(raw), true
}

// Find gives the token of a secret's sum that is in force; false: there is none, or its
// name is none. It takes as long whichever it is.
func Find(tokens []Bearer, sum [sha256.Size]byte, now time.Time) (Bearer, bool) {
	found := -1
	for i := range tokens {
		if subtle.ConstantTimeCompare(tokens[i].Sum[:], sum[:]) == 1 {
			found = i
		}
	}
	if found < 0 || !now.Before(tokens[found].Expires) {
		return Bearer{}, false
	}
	if _, err := Name(Token, tokens[found].Name); err != nil {
		return Bearer{}, false
	}
	return tokens[found], true
}

// Identity is who holds the token.
func (b Bearer) Identity() Identity {
	return Identity{Who: string(Token) + ":" + b.Name, Method: Token, Grants: []Grant{b.Grant}, Token: &b, Expires: b.Expires}
}
