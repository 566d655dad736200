package core

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// Succession is a plan that is to follow the one in force, with their specs.
type Succession struct {
	Cur  *plan.Sealed // nil: there is none
	Spec *spec.Set
	Next *plan.Sealed
	// NextSpec is that of all, Tries what a rollout in it has some directors try; nil: none.
	NextSpec, Tries *spec.Set
	// Vouched tells that a registered director besides its writer has acknowledged the
	// plan: one that may have seen what came between.
	Vouched bool
}

// CheckPersons says what a plan does that takes two persons (S16) and that no second one is
// proved to have approved, nil: nothing (S7). It is a function of the two plans and their
// specs. A plan carries what proves it: the request, signed by the director that took it,
// and the approval, signed by another. So a director that was away can tell as well, for a
// day; after that it goes by the word of another that was there (Vouched).
func CheckPersons(c Succession) error {
	if c.Cur == nil || c.Cur.Identity == c.Next.Identity || !fleetOf(c.Spec).TwoPersons {
		return nil
	}
	cur, next := c.Cur.Plan, c.Next.Plan
	direct := c.direct()
	if direct {
		if d := cur.Holder(c.Next.Key); d.GetName() != next.GetWriter() {
			return fmt.Errorf("it names %q as its writer, and %q has signed it", next.GetWriter(), d.GetName())
		}
		if err := checkAsked(c.Cur, next); err != nil {
			return err
		}
	}
	before, after := side{cur, c.Spec}, side{next, c.NextSpec}
	forgets := c.forgets() // nothing that is approved brings it
	why := append(c.dangers(before, after), forgets...)
	if len(why) == 0 {
		return nil
	}
	proofs, problem := c.proofs()
	switch {
	case problem != nil:
	case len(proofs) > 0:
		problem = errors.New("it does more than was approved")
	default:
		problem = errors.New("no request for it was approved")
	}
	after.plan = proto.CloneOf(next)
	for _, p := range proofs {
		if p.all {
			return nil
		}
		after.explain(before, p, direct)
	}
	rest := append(c.dangers(before, after), forgets...)
	if len(rest) == 0 || !direct && c.Vouched {
		return nil
	}
	return fmt.Errorf("one person is not enough for it, and %w: %s", problem, rest[0])
}

// direct tells whether the one plan follows the other without one between.
func (c Succession) direct() bool {
	return c.Cur.Identity.Epoch == c.Next.Identity.Epoch && c.Cur.Identity.Revision+1 == c.Next.Identity.Revision
}

// forgets says that a plan would have the next one held to less than the one in force: what
// takes two persons goes by what a plan takes of its readers, which else one director alone
// could lower first, to do by the next plan what it may not.
func (c Succession) forgets() []string {
	if c.Next.Plan.GetMinReader() >= heldTo(c.Cur, c.Next.Plan, c.NextSpec) {
		return nil
	}
	return []string{"it would have the next plan held to less of what takes two persons"}
}

// dangers are those of the change. What a rollout has some directors try is judged when
// they begin, and not again when all take it.
func (c Succession) dangers(before, after side) []string {
	was, is := before.plan.Soaking(), after.plan.Soaking()
	switch {
	case is != nil && c.Tries != nil && after.set == c.NextSpec && !bytes.Equal(is.GetCanary().GetHash(), was.GetCanary().GetHash()):
		out := dangers(before, after)
		after.set = c.Tries
		return append(out, dangers(before, after)...)
	case was != nil && bytes.Equal(c.Next.Plan.GetSpec().GetHash(), was.GetCanary().GetHash()):
		after.set = before.set
	}
	return dangers(before, after)
}

// proof is a command that somebody else than its author is proved to have approved, or,
// with all, that somebody broke the glass.
type proof struct {
	id   string
	by   string // who asked
	wish Command
	spec []byte // that it brings
	all  bool
}

// proofs collects what a plan proves over the one in force, and says what is wrong with
// what proves nothing.
func (c Succession) proofs() (out []proof, problem error) {
	cur, next := c.Cur.Plan, c.Next.Plan
	for _, g := range next.GetGlass() {
		old := slices.ContainsFunc(cur.GetGlass(), func(o *plan.BreakGlass) bool {
			return o.GetId() == g.GetId() && o.GetRevision() == g.GetRevision()
		})
		if !old && c.since(g.GetRevision()) && g.GetAuthor() != "" && g.GetReason() != "" {
			out = append(out, proof{id: g.GetId(), by: g.GetAuthor(), all: true})
		}
	}
	for _, r := range next.GetRequests() {
		if r.GetState() != plan.Request_DONE || cur.Request(r.GetId()).GetState() == plan.Request_DONE {
			continue
		}
		p, err := c.proved(r)
		if err != nil {
			problem = fmt.Errorf("request %s proves nothing: %w", r.GetId(), err)
			continue
		}
		out = append(out, p)
	}
	for _, o := range next.GetOverrides() {
		if len(o.GetWord()) == 0 {
			continue
		}
		word, err := plan.OpenWord(o.GetWord())
		if err == nil && cur.Heeds(word) == nil && !cur.Settles(word) && word.GetEnds() == "" && word.GetId() == o.GetId() && sameScope(word.GetScope(), o.GetScope()) {
			out = append(out, proof{id: o.GetId(), by: o.GetAuthor(), wish: Command{Verb: Drain, Scope: o.GetScope()}})
		}
	}
	return out, problem
}

