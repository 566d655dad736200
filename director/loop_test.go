package director

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

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

const fleetID = "test"

// mesh is a fleet of loops in one synctest bubble, joined by a network in
// memory. No socket, disk or store takes part.
type mesh struct {
	t     *testing.T
	ctx   context.Context
	nodes []*node
	geo   *geo.Table
}

// node is one loop and its link to the others.
type node struct {
	*loop
	mesh *mesh
	key  ed25519.PrivateKey
	seq  uint64
	cut  atomic.Bool // hears nobody and is heard by nobody
	down map[netip.Addr]bool
}

const meshSpec = `
apiVersion: divert.dev/v1alpha1
kind: Fleet
metadata: {name: default}
spec: {directors: [{name: d1, site: s1}, {name: d2, site: s2}, {name: d3, site: s3}]}
---
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: fra}
spec: {location: {country: DE}}
---
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: nyc}
spec: {location: {country: US}}
---
apiVersion: divert.dev/v1alpha1
kind: Zone
metadata: {name: example.org}
spec: {nameservers: [ns1.example.org], hostmaster: dns-admin@example.org, records: "ns1 A 192.0.2.53\n"}
---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: pay}
spec:
  hosts: [pay.example.org]
  endpoints: [{cluster: fra, addresses: [192.0.2.1]}, {cluster: nyc, addresses: [192.0.2.2]}]
  probes: [{http: {scheme: http, port: 8080, path: /healthz}}]
  steering: {policy: failover, order: [fra, nyc]}
`

// newMesh starts three loops that hold one plan.
func newMesh(t *testing.T, table *geo.Table) *mesh {
	t.Helper()
	m := meshOf(t, table)
	m.begin()
	return m
}

// meshOf is newMesh before they start.
func meshOf(t *testing.T, table *geo.Table) *mesh {
	t.Helper()
	m := &mesh{t: t, ctx: t.Context(), geo: table}
	for i := range 3 {
		seed := sha256.Sum256([]byte{byte(i)})
		m.nodes = append(m.nodes, m.node(fmt.Sprintf("d%d", i+1), ed25519.NewKeyFromSeed(seed[:])))
	}
	return m
}

func (m *mesh) begin() {
	f := m.plan(nil, 1, m.nodes[0])
	for _, n := range m.nodes {
		n.horizon.offer(f)
		go func() { _ = n.run(m.ctx) }()
		go n.probeForEver()
	}
}

func (m *mesh) node(name string, key ed25519.PrivateKey) *node {
	n := &node{mesh: m, key: key, down: map[netip.Addr]bool{}}
	reg := prometheus.NewRegistry()
	n.loop = &loop{
		name: name, observer: health.NewObserver(time.Now()), book: health.NewBook(name, nil, 0),
		publish: health.NewPublisher(name, 1, nil), decider: &steer.Decider{}, horizon: &horizon{}, outbox: n,
		courier: newCourier(n.reliably, slog.New(slog.DiscardHandler)), prober: probe.New(probe.Options{}), pace: testPace, resolver: resolve.New(resolve.Options{}),
		table: new(atomic.Pointer[answer.Table]),
		shown: newMetrics(reg, "test", func() time.Duration { return 0 }), log: slog.New(slog.DiscardHandler), now: time.Now,
		reports: make(chan health.Report, 64), messages: make(chan gossip.Message, 64), queries: make(chan func(time.Time)), exchange: newExchange(),
		wakeup: newWake(), newer: newWake(), save: newWake(), stepped: newWake(), changed: func() {}, abstains: func() string { return "" },
		plans: func(gossip.Message) {}, panel: func(gossip.Message) {}, words: func(gossip.Message) {},
	}
	n.loop.describer.resolved = n.loop.resolver.Records
	n.loop.earth.Store(newEarth(m.geo))
	return n
}

// plan seals a plan whose roster has all nodes; change may alter it first.
func (m *mesh) plan(change func(*plan.Plan), revision uint64, signer *node) *inForce {
	m.t.Helper()
	return m.planOf(meshSpec, change, revision, signer)
}

