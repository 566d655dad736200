package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/steer"
)

// keeps is what a policy says: clients of the EU get shop from these clusters alone.
func keeps(bundle string, clusters ...string) *plan.Residency {
	sum := plan.Sum([]byte(bundle))
	return &plan.Residency{Policy: sum[:], Sets: []*plan.ResidencySet{{Services: []string{"shop"}, Continents: []string{"EU"}, Clusters: clusters, Why: "law"}}}
}

// served lists who serves a client of Germany, by the plan and spec of a state, in order.
func (w *world) served(s State) string {
	w.t.Helper()
	d := steer.Decide(steer.Input{Spec: s.Spec, Plan: s.Plan.Plan, Places: everywhere()})
	i := slices.IndexFunc(d.Services, func(s steer.Service) bool { return s.Name == "shop" })
	var out []string
	for _, c := range d.Services[i].V4.Sets[d.Services[i].V4.ByPlace[1]].Choices {
		out = append(out, c.Cluster)
	}
	return strings.Join(out, " ")
}

// TestResided (S11): what a policy says of residency is in force with it, and gone with it;
// its preview says who moves; what it says of another spec comes with that; what it could not
// be asked of stays as it was.
func TestResided(t *testing.T) {
	w := newWorld(t)
	w.s.Places = merged
	adopt := Command{Verb: PolicyAdopt, Reason: "x", Bundle: []byte("rules")}
	w.s.Resided = &Resided{Spec: keeps("rules", "nyc", "sin")}
	dry := adopt
	dry.DryRun = true
	look, err := w.try(dry)
	if err != nil || len(look.Preview.Effects) == 0 {
		t.Fatalf("got %+v, %v, want who moves", look.Preview, err)
	}
	got := w.do(adopt)
	if !proto.Equal(got.Plan.GetResidency(), keeps("rules", "nyc", "sin")) || got.Plan.GetMinReader() != plan.ReaderResidency || w.served(w.s) != "nyc sin" {
		t.Errorf("got %v for readers of %d, served by %s", got.Plan.GetResidency(), got.Plan.GetMinReader(), w.served(w.s))
	}
	w.s.Resided = nil
	w.do(w.drain("cluster/nyc"))
	if w.served(w.s) != "sin" {
		t.Errorf("after a drain: %s", w.served(w.s))
	}

	text := strings.Replace(fleetYAML, "192.0.2.10", "192.0.2.19", 1)
	w.do(Command{Verb: Apply, Source: SourceFiles, Objects: raws(t, text)})
	if w.s.Plan.Plan.GetResidency() == nil || w.served(w.s) != "sin" {
		t.Errorf("a spec that it was not asked of: %v, %s", w.s.Plan.Plan.GetResidency(), w.served(w.s))
	}
	w.s.Resided = &Resided{Spec: keeps("rules", "fra", "sin")}
	w.do(Command{Verb: Apply, Source: SourceFiles, Objects: raws(t, fleetYAML)})
	if w.served(w.s) != "fra sin" {
		t.Errorf("another spec: %s", w.served(w.s))
	}
	w.s.Resided = &Resided{}
	w.do(Command{Verb: Apply, Source: SourceFiles, Objects: raws(t, text)})
	if w.s.Plan.Plan.GetResidency() != nil || w.served(w.s) != "fra sin" {
		t.Errorf("it says nothing of this one: %v, %s", w.s.Plan.Plan.GetResidency(), w.served(w.s))
	}
	w.s.Resided = &Resided{Spec: keeps("other rules", "sin")}
	w.do(Command{Verb: PolicyAdopt, Reason: "x", Bundle: []byte("other rules")})
	w.s.Resided = nil
	if w.served(w.s) != "sin" {
		t.Errorf("another policy: %s", w.served(w.s))
	}
	w.do(Command{Verb: PolicyDrop, Reason: "x"})
	if w.s.Plan.Plan.GetResidency() != nil || w.served(w.s) != "fra sin" || w.s.Plan.Plan.GetMinReader() == plan.ReaderResidency {
		t.Errorf("dropped: %v, %s", w.s.Plan.Plan, w.served(w.s))
	}
}

