package director

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/resolve"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/probe"
)

// bench is the loop of d1 with real parts and no goroutine, and what d2 and d3
// say to it. Time is its own.
type bench struct {
	*loop
	clock    time.Time
	keys     map[string]ed25519.PrivateKey
	sequence uint64
	votes    map[string]*health.Publisher // the peers', for their digests
	subjects []health.Subject
	revision uint64
	first    core.Change
	doc      []byte
}

// newBench makes a loop with a plan of so many services in force, each of three
// endpoints with addresses of their own: six subjects a service.
func newBench(b *testing.B, services int) *bench {
	b.Helper()
	n := &bench{clock: time.Unix(1_800_000_000, 0), keys: map[string]ed25519.PrivateKey{}, votes: map[string]*health.Publisher{}}
	for i := range 3 {
		n.keys[fmt.Sprintf("d%d", i+1)] = benchKey(byte(i))
	}
	n.votes["d2"], n.votes["d3"] = health.NewPublisher("d2", 1, nil), health.NewPublisher("d3", 1, nil)
	n.loop = &loop{
		name: "d1", observer: health.NewObserver(n.clock), book: health.NewBook("d1", nil, 0),
		publish: health.NewPublisher("d1", 1, nil), decider: &steer.Decider{}, horizon: &horizon{}, outbox: n,
		courier: newCourier(func(string, uint8, []byte) error { return nil }, slog.New(slog.DiscardHandler)), prober: probe.New(probe.Options{}), pace: testPace, resolver: resolve.New(resolve.Options{}),
		table: new(atomic.Pointer[answer.Table]),
		shown: newMetrics(prometheus.NewRegistry(), "test", func() time.Duration { return 0 }), log: slog.New(slog.DiscardHandler),
		now:     func() time.Time { return n.clock },
		reports: make(chan health.Report, 4096), messages: make(chan gossip.Message, 1024), queries: make(chan func(time.Time)), exchange: newExchange(),
		wakeup: newWake(), newer: newWake(), save: newWake(), changed: func() {}, abstains: func() string { return "" },
		plans: func(gossip.Message) {}, running: true,
	}
	n.loop.describer.resolved = n.loop.resolver.Records
	n.loop.earth.Store(newEarth(geo.Default()))
	n.begin(b, services)
	f := n.plan(b, nil)
	n.subjects = subjects(f.spec)
	n.horizon.offer(f)
	n.step(n.clock)
	for range 12 { // the first round, and the first votes of all
		for _, s := range n.subjects {
			n.report(health.Report{Subject: s, OK: true, At: n.clock})
		}
		n.peers()
		n.clock = n.clock.Add(time.Second)
		n.step(n.clock)
	}
	if n.horizon.current() == nil || n.book.Isolated(n.clock.Add(-time.Second)) {
		b.Fatal("the loop has no plan, or hears nobody")
	}
	return n
}

func benchKey(i byte) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte{i})
	return ed25519.NewKeyFromSeed(seed[:])
}

// begin makes the first plan and the document that later ones share.
func (n *bench) begin(b *testing.B, services int) {
	b.Helper()
	raws, problems := spec.Parse("bench.yaml", []byte(benchSpec(services)))
	if spec.Failed(problems) {
		b.Fatal(problemsError(problems))
	}
	me := core.Director{Name: "d1", Site: "s1", Key: n.keys["d1"].Public().(ed25519.PublicKey)}
	var err error
	if n.first, err = core.Bootstrap(core.State{Now: n.clock, Me: "d1"}, raws, me, fleetID); err != nil {
		b.Fatal(err)
	}
	for _, d := range n.first.Plan.GetRoster() {
		d.Key = n.keys[d.GetName()].Public().(ed25519.PublicKey)
	}
	if n.doc, err = proto.Marshal(n.first.Doc); err != nil {
		b.Fatal(err)
	}
	_, n.first.Plan.Spec = store.Split(n.doc)
}

// plan gives the next revision, with overrides of its own.
func (n *bench) plan(b *testing.B, overrides []*plan.Override) *inForce {
	b.Helper()
	f, err := n.horizon.texts.prepare(n.sealed(b, overrides), n.doc)
	if err != nil {
		b.Fatal(err)
	}
	return f
}

func (n *bench) sealed(b *testing.B, overrides []*plan.Override) *plan.Sealed {
	b.Helper()
	n.revision++
	p := proto.CloneOf(n.first.Plan)
	p.Revision, p.Overrides = n.revision, overrides
	if cur := n.horizon.current(); cur != nil {
		p.Parent = cur.sealed.Identity.Hash[:]
	}
	sealed, err := plan.Sign(p, "d1", n.keys["d1"])
	if err != nil {
		b.Fatal(err)
	}
	return sealed
}

func benchSpec(services int) string {
	var b strings.Builder
	b.WriteString(`apiVersion: divert.dev/v1alpha1
kind: Fleet
metadata: {name: default}
spec: {directors: [{name: d1, site: s1}, {name: d2, site: s2}, {name: d3, site: s3}]}
---
apiVersion: divert.dev/v1alpha1
kind: Zone
metadata: {name: example.org}
spec: {nameservers: [ns1.example.org], hostmaster: dns-admin@example.org, records: "ns1 A 192.0.2.53\n"}
`)
	sites := []string{"fra", "nyc", "sin"}
	for i, country := range []string{"DE", "US", "SG"} {
		fmt.Fprintf(&b, "---\napiVersion: divert.dev/v1alpha1\nkind: Cluster\nmetadata: {name: %s}\nspec: {location: {country: %s}}\n", sites[i], country)
	}
	for i := range services {
		fmt.Fprintf(&b, `---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: s%[1]d}
spec:
  hosts: [s%[1]d.example.org]
  siteNames: true
  steering: {policy: geo}
  probes: [{http: {scheme: http, port: 8080, path: /healthz, host: s%[1]d.example.org}, fast: 100ms}]
  endpoints: [{cluster: fra, addresses: [%[2]s]}, {cluster: nyc, addresses: [%[3]s]}, {cluster: sin, addresses: [%[4]s]}]
`, i, benchAddr(i, 1), benchAddr(i, 2), benchAddr(i, 3))
	}
	return b.String()
}

