package core

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"

	"github.com/divertdns/divert/director/plan"
)

// subject gives the director that a director-* command is about.
func (w *work) subject(keyed bool) (*Director, error) {
	d := w.c.Director
	switch {
	case d == nil || d.Name == "":
		return nil, &Refusal{Reason: "no director is named", Remedy: "`divert director list` shows them"}
	case len(d.Key) == 0 && keyed:
		return nil, &Refusal{Reason: fmt.Sprintf("nobody has shown a key for %s yet", d.Name), Remedy: "start it, so that it appears as pending in `divert director list`"}
	case len(d.Key) != 0 && len(d.Key) != ed25519.PublicKeySize:
		return nil, &Refusal{Reason: fmt.Sprintf("the key of %s is not one of Ed25519: %d octets, not %d", d.Name, len(d.Key), ed25519.PublicKeySize)}
	}
	if holder := w.next.Holder(d.Key); holder != nil && holder.GetName() != d.Name {
		return nil, &Refusal{
			Reason: fmt.Sprintf("the key of %s is already that of %s", d.Name, holder.GetName()),
			Remedy: "two directors never share one: remove the copied key file, so that a new one is made",
		}
	}
	return d, nil
}

// join pins the key of a name that is listed without one, and takes note of a
// new gossip address. It gives nobody a place in the roster whom no file lists.
func (w *work) join() error {
	d, err := w.subject(w.c.Author != SpecAuthor)
	if err != nil {
		return err
	}
	entry := w.next.Director(d.Name)
	site, pinned, inSpec := w.entryOf(d.Name)
	if len(pinned) > 0 && len(d.Key) > 0 && !bytes.Equal(pinned, d.Key) {
		return &Refusal{Reason: fmt.Sprintf("%s shows another key than Fleet.directors gives it", d.Name), Remedy: "correct the key there, or the director's key file"}
	}
	switch {
	case entry == nil && !inSpec:
		return pending(d.Name)
	case entry == nil:
		entry = &plan.Director{Name: d.Name, Site: site, Key: d.Key, Gossip: d.Gossip, Standing: plan.Director_ACTIVE}
		w.next.Roster = append(w.next.Roster, entry)
		w.done = fmt.Sprintf("%s added to the roster, as Fleet.directors lists it", d.Name)
	case entry.GetStanding() != plan.Director_ACTIVE:
		return &Refusal{Reason: fmt.Sprintf("%s was removed from the roster", d.Name), Remedy: "a person may have it back: divert director approve " + d.Name}
	case len(d.Key) == 0:
		w.noop, w.done = true, d.Name+" is in the roster"
		return nil
	case len(entry.GetKey()) == 0:
		entry.Key = slices.Clone(d.Key)
		entry.Gossip = d.Gossip
		w.done = fmt.Sprintf("%s joined: its key is pinned", d.Name)
	case !bytes.Equal(entry.GetKey(), d.Key):
		return &Refusal{
			Reason: fmt.Sprintf("%s shows another key than the one that was pinned", d.Name),
			Remedy: fmt.Sprintf("if it was installed anew: divert director remove %s, then divert director approve %s", d.Name, d.Name),
		}
	case d.Gossip != "" && entry.GetGossip() != d.Gossip:
		entry.Gossip = d.Gossip
		w.done = fmt.Sprintf("%s is now at %s", d.Name, d.Gossip)
	default:
		w.noop, w.done = true, d.Name+" has joined already"
		return nil
	}
	w.what = w.done
	return nil
}

func pending(name string) error {
	return &Refusal{
		Reason: fmt.Sprintf("%s is in no Fleet.directors, so it is pending and its votes count for nothing", name),
		Remedy: "divert director approve " + name,
	}
}

// entryOf gives what the spec's roster says of a name.
func (w *work) entryOf(name string) (site string, key []byte, ok bool) {
	for _, e := range w.set.Fleet.Directors {
		if e.Name == name {
			return siteOr(e.Site, name), e.Key, true
		}
	}
	return name, nil, false
}

func siteOr(site, name string) string {
	if site == "" {
		return name
	}
	return site
}

// approve gives a name a place in the roster, with the key that a person has
// looked at; a removed one returns only so.
func (w *work) approve() error {
	d, err := w.subject(true)
	if err != nil {
		return err
	}
	site, given, _ := w.entryOf(d.Name)
	entry := w.next.Director(d.Name)
	switch {
	case len(given) > 0 && !bytes.Equal(given, d.Key):
		return &Refusal{
			Reason: fmt.Sprintf("%s shows another key than Fleet.directors gives it", d.Name),
			Remedy: "correct the key there and apply it first, or the director's key file",
		}
	case entry == nil:
		entry = &plan.Director{Name: d.Name}
		w.next.Roster = append(w.next.Roster, entry)
	case entry.GetStanding() != plan.Director_ACTIVE:
	case bytes.Equal(entry.GetKey(), d.Key):
		w.noop, w.done = true, d.Name+" is in the roster with this key"
		return nil
	case len(entry.GetKey()) > 0:
		return &Refusal{Reason: fmt.Sprintf("%s is in the roster with another key", d.Name), Remedy: "divert director remove " + d.Name + " first, if that one is gone for good"}
	}
	if d.Site != "" {
		site = d.Site
	} else if entry.GetSite() != "" {
		site = entry.GetSite()
	}
	entry.Site, entry.Key, entry.Gossip, entry.Standing = site, slices.Clone(d.Key), d.Gossip, plan.Director_ACTIVE
	w.done = fmt.Sprintf("%s approved, in %s: %s now", d.Name, site, counting(len(w.next.Active()), "director"))
	w.what = "approve director " + d.Name
	return nil
}

// remove ends a registration. The entry stays as a tombstone, so that the name
// comes back by approval only.
func (w *work) remove() error {
	name := w.c.Scope
	if w.c.Director != nil && w.c.Director.Name != "" {
		name = w.c.Director.Name
	}
	var names []string
	for _, d := range w.next.Active() {
		names = append(names, d.GetName())
	}
	entry := w.next.Director(name)
	switch {
	case entry == nil:
		return known("director", name, names, "")
	case entry.GetStanding() != plan.Director_ACTIVE:
		w.noop, w.done = true, name+" was removed already"
		return nil
	case len(names) == 1:
		return &Refusal{Reason: name + " is the last director of the roster", Remedy: "approve another one first"}
	}
	entry.Standing = plan.Director_REMOVED
	if !slices.ContainsFunc(w.next.Active(), func(d *plan.Director) bool { return len(d.GetKey()) > 0 }) {
		return &Refusal{Reason: name + " is the last director with a key: nobody could sign a plan", Remedy: "wait until another one has joined"}
	}
	if r := w.next.Soaking(); r != nil && !slices.ContainsFunc(w.next.Active(), func(d *plan.Director) bool { return !w.next.Canary(d.GetName()) }) {
		return &Refusal{
			Reason: fmt.Sprintf("%s is the last director that does not try the spec of the rollout of revision %d", name, r.GetRevision()),
			Remedy: "end that first: `divert rollout abort`, or go-on",
		}
	}
	w.done = fmt.Sprintf("%s removed: %s now; it comes back only by `divert director approve %s`", name, counting(len(w.next.Active()), "director"), name)
	w.what = "remove director " + name
	return nil
}
