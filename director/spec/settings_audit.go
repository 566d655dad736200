package spec

import (
	"net"
	"net/netip"
	"strings"
)

// auditLog reads where audit records are sent, beside being sealed.
func (r *settingsReader) auditLog(c cursor) {
	s := &r.s.Audit.Syslog
	c.object(fields{
		"syslog": func(c cursor) {
			if !c.object(fields{
				"address": func(c cursor) { s.Address = r.syslogAddress(c) },
				"format": func(c cursor) {
					switch text := c.text(); text {
					case "", "json", "cef":
						s.Format = text
					default:
						c.fail(quote(text)+" is no format", "write json or cef")
					}
				},
				"ca": func(c cursor) { s.CA = r.path(c) },
			}, "address") {
				return
			}
			if s.CA != "" && s.Address != "" && !strings.HasPrefix(s.Address, "tls://") {
				cursor{c.d, c.v.get("ca"), child(c.path, "ca")}.fail("stands beside an address without TLS", "write tls:// there, or leave ca out")
			}
		},
	}, "syslog")
}

// syslogAddress reads the transport, host and port of a syslog server.
func (r *settingsReader) syslogAddress(c cursor) string {
	text := c.text()
	if text == "" {
		return ""
	}
	scheme, at, found := strings.Cut(text, "://")
	ports := map[string]string{"udp": "514", "tcp": "601", "tls": "6514"}
	if !found || ports[scheme] == "" {
		c.fail(quote(text)+" is no syslog server", "write one such as tls://siem.example.net:6514, tcp://… or udp://…")
		return ""
	}
	host, port, ok := splitHostPort(at, ports[scheme])
	if a, err := netip.ParseAddr(host); err == nil {
		ok = ok && !a.IsUnspecified() && !a.IsMulticast()
		host = a.String()
	} else if name, wrong := parseHost(host); wrong != "" {
		ok = false
	} else {
		host = name
	}
	if !ok || port == "0" {
		c.fail(quote(text)+" is no syslog server", "write one such as tls://siem.example.net:6514, tcp://… or udp://…")
		return ""
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
