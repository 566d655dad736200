package spec

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

const maxAnswersWanted = 16

// dnsTypes are what a DNS probe may ask for: what servers are run for. Each says how
// an answer of it is written, where answers can be wanted.
func dnsTypes() map[string]func(cursor) string {
	name := func(c cursor) string { return c.host() }
	return map[string]func(cursor) string{
		"A":     func(c cursor) string { return c.addressOf("IPv4", netip.Addr.Is4) },
		"AAAA":  func(c cursor) string { return c.addressOf("IPv6", netip.Addr.Is6) },
		"CNAME": name, "NS": name, "PTR": name,
		"TXT": func(c cursor) string { return c.short(1024, "look at another record") },
		"MX":  nil, "SOA": nil, "SRV": nil, "CAA": nil, "HTTPS": nil, "SVCB": nil, "DS": nil, "DNSKEY": nil,
	}
}

func dnsRcodes() []string {
	return []string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "NOTAUTH"}
}

func (c cursor) addressOf(family string, has func(netip.Addr) bool) string {
	a, ok := c.address()
	if !ok {
		return ""
	}
	if !has(a) {
		c.fail(a.String()+" is no "+family+" address", "ask for the other type, or take it out")
		return ""
	}
	return a.String()
}

func readDNS(c cursor) *DNSProbe {
	d := &DNSProbe{Transport: "udp", Type: "A", Rcodes: []string{"NOERROR"}}
	known := fields{
		"port":      func(c cursor) { d.Port = c.port() },
		"transport": func(c cursor) { d.Transport = c.choice("udp", "tcp", "tls") },
		"name":      func(c cursor) { d.Name = readQuestion(c) },
		"type":      func(c cursor) { d.Type = c.choice(slices.Sorted(maps.Keys(dnsTypes()))...) },
		"rcodes": func(c cursor) {
			d.Rcodes = nil
			c.nonEmpty(func(c cursor) { d.Rcodes = append(d.Rcodes, c.choice(dnsRcodes()...)) })
			slices.Sort(d.Rcodes)
			d.Rcodes = slices.Compact(d.Rcodes)
		},
		"answers": func(cursor) {}, // by the type, which may stand behind
	}
	maps.Copy(known, d.fields())
	if !c.object(known, "name") {
		return d
	}
	c.portMissing()
	d.check(c, d.Transport == "tls", "write transport: tls")
	if v := c.v.get("answers"); v != nil && v.kind != kindNull && v.kind != kindBroken {
		answers := cursor{c.d, v, child(c.path, "answers")}
		d.readAnswers(answers)
		if len(d.Rcodes) > 0 && !slices.Contains(d.Rcodes, "NOERROR") {
			answers.fail("come with NOERROR only, which is not among the rcodes", "add it to rcodes, or leave answers out")
		}
	}
	return d
}

func (d *DNSProbe) readAnswers(c cursor) {
	read := dnsTypes()[d.Type]
	if read == nil {
		c.fail("cannot be wanted of type "+d.Type, "leave it out: an answer with the rcode wanted will do")
		return
	}
	c.nonEmpty(func(c cursor) {
		if len(d.Answers) == maxAnswersWanted {
			c.fail(fmt.Sprintf("is one more than %d", maxAnswersWanted), "want fewer")
			return
		}
		d.Answers = c.appendNew(d.Answers, read(c))
	})
	slices.Sort(d.Answers)
}

// readQuestion reads the name asked for: it is sent, never resolved here.
func readQuestion(c cursor) string {
	if c.v.kind == kindString && c.v.text == "." {
		return "."
	}
	return c.host()
}

func (d *DNSProbe) port() uint16 { return d.Port }

// Definition is the canonical text of what is asked.
func (d *DNSProbe) Definition() string {
	var b strings.Builder
	fmt.Fprintf(&b, "dns port=%d transport=%s name=%q type=%s rcodes=%s", d.Port, d.Transport, d.Name, d.Type, strings.Join(d.Rcodes, ","))
	if len(d.Answers) > 0 {
		fmt.Fprintf(&b, " answers=%q", d.Answers)
	}
	if d.Transport == "tls" {
		d.define(&b)
	}
	return b.String()
}

func (d *DNSProbe) String() string {
	return fmt.Sprintf("dns %s :%d %s %s", d.Transport, d.Port, d.Name, d.Type)
}
