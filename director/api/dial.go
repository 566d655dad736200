package api

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Credentials are what a client shows of itself, and what it trusts. The zero
// Credentials show nothing and trust the system's certificates.
type Credentials struct {
	CA        string // PEM file of who signs the directors' certificates
	Cert, Key string // PEM files of the client's own; without Key that of Cert holds both
	Token     string // a bearer's
}

// NewClient makes a client for "https://host:port", "http://host:port", "unix:/path" or
// "", which looks for the control socket of a director on this machine. Except for "",
// it does not connect yet.
func NewClient(server string) (*Client, error) { return NewClientWith(server, Credentials{}) }

// NewClientWith is NewClient with credentials.
func NewClientWith(server string, o Credentials) (*Client, error) {
	c := &Client{Server: server, pause: 250 * time.Millisecond}
	if server == "" {
		path, others, err := find(Sockets())
		if err != nil {
			return nil, err
		}
		c.Server, c.Others = "unix:"+path, others
	}
	transport := &http.Transport{MaxIdleConns: 2, IdleConnTimeout: 10 * time.Second, ResponseHeaderTimeout: 0}
	c.http = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if o.Token != "" {
		c.http.Transport = bearing{inner: transport, token: o.Token}
	}
	if path, ok := strings.CutPrefix(c.Server, "unix:"); ok {
		path = strings.TrimPrefix(path, "//") // unix:///path
		if path == "" {
			return nil, fmt.Errorf("server %q names no socket: write unix:/path/control.sock", c.Server)
		}
		if err := checkSocketPath(path); err != nil {
			return nil, err
		}
		c.base = "http://divert"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "unix", path)
		}
		return c, nil
	}
	u, err := url.Parse(c.Server)
	switch {
	case err != nil:
		return nil, fmt.Errorf("server %q: %w", c.Server, err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil:
		return nil, fmt.Errorf("server %q is neither http(s)://host:port nor unix:/path/control.sock", c.Server)
	case u.Scheme == "http" && o.Token != "" && !loopbackHost(strings.ToLower(u.Hostname())):
		return nil, fmt.Errorf("server %q: a token is sent over https:// alone, since others would read it on the way", c.Server)
	}
	c.base = u.Scheme + "://" + u.Host
	transport.DialContext = (&net.Dialer{Timeout: 3 * time.Second}).DialContext
	if u.Scheme == "https" {
		transport.TLSHandshakeTimeout = 5 * time.Second
		if transport.TLSClientConfig, err = o.config(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// maxCertificates is more than any file of them has, in octets; a device would never end.
const maxCertificates = 1 << 20

// config reads the files.
func (o Credentials) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS13}
	if o.CA != "" {
		pem, err := readBounded(o.CA)
		if err != nil {
			return nil, fmt.Errorf("reading who signs the directors' certificates: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", o.CA)
		}
	}
	switch {
	case o.Cert != "":
		cert, err := readBounded(o.Cert)
		if err != nil {
			return nil, fmt.Errorf("reading the client's certificate: %w", err)
		}
		key, err := readBounded(cmp.Or(o.Key, o.Cert))
		if err != nil {
			return nil, fmt.Errorf("reading the client's key: %w", err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("the client's certificate %s: %w", o.Cert, err)
		}
		c.GetClientCertificate = o.showing(&pair)
	case o.Key != "":
		return nil, errors.New("a client's key is given without its certificate: add --cert")
	}
	return c, nil
}

// readBounded reads a file of at most maxCertificates.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxCertificates+1))
	if err == nil && len(raw) > maxCertificates {
		return nil, fmt.Errorf("%s has more than %d KiB: it is no file of certificates", path, maxCertificates>>10)
	}
	return raw, err
}

// bearing sends a token with each request.
type bearing struct {
	inner http.RoundTripper
	token string
}

// RoundTrip adds the header. No redirect is followed, so that nobody else gets it.
func (b bearing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.inner.RoundTrip(r)
}

// CloseIdleConnections is http.Client's.
func (b bearing) CloseIdleConnections() {
	if t, ok := b.inner.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}
