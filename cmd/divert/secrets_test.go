package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/secret"
)

// sharing is a director whose fleet has secrets.
type sharing struct {
	fake
	secrets api.Secrets
}

func (s *sharing) Secrets() api.Secrets { return s.secrets }

// TestSecrets: a value is read from a closed file or from standard input, encrypted here,
// and neither sent nor shown.
func TestSecrets(t *testing.T) {
	id, err := secret.NewIdentity(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	f := &sharing{secrets: api.Secrets{Fleet: "f", Silent: []string{"d2"}, Recipients: []core.SecretRecipient{{Director: "d1", Key: id.Recipient(), Signature: make([]byte, 64)}}}}
	server := serve(t, f)
	value := []byte("0123456789abcdef0123456789abcdef")
	text := base64.StdEncoding.EncodeToString(value)
	closed, open := filepath.Join(t.TempDir(), "a.key"), filepath.Join(t.TempDir(), "b.key")
	for file, mode := range map[string]os.FileMode{closed: 0o600, open: 0o644} {
		if err := os.WriteFile(file, []byte(text+"\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name, stdin, line, secret string
		code                      int
		grace                     time.Duration
		drawn                     bool
	}{
		{"from a file", "", "set tsig/Secondary.example.net --file " + closed, "tsig/secondary.example.net", exitDone, 24 * time.Hour, false},
		{"from standard input", text + "\n", "set cookie --grace 3h", "cookie", exitDone, 3 * time.Hour, false},
		{"as JSON", "", "set cookie -o json --file " + closed, "cookie", exitDone, 2 * time.Hour, false},
		{"drawn", "", "rotate cookie", "cookie", exitDone, 2 * time.Hour, true},
		{"a file that others can read", "", "set cookie --file " + open, "", exitRefused, 0, false},
		{"no base64", "secret!\n", "set cookie", "", exitRefused, 0, false},
		{"too short", base64.StdEncoding.EncodeToString(value[:8]), "set cookie", "", exitRefused, 0, false},
		{"as an argument", "", "set cookie " + text, "", exitUsage, 0, false},
		{"of no kind", text, "set dnssec/x", "", exitRefused, 0, false},
		{"drawn, and the secondary has it not", "", "rotate tsig/x", "", exitRefused, 0, false},
		{"a grace that is none", text, "set cookie --grace soon", "", exitUsage, 0, false},
	} {
		before := len(f.sent())
		term := newTerminal(tc.stdin)
		code := term.run(t.Context(), append(append([]string{"secrets"}, strings.Fields(tc.line)...), "--server", server, "--reason", "a test"))
		sent := f.sent()[before:]
		if code != tc.code || (code == exitDone) != (len(sent) == 1) {
			t.Errorf("%s: exit %d, %d sent: %s%s", tc.name, code, len(sent), term.stdout.String(), term.stderr.String())
			continue
		}
		said := term.stdout.String() + term.stderr.String()
		if tc.line != "set cookie "+text && (strings.Contains(said, text[:20]) || strings.Contains(said, string(value[:12]))) {
			t.Errorf("%s: it shows the value: %s", tc.name, said)
		}
		if len(sent) == 0 {
			continue
		}
		c := sent[0]
		got, err := id.Open("f", tc.secret, c.Secret.Blob)
		if err != nil || !tc.drawn && !bytes.Equal(got, value) || tc.drawn && (len(got) != 32 || bytes.Equal(got, value)) {
			t.Errorf("%s: the director reads %d octets, %v", tc.name, len(got), err)
		}
		raw, err := json.Marshal(c)
		if err != nil || strings.Contains(string(raw), text[:20]) || c.Verb != core.SecretSet || c.For != tc.grace || c.Secret.Name != tc.secret || len(c.Secret.Recipients) != 1 {
			t.Errorf("%s: sent %s, %v", tc.name, raw, err)
		}
	}
	f.secrets.Recipients = nil
	if code := newTerminal(text).run(t.Context(), []string{"secrets", "set", "cookie", "--server", server, "--reason", "a test"}); code != exitRefused {
		t.Errorf("encrypted to nobody: exit %d", code)
	}
}

// TestSecretsList: who reads what, who could and is gone, and who is waited for.
func TestSecretsList(t *testing.T) {
	until := time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)
	p := &page{width: 200}
	secretsPage(p, api.Secrets{
		Silent: []string{"d3"}, Waits: []core.TurnWait{{Director: "d2", Why: "has not got them yet"}},
		Secrets: []api.Secret{{Name: "cookie", Kind: "cookie", Use: 2, Versions: []api.SecretVersion{
			{Version: 1, State: "before", Until: &until, Readers: []string{"d1"}, Left: []string{"d4"}, Author: "ann", Reason: "first", Since: until.Add(-time.Hour)},
			{Version: 2, State: "used", Readers: []string{"d1", "d2"}, Author: "bob", Reason: "every quarter", Since: until.Add(-time.Hour)},
		}}},
	}, until)
	for _, want := range []string{"version 1, accepted until 2026-01-02T15:00:00Z", "could be read by d4", "version 2, used", "read by d1, d2", "waits: d2 has not got them yet", "nothing is encrypted to it yet: d3"} {
		if !strings.Contains(p.b.String(), want) {
			t.Errorf("the list does not say %q:\n%s", want, p.b.String())
		}
	}
	p = &page{width: 200}
	if secretsPage(p, api.Secrets{}, until); !strings.Contains(p.b.String(), "the fleet has no secrets") {
		t.Errorf("got %s", p.b.String())
	}
}
