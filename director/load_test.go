package director

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/health"
)

func sampleOfLoad() core.Sample {
	return core.Sample{
		Answers: map[steer.Scope]float64{{Kind: steer.ScopeCluster, Cluster: "fra"}: 12.5, endpointScope("shop/web", "nyc"): 0},
		Numbers: map[steer.Scope]float64{endpointScope("shop", "sin"): 1e9},
		Trips:   map[string]float64{"fra": 0.25},
	}
}

// TestLoadWire: what is said is what is heard, whatever a later version adds.
func TestLoadWire(t *testing.T) {
	want := sampleOfLoad()
	got, err := decodeLoad(putText(encodeLoad(want), 99, "of a later version"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := decodeLoad(putVarint(nil, 1, loadFormat+1)); err == nil {
		t.Error("a later format is read")
	}
	big := core.Sample{Answers: map[steer.Scope]float64{}}
	for i := range maxLoads + 10 {
		big.Answers[endpointScope("s"+utoa(uint64(i)), "fra")] = 1
	}
	if got, err := decodeLoad(encodeLoad(big)); err != nil || len(got.Answers) != maxLoads {
		t.Errorf("%d entries of too many, %v; want %d", len(got.Answers), err, maxLoads)
	}
}

// FuzzLoad (F13): nothing that a peer sends makes it fail, or has it keep what is not
// bounded.
func FuzzLoad(f *testing.F) {
	f.Add(encodeLoad(sampleOfLoad()))
	f.Add([]byte{0x12, 0x01, 0xff})
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, err := decodeLoad(payload)
		if err != nil {
			return
		}
		for scope, n := range s.Answers {
			if n < 0 || n > maxLoadSaid || scope.Kind != steer.ScopeCluster && scope.Kind != steer.ScopeEndpoint {
				t.Fatalf("%v: %v", scope, n)
			}
		}
		if again, err := decodeLoad(encodeLoad(s)); err != nil || len(again.Answers) != len(s.Answers) {
			t.Fatalf("again: %v, %v", again, err)
		}
	})
}

const loadSpec = `
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: fra}
spec: {location: {country: DE}, capacity: 100}
---
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: nyc}
spec: {location: {country: US}}
---
apiVersion: divert.dev/v1alpha1
kind: Zone
metadata: {name: example.org}
spec: {nameservers: [ns1.example.net]}
---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: shop}
spec:
  hosts: [shop.example.org]
  endpoints:
  - {cluster: fra, addresses: [192.0.2.10]}
  - {cluster: nyc, addresses: [192.0.2.11], capacity: 10, load: {prometheus: {url: "http://192.0.2.90", query: "1"}}}
  probes: [{tcp: {port: 443}}]
  steering: {policy: latency}
`

func loadSet(t *testing.T) *spec.Set {
	t.Helper()
	raws, problems := spec.Parse("test.yaml", []byte(loadSpec))
	if spec.Failed(problems) {
		t.Fatal(problems)
	}
	set, problems := spec.Resolve(raws)
	if spec.Failed(problems) {
		t.Fatal(problems)
	}
	return set
}

// TestRates: rates are of the last minute, of both families, begin anew with counters that
// do, and say nothing before a while; what a Prometheus counts is not counted here.
func TestRates(t *testing.T) {
	set, at := loadSet(t), time.Now()
	n := map[dnsserver.Site][answer.Families]uint64{}
	l := (&loads{counts: func() map[dnsserver.Site][answer.Families]uint64 { return n }}).prepare()
	fra, nyc := dnsserver.Site{Service: "shop", Cluster: "fra"}, dnsserver.Site{Service: "shop", Cluster: "nyc"}
	tick := func(v4, v6 uint64) (core.Sample, map[steer.Scope]float64) {
		n[fra] = [answer.Families]uint64{n[fra][0] + v4, n[fra][1] + v6}
		n[nyc] = [answer.Families]uint64{n[nyc][0] + 1, 0}
		at = at.Add(10 * time.Second)
		return l.rates(set, at)
	}
	if _, parts := tick(50, 50); parts != nil {
		t.Error("a rate of nothing")
	}
	if _, parts := tick(50, 50); parts != nil {
		t.Error("a rate of 10 s")
	}
	s, parts := tick(50, 50)
	pool := steer.Scope{Kind: steer.ScopeCluster, Cluster: "fra"}
	if s.Answers[pool] != 10 || parts[endpointScope("shop", "fra")] != 10 || parts[endpointScope("shop", "nyc")] != 0.1 {
		t.Errorf("got %v, %v", s.Answers, parts)
	}
	if len(s.Answers) != 1 {
		t.Errorf("%v: nyc's load is its Prometheus'", s.Answers)
	}
	for range 20 {
		s, _ = tick(0, 0)
	}
	if s.Answers[pool] != 0 {
		t.Errorf("%v a minute after the last answer", s.Answers)
	}
	n = map[dnsserver.Site][answer.Families]uint64{}
	if _, parts := tick(1, 0); parts != nil {
		t.Error("a rate over counters that began anew")
	}
}

// TestHearLoad: of what a director says the latest counts, whatever the order of arrival.
func TestHearLoad(t *testing.T) {
	now := time.Now()
	l := (&loads{now: func() time.Time { return now }, shown: newLoadMetrics(prometheus.NewRegistry())}).prepare()
	say := func(boot, seq uint64, fra float64) {
		s := core.Sample{Answers: map[steer.Scope]float64{{Kind: steer.ScopeCluster, Cluster: "fra"}: fra}}
		l.hear(gossip.Message{From: "d2", Boot: boot, Seq: seq, Payload: encodeLoad(s)})
	}
	say(1, 5, 1)
	say(1, 4, 2)
	say(2, 1, 3)
	say(1, 9, 4)
	l.hear(gossip.Message{From: "d2", Boot: 3, Seq: 1, Payload: []byte{0xff}})
	if got := l.heard["d2"].Answers[steer.Scope{Kind: steer.ScopeCluster, Cluster: "fra"}]; got != 3 {
		t.Errorf("got %v, want the latest, 3", got)
	}
}

// TestTrips: the least round trip of the last minute, of fast signals that were answered.
func TestTrips(t *testing.T) {
	var trips trips
	trips.watch(loadSet(t))
	trips.least()
	signal := health.Subject{Kind: health.KindSignal, Addr: netip.MustParseAddrPort("192.0.2.10:443")}
	note := func(r health.Report) { r.Subject = signal; trips.note(r) }
	note(health.Report{OK: true, Latency: 30 * time.Millisecond})
	note(health.Report{OK: true, Latency: 20 * time.Millisecond})
	note(health.Report{OK: true, Late: true, Latency: time.Millisecond})
	note(health.Report{Latency: time.Millisecond})
	if got := trips.least(); got["fra"] != 20 || len(got) != 1 {
		t.Errorf("got %v, want 20 ms to fra", got)
	}
	for range tripLooks + 1 {
		trips.least()
	}
	if got := trips.least(); len(got) != 0 {
		t.Errorf("got %v a minute later", got)
	}
}
