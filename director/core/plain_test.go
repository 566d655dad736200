package core

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// What follows is how a change is looked at without a memo, without what services
// share, and client by client: slow, and plain enough to be believed.

// plainCompare decides for all services anew, before and after a change.
func plainCompare(s State, set *spec.Set, next *plan.Plan) *verdict {
	run := func(set *spec.Set, p *plan.Plan, acting bool) []steer.Service {
		return steer.Decide(steer.Input{Spec: set, Plan: p, States: s.States, Places: everywhere(), Acting: acting}).Services
	}
	at := func(list []steer.Service, name string) *steer.Service {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
		return nil
	}
	before, after := run(s.Spec, s.Plan.Plan, false), run(set, next, false)
	was, will := run(s.Spec, s.Plan.Plan, true), run(set, next, true)
	names := map[string]bool{}
	for _, list := range [][]steer.Service{before, after} {
		for i := range list {
			names[list[i].Name] = true
		}
	}
	v := &verdict{roller: steer.NewRoller(s.States)}
	for s, st := range s.States {
		v.soft = v.soft || s.Kind == health.KindSoft && st == health.Down
	}
	for _, name := range trueKeys(names) {
		v.services = append(v.services, compared{
			name: name, svc: set.Service(name), before: at(before, name), after: at(after, name),
			acting: [2]*steer.Service{at(was, name), at(will, name)},
		})
	}
	return v
}

// plainPairs goes through all places, of all prefixes.
func plainPairs(b, a *steer.Service, f func(fam steer.Family, from, to *steer.Set)) {
	for fam, views := range [][2]*steer.View{{&b.V4, &a.V4}, {&b.V6, &a.V6}} {
		from, to := views[0], views[1]
		if len(from.Sets) == 0 || len(to.Sets) == 0 {
			continue
		}
		seen := map[[2]uint16]bool{}
		row := func(x, y []uint16) {
			for i := range min(len(x), len(y)) {
				if p := [2]uint16{x[i], y[i]}; !seen[p] {
					seen[p] = true
					f(steer.Family(fam), &from.Sets[p[0]], &to.Sets[p[1]])
				}
			}
		}
		rowFor := func(v *steer.View, p steer.PrefixPlaces) []uint16 {
			best, bits := v.ByPlace, -1
			for _, q := range v.ByPrefix {
				if q.Prefix.Bits() > bits && q.Prefix.Bits() <= p.Prefix.Bits() && q.Prefix.Contains(p.Prefix.Addr()) {
					best, bits = q.ByPlace, q.Prefix.Bits()
				}
			}
			return best
		}
		row(from.ByPlace, to.ByPlace)
		for _, p := range from.ByPrefix {
			row(p.ByPlace, rowFor(to, p))
		}
		for _, p := range to.ByPrefix {
			row(rowFor(from, p), p.ByPlace)
		}
	}
}

func (v *verdict) plainLastSites() []string {
	var out []string
	for _, c := range v.services {
		if c.acting[0] == nil || c.acting[1] == nil {
			continue
		}
		var up, lost [2]int
		plainPairs(c.acting[0], c.acting[1], func(f steer.Family, from, to *steer.Set) {
			tier := v.tier(c.svc, f, from)
			if tier == steer.TierHealthy || tier == steer.TierDegraded || tier == steer.TierLastResort {
				up[f]++
				if v.tier(c.svc, f, to) > tier {
					lost[f]++
				}
			}
		})
		if lost != [2]int{} {
			out = append(out, c.name+whose(c.svc, up, lost))
		}
	}
	return out
}

