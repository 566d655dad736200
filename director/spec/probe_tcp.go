package spec

import (
	"fmt"
	"strings"
)

func readTCP(c cursor) *TCPProbe {
	t := &TCPProbe{}
	if c.object(fields{
		"port":         func(c cursor) { t.Port = c.port() },
		"send":         func(c cursor) { t.Send = c.short(maxSend, "send less") },
		"sendHex":      func(c cursor) { t.Send = c.octets(maxSend) },
		"expect":       func(c cursor) { t.Expect = c.short(maxBodyMatch, "look for a shorter part") },
		"expectHex":    func(c cursor) { t.Expect = c.octets(maxBodyMatch) },
		"expectRegexp": func(c cursor) { t.ExpectRegexp = c.regexp() },
	}) {
		c.portMissing()
		c.either("send", "sendHex")
		c.either("expect", "expectHex", "expectRegexp")
		if t.Send != "" && t.Expect == "" && t.ExpectRegexp == "" && c.v.get("expect") == nil && c.v.get("expectHex") == nil && c.v.get("expectRegexp") == nil {
			c.fail("sends something and expects nothing: it would pass as soon as it is connected", "add expect: or leave send: out")
		}
	}
	return t
}

func (t *TCPProbe) port() uint16 { return t.Port }

// Definition is the canonical text of what is asked.
func (t *TCPProbe) Definition() string {
	var b strings.Builder
	fmt.Fprintf(&b, "tcp port=%d", t.Port)
	for _, o := range []struct{ name, text string }{{"send", t.Send}, {"expect", t.Expect}, {"expectRegexp", t.ExpectRegexp}} {
		if o.text != "" {
			fmt.Fprintf(&b, " %s=%q", o.name, o.text)
		}
	}
	return b.String()
}

func (t *TCPProbe) String() string { return fmt.Sprintf("tcp :%d", t.Port) }
