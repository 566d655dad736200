package core

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// side is a plan and the spec that goes with it.
type side struct {
	plan *plan.Plan
	set  *spec.Set
}

// dangers says why a change takes two persons (S16), one sentence each; none: one is
// enough. It goes by what people mean and never by health, so that each director tells the
// same of a plan that another wrote (S7).
func dangers(before, after side) []string {
	return dangersBy(before, after, before.plan.GetMinReader())
}

// dangersBy is dangers as whoever reads plans so far knows them: no plan is refused for a
// rule that its writer did not have (S12).
func dangersBy(before, after side, reads uint32) []string {
	out := halves(before, after, reads)
	out = append(out, rosterDangers(before, after)...)
	out = append(out, operatorDangers(before.plan, after.plan)...)
	out = append(out, tokenDangers(before.plan, after.plan)...)
	out = append(out, fleetDangers(before.set, after.set)...)
	if reads >= plan.ReaderDangers {
		out = append(out, specDangers(before.set, after.set)...)
		out = append(out, keyDangers(before.plan, after.plan)...)
	}
	if reads >= plan.ReaderResidency {
		out = append(out, policyDangers(before.plan, after.plan)...)
	}
	return append(out, forcedDangers(before.plan, after.plan)...)
}

// halves says which services would be left with less than half of their capacity, by
// drains and by the spec together, and lose some of it: two drains of two fifths each are
// one of four. Weights and an order by failover count as far as they take sites out of
// service.
func halves(before, after side, reads uint32) []string {
	if before.set == after.set && slices.EqualFunc(drainsOf(before.plan), drainsOf(after.plan), func(a, b *plan.Override) bool { return proto.Equal(a, b) }) {
		return nil
	}
	b, a := newStock(before.set, before.plan, nil), newStock(after.set, after.plan, nil)
	var hit []string
	for _, svc := range before.set.Services {
		next := svc
		if before.set != after.set {
			next = after.set.Service(svc.Name)
		}
		var out map[string]bool // by an order
		known := reads >= plan.ReaderDangers && next != svc
		if known {
			out = a.displaced(svc, next)
		}
		whole, had, left := int64(0), int64(0), int64(0)
		for i := range svc.Endpoints {
			s := b.site(svc, i)
			if s.cluster == nil || s.cluster.Environment != svc.Environment || weightless(s) {
				continue
			}
			unit := max(1, s.end.Capacity)
			whole += unit
			if b.meant(s) {
				had += unit
			}
			if a.meant(a.siteOf(next, s.end.Cluster)) && !out[s.end.Cluster] {
				if known {
					unit = kept(svc, next, s.end.Cluster, unit)
				}
				left += unit
			}
		}
		if left < had && 2*left < whole {
			hit = append(hit, fmt.Sprintf("%s (%d of %d left)", svc.Name, left, whole))
		}
	}
	if len(hit) == 0 {
		return nil
	}
	const most = 5
	if more := len(hit) - most; more > 0 {
		hit = append(hit[:most], count(more, "other service"))
	}
	return []string{"it takes away more than half of the capacity of " + list(hit)}
}

func drainsOf(p *plan.Plan) []*plan.Override {
	return slices.DeleteFunc(slices.Clone(p.GetOverrides()), func(o *plan.Override) bool { return o.GetKind() != plan.Override_DRAIN })
}

// rosterDangers says which directors come, go or get another key. The first key of a name
// that the spec lists is pinned by the leader, as the spec says.
func rosterDangers(before, after side) []string {
	var who []string
	for _, d := range after.plan.GetRoster() {
		old := before.plan.Director(d.GetName())
		if old != nil && old.GetStanding() == d.GetStanding() && bytes.Equal(old.GetKey(), d.GetKey()) || joins(before.set, old, d) {
			continue
		}
		who = append(who, d.GetName())
	}
	for _, d := range before.plan.GetRoster() {
		if after.plan.Director(d.GetName()) == nil {
			who = append(who, d.GetName())
		}
	}
	if len(who) == 0 {
		return nil
	}
	return []string{"it changes who is in the roster: " + list(who)}
}

// joins tells whether an entry of the roster becomes what the spec in force lets it: a name
// that it lists, with the key that it pins if it does, where none was there.
func joins(set *spec.Set, old, now *plan.Director) bool {
	if now.GetStanding() != plan.Director_ACTIVE || old != nil && (old.GetStanding() != plan.Director_ACTIVE || len(old.GetKey()) > 0) {
		return false
	}
	for _, e := range fleetOf(set).Directors {
		if e.Name == now.GetName() {
			return len(e.Key) == 0 || bytes.Equal(e.Key, now.GetKey()) || len(now.GetKey()) == 0
		}
	}
	return false
}

// operatorDangers says which operators come, go or get another key.
func operatorDangers(before, after *plan.Plan) []string {
	var who []string
	for _, o := range after.GetOperators() {
		if old := before.Operator(o.GetName()); old == nil || !bytes.Equal(old.GetKey(), o.GetKey()) || old.GetRevision() != o.GetRevision() {
			who = append(who, o.GetName())
		}
	}
	for _, o := range before.GetOperators() {
		if after.Operator(o.GetName()) == nil {
			who = append(who, o.GetName())
		}
	}
	if len(who) == 0 {
		return nil
	}
	return []string{"it changes whose word counts in an emergency: " + list(who)}
}

// tokenDangers says which tokens come that may do everything.
func tokenDangers(before, after *plan.Plan) []string {
	var who []string
	for _, t := range after.GetTokens() {
		old := before.Token(t.GetName())
		if t.GetRole() == access.Admin.String() && (old.GetRole() != t.GetRole() || !bytes.Equal(old.GetSum(), t.GetSum()) || !slices.Equal(old.GetScopes(), t.GetScopes())) {
			who = append(who, t.GetName())
		}
	}
	if len(who) == 0 {
		return nil
	}
	return []string{"it gives out what may do everything: token " + list(who)}
}

// fleetDangers says what a spec changes of who may decide.
func fleetDangers(before, after *spec.Set) []string {
	if before == after {
		return nil
	}
	var out []string
	if fleetOf(before).TwoPersons && !fleetOf(after).TwoPersons {
		out = append(out, "it switches safety.twoPersons off")
	}
	var who []string
	for _, e := range fleetOf(after).Directors {
		if old, found := entry(before, e.Name); !found || !bytes.Equal(old.Key, e.Key) {
			who = append(who, e.Name)
		}
	}
	if len(who) > 0 {
		out = append(out, "it changes whom Fleet.directors lists, or with which key: "+list(who))
	}
	return out
}

func entry(set *spec.Set, name string) (spec.RosterEntry, bool) {
	for _, e := range fleetOf(set).Directors {
		if e.Name == name {
			return e, true
		}
	}
	return spec.RosterEntry{}, false
}

// forcedDangers says which overrides are forced that were not.
func forcedDangers(before, after *plan.Plan) []string {
	var what []string
	for _, o := range after.GetOverrides() {
		if o.GetForced() && !slices.ContainsFunc(before.GetOverrides(), func(old *plan.Override) bool {
			return old.GetForced() && old.GetKind() == o.GetKind() && old.GetScope() == o.GetScope()
		}) {
			what = append(what, o.GetScope())
		}
	}
	if len(what) == 0 {
		return nil
	}
	return []string{"it is forced past a rule: " + list(what)}
}

// fleetOf gives the fleet's settings; none where there is no spec.
func fleetOf(set *spec.Set) *spec.Fleet {
	if set == nil {
		return &spec.Fleet{}
	}
	return &set.Fleet
}
