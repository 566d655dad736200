package director

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/resolve"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/health"
)

const flatSpec = `
kind: Cluster
metadata: {name: fra, labels: {jurisdiction: eu}}
spec: {location: {country: DE}}
---
kind: Cluster
metadata: {name: nyc, labels: {jurisdiction: us}}
spec: {location: {country: US}}
---
kind: Cluster
metadata: {name: sin, labels: {jurisdiction: sg}}
spec: {location: {country: SG}}
---
kind: Zone
metadata: {name: example.org}
spec:
  nameservers: [ns1.example.net]
  records: |
    @     MX 10 mail.example.net.
    @     HTTPS 1 . alpn=h2
    mixed HTTPS 1 . alpn=h2
---
kind: GlobalService
metadata: {name: apex}
spec:
  hosts: [example.org]
  ttl: 60s
  endpoints: [{cluster: fra, hostname: fra.example.net}, {cluster: nyc, hostname: nyc.example.net}]
  probes: [{tcp: {port: 443}}]
  steering: {policy: failover, order: [fra, nyc]}
---
kind: GlobalService
metadata: {name: mixed}
spec:
  hosts: [mixed.example.org]
  siteNames: true
  ttl: 60s
  endpoints:
  - {cluster: fra, addresses: [192.0.2.10, "2001:db8::10"]}
  - {cluster: nyc, hostname: nyc.example.net}
  - {cluster: sin, addresses: [192.0.2.30]}
  probes: [{tcp: {port: 443}}]
  steering: {policy: failover, order: [nyc, fra, sin]}
---
kind: GlobalService
metadata: {name: fenced}
spec:
  hosts: [fenced.example.org]
  ttl: 60s
  endpoints:
  - {cluster: fra, addresses: [192.0.2.10]}
  - {cluster: nyc, hostname: nyc.example.net}
  probes: [{tcp: {port: 443}}]
  residency:
  - {clients: {prefixes: [198.51.100.0/24]}, clusters: {jurisdiction: us}}
  residencyUnknown: allow
`

// known is what hostnames resolve to in a test.
type known map[string]*resolve.Records

func (n known) records(hostname string) *resolve.Records { return n[hostname] }

func resolvedTo(ttl time.Duration, list ...string) *resolve.Records {
	r := &resolve.Records{TTL: ttl, Known: [2]bool{true, true}}
	for _, s := range list {
		a := netip.MustParseAddr(s)
		f := steer.FamilyOf(a)
		r.Addrs[f] = append(r.Addrs[f], a)
	}
	return r
}

// downAt is the states of all that is watched at some clusters of a service.
func downAt(f *inForce, service string, clusters ...string) map[health.Subject]health.State {
	out := map[health.Subject]health.State{}
	svc := f.spec.Service(service)
	for _, e := range svc.Endpoints {
		if !slices.Contains(clusters, e.Cluster) {
			continue
		}
		for _, a := range e.Watched() {
			for _, s := range steer.Subjects(svc, a) {
				out[s.Subject] = health.Down
			}
		}
	}
	return out
}

// asked asks a table, from an address, and shows the answer as "ttl rdata …", with
// its EDE.
func asked(t *testing.T, table *answer.Table, name string, qtype uint16, from string) string {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.SetEdns0(1232, false)
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := table.Reply(nil, packet, answer.Client{Addr: netip.AddrPortFrom(netip.MustParseAddr(from), 4000), Transport: answer.UDP})
	got := new(dns.Msg)
	if err := got.Unpack(raw); err != nil {
		t.Fatal(err)
	}
	out := []string{dns.RcodeToString[got.Rcode]}
	for _, rr := range got.Answer {
		out = append(out, fmt.Sprintf("%d %s", rr.Header().Ttl, strings.TrimPrefix(rr.String(), rr.Header().String())))
	}
	for _, o := range got.IsEdns0().Option {
		if e, ok := o.(*dns.EDNS0_EDE); ok {
			out = append(out, fmt.Sprintf("EDE %d", e.InfoCode))
		}
	}
	return strings.Join(out, "; ")
}

