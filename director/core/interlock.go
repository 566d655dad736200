package core

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// broken is a rule that a change breaks: why, and what to do instead of forcing it.
type broken struct {
	rule, reason, remedy string
}

// interlocked holds a decided change against the interlocks in force before it: one
// that the same change drops or loosens guards against it too, or a single apply could
// take away a rule and what it protects. Each is judged by what the change itself
// does, so that a rule that failures have broken already forbids no change that takes
// nothing more away.
func (w *work) interlocked() error {
	if w.set != w.s.Spec {
		w.forgetSwitches()
	}
	if len(w.s.Spec.Interlocks)+len(w.set.Interlocks) == 0 {
		return nil
	}
	vitals := newVitals(w.s.States)
	before, after := newStock(w.s.Spec, w.s.Plan.Plan, vitals), newStock(w.set, w.next, vitals)
	moved := w.moved(before, after)
	if w.set == w.s.Spec && len(moved) == 0 {
		return nil
	}
	var bad []broken
	for _, l := range w.s.Spec.Interlocks {
		now := w.set.Interlock(l.Name)
		if now == nil {
			bad = append(bad, broken{l.Name, fmt.Sprintf("this removes interlock %s, a safety rule", l.Name), "keep it in the spec"})
		}
		switch {
		case l.Assert != nil:
			bad = append(bad, w.asserted(l, before, after)...)
		case l.Gate != nil && !w.s.Plan.Plan.Switch(l.Gate.Switch).GetOn():
			bad = append(bad, guarded(l, w.s.Spec, moved)...)
		}
	}
	w.tellNew(after)
	if len(bad) == 0 {
		return nil
	}
	return w.inSpite(bad)
}

// inSpite refuses a change that breaks rules, or records that a person forced it. The
// leader and folders never force anything.
func (w *work) inSpite(bad []broken) error {
	var reasons, remedies, names []string
	for _, b := range bad {
		reasons, names = append(reasons, b.reason), append(names, b.rule)
		if !slices.Contains(remedies, b.remedy) {
			remedies = append(remedies, b.remedy)
		}
	}
	names = slices.Compact(names)
	switch {
	case w.c.Folder != "":
		return &Refusal{Reason: strings.Join(reasons, "; "), Remedy: "a person may apply it: divert apply --force"}
	case !w.c.Force:
		return &Refusal{
			Reason: strings.Join(reasons, "; "),
			Remedy: strings.Join(remedies, "; ") + "; or repeat it with --force, which is recorded", Force: true,
		}
	}
	w.forced = true
	if o := w.byID(w.c.ID); o != nil {
		o.Forced = true
	}
	w.spite = " in spite of interlock " + list(names)
	w.prev.Warnings = append(w.prev.Warnings, reasons...)
	return nil
}

// asserted tells whether a change leaves fewer in service than an assertion wants, and
// fewer than there were. One that it brings to its limit is told of.
func (w *work) asserted(l *spec.Interlock, before, after *stock) []broken {
	left := after.count(l.Assert)
	if left > l.Assert.AtLeast {
		return nil
	}
	had := before.count(l.Assert)
	switch {
	case left >= had:
		return nil
	case left == l.Assert.AtLeast:
		w.prev.Warnings = append(w.prev.Warnings, fmt.Sprintf("interlock %s is then at its limit: %d in service, and at least %d wanted", l.Name, left, l.Assert.AtLeast))
		return nil
	}
	remedy := "bring another of them back first"
	if w.set != w.s.Spec {
		remedy = "apply the change of the rule first, by itself"
	}
	return []broken{{
		l.Name, fmt.Sprintf("interlock %s wants at least %d of %s in service, and %d would be left%s",
			l.Name, l.Assert.AtLeast, list(memberNames(before.set.Members(l.Assert.Of))), left, after.whoIsOut(l.Assert.Of, before.set)),
		remedy,
	}}
}

// guarded tells what a change moves of what a closed gate guards.
func guarded(l *spec.Interlock, set *spec.Set, moved []movedSite) []broken {
	scopes := scopesOf(set.Members(l.Gate.Of))
	var away, back []string
	for _, m := range moved {
		if !slices.ContainsFunc(scopes, func(s steer.Scope) bool { return s.Covers(m.service.Name, m.cluster) }) {
			continue
		}
		if m.back {
			back = append(back, m.String())
		} else {
			away = append(away, m.String())
		}
	}
	var does []string
	if len(away) > 0 {
		does = append(does, "take away "+list(away))
	}
	if len(back) > 0 {
		does = append(does, "bring back "+list(back))
	}
	if len(does) == 0 {
		return nil
	}
	return []broken{{
		l.Name, fmt.Sprintf("the switch %s of interlock %s is off, and this would %s", l.Gate.Switch, l.Name, strings.Join(does, " and ")),
		switchOn(l.Gate.Switch),
	}}
}

