package spec

import (
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

func (r *settingsReader) etcd(c cursor) {
	e := &r.s.Etcd
	tls := func(to *string) func(cursor) { return func(c cursor) { *to = r.path(c) } }
	embedded := false
	ok := c.object(fields{
		"member":   r.member,
		"embedded": func(c cursor) { embedded = c.bool() },
		"endpoints": func(c cursor) {
			c.nonEmpty(func(c cursor) {
				u := r.endpoint(c)
				if u != "" && slices.Contains(e.Endpoints, u) {
					c.fail(quote(u)+" stands here twice", "keep one of the two")
				}
				e.Endpoints = appendText(e.Endpoints, u)
			})
		},
		"tls": func(c cursor) {
			c.object(fields{"ca": tls(&e.TLS.CA), "cert": tls(&e.TLS.Cert), "key": tls(&e.TLS.Key)}, "ca", "cert", "key")
		},
	})
	if !ok {
		return
	}
	e.Embedded = embedded
	switch {
	case embedded && c.v.get("endpoints") != nil:
		cursor{c.d, c.v.get("embedded"), child(c.path, "embedded")}.fail("stands beside endpoints", "keep one of the two")
	case !embedded && c.v.get("endpoints") == nil:
		c.fail("names no store", "add endpoints, or embedded: true")
	}
}

// member reads what a director runs of the store; `divert etcd` judges the rest of it.
func (r *settingsReader) member(c cursor) {
	m := &r.s.Etcd.Member
	tls := func(to *string) func(cursor) { return func(c cursor) { *to = r.path(c) } }
	ok := c.object(fields{
		"name":       func(c cursor) { m.Name = c.dotted() },
		"listen":     func(c cursor) { m.Listen = r.endpoint(c) },
		"advertise":  func(c cursor) { m.Advertise = r.endpoint(c) },
		"peerListen": func(c cursor) { m.PeerListen = r.endpoint(c) },
		"token":      func(c cursor) { m.Token = c.word() },
		"existing":   func(c cursor) { m.Existing = c.bool() },
		"cluster": func(c cursor) {
			c.nonEmpty(func(c cursor) {
				name, peer, found := strings.Cut(c.text(), "=")
				if u, err := url.Parse(peer); !found || err != nil || name == "" || u.Hostname() == "" || u.Port() == "" {
					c.fail(c.v.shown()+" is no member", "write one such as fra=https://192.0.2.7:2380")
					return
				}
				if slices.ContainsFunc(m.Cluster, func(s string) bool { return strings.HasPrefix(s, name+"=") }) {
					c.fail(quote(name)+" stands here twice", "keep one of the two")
					return
				}
				m.Cluster = append(m.Cluster, name+"="+peer)
			})
		},
		"tls": func(c cursor) {
			c.object(fields{"ca": tls(&m.TLS.CA), "cert": tls(&m.TLS.Cert), "key": tls(&m.TLS.Key), "crl": tls(&m.TLS.CRL)}, "ca", "cert", "key")
		},
	}, "name", "listen", "cluster", "token")
	if ok && m.Name != "" && len(m.Cluster) > 0 && !slices.ContainsFunc(m.Cluster, func(s string) bool { return strings.HasPrefix(s, m.Name+"=") }) {
		cursor{c.d, c.v.get("name"), child(c.path, "name")}.fail(quote(m.Name)+" is none of cluster", "name one of its members")
	}
}

// endpoint reads the URL of an etcd member, or the path of its socket.
func (r *settingsReader) endpoint(c cursor) string {
	s := c.text()
	if s == "" {
		return ""
	}
	if path, found := strings.CutPrefix(s, "unix:"); found {
		path = strings.TrimPrefix(path, "//")
		if path == "" {
			c.fail(quote(s)+" names no socket", "write unix:// and its path")
			return ""
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(r.dir, path)
		}
		return "unix://" + path
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" || !goodPort(u.Port()) {
		c.fail(quote(s)+" is no etcd endpoint", "write one such as https://etcd-1.example.net:2379")
		return ""
	}
	if u.Port() == "" {
		c.fail(quote(s)+" has no port", "add one, such as :2379")
		return ""
	}
	if a, addrErr := netip.ParseAddr(u.Hostname()); u.Scheme == "http" && (addrErr != nil || !a.IsLoopback()) {
		c.fail(quote(s)+" is not loopback, and etcd off loopback needs mutual TLS", "write https:// and add tls: {ca: …, cert: …, key: …}")
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func (r *settingsReader) checkEtcd(fail func(path, message, remedy string)) {
	e := r.s.Etcd
	secure := slices.IndexFunc(e.Endpoints, func(u string) bool { return strings.HasPrefix(u, "https://") })
	switch {
	case e.Member.Name != "" && len(e.Endpoints) == 0:
		fail("etcd.member", "stands there without endpoints", "add endpoints: [...], those of all members")
	case e.Member.Name != "" && strings.HasPrefix(e.Member.Listen, "https://") && e.Member.TLS.CA == "":
		fail("etcd.member.listen", e.Member.Listen+" needs mutual TLS", "add tls: {ca: …, cert: …, key: …} to member")
	case secure >= 0 && e.TLS.CA == "" && e.TLS.Cert == "":
		fail(item("etcd.endpoints", secure), e.Endpoints[secure]+" needs mutual TLS", "add tls: {ca: …, cert: …, key: …}")
	case secure < 0 && e.TLS.CA != "" && len(e.Endpoints) > 0:
		fail("etcd.tls", "no endpoint is https", "write https:// in the endpoints, or take tls out")
	}
	for _, u := range e.Endpoints {
		if strings.HasPrefix(u, "https://") != (secure >= 0) {
			fail("etcd.endpoints", "some endpoints are https and some are not", "use one scheme for all")
			return
		}
	}
}
