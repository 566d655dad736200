package director

import (
	"context"
	"crypto/ed25519"
	"testing"
	"testing/synctest"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/dnsserver/geo"
)

// standing makes a node that holds a plan and whose loop the test itself plays,
// so that what comes between two steps is the test's to say.
func standing(t *testing.T) (*mesh, *node) {
	t.Helper()
	m := &mesh{t: t, ctx: t.Context(), geo: geo.Default()}
	n := m.node("d1", ed25519.NewKeyFromSeed(make([]byte, 32)))
	m.nodes = []*node{n, m.node("d2", ed25519.NewKeyFromSeed(append(make([]byte, 31), 1))), m.node("d3", ed25519.NewKeyFromSeed(append(make([]byte, 31), 2)))}
	if !n.takeForce(m.plan(nil, 1, n), time.Now()) {
		t.Fatal("the first plan makes no table")
	}
	return m, n
}

const meshSpecMore = meshSpec + `
---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: cart}
spec:
  hosts: [cart.example.org]
  siteNames: true
  endpoints: [{cluster: fra, addresses: [192.0.2.1]}]
  probes: [{http: {scheme: http, port: 8080, path: /healthz}}]
  steering: {policy: failover, order: [fra]}
`

// TestQuestionsMeetNewPlan: a plan that brings a service comes into force while
// somebody asks for the status or an explanation. It must not crash the loop,
// and with it the DNS.
func TestQuestionsMeetNewPlan(t *testing.T) {
	m, n := standing(t)
	d := &Director{loop: n.loop, horizon: n.horizon, table: n.table, now: time.Now}
	explained := make(chan error, 1)
	go func() {
		_, err := d.Explain("cart.example.org", "192.0.2.7")
		explained <- err
	}()
	ask := <-n.queries // asked while plan 1 is in force
	if !n.takeForce(m.planOf(meshSpecMore, nil, 2, n), time.Now()) {
		t.Fatal("the second plan makes no table")
	}
	ask(time.Now())
	if err := <-explained; err != nil {
		t.Errorf("explain: %v", err)
	}
	var out api.Status
	n.describe(&out, time.Now())
	if len(out.Services) != 2 {
		t.Errorf("status shows %d services, want 2", len(out.Services))
	}
}

// TestTallyOutOfTime: a command whose time ends in the middle of a count is not
// complete for want of an answer (S6).
func TestTallyOutOfTime(t *testing.T) {
	_, n := standing(t)
	d := &Director{loop: n.loop, horizon: n.horizon, table: n.table, now: time.Now, changes: newBroadcast()}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // what is ready at once is chosen at random
		out := d.await(ctx, n.horizon.current().sealed.Identity, api.Outcome{
			Applied: []string{"d1"}, Missing: []api.Missing{{Director: "d2", Why: "silent"}},
		}, nil)
		if out.Code != 3 || len(out.Missing) != 1 {
			t.Fatalf("out of time: code %d, missing %v, want 3 and d2", out.Code, out.Missing)
		}
	}
}

// TestInspectWaits: a question that the loop has taken is waited for, even past
// its asker's time, since it writes into the asker's variables.
func TestInspectWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &loop{queries: make(chan func(time.Time))}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() {
			ask := <-l.queries
			time.Sleep(2 * time.Second)
			ask(time.Now())
		}()
		answered := false
		if err := l.inspect(ctx, func(time.Time) { answered = true }); err != nil || !answered {
			t.Errorf("got %v, %t, want the answer", err, answered)
		}
	})
}
