package spec

import (
	"net/netip"
	"slices"
	"time"
)

const (
	defaultTTL    = 20 * time.Second
	maxTTL        = 24 * time.Hour
	defaultWeight = 100
	maxWeight     = 1_000_000
	maxAnswers    = 16

	defaultRamp = 30 * time.Second
	leastRamp   = 3 * time.Second
	mostRamp    = time.Hour
)

func (o *object) readService(c cursor) {
	g := &GlobalService{
		Name: o.raw.Name, Environment: defaultEnvironment, TTL: defaultTTL,
		Steering: Steering{Policy: PolicyGeo, Answers: 1, Ramp: defaultRamp}, ResidencyUnknown: ResidencyUnknownIntersect,
		MinHealthy: 1, AllDown: AllDownAlive, Automation: AutomationAct,
	}
	o.service = g
	c.object(fields{
		"hosts":             func(c cursor) { g.Hosts = readHosts(c) },
		"siteNames":         func(c cursor) { g.SiteNames = c.bool() },
		"environment":       func(c cursor) { g.Environment = c.word() },
		"ttl":               func(c cursor) { g.TTL = c.seconds(time.Second, maxTTL) },
		"endpoints":         func(c cursor) { g.Endpoints = readEndpoints(c) },
		"probes":            func(c cursor) { c.each(func(c cursor) { g.Probes = append(g.Probes, readProbe(c)) }) },
		"combine":           func(c cursor) { g.Combine = readCombine(c) },
		"steering":          func(c cursor) { g.Steering = readSteering(c) },
		"pins":              func(c cursor) { g.Pins = readPins(c) },
		"residency":         func(c cursor) { g.Residency = readResidency(c) },
		"residencyUnknown":  func(c cursor) { g.ResidencyUnknown = oneOf(c, nil, ResidencyUnknownIntersect, ResidencyUnknownAllow) },
		"minHealthy":        func(c cursor) { g.MinHealthy = int(c.integer(0, 10_000)) },
		"allDown":           func(c cursor) { g.AllDown = oneOf(c, nil, AllDownAlive, AllDownAll, AllDownFallback) },
		"fallbackAddresses": func(c cursor) { c.nonEmpty(func(c cursor) { g.Fallback = c.appendAddress(g.Fallback) }) },
		"automation":        func(c cursor) { g.Automation = oneOf(c, nil, AutomationAct, AutomationObserve) },
		"alias":             func(c cursor) { g.Alias = c.bool() },
		"load":              nil,
	}, "hosts", "endpoints")
	// A name that stands in an answer for a wildcard has no place in a request.
	for i := range g.Probes {
		if r := g.Probes[i].Readiness; r != nil {
			r.complete(c, i, g.Name)
		}
		kind, key, name := g.Probes[i].host()
		if name == nil || *name != "" {
			continue
		}
		if host := firstPlain(g.Hosts); host != "" {
			*name = host
		} else if len(g.Hosts) > 0 {
			at := cursor{c.d, c.v, child(item(child(c.path, "probes"), i), kind)}
			at.failAt(c.d.lineOf(at), "has no "+key+", and the service has wildcard hosts only", "add "+key+": a name that the sites answer to")
		}
	}
}

// lineOf finds the line of a cursor that was built from a path alone.
func (d *decoder) lineOf(at cursor) int {
	_, rest := cutStep(at.path) // at.v is what "spec" holds
	return at.v.lineOf(rest)
}

func firstPlain(hosts []string) string {
	for _, h := range hosts {
		if h[0] != '*' {
			return h
		}
	}
	return ""
}

func readHosts(c cursor) []string {
	var hosts []string
	c.nonEmpty(func(c cursor) {
		host := c.serviceHost()
		switch {
		case host == "":
		case slices.Contains(hosts, host):
			c.fail(quote(host)+" stands here twice", "keep one of the two")
		default:
			hosts = append(hosts, host)
		}
	})
	return hosts
}

func (c cursor) appendAddress(list []netip.Addr) []netip.Addr {
	a, ok := c.address()
	if !ok {
		return list
	}
	if slices.Contains(list, a) {
		c.fail(a.String()+" stands here twice", "keep one of the two")
		return list
	}
	return append(list, a)
}

func readEndpoints(c cursor) []Endpoint {
	var endpoints []Endpoint
	c.nonEmpty(func(c cursor) {
		e := Endpoint{Weight: defaultWeight}
		ok := c.object(fields{
			"cluster":   func(c cursor) { e.Cluster = c.label() },
			"addresses": func(c cursor) { c.nonEmpty(func(c cursor) { e.Addresses = c.appendAddress(e.Addresses) }) },
			"weight":    func(c cursor) { e.Weight = c.weight() },
			"capacity":  func(c cursor) { e.Capacity, e.Sized = c.capacity(), true },
			"load":      func(c cursor) { e.Load = readLoad(c) },
			"hostname":  func(c cursor) { e.Hostname = c.endpointHostname() },
			"from":      nil,
			"override":  nil,
		}, "cluster")
		if ok && c.v.get("addresses") == nil && c.v.get("hostname") == nil && c.v.get("from") == nil {
			cursor{c.d, c.v, child(c.path, "addresses")}.fail("is missing", "add at least one address, or a hostname")
		}
		if ok && c.v.get("addresses") != nil && c.v.get("hostname") != nil {
			cursor{c.d, c.v.get("hostname"), child(c.path, "hostname")}.fail("stands beside addresses", "keep one of the two: what a hostname resolves to is found out and followed")
			e.Hostname = ""
		}
		endpoints = append(endpoints, e)
	})
	return endpoints
}

