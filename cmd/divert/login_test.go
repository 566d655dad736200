package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLoginFails: what cannot be a login says so, and leaves the token of before.
func TestLoginFails(t *testing.T) {
	provider := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"issuer":"https://` + r.Host + `","token_endpoint":"https://` + r.Host + `/token","jwks_uri":"https://` + r.Host + `/keys"}`))
	}))
	defer provider.Close()
	dir := t.TempDir()
	ca, file := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: provider.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replaceSecret(file, "before"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, tc := range []struct {
		line string
		code int
		want string
	}{
		{"login --file " + file, exitUsage, "--issuer"},
		{"login --issuer " + provider.URL + " --client-id divert", exitUsage, "file"},
		{"login --issuer " + provider.URL + " --client-id divert --file " + file, exitRefused, "certificate"},
		{"login --issuer http://127.0.0.1:1 --client-id divert --file " + file, exitRefused, "is not https"},
		{"login --issuer " + provider.URL + " --client-id divert --issuer-ca " + ca + " --file " + file, exitRefused, "no device flow"},
	} {
		term, code := runLine(t, nil, strings.Fields(tc.line)...)
		if code != tc.code || !strings.Contains(term.stderr.String(), tc.want) {
			t.Errorf("%s: exit %d, want %d: %s", tc.line, code, tc.code, term.stderr.String())
		}
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != "before\n" {
		t.Errorf("the token of before is %q, %v", raw, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("left are %v, %v", left, err)
	}
}
