package director

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/health"
)

// wholeRamp is longer than the default ramp.
const wholeRamp = 31 * time.Second

// clients gives the clusters that many networks are sent to by a director.
func (n *node) clients() []string {
	out := make([]string, 4000)
	for i := range out {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(i)*7919<<8)
		trace, ok := n.table.Load().Trace("pay.example.org.", false, netip.PrefixFrom(netip.AddrFrom4(b), 24))
		if ok && len(trace.Picks) == 1 {
			out[i] = trace.Picks[0].Cluster
		}
	}
	return out
}

// share gives what part of them a cluster has, and whether that is a percentage within
// what chance allows: five standard deviations.
func shareOf(clients []string, cluster string, percent float64) (part float64, ok bool) {
	for _, c := range clients {
		if c == cluster {
			part++
		}
	}
	n, p := float64(len(clients)), percent/100
	part /= n
	return part, math.Abs(part-p) <= 5*math.Sqrt(p*(1-p)/n)
}

// TestLoopRamps: a site that returns gets 10, 50 and 100 % of its clients over 30 s, on
// all directors the same ones, without a leader (SEMANTICS, return; L2). Who has come
// back stays, a fall ends it at once (S10), and the TTL is the time to the next step.
func TestLoopRamps(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		down := func(yes bool) {
			for _, n := range m.nodes {
				n.set("192.0.2.1", yes)
			}
		}
		down(true)
		time.Sleep(3 * time.Second)
		m.want("down", "nyc", "nyc", "nyc")
		down(false)
		returned := func() bool {
			_, held := shareOf(m.nodes[0].clients(), "fra", 0)
			return !held
		}
		for range 200 {
			if returned() {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(500 * time.Millisecond)
		var before []string
		for _, step := range []struct {
			percent float64
			sleep   time.Duration
			ttl     uint32 // at least, of 20
		}{{10, 5 * time.Second, 5}, {10, 5 * time.Second, 5}, {50, 10 * time.Second, 15}, {50, 10 * time.Second, 5}, {100, 5 * time.Second, 20}, {100, 10 * time.Second, 20}} {
			now := m.nodes[0].clients()
			if part, ok := shareOf(now, "fra", step.percent); !ok {
				t.Errorf("fra has %.3f of the clients, want %g %%", part, step.percent)
			}
			for _, n := range m.nodes[1:] {
				if !slices.Equal(n.clients(), now) {
					t.Errorf("%s sends clients elsewhere than d1 (L2)", n.name)
				}
			}
			for i, was := range before {
				if was == "fra" && now[i] != "fra" {
					t.Fatalf("client %d had come back to fra and is at %s again", i, now[i])
				}
			}
			trace, _ := m.nodes[0].table.Load().Trace("pay.example.org.", false, netip.MustParsePrefix("192.0.2.0/24"))
			if ttl := trace.Left(time.Now()); ttl < step.ttl || ttl > step.ttl+5 {
				t.Errorf("at %g %% the TTL is %d, want %d to %d", step.percent, ttl, step.ttl, step.ttl+5)
			}
			before = now
			time.Sleep(step.sleep)
		}
		if len(m.nodes[0].loop.stepped) == 0 {
			t.Error("the saver was not told of the steps")
		}
	})
}

// TestRampEndsWithAFall: whoever had come back goes at once, and no step comes after it.
func TestRampEndsWithAFall(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		for _, yes := range []bool{true, false, true} {
			for _, n := range m.nodes {
				n.set("192.0.2.1", yes)
			}
			time.Sleep(15 * time.Second)
		}
		for range 20 {
			if part, ok := shareOf(m.nodes[1].clients(), "fra", 0); !ok {
				t.Fatalf("fra is down and has %.3f of the clients", part)
			}
			time.Sleep(time.Second)
		}
		_ = m.nodes[1].inspect(m.ctx, func(time.Time) {
			if got := m.nodes[1].ramps.returns; len(got) > 0 {
				t.Errorf("what is down is on its way back: %v", got)
			}
		})
	})
}