func (v *verdict) plainEffects() []Effect {
	var out []Effect
	for _, c := range v.services {
		from, to := map[string]bool{}, map[string]bool{}
		switch {
		case c.before == nil:
			for _, s := range c.after.Sites() {
				to[s.Cluster] = s.Serving
			}
		case c.after == nil:
			for _, s := range c.before.Sites() {
				from[s.Cluster] = s.Serving
			}
		default:
			plainPairs(c.before, c.after, func(_ steer.Family, x, y *steer.Set) {
				old, now := picked(x, c.before.Answers), picked(y, c.after.Answers)
				for s := range old {
					from[s] = from[s] || !now[s]
				}
				for s := range now {
					to[s] = to[s] || !old[s]
				}
			})
		}
		e := Effect{Service: c.name, From: trueKeys(from), To: trueKeys(to)}
		if len(e.From) == 0 && len(e.To) == 0 {
			continue
		}
		if c.after != nil {
			for _, site := range c.after.Sites() {
				if site.Drained == "" && (site.Health == steer.Healthy || site.Health == steer.HealthUnknown) {
					e.Healthy++
				}
			}
		}
		if c.svc != nil {
			e.MinWanted = c.svc.MinHealthy
		}
		out = append(out, e)
	}
	return out
}

// plainContent writes all of a zone that a serial follows.
func plainContent(t failer, set *spec.Set, z *spec.Zone, p *plan.Plan) string {
	t.Helper()
	type host struct {
		Name string
		content
	}
	own := *z
	own.File = ""
	var hosts []host
	for _, svc := range set.Services {
		for _, name := range svc.Hosts {
			if set.ZoneOf(name) == z {
				hosts = append(hosts, host{name, contentOf(set, svc, steer.StandbysOf(set, p))})
			}
		}
	}
	slices.SortFunc(hosts, func(a, b host) int { return cmp.Compare(a.Name, b.Name) })
	b, err := json.Marshal(struct {
		Zone  spec.Zone
		Hosts []host
	}{own, hosts})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return string(b)
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// twinYAML adds a service that is steered as mixed is, to addresses of its own.
const twinYAML = `
---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: twin}
spec:
  hosts: [twin.example.org]
  endpoints:
  - {cluster: fra, addresses: [192.0.2.40, "2001:db8::40"]}
  - {cluster: nyc, addresses: [192.0.2.41, "2001:db8::41"]}
  - {cluster: sin, addresses: [192.0.2.42]}
  probes: [{tcp: {port: 443}}]
  residency:
  - {clients: {continents: [NA]}, clusters: {jurisdiction: us}}
  residencyUnknown: allow
`

// TestPlain plays random commands on a memo that has seen all those before, and
// holds what comes out against the plain way: whom a change takes the last site from
// (S1), what it moves, what it raises, and the serials (S13).
func TestPlain(t *testing.T) {
	start := newWorld(t)
	all := raws(t, mixedYAML+twinYAML)
	variants := [][]spec.Raw{
		all,
		edit(t, all, "GlobalService/shop", `"steering"`, `"ttl":"7s","steering"`),
		edit(t, all, "GlobalService/shop", `"steering"`, `"automation":"observe","steering"`),
		edit(t, all, "GlobalService/mixed", `"2001:db8::30"`, `"2001:db8::31"`),
		only(all, "Cluster/fra", "Cluster/nyc", "Cluster/sin", "Zone/example.org", "GlobalService/shop", "Fleet/default"),
	}
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: start.t, s: start.s, key: "d1"}
		w.s.States = map[health.Subject]health.State{}
		w.do(Command{Verb: Apply, Objects: all})
		memo := new(Memo)
		for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
			for range rapid.IntRange(0, 2).Draw(t, "flips") {
				svc := rapid.SampledFrom(w.s.Spec.Services).Draw(t, "service")
				e := rapid.SampledFrom(svc.Endpoints).Draw(t, "site")
				w.mark(w.s.States, svc.Name, e.Cluster, rapid.SampledFrom([]health.State{health.Up, health.Down}).Draw(t, "state"))
				for _, a := range e.Addresses {
					if rapid.Bool().Draw(t, "soft") {
						w.s.States[health.Subject{Kind: health.KindSoft, Addr: netip.AddrPortFrom(a, 80), Def: "00000000000000aa"}] = rapid.SampledFrom([]health.State{health.Up, health.Down}).Draw(t, "degraded")
					}
				}
			}
			c := drawCommand(t, w, variants)
			if c.ID == "" {
				c.ID = fmt.Sprintf("p%d", i)
			}
			c.Paced, c.Steps, c.Wait, c.Now = false, nil, 0, true // of them others are judged
			if c.Director != nil {
				continue // moves no client, and could take the world's own key
			}
			plain, err := Decide(w.s, c)
			remembering := w.s
			remembering.Memo = memo
			if rapid.Bool().Draw(t, "prepared") {
				remembering.Prepared = steer.Prepare(w.s.Spec, merged(w.s.Spec))
			}
			got, err2 := Decide(remembering, c)
			if fmt.Sprint(err) != fmt.Sprint(err2) || !proto.Equal(got.Plan, plain.Plan) || fmt.Sprintf("%+v", got.Preview) != fmt.Sprintf("%+v", plain.Preview) {
				t.Fatalf("%+v\nwith a memo:    %+v %v\nwithout: %+v %v", c, got.Preview, err2, plain.Preview, err)
			}
			checkPlain(t, w, c, got, err)
			var r *Refusal
			if errors.As(err, &r) || got.Noop {
				continue
			}
			w.take(got)
		}
	})
}

