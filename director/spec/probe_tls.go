package spec

import (
	"fmt"
	"maps"
	"strings"
)

const maxALPN = 16

func readTLS(c cursor) *TLSProbe {
	t := &TLSProbe{}
	known := fields{
		"port": func(c cursor) { t.Port = c.port() },
		"alpn": func(c cursor) { t.ALPN = readALPN(c) },
	}
	maps.Copy(known, t.fields())
	if c.object(known) {
		c.portMissing()
		t.check(c, true, "")
	}
	return t
}

func readALPN(c cursor) []string {
	var names []string
	c.nonEmpty(func(c cursor) {
		s := c.text()
		switch {
		case s == "":
		case len(s) > 255 || !isPrintable(s):
			c.fail(quote(s)+" is no name of a protocol", "write one such as h2, http/1.1 or imap")
		case len(names) == maxALPN:
			c.fail(fmt.Sprintf("is one more than %d", maxALPN), "offer fewer")
		default:
			names = c.appendNew(names, s)
		}
	})
	return names
}

func (t *TLSProbe) port() uint16 { return t.Port }

// Definition is the canonical text of what is asked. The order of protocols is the
// client's preference, and stays.
func (t *TLSProbe) Definition() string {
	var b strings.Builder
	fmt.Fprintf(&b, "tls port=%d", t.Port)
	if len(t.ALPN) > 0 {
		fmt.Fprintf(&b, " alpn=%q", t.ALPN)
	}
	t.define(&b)
	return b.String()
}

func (t *TLSProbe) String() string { return fmt.Sprintf("tls :%d", t.Port) }

func readGRPC(c cursor) *GRPCProbe {
	g := &GRPCProbe{}
	known := fields{
		"port":      func(c cursor) { g.Port = c.port() },
		"service":   func(c cursor) { g.Service = readGRPCService(c) },
		"plaintext": func(c cursor) { g.Plaintext = c.bool() },
		"host":      func(c cursor) { g.Host = readProbeHost(c) },
	}
	maps.Copy(known, g.fields())
	if c.object(known) {
		c.portMissing()
		g.check(c, !g.Plaintext, "take plaintext: true out")
	}
	return g
}

// readGRPCService reads the full name of a gRPC service, such as shop.v1.Cart.
func readGRPCService(c cursor) string {
	s := c.short(255, "write the full name of the service, such as shop.v1.Cart")
	if !isPrintable(s) {
		c.fail(quote(s)+" is no name of a gRPC service", "write one such as shop.v1.Cart")
		return ""
	}
	return s
}

func (g *GRPCProbe) port() uint16 { return g.Port }

// Definition is the canonical text of what is asked.
func (g *GRPCProbe) Definition() string {
	var b strings.Builder
	fmt.Fprintf(&b, "grpc port=%d host=%q service=%q", g.Port, g.Host, g.Service)
	if g.Plaintext {
		b.WriteString(" plaintext")
		return b.String()
	}
	g.define(&b)
	return b.String()
}

func (g *GRPCProbe) String() string {
	return strings.TrimSpace(fmt.Sprintf("grpc :%d %s", g.Port, g.Service))
}