// TestStranded (S11, S1): a policy that would leave some clients nobody is not adopted, and no
// spec applied that does so under it; break-glass passes neither.
func TestStranded(t *testing.T) {
	w := newWorld(t)
	w.s.Resided = &Resided{Spec: keeps("rules", "elsewhere")}
	adopt := Command{Verb: PolicyAdopt, Reason: "x", Bundle: []byte("rules"), BreakGlass: true}
	w.refused(adopt, "shop: clients of continents EU would have no cluster at all")
	w.s.Resided = &Resided{Spec: keeps("rules", "fra")}
	w.do(adopt)
	gone := edit(t, only(raws(t, fleetYAML), "GlobalService/shop"), "GlobalService/shop", `{"addresses":["192.0.2.10"],"cluster":"fra"},`, "")
	gone = edit(t, gone, "GlobalService/shop", `"order":["fra","nyc","sin"]`, `"order":["nyc","sin"]`)
	w.refused(Command{Verb: Apply, Source: SourceFiles, Objects: gone, Force: true, BreakGlass: true, Reason: "x"}, "would have no cluster at all")

	two := keeps("rules", "fra")
	two.Sets = append(two.Sets, &plan.ResidencySet{Services: []string{"shop"}, Countries: []string{"DE"}, Clusters: []string{"nyc"}})
	w.s.Resided = &Resided{Spec: two}
	w.refused(Command{Verb: Apply, Source: SourceFiles, Objects: raws(t, strings.Replace(fleetYAML, "192.0.2.10", "192.0.2.19", 1))}, "clients of continents EU and countries DE")
}

// TestResidedRollout (S11): what some directors try has what the policy says of it, and all
// have that once they take it, at the leader's word too; taken back, nothing of it is left.
func TestResidedRollout(t *testing.T) {
	k := newKeeper(t)
	k.joined()
	k.s.Resided = &Resided{Spec: keeps("rules", "fra", "sin")}
	k.do(Command{Verb: PolicyAdopt, Reason: "x", Bundle: []byte("rules")})
	k.acknowledged()
	k.s.Resided = &Resided{Trial: keeps("rules", "nyc", "sin")}
	k.begin(slower(t))
	k.s.Resided = nil
	p := k.s.Plan.Plan
	if !proto.Equal(p.GetResidency(), keeps("rules", "fra", "sin")) || !proto.Equal(p.GetCanaryResidency(), keeps("rules", "nyc", "sin")) || k.served(k.s) != "fra sin" {
		t.Fatalf("tried: %v and %v, %s", p.GetResidency(), p.GetCanaryResidency(), k.served(k.s))
	}
	trial := k.s
	trial.Spec = k.s.Trial.Spec
	if got := k.served(trial); got != "nyc sin" {
		t.Errorf("those who try it: %s", got)
	}
	k.do(Command{Verb: Abort, Reason: "x"})
	k.acknowledged()
	k.begin(slower(t)) // by break-glass: the policy could not be asked
	if p = k.s.Plan.Plan; !proto.Equal(p.GetCanaryResidency(), keeps("rules", "fra", "sin")) {
		t.Errorf("tried without a word of the policy: %v, want what it said before", p.GetCanaryResidency())
	}
	k.do(Command{Verb: Abort, Reason: "x"})
	if p = k.s.Plan.Plan; p.GetCanaryResidency() != nil || k.served(k.s) != "fra sin" {
		t.Errorf("taken back: %v, %s", p.GetCanaryResidency(), k.served(k.s))
	}
	k.acknowledged()
	k.s.Resided = &Resided{Trial: keeps("rules", "nyc", "sin")}
	k.begin(slower(t))
	k.s.Resided = nil
	k.do(Command{Verb: GoOn, Reason: "well"})
	if p = k.s.Plan.Plan; !proto.Equal(p.GetResidency(), keeps("rules", "nyc", "sin")) || p.GetCanaryResidency() != nil || k.served(k.s) != "nyc sin" {
		t.Errorf("taken by all: %v and %v, %s", p.GetResidency(), p.GetCanaryResidency(), k.served(k.s))
	}
}

