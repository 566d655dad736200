package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	upstream "github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/divertdns/divert/director/access"
)

const (
	refresh    = 5 * time.Minute  // of the provider's keys
	again      = 10 * time.Second // after what failed, and at most for a key that nobody knows
	patience   = 10 * time.Second // for the provider
	maxAnswer  = 1 << 20          // octets of the provider's
	maxKeys    = 32
	maxRSA     = 8192 // bits
	maxGroups  = 64
	subject    = "sub"
	emailClaim = "email"
)

// Options say whom a director believes.
type Options struct {
	Issuer   string       // the provider's URL, https alone
	ClientID string       // whom its tokens must be for
	CA       string       // PEM file of who signs the provider's certificate; "" = the system's
	Claim    string       // that names a person: sub ("" too) or email, which must be verified
	Log      *slog.Logger // nil = silent
}

// Issuer knows people by their ID tokens, by keys that Run fetches.
type Issuer struct {
	options Options
	client  *http.Client
	log     *slog.Logger
	keys    atomic.Pointer[[]crypto.PublicKey] // by Run; nil: none were fetched yet
	unknown chan struct{}                      // somebody brought what no key has signed
	every   time.Duration                      // refresh; shortened by tests
	pause   time.Duration                      // again; shortened by tests
}

// New makes an Issuer that knows nobody until Run has fetched the provider's keys.
func New(o Options) (*Issuer, error) {
	client, err := newClient(o.CA)
	if err != nil {
		return nil, err
	}
	i := &Issuer{options: o, client: client, log: o.Log, unknown: make(chan struct{}, 1), every: refresh, pause: again}
	if i.log == nil {
		i.log = slog.New(slog.DiscardHandler)
	}
	return i, nil
}

// newClient asks a provider over TLS, follows no redirect, and reads so much.
func newClient(ca string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("reading who signs the provider's certificate: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", ca)
		}
	}
	return &http.Client{
		Timeout:       patience,
		Transport:     bounded{&http.Transport{TLSClientConfig: config, MaxIdleConns: 2, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: patience}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// bounded asks by https alone, and reads no more of an answer than it may have.
type bounded struct{ inner *http.Transport }

// RoundTrip is http.RoundTripper's.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("%s is not https", r.URL.Redacted())
	}
	resp, err := b.inner.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// CloseIdleConnections is http.Client's.
func (b bounded) CloseIdleConnections() { b.inner.CloseIdleConnections() }

// Run fetches the provider's keys again and again until ctx ends. While it is away those
// of before count.
func (i *Issuer) Run(ctx context.Context) error {
	defer i.client.CloseIdleConnections()
	well := true
	for {
		err := i.fetch(ctx)
		if (err == nil) != well && ctx.Err() == nil {
			if well = err == nil; well {
				i.log.Info("the OpenID provider answers again", slog.String("issuer", i.options.Issuer))
			} else {
				i.log.Warn("the OpenID provider does not answer; the keys that it had count", slog.String("issuer", i.options.Issuer), slog.Any("err", err))
			}
		}
		pause := time.NewTimer(i.pause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
		if err != nil {
			continue
		}
		rest := time.NewTimer(i.every - min(i.every, i.pause))
		select {
		case <-ctx.Done():
		case <-i.unknown:
		case <-rest.C:
		}
		rest.Stop()
	}
}

// fetch finds the provider's keys by its discovery document, which must name the issuer.
func (i *Issuer) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(upstream.ClientContext(ctx, i.client), patience)
	defer cancel()
	provider, err := upstream.NewProvider(ctx, i.options.Issuer)
	if err != nil {
		return err
	}
	var found struct {
		JWKS string `json:"jwks_uri"`
	}
	if err := provider.Claims(&found); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, found.JWKS, nil)
	if err != nil {
		return err
	}
	resp, err := i.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", found.JWKS, resp.Status)
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	keys, err := readKeys(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", found.JWKS, err)
	}
	i.keys.Store(&keys)
	return nil
}

// readKeys reads the public keys of a set (RFC 7517) that may sign. What it does not know
// it passes over.
func readKeys(raw []byte) ([]crypto.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("reading a set of keys: %w", err)
	}
	var out []crypto.PublicKey
	for _, one := range set.Keys[:min(len(set.Keys), maxKeys)] {
		var k jose.JSONWebKey
		if json.Unmarshal(one, &k) != nil || !k.Valid() || k.Use != "" && k.Use != "sig" {
			continue
		}
		switch key := k.Key.(type) {
		case *rsa.PublicKey:
			if key.N.BitLen() < 2048 || key.N.BitLen() > maxRSA {
				continue
			}
		case *ecdsa.PublicKey, ed25519.PublicKey:
		default: // a secret, or a private key, which signs nothing for us
			continue
		}
		out = append(out, k.Key)
	}
	if len(out) == 0 {
		return nil, errors.New("it has no key that signs")
	}
	return out, nil
}

// ErrNoKeys says that the provider has not answered since the start.
var ErrNoKeys = errors.New("the OpenID provider has not been reached since this director began, so nobody is known by it")

// Identify is who brings an ID token: whom the provider names, without grants. It asks
// nobody: by keys of five minutes ago at most, while the provider answers.
func (i *Issuer) Identify(raw string, now time.Time) (access.Identity, error) {
	keys := i.keys.Load()
	if keys == nil {
		return access.Identity{}, ErrNoKeys
	}
	set := &upstream.StaticKeySet{PublicKeys: *keys}
	verifier := upstream.NewVerifier(i.options.Issuer, signing{set, i.unknown}, &upstream.Config{
		ClientID: i.options.ClientID, Now: func() time.Time { return now },
		SupportedSigningAlgs: []string{upstream.RS256, upstream.RS384, upstream.RS512, upstream.PS256, upstream.PS384, upstream.PS512, upstream.ES256, upstream.ES384, upstream.ES512, upstream.EdDSA},
	})
	token, err := verifier.Verify(context.Background(), raw)
	if err != nil {
		return access.Identity{}, errors.New("this ID token is not one of the provider's for this fleet, or has expired: log in again")
	}
	var claims struct {
		Email    string   `json:"email"`
		Verified bool     `json:"email_verified"`
		Groups   []string `json:"groups"`
	}
	if err := token.Claims(&claims); err != nil {
		return access.Identity{}, errors.New("the claims of this ID token cannot be read")
	}
	name := token.Subject
	if i.options.Claim == emailClaim {
		if name = claims.Email; !claims.Verified {
			return access.Identity{}, errors.New("the provider has not verified the e-mail address of this ID token")
		}
	}
	who, err := access.Name(access.OpenID, name)
	if err != nil {
		return access.Identity{}, err
	}
	id := access.Identity{Who: who, Method: access.OpenID, Expires: token.Expiry}
	for _, g := range claims.Groups[:min(len(claims.Groups), maxGroups)] {
		id.Groups = append(id.Groups, access.Group(access.OpenID, g))
	}
	return id, nil
}

// signing asks for a refresh when none of the keys has signed: there may be a new one.
type signing struct {
	upstream.KeySet
	unknown chan<- struct{}
}

// VerifySignature is upstream.KeySet's.
func (s signing) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := s.KeySet.VerifySignature(ctx, jwt)
	if err != nil {
		select {
		case s.unknown <- struct{}{}:
		default:
		}
	}
	return payload, err
}
