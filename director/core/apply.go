package core

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// cloneDoc copies a document, but not what its resources say, which is replaced and
// never written to: a zone may have tens of millions of octets.
func cloneDoc(doc *plan.SpecDoc) *plan.SpecDoc {
	out := &plan.SpecDoc{}
	if doc == nil {
		return out
	}
	out.ProtoReflect().SetUnknown(doc.ProtoReflect().GetUnknown())
	for _, o := range doc.GetObjects() {
		c := &plan.Object{}
		o.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			if !field.IsList() {
				c.ProtoReflect().Set(field, v)
			}
			return true
		})
		for _, a := range o.GetApplied() {
			c.Applied = append(c.Applied, proto.CloneOf(a))
		}
		c.ProtoReflect().SetUnknown(o.ProtoReflect().GetUnknown())
		out.Objects = append(out.Objects, c)
	}
	return out
}

// resolved makes a whole spec of resources, or refuses with all that is wrong.
func resolved(raws []spec.Raw, check spec.ZoneChecker) (*spec.Set, error) {
	set, problems := spec.ResolveWith(raws, check)
	if spec.Failed(problems) || set == nil {
		bad := slices.DeleteFunc(slices.Clone(problems), func(p spec.Problem) bool { return p.Warning })
		return nil, &Refusal{
			Reason:   "the spec would have " + count(len(bad), "error"),
			Remedy:   "correct them (`divert check` shows them before anything is sent)",
			Problems: bad,
		}
	}
	for _, z := range set.Zones {
		z.Forget() // it was checked, and nobody reads it again
	}
	return set, nil
}

func (w *work) apply() error {
	if err := w.checkApply(); err != nil {
		return err
	}
	doc, removed, touched := w.merged()
	if !touched && !w.asksAnew() {
		w.noop, w.done = true, "nothing to apply: all of it is in force already"
		return nil
	}
	if err := w.resolve(doc); err != nil {
		return err
	}
	if lost := losses(w.s.Spec, w.set); len(lost) > 0 {
		switch {
		case w.c.Folder != "": // Pending has held these back; another folder got in between
			return &Refusal{Reason: "removes too much for a folder: " + strings.Join(lost, "; "), Remedy: "a person may apply it: divert apply --force"}
		case !w.c.Force:
			return &Refusal{
				Reason: "this removes much: " + strings.Join(lost, "; "),
				Remedy: "if it is meant, repeat it with --force, which is recorded", Force: true,
			}
		}
		w.forced = true
		w.prev.Warnings = append(w.prev.Warnings, lost...)
	}
	if w.c.Folder == "" {
		w.next.Rollout = nil // one that was stopped is put away by whoever goes on
	}
	w.renew()
	w.tellApply(removed)
	if len(w.c.Canary) > 0 {
		return w.stage()
	}
	w.keepPrevious()
	return nil
}

// resolve makes a document the next one, or refuses it for what it says.
func (w *work) resolve(doc *plan.SpecDoc) error {
	raws := Raws(doc)
	set, err := resolved(raws, w.s.CheckZone)
	if err != nil {
		return err
	}
	w.doc, w.set = doc, w.reside(set)
	w.prev.Changes = spec.Diff(Raws(w.s.Doc), raws)
	return w.checkRoster()
}

// renew brings the plan in step with another spec, and says what that moves.
func (w *work) renew() {
	if len(w.c.Canary) == 0 { // what is tried on some has no overrides of its own yet
		w.observeSpec()
	}
	v := w.compare()
	w.prev.Effects = v.effects()
	w.prev.Warnings = append(append(w.prev.Warnings, v.newAlerts()...), w.voided()...)
}

// voided warns of drains that a new spec leaves nothing to drain: a site that only has
// another name now gets its clients back.
func (w *work) voided() (out []string) {
	for _, o := range w.next.GetOverrides() {
		scope, err := steer.ParseScope(o.GetScope())
		if err == nil && o.GetKind() == plan.Override_DRAIN && !o.GivesBack() && len(covered(w.s.Spec, scope)) > 0 && len(covered(w.set, scope)) == 0 {
			out = append(out, fmt.Sprintf("the drain of %s by %s is then of nothing: a site that goes on under another name is not drained", scope, o.GetAuthor()))
		}
	}
	return out
}

// muchText warns of a large change. What is tried first needs no advice to try it first.
func muchText(percent float64, c Command) string {
	text := fmt.Sprintf("%.0f %% of the answers that clients get now become others", percent)
	if c.Verb == Apply && len(c.Canary) == 0 {
		text += "; `divert apply --canary NAME` tries it on one director first"
	}
	return text
}