// planOf is plan with resources of its own.
func (m *mesh) planOf(text string, change func(*plan.Plan), revision uint64, signer *node) *inForce {
	m.t.Helper()
	raws, problems := spec.Parse("mesh.yaml", []byte(text))
	if spec.Failed(problems) {
		m.t.Fatal(problemsError(problems))
	}
	var roster []core.Director
	for _, n := range m.nodes {
		roster = append(roster, core.Director{Name: n.name, Site: "s" + n.name[1:], Key: n.key.Public().(ed25519.PublicKey)})
	}
	first, err := core.Bootstrap(core.State{Now: time.Now(), Me: "d1"}, raws, roster[0], fleetID)
	if err != nil {
		m.t.Fatal(err)
	}
	p := first.Plan
	p.Revision = revision
	for i, d := range p.GetRoster() {
		d.Key = roster[i].Key
	}
	if change != nil {
		change(p)
	}
	doc, err := proto.Marshal(first.Doc)
	if err != nil {
		m.t.Fatal(err)
	}
	_, p.Spec = store.Split(doc)
	sealed, err := plan.Sign(p, signer.name, signer.key)
	if err != nil {
		m.t.Fatal(err)
	}
	f, err := (*zoneTexts)(nil).prepare(sealed, doc)
	if err != nil {
		m.t.Fatal(err)
	}
	return f
}

// Broadcast delivers to every other node that is not cut off.
func (n *node) Broadcast(kind uint8, payload []byte) (gossip.Message, error) {
	n.seq++
	raw := gossip.Seal(fleetID, kind, n.name, n.key, 1, 1, n.seq, payload)
	for _, to := range n.mesh.nodes {
		if to != n {
			n.deliver(to, raw)
		}
	}
	return n.open(raw)
}

// Send delivers to one node.
func (n *node) Send(to string, kind uint8, payload []byte) (gossip.Message, error) {
	n.seq++
	raw := gossip.Seal(fleetID, kind, n.name, n.key, 1, 1, n.seq, payload)
	for _, peer := range n.mesh.nodes {
		if peer.name == to {
			n.deliver(peer, raw)
		}
	}
	return n.open(raw)
}

func (n *node) reliably(to string, kind uint8, payload []byte) error {
	var err error
	_ = n.inspect(n.mesh.ctx, func(time.Time) { _, err = n.Send(to, kind, payload) })
	return err
}

func (n *node) deliver(to *node, raw []byte) {
	if n.cut.Load() || to.cut.Load() {
		return
	}
	if m, err := to.open(raw); err == nil {
		select {
		case to.messages <- m:
		default:
		}
	}
}

func (n *node) open(raw []byte) (gossip.Message, error) {
	return gossip.Open(fleetID, raw, func(name string) ed25519.PublicKey {
		i := slices.IndexFunc(n.mesh.nodes, func(o *node) bool { return o.name == name })
		if i < 0 {
			return nil
		}
		return n.mesh.nodes[i].key.Public().(ed25519.PublicKey)
	})
}

func (n *node) Alarms() map[string]string { return nil }
func (n *node) Refresh()                  {}

// probeForEver reports what this node can reach, as a scheduler would: in half the
// time where there is doubt.
func (n *node) probeForEver() {
	pause := 100 * time.Millisecond
	for {
		select {
		case <-n.mesh.ctx.Done():
			return
		case <-time.After(pause):
		}
		_ = n.inspect(n.mesh.ctx, func(now time.Time) {
			if pause = 100 * time.Millisecond; len(n.book.Pending()) > 0 {
				pause /= 2
			}
			f := n.horizon.current()
			if f == nil {
				return
			}
			for _, s := range subjects(f.spec) {
				r := health.Report{Subject: s, OK: !n.down[s.Addr.Addr()], At: now}
				if !r.OK {
					r.Sign, r.Reason = health.SignRefused, "connection refused"
				}
				n.report(r)
			}
		})
	}
}

// set lets a node reach an address, or not.
func (n *node) set(addr string, down bool) {
	_ = n.inspect(n.mesh.ctx, func(time.Time) { n.down[netip.MustParseAddr(addr)] = down })
}