func (c cursor) weight() int64 {
	if c.v.kind == kindInt && c.v.text[0] == '-' {
		c.fail(c.v.text+" is negative", "write 0 (absent) or more")
		return defaultWeight
	}
	return c.integer(0, maxWeight)
}

func readPins(c cursor) []Pin {
	var pins []Pin
	c.each(func(c cursor) {
		var p Pin
		ok := c.object(fields{
			"prefix": func(c cursor) {
				p.Prefix, _ = c.prefix()
				if slices.ContainsFunc(pins, func(q Pin) bool { return p.Prefix.IsValid() && q.Prefix == p.Prefix }) {
					c.fail(p.Prefix.String()+" is pinned already", "keep one of the two")
				}
			},
			"cluster": func(c cursor) { p.Cluster = c.label() },
		}, "prefix", "cluster")
		if ok {
			pins = append(pins, p)
		}
	})
	return pins
}

func readResidency(c cursor) []ResidencyRule {
	var rules []ResidencyRule
	c.each(func(c cursor) {
		var r ResidencyRule
		c.object(fields{
			"clients": func(c cursor) { r.Clients = readClients(c) },
			"clusters": func(c cursor) {
				r.Clusters = readLabels(c)
				if c.v.kind == kindMap && len(c.v.entries) == 0 {
					c.fail("selects every cluster", "name a label, such as jurisdiction: eu")
				}
			},
		}, "clients", "clusters")
		rules = append(rules, r)
	})
	return rules
}

func readClients(c cursor) Clients {
	var cl Clients
	ok := c.object(fields{
		"continents": func(c cursor) {
			c.nonEmpty(func(c cursor) { cl.Continents = c.appendNew(cl.Continents, c.continent()) })
		},
		"countries": func(c cursor) {
			c.nonEmpty(func(c cursor) { cl.Countries = c.appendNew(cl.Countries, c.country()) })
		},
		"prefixes": func(c cursor) {
			c.nonEmpty(func(c cursor) {
				p, valid := c.prefix()
				switch {
				case !valid:
				case slices.Contains(cl.Prefixes, p):
					c.fail(p.String()+" stands here twice", "keep one of the two")
				default:
					cl.Prefixes = append(cl.Prefixes, p)
				}
			})
		},
		"subdivisions": nil,
	})
	if ok && len(c.v.entries) == 0 {
		c.fail("names no clients", "add continents, countries or prefixes")
	} else if ok && !c.d.strict && len(cl.Continents)+len(cl.Countries)+len(cl.Prefixes) == 0 {
		// A stored rule whose only keys are unknown here would fence nobody (S11).
		c.fail("names no clients that this Divert knows", "upgrade this director")
	}
	return cl
}

func (c cursor) appendNew(list []string, s string) []string {
	if s == "" {
		return list
	}
	if slices.Contains(list, s) {
		c.fail(quote(s)+" stands here twice", "keep one of the two")
		return list
	}
	return append(list, s)
}

func (c cursor) continent() string {
	s := c.text()
	if s == "" || slices.Contains(continentCodes(), s) {
		return s
	}
	c.fail(quote(s)+" is no continent", "write AF, AN, AS, EU, NA, OC or SA")
	return ""
}

func readSteering(c cursor) Steering {
	s := Steering{Policy: PolicyGeo, Answers: 1, Ramp: defaultRamp}
	c.object(fields{
		"policy":  func(c cursor) { s.Policy = oneOf(c, nil, PolicyGeo, PolicyFailover, PolicyWeighted, PolicyLatency) },
		"order":   func(c cursor) { s.Order = readOrder(c) },
		"regions": func(c cursor) { c.each(func(c cursor) { s.Regions = append(s.Regions, readRegion(c)) }) },
		"answers": func(c cursor) { s.Answers = int(c.integer(1, maxAnswers)) },
		"ramp":    func(c cursor) { s.Ramp = readRamp(c) },
	})
	return s
}

func readRamp(c cursor) time.Duration {
	d := c.duration(0, mostRamp)
	if d > 0 && d < leastRamp {
		c.fail(c.v.shown()+" is out of range", "write "+FormatDuration(leastRamp)+" to "+FormatDuration(mostRamp)+", or 0 to send a site that returns all of its clients at once")
	}
	return d
}

func readRegion(c cursor) Region {
	var r Region
	c.object(fields{
		"clients": func(c cursor) { r.Clients = readClients(c) },
		"order":   func(c cursor) { r.Order = readOrder(c) },
	}, "clients", "order")
	return r
}

// readOrder keeps every item, "" for a broken one, so that each keeps its index
// for the cross-checks.
func readOrder(c cursor) []string {
	var order []string
	c.nonEmpty(func(c cursor) {
		name := c.label()
		if name != "" && slices.Contains(order, name) {
			c.fail(quote(name)+" stands here twice", "keep one of the two")
		}
		order = append(order, name)
	})
	return order
}
