package steer

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// drawMany adds to a drawn service one that is alike but for its name, one of
// addresses of its own, and one that is steered otherwise.
func drawMany(t *rapid.T) *fleet {
	f := draw(t)
	shop := f.set.Services[0]
	for i, name := range []string{"alike", "own", "other"} {
		svc := *shop
		svc.Name, svc.Hosts = name, []string{name + ".example.org"}
		svc.Endpoints = slices.Clone(shop.Endpoints)
		if i > 0 {
			for j := range svc.Endpoints {
				e := &svc.Endpoints[j]
				e.Addresses = slices.Clone(e.Addresses)
				for n, a := range e.Addresses {
					b := a.As16()
					b[14] = byte(i)
					e.Addresses[n] = netip.AddrFrom16(b).Unmap()
				}
			}
			drawStates(t, f, &svc)
		}
		if i > 1 {
			svc.Steering.Policy, svc.Steering.Regions, svc.Pins, svc.Residency = spec.PolicyFailover, nil, nil, nil
		}
		f.set.Services = append(f.set.Services, &svc)
	}
	slices.SortFunc(f.set.Services, func(a, b *spec.GlobalService) int { return cmp.Compare(a.Name, b.Name) })
	return f
}

// TestDeciderForgetsNothingOfMany: whatever a decider has seen, and of however many
// services, it decides as one made anew (L2), for all and for some; and it gives the
// very same ruling where nothing has changed.
func TestDeciderForgetsNothingOfMany(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawMany(t)
		f.size(t)
		f.drawPools(t)
		var d, some, told Decider
		var last map[health.Subject]health.State // as told was told
		moved := slices.Clone(places)            // as another geo table has them
		slices.Reverse(moved[1:])
		prepared := Prepare(f.set, places)
		var before, toldBefore Decision
		said, toldSaid := dump(before), dump(before)
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			in := f.input()
			in.Acting = rapid.IntRange(0, 3).Draw(t, "acting") == 0
			if rapid.Bool().Draw(t, "prepared") {
				in.Prepared = prepared
			}
			if rapid.IntRange(0, 3).Draw(t, "moved") == 0 {
				in.Places = moved
			}
			fresh := in
			fresh.Prepared = nil
			want := Decide(fresh)
			got := d.Decide(in)
			if dump(before) != said {
				t.Fatalf("an earlier decision was\n%s\nand is now\n%s", said, dump(before))
			}
			before, said = got, dump(got)
			if dump(got) != dump(want) {
				t.Fatalf("remembered:\n%s\nanew:\n%s", dump(got), dump(want))
			}
			for i, again := range d.Decide(in).Services {
				if again.Ruling != got.Services[i].Ruling {
					t.Fatalf("%s is decided anew for nothing", again.Name)
				}
			}
			// One that is told what has changed, and then some.
			tell := in
			if last != nil {
				tell.Changed = differing(last, in.States)
				for s := range in.States {
					if rapid.IntRange(0, 9).Draw(t, "told for nothing") == 0 {
						tell.Changed = append(tell.Changed, health.Change{Subject: s, State: in.States[s]})
					}
				}
			}
			last = maps.Clone(in.States)
			got = told.Decide(tell)
			if dump(got) != dump(want) {
				t.Fatalf("told:\n%s\nanew:\n%s", dump(got), dump(want))
			}
			if dump(toldBefore) != toldSaid {
				t.Fatalf("an earlier decision was\n%s\nand is now\n%s", toldSaid, dump(toldBefore))
			}
			toldBefore, toldSaid = got, dump(got)
			chosen := rapid.SliceOfDistinct(rapid.IntRange(0, len(f.set.Services)-1), rapid.ID[int]).Draw(t, "chosen")
			for i, s := range some.DecideSome(in, chosen, new(Observed)) {
				w := want.Services[chosen[i]]
				if s.Name != w.Name || !slices.Equal(s.Hosts, w.Hosts) || dumpRuling(s.Ruling) != dumpRuling(w.Ruling) {
					t.Fatalf("some:\n%s\nof all:\n%s", dumpRuling(s.Ruling), dumpRuling(w.Ruling))
				}
			}
			f.step(t)
		}
	})
}

// differing lists what became of the subjects whose states differ; it is never nil.
func differing(a, b map[health.Subject]health.State) []health.Change {
	out := []health.Change{}
	for _, m := range []map[health.Subject]health.State{a, b} {
		for s := range m {
			if a[s] != b[s] {
				out = append(out, health.Change{Subject: s, State: b[s]})
			}
		}
	}
	return out
}

