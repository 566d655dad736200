package spec

import (
	"strconv"
	"strings"
)

const (
	// defaultRateLimit is far above what one network asks of one director, unless
	// somebody forges its address.
	defaultRateLimit = 2000
	maxRateLimit     = 1_000_000
	// maxIdentity is what one character-string of a TXT record holds.
	maxIdentity = 255
)

func (r *settingsReader) dns(c cursor) {
	d := &r.s.DNS
	c.object(fields{
		"listen":   r.dnsListen,
		"identity": func(c cursor) { d.Identity = c.shown() },
		"version":  func(c cursor) { d.Version = c.shown() },
		"queryLog": func(c cursor) {
			c.object(fields{"sample": func(c cursor) { d.QueryLog = c.share() }}, "sample")
		},
		"dnstap": func(c cursor) {
			d.Tap.Sample = 1
			c.object(fields{
				"socket": func(c cursor) { d.Tap.Socket = r.path(c) },
				"sample": func(c cursor) { d.Tap.Sample = c.share() },
			}, "socket")
		},
		"rateLimit": func(c cursor) {
			c.object(fields{
				"perSecond": func(c cursor) { d.RateLimit = int(c.integer(0, maxRateLimit)) },
				"exempt":    func(c cursor) { d.RateExempt = c.prefixes(c.each) },
			})
		},
		"tls":       r.dnsTLS,
		"transfers": r.dnsTransfers,
		"proxyProtocol": func(c cursor) {
			c.object(fields{"allow": func(c cursor) { d.ProxyProtocol = c.prefixes(c.nonEmpty) }}, "allow")
		},
	})
}

// share reads a percentage that need not be whole, as a fraction.
func (c cursor) share() float64 {
	if c.v.kind == kindBroken {
		return 0
	}
	if c.v.kind == kindString {
		digits, found := strings.CutSuffix(c.v.text, "%")
		f, err := strconv.ParseFloat(digits, 64)
		if found && err == nil && f >= 0 && f <= 100 {
			return f / 100
		}
	}
	c.fail("wants a share, not "+c.v.shown(), "write one such as 1%, 0.1% or 100%")
	return 0
}

// shown reads a text that whoever asks is told.
func (c cursor) shown() string {
	s := c.text()
	if len(s) > maxIdentity {
		c.fail("is longer than a DNS text may be", "write 255 octets at most")
		return ""
	}
	return s
}

// dnsListen reads addresses to answer on; none makes a witness.
func (r *settingsReader) dnsListen(c cursor) {
	r.s.DNS.Listen = c.listens(c.each)
}