// site gives the cluster that a node answers with for pay.example.org.
func (n *node) site() string {
	table := n.table.Load()
	if table == nil {
		return ""
	}
	trace, ok := table.Trace("pay.example.org.", false, netip.MustParsePrefix("192.0.2.0/24"))
	if !ok || len(trace.Picks) == 0 {
		return ""
	}
	return trace.Picks[0].Cluster
}

func (m *mesh) want(when string, sites ...string) {
	m.t.Helper()
	for i, n := range m.nodes {
		if got := n.site(); got != sites[i] {
			m.t.Errorf("%s: %s answers %q, want %q", when, n.name, got, sites[i])
		}
	}
}

// inBubble runs a mesh test on virtual time; the geo table is made outside,
// since its decoding is nothing of the bubble's.
func inBubble(t *testing.T, f func(t *testing.T, m *mesh)) {
	t.Helper()
	table := geo.Default()
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, table)
		time.Sleep(3 * time.Second) // virtual
		f(t, m)
	})
}

// TestLoopMovesByQuorum: one director that cannot reach a site moves nothing (F6,
// S7); two of three do, on all three at once (F2).
func TestLoopMovesByQuorum(t *testing.T) {
	inBubble(t, func(_ *testing.T, m *mesh) {
		m.want("at first", "fra", "fra", "fra")
		m.nodes[0].set("192.0.2.1", true)
		time.Sleep(30 * time.Second)
		m.want("one sees it down", "fra", "fra", "fra")
		m.nodes[1].set("192.0.2.1", true)
		time.Sleep(time.Second)
		m.want("two see it down", "nyc", "nyc", "nyc")
		m.nodes[0].set("192.0.2.1", false)
		m.nodes[1].set("192.0.2.1", false)
		time.Sleep(5 * time.Second)
		m.want("held for 10 s", "nyc", "nyc", "nyc")
		time.Sleep(10*time.Second + wholeRamp)
		m.want("it has returned", "fra", "fra", "fra")
	})
}

// TestLoopIsolatedFreezes: a director that hears nobody makes no transition and
// answers what it knew (S8, F7); back among the others it agrees (F8, L2).
func TestLoopIsolatedFreezes(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		m.nodes[2].cut.Store(true)
		time.Sleep(2 * time.Second)
		for _, n := range m.nodes {
			n.set("192.0.2.1", true)
		}
		time.Sleep(10 * time.Minute)
		m.want("cut off", "nyc", "nyc", "fra")
		m.nodes[2].cut.Store(false)
		time.Sleep(5 * time.Second)
		m.want("healed", "nyc", "nyc", "nyc")
	})
}

// TestLoopAbstains: a director that doubts itself does not count (F12).
func TestLoopAbstains(t *testing.T) {
	inBubble(t, func(_ *testing.T, m *mesh) {
		_ = m.nodes[0].inspect(m.ctx, func(time.Time) { m.nodes[0].abstains = func() string { return "its links are gone" } })
		time.Sleep(time.Second)
		m.nodes[0].set("192.0.2.1", true)
		m.nodes[1].set("192.0.2.1", true)
		time.Sleep(10 * time.Second)
		m.want("one of the two abstains", "fra", "fra", "fra")
	})
}

// TestLoopAllDown: with everything down the answers stay (S1, F18).
func TestLoopAllDown(t *testing.T) {
	inBubble(t, func(_ *testing.T, m *mesh) {
		for _, n := range m.nodes {
			n.set("192.0.2.1", true)
			n.set("192.0.2.2", true)
		}
		time.Sleep(10 * time.Second)
		m.want("all down", "fra", "fra", "fra")
	})
}