// TestResidedDangers (S16): a spec under which a policy keeps other clients from other
// clusters than before takes two persons, as one does whose own residency is another.
func TestResidedDangers(t *testing.T) {
	w := newPair(t)
	w.s.Resided = &Resided{Spec: keeps("rules", "fra", "nyc")}
	w.asked(Command{ID: "p1", Verb: PolicyAdopt, Reason: "x", Bundle: []byte("rules")})
	w.s.Bundle = []byte("rules")
	done, err := w.via("d2", "bob", Command{Verb: Approve, Scope: "p1"})
	if err != nil {
		t.Fatal(err)
	}
	w.take(done)
	apply := Command{ID: "a1", Verb: Apply, Source: SourceFiles, Objects: edit(t, only(raws(t, fleetYAML), "GlobalService/shop"), "GlobalService/shop", `"steering"`, `"ttl":"17s","steering"`), DryRun: true}
	for _, tc := range []struct {
		say  *plan.Residency
		want string
	}{
		{keeps("rules", "fra", "nyc"), ""},
		{keeps("rules", "fra", "nyc", "sin"), "residency): shop"},
		{keeps("rules", "fra"), "residency): shop"},
		{nil, "residency): shop"},
	} {
		w.s.Resided = &Resided{Spec: tc.say}
		got, err := w.via("d1", "alice", apply)
		if why := strings.Join(got.Preview.TwoPersons, "; "); err != nil || !strings.Contains(why, tc.want) || tc.want == "" && why != "" {
			t.Errorf("%v: got %q, %v, want %q", tc.say, why, err, tc.want)
		}
	}
}

// TestResidedKept (S11, S16): sets that are kept since the policy could not be asked are said
// to be; a rollout hands that on; asked anew of the same spec the policy may say others, which
// takes two persons as ever, and a plan that says to have kept what it changed is refused.
func TestResidedKept(t *testing.T) {
	k := newKeeper(t)
	k.joined()
	k.s.Resided = &Resided{Spec: keeps("rules", "fra", "sin")}
	k.do(Command{Verb: PolicyAdopt, Reason: "x", Bundle: []byte("rules")})
	k.acknowledged()
	k.s.Resided = &Resided{Kept: true}
	k.begin(slower(t))
	if p := k.s.Plan.Plan; p.GetResidencyKept() || !p.GetCanaryResidencyKept() || !proto.Equal(p.GetCanaryResidency(), keeps("rules", "fra", "sin")) {
		t.Errorf("tried: %v, %v, %v", p.GetResidencyKept(), p.GetCanaryResidencyKept(), p.GetCanaryResidency())
	}
	k.s.Resided = nil
	k.do(Command{Verb: GoOn, Reason: "well"})
	kept := k.s
	p := kept.Plan.Plan
	if !p.GetResidencyKept() || p.GetCanaryResidencyKept() || !proto.Equal(p.GetResidency(), keeps("rules", "fra", "sin")) {
		t.Errorf("taken by all: %v, %v, %v", p.GetResidencyKept(), p.GetCanaryResidencyKept(), p.GetResidency())
	}
	k.acknowledged()
	same := Command{Verb: Apply, Source: SourceFiles, Objects: Raws(k.s.Doc)}
	k.s.Resided = &Resided{Spec: keeps("rules", "nyc", "sin")}
	got := k.do(same)
	if got.Plan.GetResidencyKept() || k.served(k.s) != "nyc sin" || len(got.Preview.Effects) == 0 {
		t.Errorf("asked anew: %v, %s, %+v", got.Plan.GetResidencyKept(), k.served(k.s), got.Preview.Effects)
	}
	if got, err := k.try(same); err != nil || !got.Noop {
		t.Errorf("once more: %+v, %v", got.Summary, err)
	}
	for name, change := range map[string]func(was, is *plan.Plan){
		"another spec":  func(_, is *plan.Plan) { is.Spec.Hash = make([]byte, 32) },
		"the same spec": func(*plan.Plan, *plan.Plan) {},
	} {
		was, is := proto.CloneOf(p), proto.CloneOf(p)
		change(was, is)
		is.Residency = keeps("rules", "fra", "nyc", "sin")
		if err := checkResided(was, is); err == nil {
			t.Errorf("%s: other sets that are said to be kept are taken", name)
		}
	}
	bare := proto.CloneOf(p)
	bare.Policy, bare.Residency = nil, nil
	if err := checkResidency(bare); err == nil {
		t.Error("kept without a policy is taken")
	}

	w := newPair(t)
	w.s.Resided = &Resided{Spec: keeps("rules", "fra", "nyc")}
	w.asked(Command{ID: "p1", Verb: PolicyAdopt, Reason: "x", Bundle: []byte("rules")})
	w.s.Bundle = []byte("rules")
	done, err := w.via("d2", "bob", Command{Verb: Approve, Scope: "p1"})
	if err != nil {
		t.Fatal(err)
	}
	w.take(done)
	w.s.Plan.Plan.ResidencyKept = true
	w.s.Resided = &Resided{Spec: keeps("rules", "fra", "nyc", "sin")}
	look, err := w.via("d1", "alice", Command{ID: "a1", Verb: Apply, Source: SourceFiles, Objects: only(raws(t, fleetYAML), "GlobalService/shop"), DryRun: true})
	if why := strings.Join(look.Preview.TwoPersons, "; "); err != nil || !strings.Contains(why, "residency): shop") {
		t.Errorf("wider, asked anew: got %q, %v, want that it takes two persons", why, err)
	}
}

