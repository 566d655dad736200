package spec

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const (
	maxBodyMatch = 1024
	maxPath      = 2048
)

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

func (h *HTTPProbe) String() string { return fmt.Sprintf("%s :%d%s", h.Scheme, h.Port, h.Path) }

// Definition is the canonical text of what is asked.
func (h *HTTPProbe) Definition() string {
	statuses := slices.Clone(h.Statuses)
	slices.Sort(statuses)
	words := make([]string, 0, len(statuses))
	for _, s := range slices.Compact(statuses) {
		words = append(words, strconv.Itoa(s))
	}
	return fmt.Sprintf("%s port=%d method=%s host=%q path=%q statuses=%s body=%q",
		h.Scheme, h.Port, h.Method, h.Host, h.Path, strings.Join(words, ","), h.Body)
}
