package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/divertdns/divert/director/access"
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
	look("api.tls.cert", s.API.TLS.Cert)
	look("api.tls.key", s.API.TLS.Key)
	look("api.tls.clientCA", s.API.TLS.ClientCA)
	look("api.tls.crl", s.API.TLS.CRL)
	look("api.oidc.ca", s.API.OIDC.CA)
	for i, k := range s.API.Kubernetes {
		look(child(item("api.kubernetes", i), "kubeconfig"), k.Kubeconfig)
	}
	look("etcd.tls.ca", s.Etcd.TLS.CA)
	look("audit.syslog.ca", s.Audit.Syslog.CA)
	look("etcd.tls.cert", s.Etcd.TLS.Cert)
	look("etcd.tls.key", s.Etcd.TLS.Key)
	look("etcd.member.tls.ca", s.Etcd.Member.TLS.CA)
	look("etcd.member.tls.cert", s.Etcd.Member.TLS.Cert)
	look("etcd.member.tls.key", s.Etcd.Member.TLS.Key)
	t.database(checkDatabase)
	t.sharedSocket()
	t.probeFiles()
	for i, name := range s.Spec {
		if _, err := os.Stat(name); err != nil {
			t.report(item("spec", i), absent(name, err), "correct the path; or is this not the director's machine?", true)
		}
	}
	kubeconfigs := s.Kubeconfigs()
	for _, c := range t.set.Clusters {
		if c.ControlPlane == nil || c.ControlPlane.Kubeconfig == "" {
			continue
		}
		name := kubeconfigs.Path(c.ControlPlane.Kubeconfig)
		message, remedy := "", "each director reads its own; without it the control plane is not watched there, and steering goes on"
		if _, _, ok := kubeconfigs.find(name); ok {
			message = unreadable(name)
		} else {
			message, remedy = name+" lies outside the folders of kubeconfigs, so that the director does not read it", outsideKubeconfigs
		}
		if message != "" {
			t.problems = append(t.problems, Problem{
				Path: KindCluster + "/" + c.Name + " spec.controlPlane.kubeconfig.path", Message: message, Warning: true, Remedy: remedy,
			})
		}
	}
	return tidy(t.problems)
}

// sharedSocket looks whether users of the system who are granted something can reach the
// socket that they would ask by: its folder, and each above it, must let them pass.
func (t *together) sharedSocket() {
	socket := t.s.API.Socket
	path := "api.socket"
	i := slices.IndexFunc(t.s.API.Grants, func(g access.Grant) bool {
		return strings.HasPrefix(strings.TrimPrefix(g.Who, "group:"), string(access.Unix)+":") && g.Who != "unix:root"
	})
	if i < 0 {
		return
	}
	if socket == "" {
		socket, path = filepath.Join(t.s.DataDir, "control.sock"), child(item("api.grants", i), "who")
	}
	why := ""
	folder := filepath.Dir(socket)
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) && folder == filepath.Clean(t.s.DataDir) {
		why = folder + " will be the director's alone"
	}
	for ; why == ""; folder = filepath.Dir(folder) {
		if info, err := os.Stat(folder); err == nil && info.IsDir() && info.Mode().Perm()&0o011 == 0 {
			why = fmt.Sprintf("%s lets nobody else pass (mode %04o)", folder, info.Mode().Perm())
		}
		if folder == filepath.Dir(folder) {
			break
		}
	}
	if why != "" {
		t.report(path, fmt.Sprintf("%s cannot reach the socket %s: %s", quote(t.s.API.Grants[i].Who), socket, why),
			"set api: {socket: /run/divert/control.sock}, in a folder that they may pass, and give them --server unix:/run/divert/control.sock", true)
	}
}

// probeFiles looks at the programs that probes may run, and at the secrets that the
// spec's probes name.
func (t *together) probeFiles() {
	for i, name := range t.s.Probe.Exec {
		info, err := os.Stat(name)
		message := ""
		switch {
		case err != nil:
			message = absent(name, err)
		case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
			message = name + " is no program"
		}
		if message != "" {
			t.report(item("probe.exec", i), message, "put it there, executable for the director's user; without it its probes say nothing; or is this not the director's machine?", true)
		}
	}
	folder := t.s.Probe.Secrets
	if folder == "" {
		return
	}
	info, err := os.Stat(folder)
	switch {
	case err != nil:
		t.report("probe.secrets", absent(folder, err), "make it, and let the director's user read it; or is this not its machine?", true)
		return
	case !info.IsDir():
		t.report("probe.secrets", folder+" is no folder", "name the folder that the files lie in", true)
		return
	}
	seen := map[string]bool{"": true}
	want := func(p *PrometheusProbe, who string) {
		if p == nil {
			return
		}
		for _, name := range []string{p.Bearer, p.TLS.CA, p.TLS.Cert, p.TLS.Key} {
			if message := unreadable(filepath.Join(folder, name)); !seen[name] && message != "" {
				t.report("probe.secrets", message+", and "+who+" wants it", "put it there; without it that probe says nothing here; or is this not the director's machine?", true)
			}
			seen[name] = true
		}
	}
	for _, g := range t.set.Services {
		for i := range g.Probes {
			want(g.Probes[i].Prometheus, "a probe of "+g.Name)
		}
		for i := range g.Endpoints {
			want(g.Endpoints[i].Load, "the load of "+g.Name)
		}
	}
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
