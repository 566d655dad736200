package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// provider is a small OpenID provider: discovery, keys and the device flow, over real
// HTTPS on loopback. Its lock guards all below it.
type provider struct {
	*httptest.Server
	ca string

	mu      sync.Mutex
	key     *ecdsa.PrivateKey
	issuer  string // that it says it is
	away    bool
	pending int // polls before the person has logged in
	denied  bool
	claims  map[string]any // of the ID token
	polls   int
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{}
	mux := http.NewServeMux()
	say := func(w http.ResponseWriter, code int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.away {
			http.Error(w, "away", http.StatusBadGateway)
			return
		}
		say(w, 200, map[string]any{
			"issuer": p.issuer, "jwks_uri": p.URL + "/keys", "token_endpoint": p.URL + "/token", "authorization_endpoint": p.URL + "/auth",
			"device_authorization_endpoint": p.URL + "/device", "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		say(w, 200, map[string]any{"keys": []any{map[string]any{"kty": "unheard-of"}, jwk(p.key)}})
	})
	mux.HandleFunc("POST /device", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("client_id") != "divert" || !strings.Contains(r.FormValue("scope"), "openid") {
			say(w, 400, map[string]any{"error": "invalid_client"})
			return
		}
		say(w, 200, map[string]any{"device_code": "d", "user_code": "WDJB-MJHT", "verification_uri": p.URL + "/go", "expires_in": 60, "interval": 1})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.polls++
		switch {
		case r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:device_code" || r.FormValue("device_code") != "d":
			say(w, 400, map[string]any{"error": "invalid_grant"})
		case p.denied:
			say(w, 400, map[string]any{"error": "access_denied"})
		case p.polls <= p.pending:
			say(w, 400, map[string]any{"error": "authorization_pending"})
		default:
			say(w, 200, map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": sign(t, p.key, p.claims)})
		}
	})
	p.Server = httptest.NewTLSServer(mux)
	t.Cleanup(p.Close)
	p.issuer = p.URL
	p.turn(t)
	p.claims = p.of("ann", nil)
	p.ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(p.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// turn gives the provider another key.
func (p *provider) turn(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key = key
}

// of are the claims of a good token, changed.
func (p *provider) of(who string, change map[string]any) map[string]any {
	claims := map[string]any{
		"iss": p.URL, "sub": who, "aud": "divert", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		"email": who + "@example.org", "email_verified": true, "groups": []string{"sre", "ops"},
	}
	maps.Copy(claims, change)
	return claims
}

func (p *provider) options() Options { return Options{Issuer: p.URL, ClientID: "divert", CA: p.ca} }

func jwk(key *ecdsa.PrivateKey) map[string]any {
	raw, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	return map[string]any{
		"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256",
		"x": base64.RawURLEncoding.EncodeToString(raw[1:33]), "y": base64.RawURLEncoding.EncodeToString(raw[33:]),
	}
}

// sign makes a JWT by hand (RFC 7515), so that no library checks its own work.
func sign(t *testing.T, key *ecdsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// running is an Issuer whose Run ends with the test.
func running(t *testing.T, o Options) *Issuer {
	t.Helper()
	i, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	i.pause = time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- i.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return i
}

// known asks again and again until somebody is known; the limit is only there so that a
// failure ends.
func known(t *testing.T, i *Issuer, token string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		_, err := i.Identify(token, time.Now())
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("nobody is known: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
}

// TestIdentify: who is named by a token that the provider signed for this fleet is known,
// and nobody else.
func TestIdentify(t *testing.T) {
	p := newProvider(t)
	i := running(t, p.options())
	token := func(change map[string]any) string { return sign(t, p.key, p.of("ann", change)) }
	known(t, i, token(nil))
	id, err := i.Identify(token(nil), time.Now())
	if err != nil || id.Who != "oidc:ann" || fmt.Sprint(id.Groups) != "[group:oidc:sre group:oidc:ops]" || len(id.Grants) != 0 || id.Expires.IsZero() {
		t.Errorf("got %+v, %v", id, err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := token(nil)
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	for name, bad := range map[string]string{
		"of another key":       sign(t, other, p.of("ann", nil)),
		"of another issuer":    token(map[string]any{"iss": "https://evil.example.net"}),
		"for another client":   token(map[string]any{"aud": "grafana"}),
		"for others, not us":   token(map[string]any{"aud": []string{"grafana", "wiki"}}),
		"expired":              token(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}),
		"without an end":       token(map[string]any{"exp": nil}),
		"not yet":              token(map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}),
		"without a name":       token(map[string]any{"sub": ""}),
		"a name that draws":    token(map[string]any{"sub": "ann\x1b[2J"}),
		"another payload":      parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root"}`)) + "." + parts[2],
		"signed by nobody":     none,
		"no signature":         parts[0] + "." + parts[1] + ".",
		"no token":             "a.b.c",
		"groups that are none": token(map[string]any{"groups": "sre"}),
	} {
		if id, err := i.Identify(bad, time.Now()); err == nil {
			t.Errorf("%s: is taken for %+v", name, id)
		}
	}
	if _, err := i.Identify(good, time.Now().Add(2*time.Hour)); err == nil {
		t.Error("a token outlives its end")
	}

	byMail := p.options()
	byMail.Claim = "email"
	mail := running(t, byMail)
	known(t, mail, good)
	if id, err := mail.Identify(good, time.Now()); err != nil || id.Who != "oidc:ann@example.org" {
		t.Errorf("by e-mail: %+v, %v", id, err)
	}
	for _, change := range []map[string]any{{"email_verified": false}, {"email_verified": nil}, {"email": ""}} {
		if id, err := mail.Identify(token(change), time.Now()); err == nil {
			t.Errorf("%v: is taken for %+v", change, id)
		}
	}
}

// TestKeys: before the provider has answered nobody is known; after, whoever is known stays
// so while it is away; a new key of its is found; a provider that names another is not
// believed.
func TestKeys(t *testing.T) {
	p := newProvider(t)
	idle, err := New(p.options())
	if err != nil {
		t.Fatal(err)
	}
	first := sign(t, p.key, p.of("ann", nil))
	if _, err := idle.Identify(first, time.Now()); err == nil || !strings.Contains(err.Error(), "has not been reached") {
		t.Errorf("got %v", err)
	}
	i := running(t, p.options())
	known(t, i, first)
	p.turn(t)
	known(t, i, sign(t, p.key, p.of("ben", nil))) // asking for it brings it
	if _, err := i.Identify(first, time.Now()); err == nil {
		t.Error("who was signed by a key that the provider has given up is known")
	}
	p.mu.Lock()
	p.away = true
	p.mu.Unlock()
	if err := i.fetch(t.Context()); err == nil {
		t.Error("it is away")
	}
	if _, err := i.Identify(sign(t, p.key, p.of("ben", nil)), time.Now()); err != nil {
		t.Errorf("while the provider is away: %v", err)
	}
	p.mu.Lock()
	p.away, p.issuer = false, "https://evil.example.net"
	p.mu.Unlock()
	if err := i.fetch(t.Context()); err == nil {
		t.Error("a provider that names another issuer is believed")
	}
	plain := p.options()
	plain.Issuer = strings.Replace(p.URL, "https", "http", 1)
	j, err := New(plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "is not https") {
		t.Errorf("a provider without TLS: %v", err)
	}
	stranger := p.options()
	stranger.CA = ""
	k, err := New(stranger)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.fetch(t.Context()); err == nil {
		t.Error("a provider whose certificate nobody signed is believed")
	}
}

// TestLogin is the device flow (RFC 8628): the person is shown where to go, is waited for,
// and what comes of it is a token that a director believes.
func TestLogin(t *testing.T) {
	p := newProvider(t)
	i := running(t, p.options())
	p.pending = 1
	var where, code string
	token, until, err := Login(t.Context(), p.options(), []string{"groups"}, func(w, c string) { where, code = w, c })
	if err != nil || where != p.URL+"/go" || code != "WDJB-MJHT" || p.polls != 2 || time.Until(until) < 50*time.Minute {
		t.Fatalf("%s, %s, %d polls, until %s: %v", where, code, p.polls, until, err)
	}
	known(t, i, token)
	p.claims = p.of("ann", map[string]any{"aud": "grafana"})
	if _, _, err := Login(t.Context(), p.options(), nil, func(string, string) {}); err == nil {
		t.Error("a token for another client is one")
	}
	p.denied = true
	if _, _, err := Login(t.Context(), p.options(), nil, func(string, string) {}); err == nil || !strings.Contains(err.Error(), "access_denied") {
		t.Errorf("denied: %v", err)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Login(stopped, p.options(), nil, func(string, string) {}); err == nil {
		t.Error("it goes on after Ctrl-C")
	}
	wrong := p.options()
	wrong.ClientID = "nobody"
	if _, _, err := Login(t.Context(), wrong, nil, func(string, string) {}); err == nil {
		t.Error("an unknown client gets a code")
	}
}

// FuzzKeys: whatever a provider says its keys are is read, or is an error.
func FuzzKeys(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(map[string]any{"keys": []any{jwk(key)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0"},{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		keys, err := readKeys(raw)
		if (err == nil) != (len(keys) > 0) || len(keys) > maxKeys {
			t.Errorf("%d keys, %v", len(keys), err)
		}
	})
}

// TestReadKeys: what could not be trusted signs nothing.
func TestReadKeys(t *testing.T) {
	for name, raw := range map[string]string{
		"a secret shared with others": `{"keys":[{"kty":"oct","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}]}`,
		"a short RSA key":             `{"keys":[{"kty":"RSA","n":"` + base64.RawURLEncoding.EncodeToString(append([]byte{0x80}, make([]byte, 126)...)) + `AQ","e":"AQAB"}]}`,
		"none":                        `{"keys":[]}`,
		"no set":                      `[]`,
	} {
		if keys, err := readKeys([]byte(raw)); err == nil {
			t.Errorf("%s: got %d keys", name, len(keys))
		}
	}
}
