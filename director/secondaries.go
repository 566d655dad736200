package director

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/dnsserver"
)

// transferOptions makes of the settings what the DNS server needs; the secrets are
// read from their files.
func transferOptions(t spec.TransferSettings) (dnsserver.TransferOptions, error) {
	out := dnsserver.TransferOptions{Allow: t.Allow}
	for _, k := range t.Keys {
		if k.Shared {
			out.Keys = append(out.Keys, dnsserver.Key{Name: k.Name, Algorithm: k.Algorithm, Shared: true})
			continue
		}
		secret, err := loadTSIG(k.SecretFile)
		if err != nil {
			return out, fmt.Errorf("dns.transfers.keys: the secret of %s: %w", k.Name, err)
		}
		out.Keys = append(out.Keys, dnsserver.Key{Name: k.Name, Algorithm: k.Algorithm, Secret: secret})
	}
	for _, s := range t.Notify {
		out.Notify = append(out.Notify, dnsserver.Secondary{Addr: s.Addr, Key: s.Key})
	}
	return out, nil
}

// maxSecret bounds what is read of a file that is no secret.
const maxSecret = 4096

// loadTSIG reads a secret in base64, as all servers write it.
func loadTSIG(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxSecret))
	_ = f.Close() // only read
	if err != nil {
		return nil, err
	}
	secret, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(secret) < 16 {
		return nil, fmt.Errorf("%s is not at least 16 octets in base64: make one with `(umask 077; openssl rand -base64 32 > %s)`, and give the secondary the same", path, path)
	}
	return secret, nil
}
