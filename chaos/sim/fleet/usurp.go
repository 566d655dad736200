package fleet

import (
	"bytes"
	"crypto/ed25519"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
)

// usurped is a plan that a rogue director signed, and that no other may answer from (S7).
type usurped struct {
	sealed *plan.Sealed
	docs   [][]byte
	until  time.Duration // it names it to the others, and hands it out
}

// crimes are what a rogue director writes into the plan over the one in the store, and no plan
// may do.
var crimes = map[string]func(*usurper){
	"two-removed": func(u *usurper) {
		for _, d := range u.others(2) {
			d.Standing = plan.Director_REMOVED
		}
	},
	"vanished":  func(u *usurper) { u.next.Roster = slices.DeleteFunc(u.next.Roster, u.other) },
	"other-key": func(u *usurper) { u.others(1)[0].Key = strangersKey() },
	"writer":    func(u *usurper) { u.next.Writer = u.others(1)[0].GetName() },
	"signer": func(u *usurper) { // a key of nobody, which the plan itself brings
		u.next.Roster = append(u.next.Roster, &plan.Director{Name: stranger, Site: "x", Key: strangersKey(), Standing: plan.Director_ACTIVE})
		u.key = keyOf(stranger)
	},
	"endless": func(u *usurper) { u.drain("usurped", "cluster/nyc").End = nil },
	"a-year": func(u *usurper) {
		u.drain("usurped", "cluster/nyc").End = timestamppb.New(u.at.Add(365 * 24 * time.Hour))
	},
	"serial": func(u *usurper) { u.next.Zones[0].Serial-- },
	"parent": func(u *usurper) { u.next.Parent = make([]byte, 32) },
}

// pairedCrimes are what one person may not write. Where one is enough, any operator might have
// said the same, and there is nothing to refuse.
var pairedCrimes = map[string]func(*usurper){
	"half":  func(u *usurper) { u.half("usurped") },
	"later": func(u *usurper) { u.half("usurped"); u.next.Revision += 3; u.next.Parent = make([]byte, 32) },
	"epoch": func(u *usurper) { u.half("usurped"); u.next.Epoch++ },
	"one-removed": func(u *usurper) {
		u.others(1)[0].Standing = plan.Director_REMOVED
	},
	"joined": func(u *usurper) {
		u.next.Roster = append(u.next.Roster, &plan.Director{Name: stranger, Site: "x", Key: strangersKey(), Standing: plan.Director_ACTIVE})
	},
	"operator": func(u *usurper) {
		u.next.Operators = append(u.next.Operators, &plan.Operator{Name: stranger, Key: strangersKey(), Revision: u.next.GetRevision()})
	},
	"silent-glass": func(u *usurper) {
		u.half("usurped")
		u.next.Glass = append(u.next.Glass, &plan.BreakGlass{Id: "usurped", Author: "unix:alice", Revision: u.next.GetRevision(), At: u.next.GetWritten()})
	},
	"old-glass": func(u *usurper) {
		u.half("usurped")
		u.next.Glass = append(u.next.Glass, &plan.BreakGlass{Id: "usurped", Author: "unix:alice", Reason: "x", Revision: u.next.GetRevision() - 1, At: u.next.GetWritten()})
	},
	"self-approved": func(u *usurper) { u.approve(func(r *plan.Request) { r.By = r.GetAuthor() }) },
	"not-asked": func(u *usurper) { // asked and approved by nobody
		r := &plan.Request{
			Id: "usurped", Author: "unix:alice", Via: u.p.name, By: "unix:bob", ByVia: u.p.name, State: plan.Request_DONE,
			Revision: u.next.GetRevision(), Done: u.next.GetRevision(), Parent: u.next.GetParent(), Asked: u.next.GetWritten(), At: u.next.GetWritten(),
			Expires: timestamppb.New(u.at.Add(core.RequestLasts)), Command: []byte(`{"verb":"drain","scope":"cluster/nyc"}`),
		}
		r.SignAsked(u.next.GetFleet(), u.p.key)
		r.SignApproved(u.next.GetFleet(), u.p.key)
		u.next.Requests = append(u.next.Requests, r)
		u.half("usurped")
	},
	"approved-by-other": func(u *usurper) { u.approve(func(r *plan.Request) { r.ByVia = u.others(1)[0].GetName() }) },
	"and-more":          func(u *usurper) { u.approve(func(*plan.Request) {}); u.half("usurped") },
	"alone":             func(u *usurper) { u.spec(alone) },
	"one-site":          func(u *usurper) { u.spec(4) },
}

// stranger has a key that no roster has.
const stranger = "mallory"

// usurper is a rogue director that makes a plan over another.
type usurper struct {
	p    *director
	base *inForce
	next *plan.Plan
	key  ed25519.PrivateKey
	at   time.Time
	docs [][]byte
}

func strangersKey() []byte { return keyOf(stranger).Public().(ed25519.PublicKey) }

func (u *usurper) other(d *plan.Director) bool {
	return d.GetName() != u.p.name && d.GetStanding() == plan.Director_ACTIVE
}

// others lists n other directors; where there are fewer, it makes them up.
func (u *usurper) others(n int) (out []*plan.Director) {
	for _, d := range u.next.GetRoster() {
		if u.other(d) && len(out) < n {
			out = append(out, d)
		}
	}
	for len(out) < n {
		out = append(out, &plan.Director{})
	}
	return out
}

func (u *usurper) drain(id, scope string) *plan.Override {
	o := &plan.Override{
		Id: id, Kind: plan.Override_DRAIN, Scope: scope, Author: "unix:alice", Reason: "x", Revision: u.next.GetRevision(),
		Start: timestamppb.New(u.at), End: timestamppb.New(u.at.Add(time.Hour)),
	}
	u.next.Overrides = append(u.next.Overrides, o)
	return o
}