func sameScope(a, b string) bool {
	s, err := steer.ParseScope(a)
	return err == nil && s.String() == b
}

// since tells whether a revision came after the plan in force, and not after the next.
func (c Succession) since(revision uint64) bool {
	return revision > c.Cur.Identity.Revision && revision <= c.Next.Identity.Revision
}

// proved holds a request that is said to be approved against S16.
func (c Succession) proved(r *plan.Request) (proof, error) {
	cur := c.Cur.Plan
	old := cur.Request(r.GetId())
	asked, expires, at := r.GetAsked().AsTime(), r.GetExpires().AsTime(), r.GetAt().AsTime()
	switch {
	case old != nil && old.GetState() != plan.Request_OPEN:
		return proof{}, errors.New("it was denied")
	case old == nil && c.direct():
		return proof{}, errors.New("nobody has seen it asked for")
	case old == nil && !c.since(r.GetRevision()):
		return proof{}, errors.New("it is older than the plan in force, which does not hold it")
	case old != nil && !bytes.Equal(old.GetAskedSignature(), r.GetAskedSignature()):
		return proof{}, errors.New("it is not what was asked for")
	case r.GetBy() == "" || samePerson(r.GetBy(), r.GetAuthor()) || c.direct() && stake(cur, r, r.GetBy()):
		return proof{}, fmt.Errorf("%s has approved what he asked for himself", r.GetAuthor())
	case isProgram(r.GetBy()):
		return proof{}, fmt.Errorf("%s, which has approved it, is no person", r.GetBy())
	case r.GetVia() == r.GetByVia() && signers(cur) > 1:
		return proof{}, fmt.Errorf("director %s alone says who asked and who approved", r.GetVia())
	case !c.since(r.GetDone()):
		return proof{}, errors.New("it was approved for another plan")
	case expires.Sub(asked) > RequestLasts || at.Before(asked) || !at.Before(expires):
		return proof{}, errors.New("it had expired when it was approved")
	case c.direct() && !(c.Next.Plan.GetWritten().AsTime().Before(expires) && c.Cur.Plan.GetWritten().AsTime().Before(expires)):
		return proof{}, errors.New("it had expired when this plan was written")
	case c.direct() && r.GetByVia() != c.Next.Plan.GetWriter():
		return proof{}, errors.New("another director than the plan's writer took the approval")
	}
	if err := r.ProvesAsked(cur); err != nil {
		return proof{}, fmt.Errorf("who asked for it: %w", err)
	}
	if err := r.ProvesApproved(cur); err != nil {
		return proof{}, fmt.Errorf("who approved it: %w", err)
	}
	wish, err := wished(r)
	if err != nil {
		return proof{}, err
	}
	return proof{id: r.GetId(), by: r.GetAuthor(), wish: wish, spec: r.GetSpec()}, nil
}