// TestFlattened: hostnames stand in answers as what they resolve to; where the chosen
// site has no address the next that residency allows answers, and where none has,
// SERVFAIL and EDE 22, so that another director is asked.
func TestFlattened(t *testing.T) {
	m := &mesh{t: t, ctx: t.Context()}
	m.nodes = append(m.nodes, &node{loop: &loop{name: "d1"}, mesh: m, key: benchKey(0)})
	f := m.planOf(flatSpec, nil, 1, m.nodes[0])
	drain := func(scope string) []*plan.Override {
		return []*plan.Override{{Id: "one", Kind: plan.Override_DRAIN, Scope: scope, Author: "somebody", Reason: "a test", Revision: 1}}
	}
	const somewhere = "203.0.113.9"
	both := known{"fra.example.net": resolvedTo(30*time.Second, "198.51.100.1"), "nyc.example.net": resolvedTo(45*time.Second, "198.51.100.2", "2001:db8::2")}
	nyc := known{"nyc.example.net": both["nyc.example.net"]}
	v4 := known{"nyc.example.net": resolvedTo(45*time.Second, "198.51.100.2")}
	a, aaaa, https := dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS
	tests := []struct {
		name     string
		resolved known
		states   map[health.Subject]health.State
		drains   []*plan.Override
		ask      string
		qtype    uint16
		from     string
		want     string
	}{
		{"apex", both, nil, nil, "example.org.", a, somewhere, "NOERROR; 30 198.51.100.1"},
		{"apex, a family that only the second has", both, nil, nil, "example.org.", aaaa, somewhere, "NOERROR; 30 2001:db8::2"},
		{"apex, the rest of it", both, nil, nil, "example.org.", dns.TypeMX, somewhere, "NOERROR; 3600 10 mail.example.net."},
		{"apex, hints of the same decision", both, nil, nil, "example.org.", https, somewhere, `NOERROR; 30 1 . alpn="h2" ipv4hint="198.51.100.1" ipv6hint="2001:db8::2"`},
		{"apex, the first is down", both, downAt(f, "apex", "fra"), nil, "example.org.", a, somewhere, "NOERROR; 30 198.51.100.2"},
		{"apex, all down", both, downAt(f, "apex", "fra", "nyc"), nil, "example.org.", a, somewhere, "NOERROR; 30 198.51.100.1; EDE 0"},
		{"apex, the first is not known", nyc, nil, nil, "example.org.", a, somewhere, "NOERROR; 45 198.51.100.2"},
		{"apex, nothing is known", nil, nil, nil, "example.org.", a, somewhere, "SERVFAIL; EDE 22"},
		{"apex, nothing is known, another type", nil, nil, nil, "example.org.", dns.TypeMX, somewhere, "NOERROR; 3600 10 mail.example.net."},
		{"apex, the only one that is known is down", nyc, downAt(f, "apex", "nyc"), nil, "example.org.", a, somewhere, "NOERROR; 45 198.51.100.2"},
		{"mixed", both, nil, nil, "mixed.example.org.", a, somewhere, "NOERROR; 45 198.51.100.2"},
		{"mixed, not known", nil, nil, nil, "mixed.example.org.", a, somewhere, "NOERROR; 60 192.0.2.10"},
		{"mixed, no IPv6", v4, nil, nil, "mixed.example.org.", aaaa, somewhere, "NOERROR; 45 2001:db8::10"},
		{"mixed, not known, and the others are down", nil, downAt(f, "mixed", "fra", "sin"), nil, "mixed.example.org.", a, somewhere, "NOERROR; 60 192.0.2.10"},
		{"mixed, not known, and one of the others is drained", nil, nil, drain("service/mixed@fra"), "mixed.example.org.", a, somewhere, "NOERROR; 60 192.0.2.30"},
		{"mixed, not known, and the others are drained (S14)", nil, nil, drain("service/mixed@fra"), "mixed.example.org.", aaaa, somewhere, "NOERROR; 60 2001:db8::10"},
		{"mixed, down, by what stands for it", both, downAt(f, "mixed", "nyc"), nil, "mixed.example.org.", a, somewhere, "NOERROR; 45 192.0.2.10"},
		{"mixed, hints", both, nil, nil, "mixed.example.org.", https, somewhere, `NOERROR; 45 1 . alpn="h2" ipv4hint="198.51.100.2" ipv6hint="2001:db8::2"`},
		{"a site's own name", both, nil, nil, "nyc.mixed.example.org.", a, somewhere, "NOERROR; 45 198.51.100.2"},
		{"a site's own name, not known", nil, nil, nil, "nyc.mixed.example.org.", a, somewhere, "SERVFAIL; EDE 22"},
		{"a site's own name, a family that it has not", v4, nil, nil, "nyc.mixed.example.org.", aaaa, somewhere, "NOERROR"},
		{"residency (S11): what is not known is not another's", nil, nil, nil, "fenced.example.org.", a, "198.51.100.7", "SERVFAIL; EDE 22"},
		{"residency, known", both, nil, nil, "fenced.example.org.", a, "198.51.100.7", "NOERROR; 45 198.51.100.2"},
		{"residency, everybody else", nil, nil, nil, "fenced.example.org.", a, somewhere, "NOERROR; 60 192.0.2.10"},
		{"a TTL of less than 5 s", known{"nyc.example.net": resolvedTo(time.Second, "198.51.100.2")}, nil, nil, "mixed.example.org.", a, somewhere, "NOERROR; 5 198.51.100.2"},
		{"a TTL of more than the service's", known{"nyc.example.net": resolvedTo(time.Hour, "198.51.100.2")}, nil, nil, "mixed.example.org.", a, somewhere, "NOERROR; 60 198.51.100.2"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := f
			if tc.drains != nil {
				f = m.planOf(flatSpec, func(p *plan.Plan) { p.Overrides = tc.drains }, 1, m.nodes[0])
			}
			decision := steer.Decide(steer.Input{Spec: f.spec, Plan: f.sealed.Plan, States: tc.states})
			d := describer{resolved: tc.resolved.records}
			table, err := answer.Compile(answer.Options{Zones: d.describe(f, decision)})
			if err != nil {
				t.Fatal(err)
			}
			if got := asked(t, table, tc.ask, tc.qtype, tc.from); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// TestFlattenedNeverEmpty: whatever resolves, is down or is drained, a type that some
// allowed site has an address of is answered, with addresses of the first of the chosen
// sites that has one (S1, S2, S11, S14).
func TestFlattenedNeverEmpty(t *testing.T) {
	m := &mesh{t: t, ctx: t.Context()}
	m.nodes = append(m.nodes, &node{loop: &loop{name: "d1"}, mesh: m, key: benchKey(0)})
	plain := m.planOf(flatSpec, nil, 1, m.nodes[0])
	scopes := []string{"cluster/fra", "cluster/nyc", "service/mixed@fra", "service/mixed@sin"}
	rapid.Check(t, func(r *rapid.T) {
		f := m.planOf(flatSpec, func(p *plan.Plan) {
			for i, scope := range scopes {
				if rapid.Bool().Draw(r, "drained") {
					p.Overrides = append(p.Overrides, &plan.Override{Id: fmt.Sprint(i), Kind: plan.Override_DRAIN, Scope: scope, LastResort: rapid.Bool().Draw(r, "last resort"), Revision: uint64(i + 1)})
				}
			}
		}, 1, m.nodes[0])
		f.spec = plain.spec
		states := map[health.Subject]health.State{}
		for _, s := range subjects(f.spec) {
			states[s] = rapid.SampledFrom([]health.State{health.Unknown, health.Up, health.Down}).Draw(r, "state")
		}
		to := known{}
		for i, name := range []string{"fra.example.net", "nyc.example.net"} {
			switch rapid.IntRange(0, 3).Draw(r, "resolved") {
			case 1:
				to[name] = resolvedTo(time.Minute, fmt.Sprintf("198.51.100.%d", i+1))
			case 2:
				to[name] = resolvedTo(time.Minute, fmt.Sprintf("2001:db8::%d", i+1))
			case 3:
				to[name] = resolvedTo(time.Minute, fmt.Sprintf("198.51.100.%d", i+1), fmt.Sprintf("2001:db8::%d", i+1))
			}
		}
		decision := steer.Decide(steer.Input{Spec: f.spec, Plan: f.sealed.Plan, States: states})
		d := describer{resolved: to.records}
		table, err := answer.Compile(answer.Options{Zones: d.describe(f, decision)})
		if err != nil {
			r.Fatal(err)
		}
		for i := range decision.Services {
			svc := &decision.Services[i]
			def := f.spec.Services[i]
			for _, from := range []string{"203.0.113.9", "198.51.100.7"} {
				fenced := def.Name == "fenced" && from == "198.51.100.7"
				for family := range 2 {
					want := slowFlat(svc, viewOf(svc, -1, steer.Family(family)), to, f.spec, steer.Family(family), netip.MustParseAddr(from))
					some := false
					for _, e := range def.Endpoints {
						if fenced && e.Cluster != "nyc" {
							continue
						}
						for _, a := range e.Addresses {
							some = some || steer.FamilyOf(a) == steer.Family(family)
						}
						if records := to[e.Hostname]; e.Hostname != "" && records != nil {
							some = some || len(records.Addrs[family]) > 0
						}
					}
					if some != (len(want) > 0) {
						r.Fatalf("%s, %s: %v, and some allowed site has an address: %t", def.Name, steer.Family(family), want, some)
					}
					trace, ok := table.Trace(def.Hosts[0]+".", family == 1, netip.PrefixFrom(netip.MustParseAddr(from), 32))
					var got []netip.Addr
					for _, p := range trace.Picks {
						got = append(got, p.Addr)
					}
					if ok != (len(got) > 0) && len(want) > 0 || len(got) != min(len(want), 1) || len(want) > 0 && !slices.Contains(want, got[0]) {
						r.Fatalf("%s, %s: got %v, want one of %v", def.Name, steer.Family(family), got, want)
					}
				}
			}
		}
	})
}

// slowFlat gives the addresses of the site that answers, without shapes or shares.
func slowFlat(svc *steer.Service, v *steer.View, to known, set *spec.Set, f steer.Family, from netip.Addr) []netip.Addr {
	if len(v.Sets) == 0 {
		return nil
	}
	prefix := netip.Prefix{}
	for _, p := range v.ByPrefix {
		if p.Prefix.Contains(from) {
			prefix = p.Prefix
		}
	}
	chosen := v.For(prefix, 0)
	for _, c := range slices.Concat(chosen.Choices, chosen.Rest) {
		var out []netip.Addr
		for _, a := range svc.Addrs(f, &c) {
			if name := set.Hostname(a); name == "" {
				out = append(out, a)
			} else if r := to[name]; r != nil {
				out = append(out, r.Addrs[f]...)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

// TestRenamedAlone: other addresses of a hostname have those services described anew
// that they are in, and no others; the decision stays the very same.
func TestRenamedAlone(t *testing.T) {
	m := &mesh{t: t, ctx: t.Context()}
	m.nodes = append(m.nodes, &node{loop: &loop{name: "d1"}, mesh: m, key: benchKey(0)})
	f := m.planOf(flatSpec, nil, 1, m.nodes[0])
	to := known{}
	kept, decider := &describer{resolved: to.records}, &steer.Decider{}
	var last map[string]*answer.Set
	fra, fra2 := resolvedTo(time.Minute, "198.51.100.1"), resolvedTo(time.Minute, "198.51.100.1", "2001:db8::1")
	for _, tc := range []struct {
		name  string
		set   func()
		moved []string
	}{
		{"at first", func() {}, []string{"apex", "fenced", "mixed"}},
		{"again", func() {}, nil},
		{"fra resolves", func() { to["fra.example.net"] = fra }, []string{"apex"}},
		{"nyc resolves", func() { to["nyc.example.net"] = resolvedTo(time.Minute, "198.51.100.2") }, []string{"apex", "fenced", "mixed"}},
		{"fra has IPv6", func() { to["fra.example.net"] = fra2 }, []string{"apex"}},
		{"a name of nobody's", func() { to["x.example.net"] = fra }, nil},
	} {
		tc.set()
		decision := decider.Decide(steer.Input{Spec: f.spec, Plan: f.sealed.Plan})
		got := kept.describe(f, decision)
		fresh := describer{resolved: to.records}
		if diff := cmp.Diff(fresh.describe(f, decision), got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
			cmp.Comparer(func(a, b *answer.Static) bool { return a == b })); diff != "" {
			t.Errorf("%s: it differs from a fresh one's (-fresh +kept):\n%s", tc.name, diff)
		}
		now := map[string]*answer.Set{}
		var moved []string
		for _, s := range got[0].Steered {
			if s.Name != f.spec.Service(s.Service).Hosts[0]+"." {
				continue
			}
			if len(s.A.Sets) > 0 {
				now[s.Service] = &s.A.Sets[0]
			}
			if now[s.Service] != last[s.Service] || last == nil {
				moved = append(moved, s.Service)
			}
		}
		slices.Sort(moved)
		if diff := cmp.Diff(tc.moved, moved); diff != "" {
			t.Errorf("%s: services described anew (-want +got):\n%s", tc.name, diff)
		}
		last = now
	}
}

// TestRestMoves: where the rest answers, what moves it alone is described as well.
func TestRestMoves(t *testing.T) {
	m := &mesh{t: t, ctx: t.Context()}
	m.nodes = append(m.nodes, &node{loop: &loop{name: "d1"}, mesh: m, key: benchKey(0)})
	plain := m.planOf(flatSpec, nil, 1, m.nodes[0])
	kept, decider := &describer{resolved: known{}.records}, &steer.Decider{}
	var before *answer.Table
	for i, last := range []string{"fra", "sin", "fra"} { // nyc, the one chosen, is not known
		f := m.planOf(flatSpec, func(p *plan.Plan) {
			for _, cluster := range []string{"fra", "sin"} {
				p.Overrides = append(p.Overrides, &plan.Override{Id: cluster, Kind: plan.Override_DRAIN, Scope: "service/mixed@" + cluster, LastResort: cluster == last, Revision: 1})
			}
		}, uint64(i+1), m.nodes[0])
		f.spec, f.zones = plain.spec, plain.zones
		decision := decider.Decide(steer.Input{Spec: f.spec, Plan: f.sealed.Plan})
		table, err := answer.Compile(answer.Options{Zones: kept.describe(f, decision), Before: before})
		if err != nil {
			t.Fatal(err)
		}
		before = table
		want := map[string]string{"fra": "NOERROR; 60 192.0.2.10", "sin": "NOERROR; 60 192.0.2.30"}[last]
		if got := asked(t, table, "mixed.example.org.", dns.TypeA, "203.0.113.9"); got != want {
			t.Errorf("%s is the last resort: got %s, want %s", last, got, want)
		}
	}
}
