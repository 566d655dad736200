package core

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// Bootstrap makes the first plan of a fleet: epoch 1, revision 1, the roster
// whole, the spec of the director's own folders. The fleet's ID is random and
// the caller's; whether there is really nothing yet is the caller's question.
func Bootstrap(s State, raws []spec.Raw, me Director, fleet string) (Change, error) {
	switch {
	case s.Plan != nil:
		return Change{}, &Refusal{Reason: fmt.Sprintf("this director holds a plan of fleet %s already", s.Plan.Identity.Fleet)}
	case fleet == "" || strings.ContainsAny(fleet, " =\n"):
		return Change{}, fmt.Errorf("fleet ID %q: empty or with a space or an equals sign", fleet)
	case me.Name == "" || len(me.Key) == 0:
		return Change{}, fmt.Errorf("bootstrap by director %q without a name or key", me.Name)
	}
	set, err := resolved(raws, s.CheckZone)
	if err != nil {
		return Change{}, err
	}
	roster, err := firstRoster(set, me)
	if err != nil {
		return Change{}, err
	}
	doc := &plan.SpecDoc{}
	for _, r := range raws {
		o := &plan.Object{Kind: r.Kind, Name: r.Name, Source: SourceFiles, Json: r.JSON}
		setApplied(o, me.Name, hashOf(r))
		doc.Objects = append(doc.Objects, o)
	}
	sortDoc(doc)
	p := &plan.Plan{
		Fleet: fleet, Epoch: 1, Revision: 1, Written: timestamppb.New(s.Now), Writer: me.Name, Roster: roster,
	}
	s.Spec = &spec.Set{} // all of it is born now
	w := &work{
		s: s, c: Command{ID: "bootstrap-" + fleet, Author: me.Name, Reason: "no plan existed"},
		next: p, doc: doc, set: set,
		what: fmt.Sprintf("begin fleet %s with %s and %s", fleet, count(len(roster), "director"), count(len(raws), "resource")),
	}
	w.done = w.what
	w.observeSpec()
	return w.finish()
}

// firstRoster is Fleet.directors, else the bootstrapping director alone.
func firstRoster(set *spec.Set, me Director) ([]*plan.Director, error) {
	if len(set.Fleet.Directors) == 0 {
		return []*plan.Director{{
			Name: me.Name, Site: siteOr(me.Site, me.Name), Key: slices.Clone(me.Key), Gossip: me.Gossip, Standing: plan.Director_ACTIVE,
		}}, nil
	}
	var out []*plan.Director
	found := false
	for _, e := range set.Fleet.Directors {
		d := &plan.Director{Name: e.Name, Site: siteOr(e.Site, e.Name), Key: slices.Clone(e.Key), Standing: plan.Director_ACTIVE}
		if e.Name == me.Name {
			found = true
			if len(e.Key) > 0 && !slices.Equal(e.Key, me.Key) {
				return nil, &Refusal{Reason: fmt.Sprintf("Fleet.directors gives %s another key than this director has", me.Name), Remedy: "correct the key there, or restore the director's key file"}
			}
			d.Key, d.Gossip = slices.Clone(me.Key), me.Gossip
		}
		out = append(out, d)
	}
	for _, d := range out {
		if d.GetName() != me.Name && slices.Equal(d.GetKey(), me.Key) {
			return nil, &Refusal{Reason: fmt.Sprintf("Fleet.directors gives %s the key of %s", d.GetName(), me.Name), Remedy: "two directors never share a key"}
		}
	}
	if !found {
		return nil, &Refusal{
			Reason: fmt.Sprintf("this director's name %s is not in Fleet.directors, so it cannot begin the fleet", me.Name),
			Remedy: "list it there, or set name: in its settings",
		}
	}
	return out, nil
}

func hashOf(r spec.Raw) []byte {
	sum := sha256.Sum256(r.JSON)
	return sum[:]
}