func switchOn(name string) string {
	return "turn it on first: divert interlock on " + name + " --reason WHY"
}

// closedGates says which closed gates keep what a scope's drain has taken away from
// coming back.
func (w *work) closedGates(scope steer.Scope, kept []steer.Scope) []string {
	var out []string
	for _, l := range w.set.Interlocks {
		if l.Gate == nil || w.s.Plan.Plan.Switch(l.Gate.Switch).GetOn() {
			continue
		}
		gated := scopesOf(w.set.Members(l.Gate.Of))
		if slices.ContainsFunc(covered(w.set, scope), func(s site) bool {
			covers := func(k steer.Scope) bool { return k.Covers(s.service.Name, s.cluster) }
			return slices.ContainsFunc(gated, covers) && !slices.ContainsFunc(kept, covers)
		}) {
			out = append(out, fmt.Sprintf("the switch %s of interlock %s, which is off", l.Gate.Switch, l.Name))
		}
	}
	return out
}

// forbidden says which interlocks forbid a drain in steps to take more now: a gate that was
// closed since it began, and an assertion that others have broken since, and that would
// be better off without it.
func (w *work) forbidden(o *plan.Override, scope steer.Scope) []string {
	if len(w.set.Interlocks) == 0 {
		return nil
	}
	out := w.closedGates(scope, w.kept(o))
	with := newStock(w.set, w.s.Plan.Plan, newVitals(w.s.States))
	without := *with
	without.drains = slices.DeleteFunc(slices.Clone(with.drains), func(d inDrain) bool { return d.o.GetId() == o.GetId() })
	for _, l := range w.set.Interlocks {
		if l.Assert == nil {
			continue
		}
		if n := with.count(l.Assert); n < l.Assert.AtLeast && without.count(l.Assert) > n {
			out = append(out, fmt.Sprintf("interlock %s, which wants at least %d in service and has %d", l.Name, l.Assert.AtLeast, n))
		}
	}
	return out
}

// ruledOut says why the interlocks refuse the spec that a rollout tries, which is asked
// before its end: what waits is seen, and ends. "" when none does, or a person forced it.
func (s State) ruledOut(r *plan.Rollout) string {
	if r.GetForced() || len(s.Spec.Interlocks) == 0 {
		return ""
	}
	w := begin(s, Command{Verb: GoOn})
	w.set = s.Trial.Spec
	if refusal, ok := errors.AsType[*Refusal](w.interlocked()); ok {
		return refusal.Reason
	}
	return ""
}

// movedSite is a site that a change takes away or brings back, by people's word alone.
type movedSite struct {
	site
	back bool
}

// moved lists them. A site that is new in the spec is neither: it served nobody yet.
func (w *work) moved(before, after *stock) []movedSite {
	var out []movedSite
	if w.c.Verb == Readmit {
		if scope, err := steer.ParseScope(w.c.Scope); err == nil {
			for _, s := range covered(w.set, scope) {
				out = append(out, movedSite{s, true})
			}
		}
	}
	if before.set == after.set && len(before.drains) == 0 && len(after.drains) == 0 {
		return out
	}
	for _, svc := range before.set.Services {
		next := svc
		if before.set != after.set {
			next = after.set.Service(svc.Name)
		}
		for i := range svc.Endpoints {
			s, then := before.site(svc, i), after.siteOf(next, svc.Endpoints[i].Cluster)
			if s.cluster == nil {
				continue
			}
			was, is := before.meant(s), after.meant(then)
			if was != is {
				out = append(out, movedSite{s, is})
			}
		}
	}
	return out
}

