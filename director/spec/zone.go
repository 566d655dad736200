package spec

import (
	"slices"
	"strings"
	"time"
)

const (
	defaultRefresh = time.Hour
	defaultRetry   = 10 * time.Minute
	defaultExpire  = 24 * time.Hour
	defaultMinimum = 5 * time.Second

	maxSOA = 1<<31*time.Second - time.Second // RFC 2181 section 8
)

func (o *object) readZone(c cursor) {
	z := &Zone{Name: o.raw.Name, SOA: SOA{defaultRefresh, defaultRetry, defaultExpire, defaultMinimum}}
	o.zone = z
	if !c.object(fields{
		"nameservers": func(c cursor) {
			c.nonEmpty(func(c cursor) {
				host := c.host()
				switch {
				case host == "":
				case slices.Contains(z.Nameservers, host):
					c.fail(quote(host)+" stands here twice", "keep one of the two")
				default:
					z.Nameservers = append(z.Nameservers, host)
				}
			})
		},
		"hostmaster": func(c cursor) { z.Hostmaster = c.mailbox() },
		"soa":        func(c cursor) { z.SOA = readSOA(c) },
		"records": func(c cursor) {
			if c.is(kindString, "zone-file text") {
				z.Records, o.records = c.v.text, c.v
			}
		},
		"file":     func(c cursor) { z.File = c.text() },
		"dnssec":   nil,
		"transfer": nil,
		"notify":   nil,
	}) {
		return
	}
	if c.d.strict && z.File != "" && o.records != nil && !o.inlined {
		cursor{c.d, c.v.get("file"), child(c.path, "file")}.fail("stands beside records", "keep one of the two")
	}
	if len(z.Records) > maxZoneText {
		c.fail("has more records than one zone may have", "split the zone")
	}
	// Else nobody knows what they bring, or whose they are.
	if (c.v.get("records") == nil || o.records != nil) && z.Name != "" {
		o.readZoneText(c)
	}
}

func readSOA(c cursor) SOA {
	s := SOA{defaultRefresh, defaultRetry, defaultExpire, defaultMinimum}
	timer := func(to *time.Duration, least time.Duration) func(cursor) {
		return func(c cursor) { *to = c.seconds(least, maxSOA) }
	}
	c.object(fields{
		"refresh": timer(&s.Refresh, time.Second),
		"retry":   timer(&s.Retry, time.Second),
		"expire":  timer(&s.Expire, time.Second),
		"minimum": timer(&s.Minimum, 0),
	})
	return s
}

// seconds reads a duration that the wire counts in seconds.
func (c cursor) seconds(least, most time.Duration) time.Duration {
	d := c.duration(least, most)
	if d%time.Second != 0 {
		c.fail(c.v.shown()+" is no whole number of seconds", "write "+FormatDuration(max(least, d.Round(time.Second))))
		return least
	}
	return d
}

// mailbox reads dns-admin@example.org.
func (c cursor) mailbox() string {
	s := c.text()
	if s == "" {
		return ""
	}
	at := strings.LastIndexByte(s, '@')
	if at > 0 && at <= 63 && !strings.ContainsAny(s[:at], " \t\r\n@\"\\") && isPrintable(s[:at]) {
		if _, wrong := parseHost(s[at+1:]); wrong == "" {
			return s
		}
	}
	c.fail(quote(s)+" is no mail address", "write one such as dns-admin@example.org")
	return ""
}

func isPrintable(s string) bool {
	for _, b := range []byte(s) {
		if b < 0x21 || b > 0x7e {
			return false
		}
	}
	return true
}

// readZoneText checks what can be told without reading each record: the SOA
// and apex NS are either the zone's own or made from its fields, never both.
func (o *object) readZoneText(c cursor) {
	z := o.zone
	text := scanZone(z.Name, z.Records)
	o.text = text
	z.OwnApex = text.soa > 0 && text.ns > 0
	if text.soa > 0 || text.ns > 0 {
		if text.soa == 0 || text.ns == 0 {
			line, has, lacks := text.ns, "NS", "SOA"
			if text.soa > 0 {
				line, has, lacks = text.soa, "SOA", "NS"
			}
			o.zoneProblem(c.d, Problem{
				Line: line, Message: "the records bring their own apex " + has + " but no " + lacks,
				Remedy: "bring both, or neither and give spec.nameservers",
			})
		}
		for _, key := range []string{"nameservers", "hostmaster", "soa"} {
			if v := c.v.get(key); v != nil {
				cursor{c.d, v, child(c.path, key)}.fail("stands beside records that bring their own SOA and apex NS", "leave it out, or take SOA and apex NS out of the records")
			}
		}
		return
	}
	if c.v.get("nameservers") == nil {
		cursor{c.d, c.v, child(c.path, "nameservers")}.fail("is missing", "name at least one, or bring SOA and apex NS in the records")
	}
	if z.Hostmaster == "" {
		z.Hostmaster = "hostmaster@" + z.Name
	}
}

// zoneProblem reports a problem of a line of the zone's text, where that line
// was written.
func (o *object) zoneProblem(d *decoder, p Problem) {
	d.problems = append(d.problems, o.placed(p))
}

// placed gives a problem of the zone's text its file, line and path.
func (o *object) placed(p Problem) Problem {
	p.Path = join(o.id(), "spec.records")
	switch {
	case o.zoneFile != "":
		p.File = o.zoneFile
	case o.records != nil && o.records.literal && o.records.line > 0 && p.Line > 0:
		p.File, p.Line = o.file, o.records.line+p.Line
	case o.records != nil && o.records.line > 0:
		if p.Line > 0 {
			p.Message = "line " + decimal(p.Line) + " of the records: " + p.Message
		}
		p.File, p.Line = o.file, o.records.line
	default:
		if p.Line > 0 {
			p.Message = "line " + decimal(p.Line) + " of the records: " + p.Message
		}
		p.File, p.Line = o.file, o.root.lineOf("spec.records")
	}
	return p
}
