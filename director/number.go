package director

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health/probe"
)

// maxSecretFile bounds a file of probe.secrets.
const maxSecretFile = 64 << 10

// number is one number of a Prometheus. Its secrets are read anew each time, so that one
// that is replaced, or comes late, needs no restart. nil is none.
type number struct {
	sources *softSources
	probe   *spec.PrometheusProbe // of one cluster
	client  *probe.Prometheus
	secrets [4][]byte // that the client was made with: bearer, CA, certificate, key
}

func (n *number) close() {
	if n != nil && n.client != nil {
		n.client.Close()
	}
}

func (n *number) ask(ctx context.Context) (float64, error) {
	if err := n.prepare(); err != nil {
		return 0, err
	}
	return n.client.Ask(ctx)
}

// prepare makes the client, if a secret is another than it was.
func (n *number) prepare() error {
	p := n.probe
	var secrets [4][]byte
	same := n.client != nil
	for i, name := range []string{p.Bearer, p.TLS.CA, p.TLS.Cert, p.TLS.Key} {
		if name == "" {
			continue
		}
		var err error
		if secrets[i], err = n.sources.secret(name); err != nil {
			return err
		}
		same = same && bytes.Equal(secrets[i], n.secrets[i])
	}
	if same {
		return nil
	}
	config := &tls.Config{ServerName: p.TLS.ServerName}
	if p.TLS.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(secrets[1]) {
			return fmt.Errorf("secret %q holds no certificate", p.TLS.CA)
		}
	}
	if p.TLS.Cert != "" {
		pair, err := tls.X509KeyPair(secrets[2], secrets[3])
		if err != nil {
			return fmt.Errorf("secrets %q and %q are no certificate and its key", p.TLS.Cert, p.TLS.Key)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	client, err := n.sources.prober.Prometheus(probe.PrometheusOptions{
		URL: p.URL, Query: p.Query, Bearer: string(bytes.TrimSpace(secrets[0])), TLS: config,
	})
	if err != nil {
		return err
	}
	n.close()
	n.client, n.secrets = client, secrets
	return nil
}

// secret reads one file of the folder that the settings name, and no other: whoever
// writes a spec says where it is sent.
func (s *softSources) secret(name string) ([]byte, error) {
	if s.secrets == "" {
		return nil, fmt.Errorf("secret %q: this director's settings name no folder of secrets (probe.secrets)", name)
	}
	if !spec.SecretName(name) {
		return nil, fmt.Errorf("secret %q is no name", name)
	}
	root, err := os.OpenRoot(s.secrets) // a link does not lead out of it
	if err != nil {
		return nil, errors.New("the folder of secrets (probe.secrets) cannot be read")
	}
	defer func() { _ = root.Close() }()
	info, err := root.Stat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxSecretFile {
		return nil, fmt.Errorf("secret %q is not a file of at most 64 KiB in the folder of secrets", name)
	}
	file, err := root.Open(filepath.Base(name))
	if err != nil {
		return nil, fmt.Errorf("secret %q cannot be read", name)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxSecretFile))
	if err != nil {
		return nil, fmt.Errorf("secret %q cannot be read", name)
	}
	return data, nil
}

// outside tells whether a number is bad, and says what it is.
func outside(p *spec.PrometheusProbe, f float64) (bad bool, why string) {
	text := strconv.FormatFloat(f, 'g', 6, 64)
	switch {
	case p.Above != nil && f > *p.Above:
		return true, text + " is above " + strconv.FormatFloat(*p.Above, 'g', -1, 64)
	case p.Below != nil && f < *p.Below:
		return true, text + " is below " + strconv.FormatFloat(*p.Below, 'g', -1, 64)
	default:
		return false, text
	}
}
