package fleet

import (
	"fmt"
	"strings"
)

// settings writes a site's settings. Members are the sites that run etcd; begins, that the
// fleet begins with this one, which then has the roster as its spec. A DNS port of 0 makes
// a witness.
func settings(s Site, all, members []Site, token string, dnsPort int, begins bool) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Director %s, laid out by `divert fleet`. Relative paths begin at this file's folder.", s.Name)
	p("name: %s", s.Name)
	p("site: %s", s.Name)
	p("dataDir: data")
	switch {
	case dnsPort == 0:
		p("dns: {listen: []}               # a witness: it votes, and answers nothing")
	case s.addr().IsValid():
		p("dns: {listen: [%q]}", s.at(fmt.Sprint(dnsPort)))
	default:
		p(`dns: {listen: ["0.0.0.0:%d", "[::]:%d"]}`, dnsPort, dnsPort)
	}
	p("gossip:")
	p("  listen: %q", s.listen(gossipPort))
	if !s.addr().IsValid() {
		p("  # advertise: 203.0.113.5:%s   # where this host has several addresses: the one that the others reach", gossipPort)
	}
	var join, endpoints, cluster []string
	for _, o := range all {
		if o.Name != s.Name {
			join = append(join, fmt.Sprintf("%q", o.at(gossipPort)))
		}
	}
	isMember := false
	for _, m := range members {
		endpoints = append(endpoints, fmt.Sprintf("%q", "https://"+m.at(clientPort)))
		cluster = append(cluster, fmt.Sprintf("%q", m.Name+"=https://"+m.at(peerPort)))
		isMember = isMember || m.Name == s.Name
	}
	if len(join) > 0 {
		p("  join: [%s]", strings.Join(join, ", "))
	}
	p("  keyFile: gossip.key             # the same at each director; `divert keys rotate` turns it over")
	p("etcd:")
	p("  endpoints: [%s]", strings.Join(endpoints, ", "))
	p("  tls: {ca: etcd-ca.crt, cert: etcd-client.crt, key: etcd-client.key}")
	if isMember {
		p("  member:                         # `divert serve` runs it as a process of its own")
		p("    name: %s", s.Name)
		p("    listen: %q", "https://"+s.listen(clientPort))
		if !s.addr().IsValid() {
			p("    advertise: %q", "https://"+s.at(clientPort))
		}
		p("    cluster: [%s]", strings.Join(cluster, ", "))
		p("    token: %s", token)
		p("    tls: {ca: etcd-ca.crt, cert: etcd.crt, key: etcd.key}")
	}
	p("api:")
	p("  listen: %q", s.listen(apiPort))
	p("  tls: {cert: api.crt, key: api.key, clientCA: api-ca.crt}")
	p("  grants: [{who: \"cert:%s\", role: admin, scopes: [fleet]}]", adminName)
	if s.addr().IsLoopback() {
		p(`probe: {allow: ["127.0.0.0/8", "::1/128"]}`)
	}
	if begins {
		p("spec: [spec.d]")
	}
	return b.String()
}

// roster writes the spec of the fleet: who its directors are, and by which keys.
func roster(entries []entry) string {
	var b strings.Builder
	b.WriteString("# Who this fleet's directors are. Clusters, zones and services stand in files beside it,\n# or come by `divert apply -f`.\n")
	b.WriteString("apiVersion: divert.dev/v1alpha1\nkind: Fleet\nmetadata: {name: default}\nspec:\n  directors:\n")
	for _, e := range entries {
		fmt.Fprintf(&b, "  - {name: %s, site: %s, key: %q}\n", e.site.Name, e.site.Name, e.key)
	}
	return b.String()
}

// entry is a director of the roster.
type entry struct {
	site Site
	key  string // ed25519:…
}