// TestRogueResidency (S7, S11): a leader that widens, drops or makes up what the policy keeps
// from clients is refused by every other director, and so is a plan whose sets are none.
func TestRogueResidency(t *testing.T) {
	r := newRogue(t)
	r.s.Resided = &Resided{Spec: keeps("rules", "nyc", "sin")}
	r.asked(Command{ID: "p1", Verb: PolicyAdopt, Reason: "x", Bundle: []byte("rules")})
	r.s.Bundle = []byte("rules")
	done, err := r.via("d2", "bob", Command{Verb: Approve, Scope: "p1"})
	if err != nil {
		t.Fatalf("S16: a policy that keeps clients from clusters takes two persons: %v", err)
	}
	r.take(done)
	cur := r.s
	if got := r.served(cur); got != "nyc" { // sin is drained
		t.Fatalf("served by %s", got)
	}
	set := func(p *plan.Plan) *plan.ResidencySet { return p.Residency.Sets[0] }
	for _, tc := range []struct {
		name, want string
		change     func(p *plan.Plan)
	}{
		{"as it was", "", func(*plan.Plan) {}},
		{"a cluster more", "neither policy nor spec", func(p *plan.Plan) { set(p).Clusters = []string{"fra", "nyc", "sin"} }},
		{"other clients", "neither policy nor spec", func(p *plan.Plan) { set(p).Continents = []string{"AS"} }},
		{"none", "neither policy nor spec", func(p *plan.Plan) { p.Residency = nil }},
		{"a cluster less", "neither policy nor spec", func(p *plan.Plan) { set(p).Clusters = []string{"sin"} }},
		{"a set more", "neither policy nor spec", func(p *plan.Plan) {
			p.Residency.Sets = append(p.Residency.Sets, &plan.ResidencySet{Services: []string{"pay"}, Everybody: true, Clusters: []string{"sin"}})
		}},
		{"without the policy", "another policy than it names", func(p *plan.Plan) { p.Policy = nil }},
		{"with the policy gone", "drops the policy", func(p *plan.Plan) { p.Policy, p.Residency = nil, nil }},
		{"for no rollout", "none is under way", func(p *plan.Plan) { p.CanaryResidency = p.Residency }},
		{"by another policy", "another policy than it names", func(p *plan.Plan) { p.Residency.Policy = make([]byte, 32) }},
		{"nowhere", "kept from every cluster", func(p *plan.Plan) { set(p).Clusters = nil }},
		{"of no service", "of no service", func(p *plan.Plan) { set(p).Services = nil }},
		{"of nobody", "of everybody, or of some", func(p *plan.Plan) { set(p).Continents = nil }},
		{"of no continent", "no continent", func(p *plan.Plan) { set(p).Continents = []string{"XX"} }},
		{"of no country", "no country", func(p *plan.Plan) { set(p).Countries = []string{"xx"} }},
		{"of no prefix", "no prefix", func(p *plan.Plan) { set(p).Prefixes = []string{"192.0.2.1/24"} }},
		{"out of order", "out of order", func(p *plan.Plan) { set(p).Clusters = []string{"sin", "nyc"} }},
		{"a long reason", "a reason of", func(p *plan.Plan) { set(p).Why = strings.Repeat("x", MaxResidencyWhy+1) }},
		{"too many", "257 sets", func(p *plan.Plan) { p.Residency.Sets = slices.Repeat(p.Residency.Sets, MaxResidencySets+1) }},
		{"too large", "KiB", func(p *plan.Plan) {
			for i := range 20_000 {
				set(p).Services = append(set(p).Services, fmt.Sprintf("x%05d", i))
			}
		}},
	} {
		p := r.next(cur.Plan)
		tc.change(p)
		err := r.taken(cur, p, "d3")
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
}
