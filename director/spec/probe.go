package spec

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	defaultInterval = time.Second
	defaultTimeout  = time.Second
	defaultFast     = 100 * time.Millisecond

	leastInterval = 100 * time.Millisecond
	mostInterval  = 10 * time.Minute
	leastTimeout  = 10 * time.Millisecond
	leastFast     = 20 * time.Millisecond
	mostFast      = 10 * time.Second

	maxBodyMatch = 1024
	maxPath      = 2048
)

func readProbe(c cursor) Probe {
	p := Probe{Interval: defaultInterval, Timeout: defaultTimeout, Fast: defaultFast}
	kinds := []string{"http", "tcp"}
	known := fields{
		"http":     func(c cursor) { p.HTTP = readHTTP(c) },
		"tcp":      func(c cursor) { p.TCP = readTCP(c) },
		"interval": func(c cursor) { p.Interval = c.duration(leastInterval, mostInterval) },
		"timeout":  func(c cursor) { p.Timeout = c.duration(leastTimeout, mostInterval) },
		"fast":     func(c cursor) { p.Fast = readFast(c) },
	}
	for _, k := range []string{"tls", "grpc", "dns", "icmp", "kube", "readiness", "prometheus", "exec"} {
		known[k] = nil
		kinds = append(kinds, k)
	}
	if !c.object(known) {
		return p
	}
	given := slices.DeleteFunc(kinds, func(k string) bool { return c.v.get(k) == nil })
	switch len(given) {
	case 0:
		c.fail("asks nothing", "add http: {port: …} or tcp: {port: …}")
	case 1:
	default:
		c.fail("is "+strings.Join(given, " and ")+" at once", "make each a probe of its own")
	}
	if c.v.get("timeout") == nil {
		p.Timeout = min(p.Timeout, p.Interval)
	}
	if p.Timeout > p.Interval {
		at := cursor{c.d, c.v, child(c.path, "timeout")}
		at.failAt(c.v.lineOf("timeout"), FormatDuration(p.Timeout)+" is longer than the interval of "+FormatDuration(p.Interval),
			"write at most "+FormatDuration(p.Interval)+", or a longer interval")
	}
	return p
}

func readFast(c cursor) time.Duration {
	d := c.duration(0, mostFast)
	if d > 0 && d < leastFast {
		c.fail(c.v.shown()+" is out of range", "write "+FormatDuration(leastFast)+" to "+FormatDuration(mostFast)+", or 0 to turn it off")
	}
	return d
}

func (c cursor) port() uint16 {
	return uint16(c.integer(1, 65535))
}

func (c cursor) portMissing() {
	if c.v.get("port") == nil {
		cursor{c.d, c.v, child(c.path, "port")}.fail("is missing: a probe without a port asks nobody", "add one, such as port: 443")
	}
}

func readTCP(c cursor) *TCPProbe {
	t := &TCPProbe{}
	if c.object(fields{
		"port":   func(c cursor) { t.Port = c.port() },
		"send":   nil,
		"expect": nil,
	}) {
		c.portMissing()
	}
	return t
}

func readHTTP(c cursor) *HTTPProbe {
	h := &HTTPProbe{Scheme: "http", Method: "GET", Path: "/", Statuses: []int{200}}
	if !c.object(fields{
		"scheme": func(c cursor) { h.Scheme = c.choice("http", "https") },
		"port":   func(c cursor) { h.Port = c.port() },
		"method": func(c cursor) { h.Method = c.choice("GET", "HEAD") },
		"path":   func(c cursor) { h.Path = readPath(c) },
		"host":   func(c cursor) { h.Host = readProbeHost(c) },
		"statuses": func(c cursor) {
			h.Statuses = nil
			c.nonEmpty(func(c cursor) { h.Statuses = append(h.Statuses, int(c.integer(100, 599))) })
			slices.Sort(h.Statuses)
			h.Statuses = slices.Compact(h.Statuses)
		},
		"body": func(c cursor) {
			if h.Body = c.text(); len(h.Body) > maxBodyMatch {
				c.fail("is longer than 1024 octets", "look for a shorter part")
			}
		},
		"headers":     nil,
		"sni":         nil,
		"bodyRegexp":  nil,
		"certificate": nil,
		"insecure":    nil,
	}) {
		return h
	}
	c.portMissing()
	if h.Method == "HEAD" && h.Body != "" {
		cursor{c.d, c.v.get("body"), child(c.path, "body")}.fail("is looked for in the answer to HEAD, which has none", "use method: GET")
	}
	return h
}

func (c cursor) choice(words ...string) string {
	if !c.is(kindString, strings.Join(words, " or ")) {
		return words[0]
	}
	if !slices.Contains(words, c.v.text) {
		c.fail(quote(c.v.text)+" is none of "+strings.Join(words, ", "), "write one of them")
		return words[0]
	}
	return c.v.text
}

func readPath(c cursor) string {
	s := c.text()
	if s != "" && (s[0] != '/' || len(s) > maxPath || !isPrintable(s) || strings.Contains(s, "#")) {
		c.fail(quote(s)+" is no path", "write one such as /healthz, percent-encoded")
		return "/"
	}
	return s
}

// readProbeHost reads what goes into the Host header and SNI; it is never
// resolved, so it may lie in a zone of the fleet.
func readProbeHost(c cursor) string {
	if c.v.kind == kindString {
		if a, err := netip.ParseAddr(c.v.text); err == nil && a.Zone() == "" {
			return a.String()
		}
	}
	return c.host()
}
