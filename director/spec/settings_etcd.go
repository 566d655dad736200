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
