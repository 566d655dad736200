package keypair

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// parseCRL reads the serial numbers of a list of revoked certificates (RFC 5280 section 5),
// which one of the authorities has signed: a list of another would revoke nothing, in
// silence. It holds until there is another one, whatever it says of its next update: who
// was revoked must not come back because somebody forgot to sign a list.
func parseCRL(raw, authorities []byte) (map[string]bool, error) {
	if block, _ := pem.Decode(raw); block != nil {
		raw = block.Bytes
	}
	list, err := x509.ParseRevocationList(raw)
	if err != nil {
		return nil, fmt.Errorf("reading a list of revoked certificates: %w", err)
	}
	signed := false
	for block, rest := pem.Decode(authorities); block != nil; block, rest = pem.Decode(rest) {
		if ca, err := x509.ParseCertificate(block.Bytes); err == nil && list.CheckSignatureFrom(ca) == nil {
			signed = true
			break
		}
	}
	if !signed {
		return nil, errors.New("the list of revoked certificates is signed by none of the authorities of clients")
	}
	out := make(map[string]bool, len(list.RevokedCertificateEntries))
	for _, e := range list.RevokedCertificateEntries {
		out[e.SerialNumber.String()] = true
	}
	return out, nil
}