// explain takes back of a side what a proved command has done: what is left of the
// dangers, nobody has approved. Of a plan that follows directly it must be that very
// command's.
func (s *side) explain(before side, p proof, direct bool) {
	wish := p.wish
	switch wish.Verb {
	case Apply, Revert, GoOn, Abort:
		is := s.plan.GetSpec().GetHash()
		if r := s.plan.Soaking(); r != nil && r.GetId() == p.id {
			is = r.GetCanary().GetHash()
		}
		if !direct || len(p.spec) == 0 || bytes.Equal(is, p.spec) {
			s.set = before.set
		}
	case DirectorAdd, DirectorRemove:
		name := wish.Scope
		if wish.Director != nil && wish.Director.Name != "" {
			name = wish.Director.Name
		}
		now, old := s.plan.Director(name), before.plan.Director(name)
		if wish.Verb == DirectorAdd && (wish.Director == nil || !bytes.Equal(now.GetKey(), wish.Director.Key)) || wish.Verb == DirectorRemove && now.GetStanding() != plan.Director_REMOVED {
			return
		}
		s.plan.Roster = swap(s.plan.Roster, old, func(d *plan.Director) bool { return d.GetName() == name })
	case OperatorAdd, OperatorRemove:
		if wish.Operator == nil {
			return
		}
		name := wish.Operator.Name
		if now := s.plan.Operator(name); now != nil && !bytes.Equal(now.GetKey(), wish.Operator.Key) {
			return
		}
		s.plan.Operators = swap(s.plan.Operators, before.plan.Operator(name), func(o *plan.Operator) bool { return o.GetName() == name })
	case KeyRotate, KeyBack:
		t := s.plan.GetGossipKey().GetTurn()
		if !direct || wish.Verb == KeyRotate && t.GetId() == p.id || wish.Verb == KeyBack && t == nil {
			s.plan.GossipKey = before.plan.GetGossipKey()
		}
	case PolicyAdopt, PolicyDrop:
		if now := s.plan.GetPolicy(); wish.Verb == PolicyDrop && now == nil || wish.Verb == PolicyAdopt && len(p.spec) > 0 && bytes.Equal(now.GetBundle().GetHash(), p.spec) {
			s.plan.Policy, s.plan.Residency, s.set = before.plan.GetPolicy(), before.plan.GetResidency(), before.set
		}
	case TokenCreate:
		if wish.Token == nil {
			return
		}
		name := wish.Token.Name
		if now := s.plan.Token(name); now == nil || !bytes.Equal(now.GetSum(), wish.Token.Sum) || now.GetRole() != wish.Token.Role || !slices.Equal(now.GetScopes(), wish.Token.Scopes) {
			return
		}
		s.plan.Tokens = swap(s.plan.Tokens, before.plan.Token(name), func(t *plan.Token) bool { return t.GetName() == name })
	default:
		s.plan.Overrides = slices.DeleteFunc(s.plan.Overrides, func(o *plan.Override) bool {
			return sameScope(wish.Scope, o.GetScope()) && (!direct || o.GetId() == p.id && o.GetAuthor() == p.by)
		})
		for _, o := range before.plan.GetOverrides() {
			if sameScope(wish.Scope, o.GetScope()) {
				s.plan.Overrides = append(s.plan.Overrides, o)
			}
		}
	}
}

// swap puts an entry in the place of those that match; nil: nothing.
func swap[E any](list []*E, with *E, match func(*E) bool) []*E {
	list = slices.DeleteFunc(list, match)
	if with != nil {
		list = append(list, with)
	}
	return list
}

// checkRequests holds the requests of a plan against each other.
func checkRequests(p *plan.Plan) error {
	ids := map[string]bool{}
	for _, r := range p.GetRequests() {
		if r.GetId() == "" || ids[r.GetId()] {
			return fmt.Errorf("it has two requests of ID %q, or one without", r.GetId())
		}
		ids[r.GetId()] = true
	}
	return nil
}

// checkAsked holds the requests that a plan brings against what they are, and those that it
// keeps against what they were.
func checkAsked(cur *plan.Sealed, next *plan.Plan) error {
	for _, r := range next.GetRequests() {
		old := cur.Plan.Request(r.GetId())
		switch {
		case old != nil && (!bytes.Equal(old.GetAskedSignature(), r.GetAskedSignature()) || old.GetState() != r.GetState() && old.GetState() != plan.Request_OPEN):
			return fmt.Errorf("request %s is another than it was", r.GetId())
		case old != nil:
		case r.GetState() != plan.Request_OPEN:
			return fmt.Errorf("request %s is over before anybody has seen it asked for", r.GetId())
		case r.GetVia() != next.GetWriter() || r.GetRevision() != next.GetRevision() || !bytes.Equal(r.GetParent(), cur.Identity.Hash[:]):
			return fmt.Errorf("request %s is not of this plan", r.GetId())
		case r.GetExpires().AsTime().Sub(r.GetAsked().AsTime()) > RequestLasts:
			return fmt.Errorf("request %s waits longer than one may", r.GetId())
		default:
			if err := r.ProvesAsked(cur.Plan); err != nil {
				return fmt.Errorf("request %s: %w", r.GetId(), err)
			}
		}
	}
	return nil
}

// Turns tells whether a plan changes over another anything that may take two persons: who
// was away goes through such plans one by one.
func Turns(was, is *plan.Plan) bool {
	bare := func(p *plan.Plan) *plan.Plan {
		p = proto.CloneOf(p)
		p.Revision, p.Parent, p.Written, p.Writer = 0, nil, nil, ""
		p.Spill, p.Paces, p.Zones, p.Switches, p.Previous = nil, nil, nil, nil, nil
		return p
	}
	return !proto.Equal(bare(was), bare(is))
}
