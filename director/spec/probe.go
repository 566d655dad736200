package spec

import (
	"maps"
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
)

// asked is what each kind of probe tells of itself.
type asked interface {
	port() uint16 // 0: the address as a whole
	Definition() string
	String() string
}

// kinds are the keys of which a probe has exactly one.
func (p *Probe) kinds() fields {
	return fields{
		"http":       func(c cursor) { p.HTTP = readHTTP(c) },
		"tcp":        func(c cursor) { p.TCP = readTCP(c) },
		"tls":        func(c cursor) { p.TLS = readTLS(c) },
		"grpc":       func(c cursor) { p.GRPC = readGRPC(c) },
		"dns":        func(c cursor) { p.DNS = readDNS(c) },
		"icmp":       func(c cursor) { p.ICMP = readICMP(c) },
		"exec":       func(c cursor) { p.Exec = readExec(c) },
		"kube":       func(c cursor) { p.Kube = readKube(c) },
		"readiness":  func(c cursor) { p.Readiness = readReadiness(c) },
		"prometheus": func(c cursor) { p.Prometheus = readPrometheus(c) },
	}
}

// asked is the kind that a probe is of, nil for none.
func (p *Probe) asked() asked {
	switch {
	case p.HTTP != nil:
		return p.HTTP
	case p.TCP != nil:
		return p.TCP
	case p.TLS != nil:
		return p.TLS
	case p.GRPC != nil:
		return p.GRPC
	case p.DNS != nil:
		return p.DNS
	case p.ICMP != nil:
		return p.ICMP
	case p.Exec != nil:
		return p.Exec
	case p.Readiness != nil:
		return p.Readiness
	case p.Kube != nil:
		return p.Kube
	case p.Prometheus != nil:
		return p.Prometheus
	default:
		return nil
	}
}

// host is where a kind keeps the name that the sites answer to, nil for one that
// needs none, and under which key it is written.
func (p *Probe) host() (kind, key string, name *string) {
	switch {
	case p.HTTP != nil:
		return "http", "host", &p.HTTP.Host
	case p.GRPC != nil:
		return "grpc", "host", &p.GRPC.Host
	case p.TLS != nil:
		return "tls", "sni", &p.TLS.SNI
	case p.DNS != nil && p.DNS.Transport == "tls":
		return "dns", "sni", &p.DNS.SNI
	default:
		return "", "", nil
	}
}

// Port is the port that the probe and its fast signal ask.
func (p *Probe) Port() uint16 {
	if k := p.asked(); k != nil {
		return k.port()
	}
	return 0
}

// Definition is the canonical text of what is asked, without how often: two
// probes with equal definitions are one check. Votes, certificates and the waits
// of S10 go by it, so what an older version wrote for a probe must stay what it is:
// an option that is not given adds nothing.
func (p *Probe) Definition() string {
	if k := p.asked(); k != nil {
		return k.Definition()
	}
	return unknown
}

// abridged takes out the middle of what is long, for people: two such texts of one service
// are told apart by their beginning or by their end.
func abridged(s string) string {
	const head, tail = 40, 20
	if len(s) <= head+tail {
		return s
	}
	return strings.ToValidUTF8(s[:head], "") + "…" + strings.ToValidUTF8(s[len(s)-tail:], "")
}

// String names a probe for people: "http :8080/healthz".
func (p *Probe) String() string {
	if k := p.asked(); k != nil {
		return k.String()
	}
	return unknown
}

func readProbe(c cursor) Probe {
	p := Probe{Interval: defaultInterval, Timeout: defaultTimeout, Fast: defaultFast}
	kinds := p.kinds()
	known := fields{
		"interval": func(c cursor) { p.Interval = c.duration(leastInterval, mostInterval) },
		"timeout":  func(c cursor) { p.Timeout = c.duration(leastTimeout, mostInterval) },
		"fast":     func(c cursor) { p.Fast = readFast(c) },
		"weight":   func(c cursor) { p.Weight = c.integer(1, maxWeight) },
	}
	maps.Copy(known, kinds)
	if !c.object(known) {
		return p
	}
	given := slices.DeleteFunc(slices.Sorted(maps.Keys(kinds)), func(k string) bool { return c.v.get(k) == nil })
	switch len(given) {
	case 0:
		c.fail("asks nothing", "add http: {port: …} or tcp: {port: …}")
	case 1:
	default:
		c.fail("is "+strings.Join(given, " and ")+" at once", "make each a probe of its own")
	}
	if p.Soft() {
		p.soften(c)
	} else {
		p.readSignal(c)
	}
	if p.Exec != nil && p.Interval < leastExec {
		at := cursor{c.d, c.v, child(c.path, "interval")}
		at.failAt(c.v.lineOf("interval"), FormatDuration(p.Interval)+" is too often for a program", "write at least "+FormatDuration(leastExec))
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

// later tells whether the probe asks what only ReaderProbes of package plan knows: an
// older director would pass over the option, and ask something else.
func (p *Probe) later() bool {
	switch h := p.HTTP; {
	case h != nil:
		usual := Secure{}
		if h.Scheme == "https" {
			usual.Warn = defaultWarn
		}
		return h.Version != "" || len(h.Headers) > 0 || h.BodyRegexp != "" || h.RequestBody != "" || h.Secure != usual ||
			h.Method != "GET" && h.Method != "HEAD"
	case p.TCP != nil:
		return *p.TCP != TCPProbe{Port: p.TCP.Port}
	}
	return p.asked() != nil
}

// connects tells whether the probe goes to its port by TCP, so that a fast signal can
// stand beside it.
func (p *Probe) connects() bool {
	return p.ICMP == nil && p.Exec == nil && (p.DNS == nil || p.DNS.Transport != "udp")
}

// readSignal turns the fast signal off where there is nothing to connect to.
func (p *Probe) readSignal(c cursor) {
	if p.connects() {
		return
	}
	if p.Fast > 0 && c.v.get("fast") != nil {
		at := cursor{c.d, c.v, child(c.path, "fast")}
		at.failAt(c.v.lineOf("fast"), "is a TCP connect, and this probe makes none", "leave it out")
	}
	p.Fast = 0
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