// TestLoopPlans: a plan is taken into force only if it may replace the one that
// is (S3, S7), and acknowledged only once it is on disk (S6).
func TestLoopPlans(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		n := m.nodes[0]
		outsider := &node{loop: &loop{name: "d9"}, key: ed25519.NewKeyFromSeed(make([]byte, 32))}
		tests := []struct {
			name   string
			offer  *inForce
			want   uint64 // revision in force afterwards
			serves bool
		}{
			{name: "the next", offer: m.plan(nil, 2, n), want: 2},
			{name: "an older one", offer: m.plan(nil, 1, n), want: 2},
			{name: "the same revision with another content", offer: m.plan(func(p *plan.Plan) { p.Writer = "d2" }, 2, n), want: 2},
			{name: "another fleet's", offer: m.plan(func(p *plan.Plan) { p.Fleet = "other" }, 3, n), want: 2},
			{name: "an outsider's", offer: m.plan(nil, 4, outsider), want: 2},
			{name: "one of a higher epoch", offer: m.plan(func(p *plan.Plan) { p.Epoch = 2 }, 5, m.nodes[1]), want: 5},
		}
		for _, tc := range tests {
			n.horizon.offer(tc.offer)
			n.wakeup.up()
			time.Sleep(100 * time.Millisecond)
			f := n.horizon.current()
			if got := f.sealed.Identity.Revision; got != tc.want {
				t.Errorf("%s: revision %d is in force, want %d", tc.name, got, tc.want)
			}
			if id := n.horizon.acked(); !id.IsZero() && id != f.sealed.Identity {
				t.Errorf("%s: acknowledges %v", tc.name, id)
			}
			if n.site() == "" {
				t.Errorf("%s: it answers nothing", tc.name)
			}
		}
		if id := n.horizon.acked(); !id.IsZero() {
			t.Errorf("acknowledges %v, which is on no disk", id)
		}
		n.horizon.savedNow(n.horizon.current().sealed.Identity)
		if n.horizon.acked().IsZero() {
			t.Error("acknowledges nothing, though its plan is on disk")
		}
		higher := n.horizon.current().sealed.Identity
		higher.Revision++
		n.horizon.setPeer("d2", higher)
		if !n.horizon.acked().IsZero() || !n.horizon.behind() {
			t.Error("acknowledges a plan although a peer holds a higher one")
		}
	})
}

// TestLoopReadmit: a person ends the wait of S10 for a site that is well.
func TestLoopReadmit(t *testing.T) {
	inBubble(t, func(_ *testing.T, m *mesh) {
		down := func(yes bool) {
			for _, n := range m.nodes {
				n.set("192.0.2.1", yes)
			}
		}
		for range 2 { // two falls and a return: the second return is held for minutes
			down(true)
			time.Sleep(3 * time.Second)
			down(false)
			time.Sleep(15 * time.Second)
		}
		time.Sleep(30 * time.Second)
		m.want("held after its second fall", "nyc", "nyc", "nyc")
		f := m.plan(func(p *plan.Plan) {
			p.Overrides = append(p.Overrides, readmission())
		}, 2, m.nodes[0])
		for _, n := range m.nodes {
			n.horizon.offer(f)
			n.wakeup.up()
		}
		time.Sleep(2*time.Second + wholeRamp)
		m.want("readmitted", "fra", "fra", "fra")
	})
}

func readmission() *plan.Override {
	now := time.Now()
	return &plan.Override{
		Id: "r1", Kind: plan.Override_READMIT, Scope: "cluster/fra", Author: "ada", Reason: "repaired",
		Start: timestamppb.New(now), End: timestamppb.New(now.Add(10 * time.Minute)), Revision: 2,
	}
}

// TestLoopCatchesUpByPushPull: a director that has nothing of what went before,
// and that nobody answers, learns from proofs what is down (S7): it must not send
// clients to a dead site until somebody approves it.
func TestLoopCatchesUpByPushPull(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		m.nodes[2].cut.Store(true) // its messages are nobody's, and it knows nothing
		time.Sleep(2 * time.Second)
		m.nodes[0].set("192.0.2.1", true)
		m.nodes[1].set("192.0.2.1", true)
		time.Sleep(2 * time.Second)
		m.want("before", "nyc", "nyc", "fra")
		state, err := m.nodes[0].exchange.MarshalBinary()
		if err != nil || len(state) == 0 {
			t.Fatalf("nothing is carried: %v", err)
		}
		m.nodes[2].exchange.Merge(state[:len(state)/2]) // torn: dropped
		m.nodes[2].exchange.Merge(state)
		time.Sleep(time.Second)
		m.want("after", "nyc", "nyc", "nyc")
	})
}
