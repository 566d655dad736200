package kube

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const whole = `apiVersion: v1
kind: Config
current-context: fra
clusters:
- name: fra
  cluster: {server: "https://api.fra.example.org:6443", certificate-authority: pki/ca.pem}
contexts:
- name: fra
  context: {cluster: fra, user: observer}
- name: risky
  context: {cluster: fra, user: runner}
- name: old
  context: {cluster: fra, user: plugin}
- name: lost
  context: {cluster: nowhere, user: observer}
- name: nobody
  context: {cluster: fra, user: nobody}
users:
- name: observer
  user: {tokenFile: pki/token, token: overruled}
- name: runner
  user:
    exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/false, interactiveMode: Never}
- name: plugin
  user:
    auth-provider: {name: oidc, config: {}}
`

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLoad: relative paths are beside the kubeconfig, and nothing else than it
// and what it names is read.
func TestLoad(t *testing.T) {
	t.Setenv("KUBECONFIG", "/nonexistent")
	dir := t.TempDir()
	path := write(t, dir, "fra.kubeconfig", whole)
	write(t, dir, "pki/ca.pem", "authority")
	write(t, dir, "pki/token", "secret\n")
	m, err := opener(anywhere).load(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(m.cluster.CertificateAuthorityData); got != "authority" || m.cluster.CertificateAuthority != "" {
		t.Errorf("authority: got %q, path %q, want it read in", got, m.cluster.CertificateAuthority)
	}
	if m.user.Token != "secret" || m.user.TokenFile != "" {
		t.Errorf("token: got %q, file %q, want it read in", m.user.Token, m.user.TokenFile)
	}
	again, err := opener(anywhere).load(path, "fra")
	if err != nil || !again.equal(m) {
		t.Errorf("the same context by name: got %v, equal %t", err, again.equal(m))
	}
	write(t, dir, "pki/token", "rotated")
	if again, err = opener(anywhere).load(path, ""); err != nil || again.equal(m) {
		t.Errorf("with a rotated token: got %v, and no difference", err)
	}
}

// TestOpen: the kubeconfig and each file that it names are opened as the options say: who may
// write one must not have its reader read, and send, another's file (C11).
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "fra.kubeconfig", whole)
	files := []string{path, write(t, dir, "pki/ca.pem", "authority"), write(t, dir, "pki/token", "secret\n")}
	for _, refused := range append(files, "") {
		open := func(path string) (*os.File, error) {
			if path == refused {
				return nil, errors.New("not for you")
			}
			return anywhere(path)
		}
		counter, err := NewCounter(Options{Kubeconfig: path, Open: open})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = counter.clients()
		counter.Close()
		if told := err != nil && err.Error() == "not for you"; told != (refused != "") {
			t.Errorf("%q refused: got %v", refused, err)
		}
		observer, err := New(Options{Kubeconfig: path, Open: open})
		if err != nil {
			t.Fatal(err)
		}
		err = observer.access.prepare(askTimeout)
		observer.access.drop()
		if told := err != nil && err.Error() == "not for you"; told != (refused != "") {
			t.Errorf("%q refused: got %v", refused, err)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	tests := []struct{ name, text, context, want string }{
		{"exec (C11)", whole, "risky", "runs a program"},
		{"auth-provider (C11)", whole, "old", "auth-provider"},
		{"no such context", whole, "ams", `no context "ams"`},
		{"no such cluster", whole, "lost", `no cluster "nowhere"`},
		{"no such user", whole, "nobody", `no user "nobody"`},
		{"no current context", "apiVersion: v1\nkind: Config\n", "", "no current context"},
		{"not YAML", "token: sEcReT\n\t{", "", "not a kubeconfig"},
		{"too large", "# " + strings.Repeat("x", maxFile), "", "larger than"},
		{"a file that is not there", whole, "", "pki"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := opener(anywhere).load(write(t, t.TempDir(), "kubeconfig", tc.text), tc.context)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want it to say %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "sEcReT") {
				t.Errorf("got %v, which quotes the file", err)
			}
		})
	}
	for _, path := range []string{t.TempDir(), os.DevNull, filepath.Join(t.TempDir(), "absent")} {
		if _, err := opener(anywhere).load(path, ""); err == nil {
			t.Errorf("%s: got nil, want an error", path)
		}
	}
}

func TestNameFor(t *testing.T) {
	tests := []struct{ own, server, want string }{
		{"https://api.fra.example.org:6443", "https://192.0.2.1:6443", "api.fra.example.org"},
		{"https://api.fra.example.org:6443", "https://master-1.fra.example.org:6443", "api.fra.example.org"},
		{"https://api.fra.example.org:6443", "https://api.fra.example.org:7443", ""},
		{"https://192.0.2.9:6443", "https://192.0.2.1:6443", ""},
		{"https://[2001:db8::9]:6443", "https://192.0.2.1:6443", ""},
		{"https://localhost:8443", "https://192.0.2.1:6443", ""},
	}
	for _, tc := range tests {
		own, _ := url.Parse(tc.own)
		server, _ := url.Parse(tc.server)
		if got := nameFor(own, server); got != tc.want {
			t.Errorf("%s for %s: got %q, want %q", tc.server, tc.own, got, tc.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []Options{
		{},
		{Kubeconfig: "k", Endpoints: []string{"http://192.0.2.1:6443"}},
		{Kubeconfig: "k", Endpoints: []string{"192.0.2.1:6443"}},
		{Kubeconfig: "k", Endpoints: []string{"https://user:secret@192.0.2.1:6443"}},
		{Kubeconfig: "k", Endpoints: make([]string, maxEndpoints+1)},
	}
	for _, tc := range tests {
		if _, err := New(tc); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%d endpoints: got %v, want a refusal", len(tc.Endpoints), err)
		}
	}
}