// TestRampOfADirector: the age of a return is a director's own, is kept over a restart
// without the time off, and counts for who had the subject down: not for one that hears
// of an old return for the first time.
func TestRampOfADirector(t *testing.T) {
	raws, problems := spec.Parse("mesh.yaml", []byte(meshSpec))
	set, more := spec.Resolve(raws)
	if spec.Failed(problems) || spec.Failed(more) {
		t.Fatal(problems, more)
	}
	now := time.Unix(1_800_000_000, 0)
	watched := subjects(set)
	past := func(numbers ...uint64) health.Chain {
		c := health.Chain{Subject: watched[0]}
		for i, n := range numbers {
			c.N, c.Past = n, append(c.Past, health.Moment{N: n, Since: now.Add(time.Duration(i-len(numbers)+1) * time.Minute)})
		}
		return c
	}
	tests := []struct {
		name  string
		chain health.Chain
		after time.Duration
		want  string
	}{
		{"never down", past(), 0, "no"},
		{"down", past(1), 0, "no"},
		{"just back", past(1, 2), 0, "0s, next 10s"},
		{"a step on", past(1, 2), 10 * time.Second, "10s, next 30s"},
		{"just before the next", past(1, 2), 30*time.Second - 1, "10s, next 30s"},
		{"all of it", past(1, 2), 30 * time.Second, "30s, next 35s"},
		{"long back", past(1, 2), 35 * time.Second, "no"},
		{"heard of for the first time", past(2), 0, "no"},
		{"two transitions were missed, and it was down", past(1, 4), 0, "0s, next 10s"},
		{"two transitions were missed, and it was up", past(1, 2, 4), 0, "no"},
	}
	for _, tc := range tests {
		back, next, ok := steer.ReturnOf(steer.Steps(set), tc.chain, now.Add(tc.after))
		got := "no"
		if ok {
			got = fmt.Sprintf("%s, next %s", back.Age, next.Sub(back.At))
		}
		if got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
}

// TestPinnedReturns: of the clients that are pinned to a site it gets so many percent as it
// returns, whatever the policy for the others, and though it has no weight.
func TestPinnedReturns(t *testing.T) {
	const more = `---
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: sin}
spec: {location: {country: SG}}
`
	m := &mesh{t: t, ctx: t.Context()}
	for i, name := range []string{"d1", "d2", "d3"} {
		m.nodes = append(m.nodes, &node{loop: &loop{name: name}, mesh: m, key: benchKey(byte(i))})
	}
	signer := m.nodes[0]
	for _, tc := range []struct{ name, steering, weight string }{
		{"in order", "{policy: failover, order: [nyc, sin, fra]}", "100"},
		{"weighted", "{policy: weighted}", "100"},
		{"weighted, without a weight", "{policy: weighted}", "0"},
	} {
		text := strings.NewReplacer(
			"[192.0.2.1]}", "[192.0.2.1], weight: "+tc.weight+"}", "[192.0.2.2]}]", "[192.0.2.2]}, {cluster: sin, addresses: [192.0.2.3]}]\n  pins: [{prefix: 0.0.0.0/0, cluster: fra}]",
			"{policy: failover, order: [fra, nyc]}", tc.steering,
		).Replace(meshSpec) + more
		f := m.planOf(text, nil, 1, signer)
		for age, percent := range map[time.Duration]float64{0: 10, 10 * time.Second: 50, 30 * time.Second: 100} {
			returns := map[health.Subject]steer.Return{}
			for _, s := range subjects(f.spec) {
				if s.Addr.Addr() == netip.MustParseAddr("192.0.2.1") {
					returns[s] = steer.Return{At: time.Now(), Age: age}
				}
			}
			decision := steer.Decide(steer.Input{Spec: f.spec, Plan: f.sealed.Plan, Returns: returns, Places: placesOf(geo.Default())})
			table, err := answer.Compile(answer.Options{Zones: new(describer).describe(f, decision), Geo: geo.Default()})
			if err != nil {
				t.Fatal(err)
			}
			signer.table = tableOf(table)
			if part, ok := shareOf(signer.clients(), "fra", percent); !ok {
				t.Errorf("%s: fra has %.3f of its pinned clients, want %g %%", tc.name, part, percent)
			}
		}
	}
}

// TestRampOfAStandIn: whoever takes over in the midst of a ramp goes on with it, from its
// first answer on (F22).
func TestRampOfAStandIn(t *testing.T) {
	f := newFlapper(t, time.Unix(1_800_000_000, 0), nil)
	for range 200 {
		f.tick(true)
	}
	f.until(false, false, 10*time.Second)
	f.until(true, true, time.Minute)
	d := onDisk(t, func(g *store.Generation, _ []string) {
		if g != nil {
			g.Health = f.book.Save(f.now)
		}
	}, 7)
	stood, _, err := standIn(d.settings, newSurvey(""), nil, d.log)
	if err != nil {
		t.Fatal(err)
	}
	for name, table := range map[string]*answer.Table{"the director": d.table.Load(), "the stand-in": stood} {
		n := &node{loop: &loop{table: tableOf(table)}}
		if part, ok := shareOf(n.clients(), "fra", 10); !ok {
			t.Errorf("%s: fra has %.3f of the clients, want 10 %%", name, part)
		}
	}
}
