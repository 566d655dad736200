package spec

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

const (
	defaultEnvironment = "prod"
	defaultCapacity    = 100
	maxCapacity        = 1_000_000_000_000
)

func (o *object) readCluster(c cursor) {
	cl := &Cluster{
		Name: o.raw.Name, FaultDomain: o.raw.Name,
		Environment: defaultEnvironment, Capacity: defaultCapacity,
	}
	o.cluster = cl
	c.object(fields{
		"location":     func(c cursor) { cl.Location = readLocation(c) },
		"faultDomain":  func(c cursor) { cl.FaultDomain = c.word() },
		"environment":  func(c cursor) { cl.Environment = c.word() },
		"capacity":     func(c cursor) { cl.Capacity, cl.Sized = c.capacity(), true },
		"via":          func(c cursor) { cl.Via = c.word() },
		"controlPlane": func(c cursor) { cl.ControlPlane = readControlPlane(c) },
	})
}

// capacity reads a positive amount.
func (c cursor) capacity() int64 {
	if c.v.kind == kindInt && c.v.text == "0" {
		c.fail("0 is no capacity", "drain the site, or give it weight 0, to take it out of the answers")
		return defaultCapacity
	}
	if c.v.kind == kindInt && strings.HasPrefix(c.v.text, "-") {
		c.fail(c.v.text+" is negative", "write 1 or more")
		return defaultCapacity
	}
	return c.integer(1, maxCapacity)
}

func readLocation(c cursor) Location {
	var l Location
	var latitude, longitude bool
	ok := c.object(fields{
		"country":   func(c cursor) { l.Country = c.country() },
		"region":    func(c cursor) { l.Region = c.text() },
		"latitude":  func(c cursor) { l.Latitude, latitude = c.number(-90, 90), true },
		"longitude": func(c cursor) { l.Longitude, longitude = c.number(-180, 180), true },
	})
	switch {
	case !ok:
	case (c.v.get("latitude") == nil) != (c.v.get("longitude") == nil):
		c.fail("has only one of latitude and longitude", "give both, or the country alone")
	case c.v.get("latitude") == nil && c.v.get("country") == nil:
		c.fail("has no country", "add one such as country: DE, or latitude and longitude")
	}
	l.Exact = latitude && longitude
	return l
}

func readControlPlane(c cursor) *ControlPlane {
	cp := &ControlPlane{}
	ok := c.object(fields{
		"via": func(c cursor) { cp.Via = c.word() },
		"kubeconfig": func(c cursor) {
			c.object(fields{
				"path":    func(c cursor) { cp.Kubeconfig = c.text() },
				"context": func(c cursor) { cp.Context = c.text() },
			}, "path")
		},
		"endpoints": func(c cursor) {
			seen := map[string]bool{}
			c.nonEmpty(func(c cursor) {
				u := c.apiServer()
				if seen[u] {
					c.fail(quote(u)+" stands here twice", "keep one of the two")
				}
				if seen[u] = u != ""; u != "" {
					cp.Endpoints = append(cp.Endpoints, u)
				}
			})
		},
	})
	if ok && c.v.get("kubeconfig") == nil {
		if c.v.get("endpoints") == nil {
			c.fail("says nothing", "add kubeconfig: {path: …}, or leave controlPlane out")
		} else {
			cursor{c.d, c.v, child(c.path, "kubeconfig")}.fail("is missing", "add kubeconfig: {path: …}: its credentials are used at each endpoint")
		}
	}
	return cp
}

// apiServer reads the URL of an API server.
func (c cursor) apiServer() string {
	s := c.text()
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" || !goodPort(u.Port()) {
		c.fail(quote(s)+" is no API server", "write https://, its address and port, such as https://10.0.0.1:6443")
		return ""
	}
	return s
}

// goodPort reports whether a URL's port, if it has one, can be connected to.
func goodPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return s == "" || err == nil && n > 0
}

// country reads an ISO 3166-1 alpha-2 code.
func (c cursor) country() string {
	s := c.text()
	if s == "" {
		return ""
	}
	upper := strings.ToUpper(s)
	if _, found := continentOf(upper); found && upper == s {
		return s
	}
	remedy := "write an ISO 3166-1 code of two capitals, such as DE"
	if upper == "UK" {
		upper = "GB"
	}
	if _, found := continentOf(upper); found {
		remedy = "write " + upper
	}
	c.fail(quote(s)+" is no country", remedy)
	return ""
}

// hostOf returns the host of a URL, "" for an address or none.
func hostOf(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return nameOnly(u.Hostname())
}

// nameOnly returns a host unless it is an address.
func nameOnly(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	name, wrong := parseHost(host)
	if wrong != "" {
		return ""
	}
	return name
}