// tellNew warns of rules that do not hold as they come into force.
func (w *work) tellNew(after *stock) {
	if w.set == w.s.Spec {
		return
	}
	for _, l := range w.set.Interlocks {
		old := w.s.Spec.Interlock(l.Name)
		if l.Assert == nil || old != nil && old.Assert != nil && old.Assert.AtLeast == l.Assert.AtLeast && slices.Equal(memberNames(old.Assert.Of), memberNames(l.Assert.Of)) {
			continue
		}
		if n := after.count(l.Assert); n < l.Assert.AtLeast {
			w.prev.Warnings = append(w.prev.Warnings, fmt.Sprintf("interlock %s does not hold as it comes into force: %d in service, and at least %d wanted%s",
				l.Name, n, l.Assert.AtLeast, after.whoIsOut(l.Assert.Of, after.set)))
		}
	}
}

// forgetSwitches drops the switches that no gate names any more: should one come back,
// it comes back off.
func (w *work) forgetSwitches() {
	named := w.set.Switches()
	w.next.Switches = slices.DeleteFunc(w.next.Switches, func(s *plan.Switch) bool { return !slices.Contains(named, s.GetName()) })
}

// turn turns a switch, whose name is the command's scope.
func (w *work) turn(on bool) error {
	name := w.c.Scope
	names := w.set.Switches()
	switch {
	case len(names) == 0:
		return &Refusal{Reason: fmt.Sprintf("there is no switch %q", name), Remedy: "no interlock of the spec has a gate"}
	case w.c.Reason == "":
		return &Refusal{Reason: "turning a switch needs a reason", Remedy: "give --reason, such as --reason INC-1"}
	}
	if err := known("switch", name, names, ""); err != nil {
		return err
	}
	word := map[bool]string{true: "on", false: "off"}[on]
	if s := w.next.Switch(name); s.GetOn() == on {
		w.noop, w.done = true, fmt.Sprintf("switch %s is %s already", name, word)
		if s != nil {
			w.done += fmt.Sprintf(", by %s since revision %d (%s)", s.GetAuthor(), s.GetRevision(), s.GetReason())
		}
		return nil
	}
	w.next.Switches = slices.DeleteFunc(w.next.Switches, func(s *plan.Switch) bool { return s.GetName() == name })
	w.next.Switches = append(w.next.Switches, &plan.Switch{
		Name: name, On: on, Author: w.c.Who(), Reason: w.c.Reason, Since: timestamppb.New(w.s.Now), Revision: w.next.GetRevision(),
	})
	var gates []string
	for _, l := range w.set.Interlocks {
		if l.Gate != nil && l.Gate.Switch == name {
			gates = append(gates, l.Name)
		}
	}
	w.what = fmt.Sprintf("turn switch %s %s", name, word)
	may := map[bool]string{true: "may", false: "may not"}[on]
	w.done = fmt.Sprintf("switch %s turned %s by %s (%s): what interlock %s guards %s be taken away or brought back", name, word, w.c.Who(), w.c.Reason, list(gates), may)
	return nil
}

// InterlockKeys gives what the store keeps of interlocks beside the plan: of each rule the
// SHA-256 of its resource, of each switch how it stands, by key below interlock/. They
// are written in the transaction of the plan that changes them, and no plan is written
// over one that changed since it was decided (S4).
func InterlockKeys(p *plan.Plan, doc *plan.SpecDoc) map[string][]byte {
	out := map[string][]byte{}
	for _, o := range doc.GetObjects() {
		if o.GetKind() == spec.KindInterlock && !o.GetRemoved() {
			out["rule/"+o.GetName()] = fmt.Appendf(nil, "%x", hashOf(spec.Raw{JSON: o.GetJson()}))
		}
	}
	for _, s := range p.GetSwitches() {
		word := "off"
		if s.GetOn() {
			word = "on"
		}
		out["switch/"+s.GetName()] = fmt.Appendf(nil, "%s since revision %d", word, s.GetRevision())
	}
	return out
}

// InterlockChanges gives the keys of interlocks that a change makes, changes and removes
// (nil), with the document of the plan that it was decided on. Base is that plan, or nil
// where the store may have none of its keys: then it is all that there are.
func InterlockChanges(c Change, base *plan.Plan, doc *plan.SpecDoc) map[string][]byte {
	old := map[string][]byte{}
	if base != nil {
		old = InterlockKeys(base, doc)
	}
	if c.Doc != nil {
		doc = c.Doc
	}
	now := InterlockKeys(c.Plan, doc)
	out := map[string][]byte{}
	for name, value := range now {
		if !bytes.Equal(old[name], value) {
			out[name] = value
		}
	}
	for name := range old {
		if _, stays := now[name]; !stays {
			out[name] = nil
		}
	}
	return out
}
