package director

import (
	"crypto/ed25519"
	"testing"
)

func TestParseToken(t *testing.T) {
	for text, want := range map[string]bool{
		"divert-enrol-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n": true,
		"divert-enrol-AAAA": false, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA": false, "": false,
	} {
		if _, err := ParseToken(text); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzClaim(f *testing.F) {
	f.Add(claim{site: "lon", token: make([]byte, ed25519.PublicKeySize), proof: make([]byte, ed25519.SignatureSize)}.encode())
	f.Fuzz(func(t *testing.T, payload []byte) {
		if c, err := decodeClaim(payload); err == nil {
			if again, err := decodeClaim(c.encode()); err != nil || again.site != c.site {
				t.Errorf("%+v is read back as %+v, %v", c, again, err)
			}
		}
	})
}
