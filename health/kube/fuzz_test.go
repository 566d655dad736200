package kube

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzKubeconfig (C11): whatever a kubeconfig says, it runs no program, and what it
// points to was read.
func FuzzKubeconfig(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"v1","kind":"Config","current-context":"a","contexts":[{"name":"a","context":{"cluster":"c","user":"u"}}],
"clusters":[{"name":"c","cluster":{"server":"https://192.0.2.1:6443"}}],"users":[{"name":"u","user":{"exec":{"command":"/bin/sh","apiVersion":"v1"}}}]}`))
	f.Add([]byte(`{"current-context":"a","contexts":[{"name":"a","context":{"cluster":"c","user":"u"}}],
"clusters":[{"name":"c","cluster":{"server":"https://192.0.2.1:6443","certificate-authority":"ca"}}],"users":[{"name":"u","user":{"token":"t","tokenFile":"x"}}]}`))
	f.Add([]byte("a: &a [*a]"))
	path := filepath.Join(f.TempDir(), "kubeconfig")
	f.Fuzz(func(t *testing.T, data []byte) {
		name := path + "." + filepath.Base(t.TempDir()) // several at once
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(name)
		own := opener(func(asked string) (*os.File, error) {
			if asked != name {
				return nil, os.ErrNotExist
			}
			return os.Open(asked)
		})
		m, err := own.load(name, "")
		if err != nil {
			return
		}
		if m.user.Exec != nil || m.user.AuthProvider != nil || m.user.TokenFile != "" || m.cluster.CertificateAuthority != "" || m.user.ClientKey != "" {
			t.Errorf("got %+v", m)
		}
		clients, err := m.clients(nil, 0)
		if err == nil && len(clients) != 1 {
			t.Errorf("got %d clients", len(clients))
		}
	})
}

// FuzzFailedChecks: what an API server says is shown to people, so that it is words of
// some length, and few.
func FuzzFailedChecks(f *testing.F) {
	f.Add([]byte("[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, name := range failedChecks(body) {
			if !checkName([]byte(name)) {
				t.Errorf("got %q", name)
			}
		}
		_ = versionText(string(body))
	})
}
