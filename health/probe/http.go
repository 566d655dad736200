package probe

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// http makes a request for a page ready.
func (r *request) http(h HTTP, s *Scheduler) (err error) {
	method, path, host := h.Method, h.Path, h.Host
	if method == "" {
		method = http.MethodGet
	}
	if path == "" {
		path = "/"
	}
	if host == "" {
		host = h.Addr.String()
	}
	if err := r.httpKind(h, host, s); err != nil {
		return err
	}
	// A line break or a blank in any of these would let a spec's author write
	// headers, or a second request, of their own.
	for _, part := range []struct{ name, text string }{{"method", method}, {"path", path}, {"host", host}} {
		if part.text == "" || strings.ContainsFunc(part.text, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
			return fmt.Errorf("%s %q of the probe cannot be sent", part.name, part.text)
		}
	}
	if path[0] != '/' && path != "*" {
		return fmt.Errorf("path %q of the probe does not begin with /", path)
	}
	fields, err := headers(h.Headers)
	if err != nil {
		return err
	}
	r.head = method == http.MethodHead
	r.body = h.Body
	if r.pattern, err = s.shared.pattern(h.BodyRegexp); err != nil {
		return err
	}
	if r.statuses = h.Statuses; len(r.statuses) == 0 {
		r.statuses = []int{http.StatusOK}
	}
	if r.h2 != h2Never {
		if r.page, err = h2Request(r.tls != nil, method, host, path, fields); err != nil {
			return err
		}
		r.content = h.RequestBody
	}
	length := ""
	if method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch {
		length = fmt.Sprintf("Content-Length: %d\r\n", len(h.RequestBody))
	}
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	// What is not safe to ask twice goes over a connection of its own (RFC 9110 section 9.2.2).
	if r.shareable = method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions; !r.shareable {
		length += "Connection: close\r\n"
	}
	r.send = fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\n%s%s\r\n%s", method, path, host, b.String(), length, h.RequestBody)
	return nil
}

func (r *request) httpKind(h HTTP, host string, s *Scheduler) error {
	var protocols []string
	switch h.Version {
	case "", "1.1":
		protocols = []string{"http/1.1"}
	case "2":
		r.h2, protocols = h2Only, []string{"h2"}
	case "auto":
		r.h2, protocols = h2Maybe, []string{"h2", "http/1.1"}
	default:
		return fmt.Errorf("version %q is none of 1.1, 2 and auto", h.Version)
	}
	switch h.Scheme {
	case "http":
		r.kind = kindHTTP
		if r.h2 == h2Maybe {
			r.h2 = h2Never // there is nothing to negotiate it by
		}
		return nil
	case "https":
		r.kind = kindHTTPS
		return r.secure(h.Secure, host, protocols, s)
	default:
		return fmt.Errorf("scheme %q is neither http nor https", h.Scheme)
	}
}

// headers gives the fields to send: those of the probe, and ours where it has none
// of the name. What frames a request is not the probe's to say.
func headers(given []Header) ([]Header, error) {
	out := []Header{{"User-Agent", "divert-probe"}, {"Accept", "*/*"}}
	for _, f := range given {
		name := http.CanonicalHeaderKey(f.Name)
		switch name {
		case "Host", "Connection", "Content-Length", "Transfer-Encoding", "Te", "Trailer", "Upgrade", "Keep-Alive", "Proxy-Connection", "Expect":
			return nil, fmt.Errorf("header %s of the probe is not its own to send", name)
		case "":
			return nil, fmt.Errorf("header without a name in the probe")
		}
		if strings.ContainsFunc(f.Name, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", c) }) ||
			strings.ContainsFunc(f.Value, func(c rune) bool { return c < ' ' && c != '\t' || c >= 0x7f }) {
			return nil, fmt.Errorf("header %q of the probe cannot be sent", f.Name)
		}
		f.Name = name
		switch name {
		case out[0].Name:
			out[0] = f
		case out[1].Name:
			out[1] = f
		default:
			out = append(out, f)
		}
	}
	return out, nil
}

// h2Request makes the request that http2 sends.
func h2Request(secure bool, method, host, path string, fields []Header) (*http.Request, error) {
	u, err := url.ParseRequestURI(path)
	if err != nil && path != "*" {
		return nil, fmt.Errorf("path %q of the probe cannot be sent", path)
	}
	if path == "*" {
		u = &url.URL{Path: "*"}
	}
	u.Scheme, u.Host = "http", host
	if secure {
		u.Scheme = "https"
	}
	page := &http.Request{Method: method, URL: u, Host: host, Header: make(http.Header, len(fields))}
	for _, f := range fields {
		page.Header[f.Name] = append(page.Header[f.Name], f.Value)
	}
	return page, nil
}

func serverName(sni, host string) string {
	if sni != "" {
		return sni
	}
	if ap, err := netip.ParseAddrPort(host); err == nil {
		return ap.Addr().String()
	}
	if name, port, ok := strings.Cut(host, ":"); ok && !strings.Contains(port, ":") {
		return name
	}
	return strings.Trim(host, "[]")
}