// checkApply refuses what no apply may hold.
func (w *work) checkApply() error {
	if w.c.Source == "" {
		w.c.Source = SourceFiles
	}
	switch {
	case w.next.Soaking() != nil:
		return underWay(w.next.GetRollout())
	case len(w.c.Canary) > 0 && w.c.Folder != "":
		return &Refusal{Reason: "a folder begins no rollout", Remedy: "divert apply --canary NAME -f PATH"}
	case len(w.c.Canary) == 0 && w.c.Soak != 0:
		return &Refusal{Reason: "a soak without a canary", Remedy: "name the directors that are to try it: --canary NAME"}
	case w.c.Source != SourceFiles:
		return &Refusal{Reason: fmt.Sprintf("there is no source %q", w.c.Source), Remedy: "resources come from files"}
	case w.c.Prune && w.c.Folder != "":
		return &Refusal{Reason: "a folder adds and changes, it never removes", Remedy: "remove with divert apply --prune"}
	case w.c.Prune && len(w.c.Objects) == 0:
		return &Refusal{Reason: "an empty source removes nothing", Remedy: "check what -f names"}
	}
	seen := map[string]bool{}
	for _, r := range w.c.Objects {
		id := r.Kind + "/" + r.Name
		switch {
		case r.Kind == "" || r.Name == "" || len(r.JSON) == 0:
			return &Refusal{Reason: fmt.Sprintf("a resource %q lacks its kind, name or content", id), Remedy: "check what -f names"}
		case seen[id]:
			return &Refusal{Reason: id + " is given twice", Remedy: "keep one of the two"}
		}
		seen[id] = true
		if o := objectOf(w.s.Doc, r.Kind, r.Name); o != nil && o.GetSource() != w.c.Source {
			return &Refusal{Reason: fmt.Sprintf("%s belongs to %s, not to %s", id, o.GetSource(), w.c.Source), Remedy: "change it where it comes from"}
		}
	}
	return nil
}

// merged puts the wish into a copy of the document: a person's as it is, a
// folder's only as far as it may go.
func (w *work) merged() (doc *plan.SpecDoc, removed []string, touched bool) {
	doc = cloneDoc(w.s.Doc)
	objects := w.c.Objects
	if w.c.Folder != "" {
		objects, _ = divide(w.s.Doc, w.c.Folder, objects)
	}
	for _, r := range objects {
		o := objectOf(doc, r.Kind, r.Name)
		change := o == nil || o.GetRemoved() || string(o.GetJson()) != string(r.JSON)
		if !change && w.c.Folder == "" {
			continue
		}
		if o == nil {
			o = &plan.Object{Kind: r.Kind, Name: r.Name, Source: w.c.Source}
			doc.Objects = append(doc.Objects, o)
		}
		if change {
			o.Json, o.Removed = r.JSON, false
		}
		if w.c.Folder != "" {
			setApplied(o, w.c.Folder, hashOf(r))
		}
		touched = true
	}
	if w.c.Prune {
		for _, o := range doc.Objects {
			kept := slices.ContainsFunc(w.c.Objects, func(r spec.Raw) bool { return r.Kind == o.GetKind() && r.Name == o.GetName() })
			if o.GetSource() == w.c.Source && !o.GetRemoved() && !kept {
				o.Removed, o.Json = true, nil
				removed = append(removed, o.GetKind()+"/"+o.GetName())
				touched = true
			}
		}
	}
	sortDoc(doc)
	return doc, removed, touched
}

// tellApply writes what an apply did.
func (w *work) tellApply(removed []string) {
	names := map[string]bool{}
	for _, c := range w.prev.Changes {
		names[c.Kind+"/"+c.Name] = true
	}
	for _, r := range removed {
		delete(names, r)
	}
	var parts []string
	if changed := trueKeys(names); len(changed) > 0 {
		parts = append(parts, "applied "+list(changed))
	}
	if len(removed) > 0 {
		parts = append(parts, "removed "+list(removed))
	}
	if len(parts) == 0 && w.c.Folder == "" {
		parts = append(parts, "asked the policy anew where clients may be served")
	}
	if len(parts) == 0 {
		parts = append(parts, fmt.Sprintf("noted that the folder of %s says what is in force", w.c.Folder))
	}
	w.done = strings.Join(parts, "; ")
	w.what = w.done
	if w.c.Folder != "" {
		w.what += " (folder of " + w.c.Folder + ")"
	}
}

// checkRoster refuses a spec that gives a director another key than its pinned
// one, and warns of what files cannot change.
func (w *work) checkRoster() error {
	for _, e := range w.set.Fleet.Directors {
		d := w.next.Director(e.Name)
		if len(e.Key) > 0 {
			if holder := w.next.Holder(e.Key); holder != nil && holder.GetName() != e.Name {
				return &Refusal{Reason: fmt.Sprintf("Fleet.directors gives %s the key of %s", e.Name, holder.GetName()), Remedy: "two directors never share a key"}
			}
		}
		switch {
		case d == nil:
			w.prev.Warnings = append(w.prev.Warnings, e.Name+" is new in Fleet.directors: the leader adds it to the roster in a revision of its own")
		case d.GetStanding() != plan.Director_ACTIVE:
			w.prev.Warnings = append(w.prev.Warnings, e.Name+" was removed from the roster and comes back only by `divert director approve "+e.Name+"`")
		case len(e.Key) > 0 && len(d.GetKey()) > 0 && !slices.Equal(e.Key, d.GetKey()):
			return &Refusal{
				Reason: fmt.Sprintf("Fleet.directors gives %s another key than the one that was pinned", e.Name),
				Remedy: fmt.Sprintf("divert director remove %s, then divert director approve %s", e.Name, e.Name),
			}
		case d.GetSite() != siteOr(e.Site, e.Name):
			w.prev.Warnings = append(w.prev.Warnings, fmt.Sprintf("%s stays in %s: the roster's word counts, remove and approve it to move it", e.Name, d.GetSite()))
		}
	}
	for _, d := range w.next.Active() {
		listed := slices.ContainsFunc(w.set.Fleet.Directors, func(e spec.RosterEntry) bool { return e.Name == d.GetName() })
		if was := slices.ContainsFunc(w.s.Spec.Fleet.Directors, func(e spec.RosterEntry) bool { return e.Name == d.GetName() }); was && !listed {
			w.prev.Warnings = append(w.prev.Warnings, d.GetName()+" left Fleet.directors and stays in the roster: only `divert director remove` ends a registration")
		}
	}
	return nil
}
