package director

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/health"
)

// large is a fleet of ten clusters around the world, steered by distance, with 200
// prefixes in rules of residency and regions, and what makes its table.
type large struct {
	f         *inForce
	states    map[health.Subject]health.State
	decider   steer.Decider
	describer describer
	geo       *geo.Table
	places    []steer.Place
	table     *answer.Table
	watched   [10][]health.Subject // by cluster
	changed   []health.Change      // since the last decision; nil = not told
	returns   map[health.Subject]steer.Return
}

// newLarge makes so many services of so many hosts. The gateways of a cluster are
// one for all services where shared, else each service has addresses of its own.
func newLarge(services, hosts int, shared bool) *large {
	l := &large{states: map[health.Subject]health.State{}, geo: geo.Default()}
	l.places = placesOf(l.geo)
	set := &spec.Set{
		Fleet: spec.Fleet{DegradedEjected: 50, MaxDrain: 72 * time.Hour, Automation: spec.AutomationAct},
		Zones: []*spec.Zone{{Name: "example.org"}},
	}
	countries := []string{"DE", "US", "SG", "BR", "JP", "AU", "ZA", "IN", "GB", "CA"}
	for i, country := range countries {
		jurisdiction := "world"
		if i%2 == 0 {
			jurisdiction = "eu"
		}
		set.Clusters = append(set.Clusters, &spec.Cluster{
			Name: fmt.Sprintf("c%d", i), FaultDomain: fmt.Sprintf("c%d", i), Environment: "prod", Capacity: 100,
			Labels: map[string]string{"jurisdiction": jurisdiction}, Location: spec.Location{Country: country},
		})
	}
	prefixes := func(from, n int) (out []netip.Prefix) {
		for i := range n {
			out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(from + i), byte(7 * i), 0, 0}), 16+i%9))
		}
		return out
	}
	residency := []spec.ResidencyRule{{Clients: spec.Clients{Continents: []string{"EU"}, Prefixes: prefixes(20, 100)}, Clusters: map[string]string{"jurisdiction": "eu"}}}
	regions := []spec.Region{{Clients: spec.Clients{Countries: []string{"TR"}, Prefixes: prefixes(120, 100)}, Order: []string{"c0", "c1"}}}
	for s := range services {
		svc := &spec.GlobalService{
			Name: fmt.Sprintf("s%06d", s), Environment: "prod", TTL: 20 * time.Second, MinHealthy: 1,
			ResidencyUnknown: spec.ResidencyUnknownIntersect, AllDown: spec.AllDownAlive, Automation: spec.AutomationAct,
			Steering:  spec.Steering{Policy: spec.PolicyGeo, Answers: 1, Regions: regions, Ramp: 30 * time.Second},
			Residency: residency,
			Probes:    []spec.Probe{{TCP: &spec.TCPProbe{Port: 443}, Interval: time.Second, Timeout: time.Second, Fast: 100 * time.Millisecond}},
		}
		for h := range hosts {
			svc.Hosts = append(svc.Hosts, fmt.Sprintf("h%d.s%d.example.org", h, s))
		}
		for c := range countries {
			addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(c)})
			if !shared {
				addr = netip.AddrFrom4([4]byte{byte(100 + c), byte(s >> 16), byte(s >> 8), byte(s)})
			}
			svc.Endpoints = append(svc.Endpoints, spec.Endpoint{Cluster: set.Clusters[c].Name, Weight: 100, Capacity: 100, Addresses: []netip.Addr{addr}})
			svc.Steering.Order = append(svc.Steering.Order, set.Clusters[c].Name)
			for _, o := range steer.Subjects(svc, addr) {
				if _, ok := l.states[o.Subject]; !ok {
					l.watched[c] = append(l.watched[c], o.Subject)
				}
				l.states[o.Subject] = health.Up
			}
		}
		set.Services = append(set.Services, svc)
	}
	var records []dns.RR
	for _, text := range []string{"example.org. 3600 IN SOA ns1.example.org. h.example.org. 1 3600 600 86400 300", "example.org. 3600 IN NS ns1.example.org.", "ns1.example.org. 3600 IN A 192.0.2.53"} {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		records = append(records, rr)
	}
	p := &plan.Plan{Fleet: "f", Epoch: 1, Revision: 1}
	l.f = &inForce{
		sealed: &plan.Sealed{Plan: p}, spec: set, standbys: steer.StandbysOf(set, p),
		zones: []answer.Zone{{Origin: "example.org.", Records: records}},
	}
	return l
}

