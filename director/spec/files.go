package spec

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// CheckFiles warns of files that a director with these settings would want on
// this machine, and that are not there or cannot be read by who asks. Each is
// only a warning: settings are often checked on another machine, or by another
// user, than the director's. What is there and is no geo database, by
// checkDatabase, is one on no machine; nil leaves it unread.
func CheckFiles(s Settings, set *Set, checkDatabase func(path string) error) []Problem {
	t := settingsOf(s, set)
	look := func(path, name string) {
		if message := unreadable(name); name != "" && message != "" {
			t.report(path, message, "put it there before the director starts, and let its user read it; or is this not its machine?", true)
		}
	}
	look("gossip.keyFile", s.Gossip.KeyFile)
	look("dns.tls.cert", s.DNS.TLS.Cert)
	look("dns.tls.key", s.DNS.TLS.Key)
	for i, k := range s.DNS.Transfers.Keys {
		look(child(item("dns.transfers.keys", i), "secretFile"), k.SecretFile)
	}
	look("etcd.tls.ca", s.Etcd.TLS.CA)
	look("etcd.tls.cert", s.Etcd.TLS.Cert)
	look("etcd.tls.key", s.Etcd.TLS.Key)
	t.database(checkDatabase)
	for i, name := range s.Spec {
		if _, err := os.Stat(name); err != nil {
			t.report(item("spec", i), absent(name, err), "correct the path; or is this not the director's machine?", true)
		}
	}
	for _, c := range t.set.Clusters {
		if c.ControlPlane == nil || c.ControlPlane.Kubeconfig == "" {
			continue
		}
		name := c.ControlPlane.Kubeconfig
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(s.File), name) // as a director does
		}
		if message := unreadable(name); message != "" {
			t.problems = append(t.problems, Problem{
				Path: KindCluster + "/" + c.Name + " spec.controlPlane.kubeconfig.path", Message: message, Warning: true,
				Remedy: "each director reads its own; without it the control plane is not watched there, and steering goes on",
			})
		}
	}
	return tidy(t.problems)
}

// database looks at the geo database, if there is to be one.
func (t *together) database(check func(path string) error) {
	const path = "geo.database"
	name := t.s.Geo.Database
	if name == "" {
		return
	}
	if message := unreadable(name); message != "" {
		t.report(path, message, "until it is there, clients are placed by the country table that Divert has; or is this not the director's machine?", true)
	} else if check != nil {
		if err := check(name); err != nil {
			t.report(path, err.Error(), "put a MaxMind DB file of countries or cities there, whole", false)
		}
	}
}

// unreadable says what keeps a file from being read here, "" for nothing. A pipe
// is not opened: it would hang.
func unreadable(name string) string {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return absent(name, err)
	case info.IsDir():
		return name + " is a folder, not a file"
	case !info.Mode().IsRegular():
		return ""
	}
	f, err := os.Open(name)
	if err != nil {
		return absent(name, err)
	}
	_ = f.Close() // only looked at
	return ""
}

func absent(name string, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return name + " is not there, on this machine"
	case errors.Is(err, fs.ErrPermission):
		return name + " may not be read by you, on this machine"
	default:
		return name + " cannot be read, on this machine: " + err.Error()
	}
}