// step changes what decisions depend on.
func (f *fleet) step(t *rapid.T) {
	f.plan = proto.CloneOf(f.plan)
	switch rapid.IntRange(0, 11).Draw(t, "step") {
	case 10, 11:
		f.drawPools(t)
	case 8, 9:
		f.drawReturn(t, rapid.SampledFrom(f.set.Clusters).Draw(t, "back").Name)
	case 0:
		svc := rapid.SampledFrom(f.set.Services).Draw(t, "flips")
		e := rapid.SampledFrom(svc.Endpoints).Draw(t, "where")
		kind := rapid.SampledFrom([]health.Kind{health.KindUnknown, health.KindUnknown, health.KindSignal, health.KindSoft}).Draw(t, "watched")
		f.mark(svc.Name+"@"+e.Cluster, kind, rapid.SampledFrom([]health.State{health.Unknown, health.Up, health.Down, health.Down}).Draw(t, "to"))
	case 6, 7:
		to := rapid.SampledFrom([]health.State{health.Up, health.Down}).Draw(t, "degraded")
		f.mark(rapid.SampledFrom(f.set.Clusters[:min(2, len(f.set.Clusters))]).Draw(t, "where").Name, health.KindSoft, to)
	case 1:
		f.plan.Overrides = nil
		drawOverrides(t, f)
	case 2, 3:
		scopes := []string{"fleet"}
		for _, svc := range f.set.Services {
			scopes = append(scopes, "service/"+svc.Name)
			for _, e := range svc.Endpoints {
				scopes = append(scopes, "service/"+svc.Name+"@"+e.Cluster, "cluster/"+e.Cluster)
			}
		}
		kind := rapid.SampledFrom([]plan.Override_Kind{plan.Override_DRAIN, plan.Override_DRAIN, plan.Override_OBSERVE, plan.Override_READMIT}).Draw(t, "kind")
		f.override(kind, rapid.SampledFrom(scopes).Draw(t, "scope"), "carol", rapid.Bool().Draw(t, "lastResort"))
	case 4:
		if n := len(f.plan.Overrides); n > 0 {
			i := rapid.IntRange(0, n-1).Draw(t, "ends")
			f.plan.Overrides = slices.Delete(f.plan.Overrides, i, i+1)
		}
	case 5:
		if n := len(f.plan.Overrides); n > 0 { // the same ID, and something else
			o := f.plan.Overrides[rapid.IntRange(0, n-1).Draw(t, "edited")]
			o.Reason, o.LastResort = "INC-2", !o.LastResort
			if o.GetKind() == plan.Override_DRAIN && rapid.Bool().Draw(t, "paced") {
				drawPace(t, o)
			}
		}
	}
}

// TestPairs: the pairs of two views are those of every place, of every prefix of
// either, client by client.
func TestPairs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		a := Decide(f.input()).Services[0].V4
		if rapid.Bool().Draw(t, "rules") {
			set := *f.set
			svc := *f.set.Services[0]
			svc.Residency, svc.Steering.Regions, svc.Pins = nil, nil, nil
			order := slices.Clone(svc.Steering.Order)
			drawRules(t, f, &svc)
			svc.Steering.Order = order
			set.Services, f.set = []*spec.GlobalService{&svc}, &set
		}
		f.step(t)
		b := Decide(f.input()).Services[0].V4
		want := map[[2]uint16]bool{}
		prefixes := []netip.Prefix{{}}
		for _, v := range []*View{&a, &b} {
			for _, p := range v.ByPrefix {
				prefixes = append(prefixes, p.Prefix)
			}
		}
		row := func(v *View, p netip.Prefix) []uint16 {
			best, bits := v.ByPlace, -1
			for _, q := range v.ByPrefix {
				if p.IsValid() && q.Prefix.Bits() > bits && covers(q.Prefix, p) {
					best, bits = q.ByPlace, q.Prefix.Bits()
				}
			}
			return best
		}
		for _, p := range prefixes {
			for place := range places {
				want[[2]uint16{row(&a, p)[place], row(&b, p)[place]}] = true
			}
		}
		got := map[[2]uint16]bool{}
		for x, y := range Pairs(&a, &b) {
			if got[[2]uint16{x, y}] {
				t.Fatalf("%d and %d twice", x, y)
			}
			got[[2]uint16{x, y}] = true
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// TestDeciderForgetsNothing: a decider that has seen other facts decides as one
// made anew (L2).
func TestDeciderForgetsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := draw(t)
		f.size(t)
		var d Decider
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 4:
				drawReturns(t, f)
			case 3:
				f.plan = proto.CloneOf(f.plan)
				f.drawPools(t)
			case 0:
				clear(f.states)
				drawStates(t, f, f.set.Services[0])
			case 1:
				f.plan = proto.CloneOf(f.plan)
				f.plan.Overrides = nil
				drawOverrides(t, f)
			case 2:
				c := *f.set
				f.set = &c
			}
			if got, want := dump(d.Decide(f.input())), dump(Decide(f.input())); got != want {
				t.Fatalf("remembered:\n%s\nanew:\n%s", got, want)
			}
		}
	})
}