func benchAddr(service, site int) string {
	return fmt.Sprintf("10.%d.%d.%d", site, service/250, service%250+1)
}

// Broadcast signs as gossip does, and sends nothing.
func (n *bench) Broadcast(kind uint8, payload []byte) (gossip.Message, error) {
	return n.message("d1", kind, payload), nil
}

// Send signs as gossip does, and sends nothing.
func (n *bench) Send(_ string, kind uint8, payload []byte) (gossip.Message, error) {
	return n.message("d1", kind, payload), nil
}

func (n *bench) Alarms() map[string]string { return nil }
func (n *bench) Refresh()                  {}

// message is one as gossip delivers it.
func (n *bench) message(from string, kind uint8, payload []byte) gossip.Message {
	n.sequence++
	raw := gossip.Seal(fleetID, kind, from, n.keys[from], 1, 1, n.sequence, payload)
	return gossip.Message{
		Kind: kind, From: from, Boot: 1, Instance: 1, Seq: n.sequence, Payload: payload, Raw: raw, Pinned: true,
	}
}

// peers lets d2 and d3 say that they are there and agree.
func (n *bench) peers() {
	for name, p := range n.votes {
		h := health.Heartbeat{Votes: p.Digest(), Certificates: n.book.Digest(), Wall: n.clock}
		n.loop.message(n.message(name, kindHeartbeat, health.EncodeHeartbeat(h)))
	}
}

// flip has d2 and d3 vote for a subject's next transition, until it is in force
// and answered by.
func (n *bench) flip(b *testing.B, s health.Subject) {
	b.Helper()
	before := n.table.Load()
	next := n.book.Chain(s).N + 1
	vote := []health.Vote{{Subject: s, N: next, To: health.After(next)}}
	n.clock = n.clock.Add(100 * time.Millisecond)
	for name, p := range n.votes {
		p.Cast(vote, n.clock)
		n.loop.message(n.message(name, kindBallot, health.EncodeVotes(vote, nil)))
	}
	n.step(n.clock)
	if n.book.Chain(s).N != next || n.table.Load() == before {
		b.Fatalf("%s did not flip", s)
	}
}

// BenchmarkIdleStep is one awakening of a loop that has nothing to do, with 100
// services and 600 subjects, between two heartbeats.
func BenchmarkIdleStep(b *testing.B) {
	n := newBench(b, 100)
	n.peers()
	n.step(n.clock)
	b.ReportAllocs()
	for b.Loop() {
		n.step(n.clock)
	}
}

// BenchmarkIdleSecond is all that a loop does in an idle second: 40 ticks, 3,300
// reports of 300 fast signals and 300 checks, the heartbeats of two peers and
// its own four. Signatures are made by the bench too.
func BenchmarkIdleSecond(b *testing.B) {
	n := newBench(b, 100)
	b.ReportAllocs()
	for b.Loop() {
		for tick := range 40 {
			n.clock = n.clock.Add(loopTick)
			for i, s := range n.subjects {
				if s.Kind == health.KindSignal && i%4 == tick%4 || i%40 == tick {
					n.report(health.Report{Subject: s, OK: true, At: n.clock})
				}
			}
			if tick%10 == 0 {
				n.peers()
			}
			n.watchdog()
			n.step(n.clock)
		}
	}
	if n.book.Isolated(n.clock) {
		b.Fatal("isolated")
	}
}

// BenchmarkFlip is one subject that falls or returns, from the ballots of two
// peers to the table that answers.
func BenchmarkFlip(b *testing.B) {
	for _, services := range []int{100, 1000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			n := newBench(b, services)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				n.flip(b, n.subjects[i/2*7%len(n.subjects)]) // down, then up again
				i++
			}
		})
	}
}

// BenchmarkDrain is a drain of one service's endpoint, and its end: what a plan
// with the spec of the one before costs, before the loop (prepare) and on it.
func BenchmarkDrain(b *testing.B) {
	for _, services := range []int{100, 1000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			n := newBench(b, services)
			var prepared, adopted time.Duration
			i := 0
			for b.Loop() {
				var overrides []*plan.Override
				if i%2 == 0 {
					overrides = []*plan.Override{{
						Id: "one", Kind: plan.Override_DRAIN, Scope: "service/s7@fra", Author: "somebody", Reason: "bench", Revision: 2,
					}}
				}
				i++
				sealed := n.sealed(b, overrides)
				start := time.Now()
				f, err := n.horizon.texts.prepareAfter(n.horizon.newest(), sealed, n.doc)
				if err != nil {
					b.Fatal(err)
				}
				prepared += time.Since(start)
				n.horizon.offer(f)
				start = time.Now()
				n.adopt(n.clock)
				adopted += time.Since(start)
				if n.horizon.current() != f {
					b.Fatal("not in force")
				}
			}
			b.ReportMetric(prepared.Seconds()*1000/float64(b.N), "prepare-ms/op")
			b.ReportMetric(adopted.Seconds()*1000/float64(b.N), "adopt-ms/op")
		})
	}
}
