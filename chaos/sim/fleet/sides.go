package fleet

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/health"
)

// inForce is a plan with what follows from its documents, as director's is.
type inForce struct {
	*prepared           // of all who try nothing: what commands are decided on
	trial     *prepared // of those who try another spec; nil: nobody does
	sealed    *plan.Sealed
}

// on is what a director answers from.
func (f *inForce) on(name string) *prepared {
	if f.trial != nil && f.sealed.Plan.Canary(name) {
		return f.trial
	}
	return f.prepared
}

// watched lists the subjects of both sides: what either goes by is probed by all.
func (f *inForce) watched() []health.Subject {
	if f.trial == nil {
		return f.subjects
	}
	all := slices.Concat(f.subjects, f.trial.subjects)
	slices.SortFunc(all, health.Subject.Compare)
	return slices.Compact(all)
}

// docs lists the documents, in the order of the plan's Specs.
func (f *inForce) docs() [][]byte {
	if f.trial == nil {
		return [][]byte{f.bytes}
	}
	return [][]byte{f.bytes, f.trial.bytes}
}

// sameSpecs tells whether two have the same specs of both sides.
func sameSpecs(a, b *inForce) bool { return a.prepared == b.prepared && a.trial == b.trial }

// put puts a plan together with the documents that it names.
func (w *world) put(s *plan.Sealed, docs [][]byte) *inForce {
	f := &inForce{sealed: s}
	for i, doc := range docs {
		made, err := w.prepare(doc)
		if err != nil {
			panic(err) // what was written here
		}
		if i == 0 {
			f.prepared = made
		} else {
			f.trial = made
		}
	}
	return f
}

// at gives the documents that are at hand here, by hash.
func (p *director) at() map[string][]byte {
	out := map[string][]byte{}
	if p.force != nil {
		refs := p.force.sealed.Plan.Specs()
		for i, doc := range p.force.docs() {
			out[string(refs[i].GetHash())] = doc
		}
	}
	return out
}

// trialOf is what core wants to know of the spec that some try.
func trialOf(f *inForce) *core.Trial {
	if f.trial == nil {
		return nil
	}
	return &core.Trial{Doc: f.trial.doc, Spec: f.trial.set}
}

// seen is what a leader knows of the others, as director's is; what their DNS says apart.
func (p *director) seen() map[string]core.Seen {
	out := map[string]core.Seen{p.name: {Acked: p.ids.Acked()}}
	for _, d := range core.Voters(p.force.sealed.Plan) {
		h, at, ok := p.book.Peer(d.Name)
		if d.Name == p.name || !ok {
			continue
		}
		var v core.Seen
		v.Acked, _ = plan.ParseIdentity(h.Plan)
		if silent := p.w.time().Sub(at); silent > 15*time.Second {
			v.Alarm = "is silent for " + spec.FormatDuration(silent)
		}
		out[d.Name] = v
	}
	return out
}

// seal signs the plan of a change, with the documents that it names and their chunks, as
// director's commander does. Held: the store has them.
func (p *director) seal(c core.Change, base *inForce) (sealed *plan.Sealed, docs, chunks [][]byte, held bool) {
	add := func(doc *plan.SpecDoc) *plan.SpecRef {
		raw, err := (proto.MarshalOptions{Deterministic: true}).Marshal(doc)
		p.must(err)
		parts, ref := store.Split(raw)
		docs, chunks = append(docs, raw), append(chunks, parts...)
		return ref
	}
	keep := func(doc []byte) {
		parts, _ := store.Split(doc)
		docs, chunks = append(docs, doc), append(chunks, parts...)
	}
	if c.Doc == nil {
		keep(base.bytes)
	} else {
		c.Plan.Spec = add(c.Doc)
		if c.Plan.Previous != nil { // see core, keepPrevious
			c.Plan.Previous.ReplacedBy = c.Plan.Spec.GetHash()
		}
	}
	switch {
	case c.Trial != nil:
		c.Plan.Rollout.Canary = add(c.Trial)
	case c.Plan.Soaking() != nil:
		keep(base.trial.bytes)
	}
	byHash := map[plan.Hash][]byte{} // two specs have most chunks in common
	for _, chunk := range chunks {
		byHash[plan.Sum(chunk)] = chunk
	}
	chunks = slices.SortedFunc(maps.Values(byHash), slices.Compare)
	c.Vouch(p.key)
	sealed, err := plan.Sign(c.Plan, p.name, p.key)
	p.must(err)
	return sealed, docs, chunks, c.Doc == nil && c.Trial == nil
}