// checkPlain holds a decision against the plain way.
func checkPlain(t *rapid.T, w *world, c Command, got Change, err error) {
	again := begin(w.s, c)
	switch c.Verb {
	case Drain:
		if again.drain() != nil && err == nil {
			t.Fatalf("%+v is decided in two ways", c)
		}
		if len(again.next.GetOverrides()) == 0 || again.byID(c.ID) == nil {
			return // refused for what it says
		}
		hit := plainCompare(w.s, w.s.Spec, again.next).plainLastSites()
		var r *Refusal
		if refused := errors.As(err, &r) && r.Force; refused != (len(hit) > 0 && !c.Force) {
			t.Fatalf("%+v: %v, and the last healthy site goes of %v", c, err, hit)
		}
		if len(hit) > 0 && err == nil && !slices.Contains(got.Preview.Warnings, "takes the last healthy site of "+list(hit)) {
			t.Fatalf("%+v warns %q, and the last healthy site goes of %v", c, got.Preview.Warnings, hit)
		}
	case Undrain, Thaw, Apply, Expire:
	default:
		return
	}
	if err != nil || got.Plan == nil {
		return
	}
	set := w.s.Spec
	if got.Doc != nil {
		set, _ = spec.Resolve(Raws(got.Doc))
	}
	v := plainCompare(w.s, set, got.Plan)
	for i := range got.Preview.Effects {
		got.Preview.Effects[i].Changed = 0 // see shift_test.go
	}
	if want := v.plainEffects(); fmt.Sprintf("%+v", got.Preview.Effects) != fmt.Sprintf("%+v", want) {
		t.Fatalf("%+v moves\n%+v, want\n%+v", c, got.Preview.Effects, want)
	}
	for _, z := range set.Zones {
		old := w.s.Spec.Zone(z.Name)
		if old == nil {
			continue
		}
		same := plainContent(t, w.s.Spec, old, w.s.Plan.Plan) == plainContent(t, set, z, got.Plan)
		if was, is := serialIn(w.s.Plan.Plan, z.Name), serialIn(got.Plan, z.Name); same != (was == is) {
			t.Fatalf("%+v: serial of %s from %d to %d, content the same: %t", c, z.Name, was, is, same)
		}
	}
}

func serialIn(p *plan.Plan, zone string) uint32 {
	for _, z := range p.GetZones() {
		if z.GetName() == zone {
			return z.GetSerial()
		}
	}
	return 0
}
