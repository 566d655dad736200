package spec

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const (
	maxBodyMatch   = 1024
	maxPath        = 2048
	maxHeaders     = 16
	maxHeaderValue = 4 << 10
)

func readHTTP(c cursor) *HTTPProbe {
	h := &HTTPProbe{Scheme: "http", Method: "GET", Path: "/", Statuses: []int{200}}
	known := fields{
		"scheme":      func(c cursor) { h.Scheme = c.choice("http", "https") },
		"version":     func(c cursor) { h.Version = readHTTPVersion(c) },
		"port":        func(c cursor) { h.Port = c.port() },
		"method":      func(c cursor) { h.Method = c.choice("GET", "HEAD", "OPTIONS", "POST", "PUT") },
		"path":        func(c cursor) { h.Path = readPath(c) },
		"host":        func(c cursor) { h.Host = readProbeHost(c) },
		"headers":     func(c cursor) { h.Headers = readHeaders(c) },
		"requestBody": func(c cursor) { h.RequestBody = c.short(maxSend, "send less") },
		"statuses":    func(c cursor) { h.Statuses = readStatuses(c) },
		"body":        func(c cursor) { h.Body = c.short(maxBodyMatch, "look for a shorter part") },
		"bodyRegexp":  func(c cursor) { h.BodyRegexp = c.regexp() },
	}
	maps.Copy(known, h.fields())
	if !c.object(known) {
		return h
	}
	c.portMissing()
	c.either("body", "bodyRegexp")
	h.check(c, h.Scheme == "https", "write scheme: https")
	fail := func(key, message, remedy string) {
		cursor{c.d, c.v.get(key), child(c.path, key)}.failAt(c.v.lineOf(key), message, remedy)
	}
	for key, wanted := range map[string]string{"body": h.Body, "bodyRegexp": h.BodyRegexp} {
		if h.Method == "HEAD" && wanted != "" {
			fail(key, "is looked for in the answer to HEAD, which has none", "use method: GET")
		}
	}
	if h.RequestBody != "" && h.Method != "POST" && h.Method != "PUT" {
		fail("requestBody", "is sent with POST and PUT only, and this is "+h.Method, "write method: POST, or leave it out")
	}
	if h.Version == "auto" && h.Scheme == "http" {
		fail("version", "is negotiated over TLS only", "write 1.1, or 2 for a server that speaks nothing else on this port")
	}
	return h
}

// readHTTPVersion takes a number too: nobody puts 1.1 in quotes. "" is 1.1, which
// costs least, and was all there was.
func readHTTPVersion(c cursor) string {
	switch {
	case c.v.kind == kindBroken:
	case c.v.text == "1.1":
	case (c.v.kind == kindInt || c.v.kind == kindFloat || c.v.kind == kindString) && c.v.text == "2", c.v.kind == kindString && c.v.text == "auto":
		return c.v.text
	default:
		c.fail(c.v.shown()+" is no version of HTTP that probes speak", "write 1.1, 2 or auto")
	}
	return ""
}

// readStatuses reads numbers and ranges such as 200-299.
func readStatuses(c cursor) []int {
	var statuses []int
	c.nonEmpty(func(c cursor) {
		first, last, found := strings.Cut(c.v.string(), "-")
		if !found {
			statuses = append(statuses, int(c.integer(100, 599)))
			return
		}
		from, err := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err != nil || err2 != nil || from < 100 || to > 599 || from > to {
			c.fail(quote(c.v.text)+" is no range of statuses", "write one such as 200-299")
			return
		}
		for s := from; s <= to; s++ {
			statuses = append(statuses, s)
		}
	})
	slices.Sort(statuses)
	return slices.Compact(statuses)
}

// readHeaders reads the fields of a request, but those that frame it, or that have a
// key of their own.
func readHeaders(c cursor) []Header {
	if !c.is(kindMap, "a mapping of names to values") {
		return nil
	}
	if len(c.v.entries) > maxHeaders {
		c.fail(fmt.Sprintf("has %d headers, more than %d", len(c.v.entries), maxHeaders), "send fewer")
		return nil
	}
	var headers []Header
	for _, e := range c.v.entries {
		at := cursor{c.d, e.value, child(c.path, e.key)}
		name := http.CanonicalHeaderKey(e.key)
		value, ok := at.headerValue()
		switch {
		case !ok:
		case !isToken(e.key):
			at.failAt(e.line, "is no name of a header", "write letters, digits and hyphens")
		case name == "Host":
			at.failAt(e.line, "has a key of its own", "write host: beside headers:")
		case framed(name):
			at.failAt(e.line, "says how the request is framed, which is the prober's own matter", "leave it out")
		case slices.ContainsFunc(headers, func(h Header) bool { return h.Name == name }):
			at.failAt(e.line, "stands here twice", "keep one of the two")
		default:
			headers = append(headers, Header{Name: name, Value: value})
		}
	}
	slices.SortFunc(headers, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	return headers
}

// headerValue reads printable text: a line break would let it write headers, or a
// second request, of its own (RFC 9110 section 5.5). A wrong one is not quoted: it may be a
// token, and what is said of a spec stands in logs and in the output of pipelines.
func (c cursor) headerValue() (string, bool) {
	if !c.is(kindString, "text") {
		return "", false
	}
	s := c.v.text
	if len(s) > maxHeaderValue || s != strings.Trim(s, " \t") || strings.ContainsFunc(s, func(r rune) bool { return r != '\t' && (r < ' ' || r > '~') }) {
		c.fail("is no value of a header", "write printable ASCII on one line, at most 4096 octets")
		return "", false
	}
	return s, true
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	return s != "" && len(s) <= 256 && isPrintable(s) && !strings.ContainsAny(s, "\"(),/:;<=>?@[\\]{}")
}

func framed(name string) bool {
	switch name {
	case "Connection", "Content-Length", "Expect", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Accept-Encoding":
		return true
	}
	return false
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

func (h *HTTPProbe) port() uint16 { return h.Port }

func (h *HTTPProbe) String() string {
	s := fmt.Sprintf("%s :%d%s", h.Scheme, h.Port, h.Path)
	if h.Method != "GET" && h.Method != "" {
		s += " " + h.Method
	}
	if h.Version != "" {
		s += " HTTP/" + h.Version
	}
	return s
}

// Definition is the canonical text of what is asked.
func (h *HTTPProbe) Definition() string {
	statuses := slices.Clone(h.Statuses)
	slices.Sort(statuses)
	words := make([]string, 0, len(statuses))
	for _, s := range slices.Compact(statuses) {
		words = append(words, strconv.Itoa(s))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s port=%d method=%s host=%q path=%q statuses=%s body=%q",
		h.Scheme, h.Port, h.Method, h.Host, h.Path, strings.Join(words, ","), h.Body)
	if h.Version != "" {
		b.WriteString(" version=" + h.Version)
	}
	for _, f := range h.Headers {
		fmt.Fprintf(&b, " header=%q", f.Name+": "+f.Value)
	}
	if h.BodyRegexp != "" {
		fmt.Fprintf(&b, " bodyRegexp=%q", h.BodyRegexp)
	}
	if h.RequestBody != "" {
		fmt.Fprintf(&b, " requestBody=%q", h.RequestBody)
	}
	if h.Scheme == "https" {
		h.define(&b)
	}
	return b.String()
}