// compile goes from the verdicts to the table in force, as the loop does.
func (l *large) compile(t testing.TB) {
	t.Helper()
	decision := l.decider.Decide(steer.Input{Spec: l.f.spec, Plan: l.f.sealed.Plan, States: l.states, Returns: l.returns, Changed: l.changed, Places: l.places})
	l.changed = []health.Change{}
	table, err := answer.Compile(answer.Options{Zones: l.describer.describe(l.f, decision), Geo: l.geo, Before: l.table})
	if err != nil {
		t.Fatal(err)
	}
	l.table = table
}

// flip marks all that is watched of a cluster.
func (l *large) flip(cluster int, st health.State) {
	for _, subject := range l.watched[cluster] {
		l.states[subject] = st
		if l.changed != nil {
			l.changed = append(l.changed, health.Change{Subject: subject, State: st})
		}
	}
}

// back takes all that is watched of a cluster through a step of its return.
func (l *large) back(cluster int, age time.Duration) {
	l.returns = maps.Clone(l.returns)
	if l.returns == nil {
		l.returns = map[health.Subject]steer.Return{}
	}
	for _, subject := range l.watched[cluster] {
		if l.returns[subject] = (steer.Return{At: time.Unix(1_800_000_000, 0), Age: age}); age > 30*time.Second {
			delete(l.returns, subject)
		}
	}
}

// used is the processor time of the process, the garbage collector's included.
func used() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkLarge is 100,000 hosts on 10 clusters, with 200 prefixes of residency
// and regions: from nothing to the table in force, and from the verdict that a whole
// cluster fell, or came back, to that.
func BenchmarkLarge(b *testing.B) {
	for _, bc := range []struct {
		name            string
		services, hosts int
		shared          bool
	}{
		{"100 services of 1,000 hosts", 100, 1000, false},
		{"1,000 services of 100 hosts", 1000, 100, false},
		{"10,000 services of 10 hosts", 10_000, 10, false},
		{"100,000 services, the same gateways", 100_000, 1, true},
	} {
		b.Run(bc.name, func(b *testing.B) {
			l := newLarge(bc.services, bc.hosts, bc.shared)
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start, cpu := time.Now(), used()
			l.compile(b)
			fullCPU := used() - cpu
			full := time.Since(start)
			runtime.GC()
			runtime.ReadMemStats(&after)
			var worst, sum, sumCPU time.Duration
			n := 0
			for b.Loop() {
				b.StopTimer()
				l.flip(n/2%10, []health.State{health.Down, health.Up}[n%2])
				b.StartTimer()
				start, cpu := time.Now(), used()
				l.compile(b)
				took := time.Since(start)
				sum, worst, sumCPU = sum+took, max(worst, took), sumCPU+used()-cpu
				n++
			}
			b.ReportMetric(full.Seconds()*1000, "full-ms")
			b.ReportMetric(fullCPU.Seconds()*1000, "full-cpu-ms")
			b.ReportMetric(sumCPU.Seconds()*1000/float64(n), "flip-cpu-ms")
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
			b.ReportMetric(float64(before.HeapAlloc)/(1<<20), "spec-MiB")
			b.ReportMetric(worst.Seconds()*1000, "worst-ms")
			b.ReportMetric(sum.Seconds()*1000/float64(n), "flip-ms")
		})
	}
}