// half drains all of shop but its first site.
func (u *usurper) half(id string) {
	for i, c := range clusters[1:u.p.w.s.Clusters] {
		if i > 0 {
			id += "-more"
		}
		u.drain(id, "cluster/"+c.name)
	}
}

// approve says yes to what waits in the name of bob, or of whom edit says.
func (u *usurper) approve(edit func(*plan.Request)) {
	for _, r := range u.next.GetRequests() {
		if r.Waits(u.at) {
			r.State, r.By, r.ByVia, r.Done, r.At = plan.Request_DONE, "unix:dave", u.p.name, u.next.GetRevision(), u.next.GetWritten()
			edit(r)
			r.SignApproved(u.next.GetFleet(), u.p.key)
			u.half(r.GetId())
			return
		}
	}
	u.half("usurped") // nothing waits
}

// spec brings another spec, a variant's.
func (u *usurper) spec(variant int) {
	doc := proto.CloneOf(u.base.doc)
	for _, raw := range u.p.w.raws(string(rune('0' + variant))) {
		for _, o := range doc.Objects {
			if o.GetKind() == raw.Kind && o.GetName() == raw.Name && (raw.Kind == "Fleet") == (variant == alone) {
				o.Json = raw.JSON
			}
		}
	}
	raw, err := (proto.MarshalOptions{Deterministic: true}).Marshal(doc)
	u.p.must(err)
	_, u.next.Spec = store.Split(raw)
	u.docs[0] = raw
}

// usurp has a director write a plan that it may not, tell all others, and put it into the
// store where the event says so. Such a plan changes nothing that another answers.
func (w *world) usurp(e Event) {
	p := w.director(e.Args[0])
	crime := crimes[e.Args[1]]
	if p != nil && p.up && p.force != nil && p.force.set.Fleet.TwoPersons && crime == nil {
		crime = pairedCrimes[e.Args[1]]
	}
	if crime == nil || p == nil || !p.up || p.force == nil || p.w.etcd.Get(w.keys.Plan()).Value != string(p.force.sealed.Raw) {
		return
	}
	u := &usurper{p: p, base: p.force, next: proto.CloneOf(p.force.sealed.Plan), key: p.key, at: p.wallTime(), docs: p.force.docs()}
	in := p.force.sealed.Identity
	u.next.Revision, u.next.Parent, u.next.Writer, u.next.Written = in.Revision+1, bytes.Clone(in.Hash[:]), p.name, timestamppb.New(u.at)
	crime(u)
	sealed, err := plan.Sign(u.next, p.name, u.key)
	p.must(err)
	w.ledger.usurped[sealed.Identity.Hash] = p.name
	p.tell("usurps with %s: %s", order(sealed.Identity), e.Args[1])
	p.usurps = &usurped{sealed: sealed, docs: u.docs, until: w.now + e.For}
	for _, peer := range w.directors {
		if peer != p {
			p.send(peer.name, kindPlan, sealed.Raw)
		}
	}
	if slices.Contains(e.Args, "store") && !w.any("etcd-down", "") && !w.any("etcd-cut", p.name) {
		for _, doc := range u.docs {
			chunks, _ := store.Split(doc)
			for _, chunk := range chunks {
				w.etcd.Put(w.keys.Blob(plan.Sum(chunk)), string(chunk), 0)
			}
		}
		w.etcd.Put(w.keys.Plan(), string(sealed.Raw), 0)
	}
}

// claims is the plan that a director says it holds: a rogue one its own.
func (p *director) claims() *plan.Sealed {
	if p.usurps != nil && p.w.now < p.usurps.until {
		return p.usurps.sealed
	}
	return p.force.sealed
}

// hands is a document that a director gives another, by its hash.
func (p *director) hands(sum []byte) []byte {
	if p.usurps != nil && p.w.now < p.usurps.until {
		for _, doc := range p.usurps.docs {
			if is := plan.Sum(doc); bytes.Equal(is[:], sum) {
				return doc
			}
		}
	}
	return p.at()[string(sum)]
}

// distrust notes a plan that is refused, and who signed it, as director's refusals do.
func (p *director) distrust(s *plan.Sealed, err error) {
	if p.refused == s.Identity {
		return
	}
	p.refused = s.Identity
	p.tell("plan %s of %s refused: %v", order(s.Identity), s.Signer, err)
	if p.w.ledger.usurped[s.Identity.Hash] != "" {
		p.w.report.Refused++
	}
}

// untrusted says why a plan in the store is not taken here, though it is of our fleet and not
// older than what is known, as director's does; nil: it is.
func (p *director) untrusted(s *plan.Sealed) error {
	if p.force == nil || s.Identity.Compare(p.ids.Force) < 0 {
		return nil
	}
	return follows(p.force.sealed, s)
}

// usurping is a rogue director, the last, for a while.
func usurping(d *draw) []Event {
	all := slices.Sorted(maps.Keys(crimes))
	all = append(all, slices.Sorted(maps.Keys(pairedCrimes))...)
	var out []Event
	for range 2 + d.IntN(4) {
		at := d.span(2*time.Second, d.s.Length-5*time.Second)
		e := Event{At: at, What: "usurp", Args: []string{nameOf(d.s.Directors - 1), all[d.IntN(len(all))]}, For: d.span(500*time.Millisecond, 8*time.Second)}
		if d.IntN(5) == 0 {
			e.Args = append(e.Args, "store")
			out = append(out, Event{At: at + d.span(time.Second, 4*time.Second), What: "recover", Args: []string{d.director()}})
		}
		out = append(out, e)
	}
	return out
}
