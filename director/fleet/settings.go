package fleet

import (
	"fmt"
	"strings"
)

// layout is what the settings of a site say beside who the sites are.
type layout struct {
	token  string // of the cluster of etcd
	port   int    // of DNS; 0 makes a witness
	begins bool   // the fleet begins with this site, which then has the roster as its spec
	crl    bool   // there are lists of revoked certificates
}

// settings writes a site's settings. Members are the sites that run etcd.
func settings(s Site, all, members []Site, o layout) string {
	etcdList, apiList := "", ""
	if o.crl {
		etcdList, apiList = ", crl: etcd.crl", ", crl: api.crl"
	}
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Director %s, laid out by `divert fleet`. Relative paths begin at this file's folder.", s.Name)
	p("name: %s", s.Name)
	p("site: %s", s.Name)
	p("dataDir: data")
	switch {
	case o.port == 0:
		p("dns: {listen: []}               # a witness: it votes, and answers nothing")
	case s.addr().IsValid():
		p("dns: {listen: [%q]}", s.at(fmt.Sprint(o.port)))
	default:
		p(`dns: {listen: ["0.0.0.0:%d", "[::]:%d"]}`, o.port, o.port)
	}
	p("gossip:")
	p("  listen: %q", s.listen(gossipPort))
	if !s.addr().IsValid() {
		p("  # advertise: 203.0.113.5:%s   # where this host has several addresses: the one that the others reach", gossipPort)
	}
	var join, endpoints, cluster []string
	for _, peer := range all {
		if peer.Name != s.Name {
			join = append(join, fmt.Sprintf("%q", peer.at(gossipPort)))
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
		p("    token: %s", o.token)
		p("    tls: {ca: etcd-ca.crt, cert: etcd.crt, key: etcd.key%s}", etcdList)
	}
	p("api:")
	p("  listen: %q", s.listen(apiPort))
	p("  tls: {cert: api.crt, key: api.key, clientCA: api-ca.crt%s}", apiList)
	p("  grants: [{who: \"cert:%s\", role: admin, scopes: [fleet]}]", adminName)
	if s.addr().IsLoopback() {
		p(`probe: {allow: ["127.0.0.0/8", "::1/128"]}`)
	}
	if o.begins {
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