// BenchmarkLargeRamp is BenchmarkLarge of the steps of a return, beside the fall and the
// return itself: a step costs what a flip costs.
func BenchmarkLargeRamp(b *testing.B) {
	for _, bc := range []struct {
		name            string
		services, hosts int
		shared          bool
	}{
		{"1,000 services of 100 hosts", 1000, 100, false},
		{"10,000 services of 10 hosts", 10_000, 10, false},
		{"100,000 services, the same gateways", 100_000, 1, true},
	} {
		b.Run(bc.name, func(b *testing.B) {
			l := newLarge(bc.services, bc.hosts, bc.shared)
			l.compile(b)
			var sum [6]time.Duration
			names := [...]string{"fall-cpu-ms", "return-at-once-cpu-ms", "first-share-cpu-ms", "second-step-cpu-ms", "whole-cpu-ms", "settled-cpu-ms"}
			n := 0
			for b.Loop() {
				for i := range sum {
					cluster := n % 10
					if i == 2 { // it has fallen again
						l.flip(cluster, health.Down)
						l.compile(b)
					}
					switch i {
					case 0:
						l.flip(cluster, health.Down)
					case 1:
						l.flip(cluster, health.Up)
					case 2:
						l.flip(cluster, health.Up)
						l.back(cluster, 0)
					case 3:
						l.back(cluster, 10*time.Second)
					case 4:
						l.back(cluster, 30*time.Second)
					case 5:
						l.back(cluster, 35*time.Second)
					}
					start := used()
					l.compile(b)
					sum[i] += used() - start
				}
				n++
			}
			for i := range sum {
				b.ReportMetric(sum[i].Seconds()*1000/float64(n), names[i])
			}
		})
	}
}

// BenchmarkLargeZone is a zone of a million records, from the document in the store
// to the table in force.
func BenchmarkLargeZone(b *testing.B) {
	dir := b.TempDir()
	var text strings.Builder
	text.WriteString("@ SOA ns1 h 1 3600 600 86400 300\n@ NS ns1\nns1 A 192.0.2.53\n")
	for i := range 1_000_000 {
		fmt.Fprintf(&text, "host%d A 192.0.%d.%d\n", i, i>>8&255, i&255)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		return path
	}
	write("example.org.zone", text.String())
	text.Reset()
	file := write("zone.yaml", `apiVersion: divert.dev/v1alpha1
kind: Fleet
metadata: {name: default}
spec: {directors: [{name: d1, site: s1}]}
---
apiVersion: divert.dev/v1alpha1
kind: Zone
metadata: {name: example.org}
spec: {file: example.org.zone}
`)
	_, raws, problems := spec.Load([]string{file})
	if spec.Failed(problems) {
		b.Fatal(problemsError(problems))
	}
	key := benchKey(1)
	me := core.Director{Name: "d1", Site: "s1", Key: key.Public().(ed25519.PublicKey)}
	change, err := core.Bootstrap(core.State{Now: time.Unix(1_800_000_000, 0), Me: "d1"}, raws, me, fleetID)
	if err != nil {
		b.Fatal(err)
	}
	doc, err := proto.Marshal(change.Doc)
	if err != nil {
		b.Fatal(err)
	}
	_, change.Plan.Spec = store.Split(doc)
	sealed, err := plan.Sign(change.Plan, "d1", key)
	if err != nil {
		b.Fatal(err)
	}
	change = core.Change{}
	table := geo.Default()
	var prepared, compiled time.Duration
	var live uint64
	for b.Loop() {
		runtime.GC()
		start := time.Now()
		f, err := (*zoneTexts)(nil).prepare(sealed, doc)
		if err != nil {
			b.Fatal(err)
		}
		prepared = time.Since(start)
		start = time.Now()
		out, err := answer.Compile(answer.Options{Zones: new(describer).describe(f, steer.Decide(steer.Input{Spec: f.spec, Plan: f.sealed.Plan})), Geo: table})
		if err != nil {
			b.Fatal(err)
		}
		compiled = time.Since(start)
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		live = m.HeapAlloc
		runtime.KeepAlive(out)
		runtime.KeepAlive(f)
	}
	b.ReportMetric(prepared.Seconds(), "prepare-s")
	b.ReportMetric(compiled.Seconds(), "compile-s")
	b.ReportMetric(float64(live)/(1<<20), "live-MiB")
	b.ReportMetric(float64(len(doc))/(1<<20), "document-MiB")
}
