package fleet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// asking is what was asked a second person for, as it was when that was written.
type asking struct {
	cmd    core.Command // as it was given
	at     time.Duration
	does   string // what it was to do then
	over   bool
	denied bool
}

// checkPersons is S16: nothing dangerous comes into the plan but by another person's
// word for that very change, in time, by an operator's signed word, or by break-glass on
// record; what is only asked for changes nothing.
func (w *world) checkPersons(prev, next *plan.Sealed, c *commit) {
	if !w.s.paired() {
		return
	}
	l := &w.ledger
	switch {
	case c.asks():
		if what := w.moved(prev, next); what != "" {
			w.wrong("S16", "%s only asks for a second person, and changes %s", c.cmd.ID, what)
		}
		l.asked[c.cmd.ID] = &asking{cmd: c.cmd, at: w.now, does: w.effectOf(prev, c.cmd, c.states)}
		return
	case c.cmd.Verb == core.Deny:
		if a := l.asked[c.cmd.Scope]; a != nil {
			a.over, a.denied = true, true
		}
	case c.cmd.Verb == core.Acknowledge:
		for _, g := range next.Plan.GetGlass() {
			if g.GetId() == c.cmd.Scope && (person(g.GetAuthor()) == person(c.cmd.Author) || person(c.cmd.Author) == "") {
				w.wrong("S16", "%s of %s looks at what %s did by break-glass", c.cmd.ID, c.cmd.Author, g.GetAuthor())
			}
		}
	case c.cmd.Verb == core.Approve:
		w.checkApproved(prev, next, c)
		return
	}
	why := w.dangers(prev, next, c)
	if why == "" || c.cmd.Verb == core.Settle {
		return // an operator has signed that: checkSettled
	}
	if !c.cmd.BreakGlass {
		w.wrong("S16", "%s %s %s of %s %s, and nobody else has approved it", c.cmd.ID, c.cmd.Verb, c.cmd.Scope, c.cmd.Author, why)
		return
	}
	recorded := slices.ContainsFunc(next.Plan.GetGlass(), func(g *plan.BreakGlass) bool {
		return g.GetId() == c.cmd.ID && g.GetAuthor() == c.cmd.Author && g.GetReason() != "" && g.GetRevision() == next.Identity.Revision
	})
	if !recorded {
		w.wrong("S16", "%s %s %s by break-glass %s, which is not on record: %v", c.cmd.ID, c.cmd.Verb, c.cmd.Scope, why, next.Plan.GetGlass())
	}
}

// checkApproved holds a second person's word against what was asked for.
func (w *world) checkApproved(prev, next *plan.Sealed, c *commit) {
	a := w.ledger.asked[c.cmd.Scope]
	if a == nil {
		w.wrong("S16", "%s approves %s, which nobody has asked for", c.cmd.ID, c.cmd.Scope)
		return
	}
	what := fmt.Sprintf("%s of %s, %s %s of %s,", c.cmd.ID, c.cmd.Author, a.cmd.ID, a.cmd.Verb, a.cmd.Author)
	switch {
	case a.denied:
		w.wrong("S16", "%s was denied, and is done", what)
	case a.over:
		w.wrong("S16", "%s was done before", what)
	case person(c.cmd.Author) == person(a.cmd.Author):
		w.wrong("S16", "%s has no second person", what)
	case person(c.cmd.Author) == "":
		w.wrong("S16", "%s is approved by a program", what)
	case w.now-a.at > core.RequestLasts+time.Second && !w.oddClocks():
		w.wrong("S16", "%s was asked for %s ago", what, w.now-a.at)
	}
	if now := w.effectOf(prev, a.cmd, c.states); now != a.does {
		w.wrong("S16", "%s was to do %q when it was asked for, and does %q", what, a.does, now)
	}
	if did := w.taken(prev, next, w.specOf(next.Plan.GetSpec()), c.states); a.does != "" && did != a.does {
		w.wrong("S16", "%s was to do %q, and has done %q", what, a.does, did)
	}
	a.over = true
}

// oddClocks tells whether some director's clock has been off.
func (w *world) oddClocks() bool {
	return slices.ContainsFunc(w.faults, func(f *fault) bool { return f.What == "clock" })
}

// person is who has a credential; "": a program.
func person(author string) string {
	method, name, found := strings.Cut(author, ":")
	switch {
	case !found:
		return author
	case method == "token":
		return ""
	}
	return name
}

// checkPeople is S15 of what takes two: the record names both, or says that there was none.
func (w *world) checkPeople(a *plan.Audit, c *commit) {
	approver := ""
	if c.cmd.Verb == core.Approve {
		approver = c.cmd.Author
	}
	if a.GetApprover() != approver {
		w.wrong("S15", "the record of %s names %q as the second person, and it was %q", c.cmd.ID, a.GetApprover(), approver)
	}
	if c.cmd.Verb != core.Approve && c.term == nil && c.cmd.Verb != verbRecover && a.GetWho() != c.cmd.Author {
		w.wrong("S15", "the record of %s says that it was %s, and it was %s", c.cmd.ID, a.GetWho(), c.cmd.Author)
	}
	if c.cmd.Verb == core.Approve && c.does.Author != a.GetWho() {
		w.wrong("S15", "the record of %s says that %s asked for it, and it was %s", c.cmd.ID, a.GetWho(), c.does.Author)
	}
	if broken := slices.ContainsFunc(c.next.sealed.Plan.GetGlass(), func(g *plan.BreakGlass) bool { return g.GetId() == c.cmd.ID }); broken != a.GetBreakGlass() {
		w.wrong("S15", "the record of %s says of break-glass %t, and the plan %t", c.cmd.ID, a.GetBreakGlass(), broken)
	}
}

// moved says what a plan changes over another of what the fleet does.
func (w *world) moved(prev, next *plan.Sealed) string {
	a, b := proto.CloneOf(prev.Plan), proto.CloneOf(next.Plan)
	for _, p := range []*plan.Plan{a, b} {
		p.Requests, p.Revision, p.Parent, p.Writer, p.Written, p.MinReader = nil, 0, nil, "", nil, 0
	}
	if proto.Equal(a, b) {
		return ""
	}
	return "more than that"
}

// dangers says what of a change takes two persons, by the rules alone; "": nothing.
func (w *world) dangers(prev, next *plan.Sealed, c *commit) string {
	before, after := w.specOf(prev.Plan.GetSpec()), w.specOf(next.Plan.GetSpec())
	if before == nil || after == nil || !before.set.Fleet.TwoPersons {
		return ""
	}
	was, is := prev.Plan.Soaking(), next.Plan.Soaking()
	switch {
	case c.cmd.Verb == core.GoOn: // it was judged when some began to try it
		after = before
	case is != nil && string(is.GetCanary().GetHash()) != string(was.GetCanary().GetHash()):
		after = w.specOf(is.GetCanary())
	}
	for _, svc := range before.set.Services {
		whole, had, left := 0, 0, 0
		for _, e := range svc.Endpoints {
			if svc.Steering.Policy == spec.PolicyWeighted && e.Weight == 0 {
				continue
			}
			whole++
			if meant(prev.Plan, before.set, svc, &e) {
				had++
			}
			if now := after.set.Service(svc.Name); now != nil {
				if e := now.Endpoint(e.Cluster); e != nil && meant(next.Plan, after.set, now, e) {
					left++
				}
			}
		}
		if left < had && 2*left < whole {
			return fmt.Sprintf("leaves %d of %d sites of %s", left, whole, svc.Name)
		}
	}
	for _, d := range w.directors {
		old, now := prev.Plan.Director(d.name), next.Plan.Director(d.name)
		joins := old == nil && now.GetStanding() == plan.Director_ACTIVE && string(now.GetKey()) == string(d.public())
		if !proto.Equal(old, now) && (old.GetStanding() != now.GetStanding() || string(old.GetKey()) != string(now.GetKey())) && !joins {
			return "changes what the roster says of " + d.name
		}
	}
	switch forced := func(p *plan.Plan, like *plan.Override) bool {
		return slices.ContainsFunc(p.GetOverrides(), func(o *plan.Override) bool {
			return o.GetForced() && o.GetScope() == like.GetScope() && o.GetKind() == like.GetKind()
		})
	}; {
	case len(next.Plan.GetRoster()) > max(len(prev.Plan.GetRoster()), len(w.directors)):
		return "lets a stranger into the roster"
	case !slices.EqualFunc(prev.Plan.GetOperators(), next.Plan.GetOperators(), func(a, b *plan.Operator) bool { return proto.Equal(a, b) }):
		return "changes who is believed in an emergency"
	case !after.set.Fleet.TwoPersons:
		return "has one person be enough for ever after"
	case slices.ContainsFunc(next.Plan.GetOverrides(), func(o *plan.Override) bool { return o.GetForced() && !forced(prev.Plan, o) }):
		return "is forced past a rule"
	case c.cmd.Force && c.term == nil && c.cmd.Verb != verbRecover && c.cmd.Verb != core.GoOn && c.cmd.Verb != core.Deny:
		return "was given with force"
	}
	return ""
}

// effectOf says what a command would take away by a plan and its spec; "": nothing that this
// can tell of its kind.
func (w *world) effectOf(prev *plan.Sealed, cmd core.Command, states map[health.Subject]health.State) string {
	before := w.specOf(prev.Plan.GetSpec())
	next := &plan.Sealed{Plan: proto.CloneOf(prev.Plan)}
	switch {
	case before == nil:
		return ""
	case cmd.Verb == core.Drain:
		next.Plan.Overrides = append(slices.DeleteFunc(next.Plan.Overrides, func(o *plan.Override) bool {
			return o.GetKind() == plan.Override_DRAIN && o.GetScope() == cmd.Scope
		}), &plan.Override{Id: cmd.ID, Kind: plan.Override_DRAIN, Scope: cmd.Scope})
		return w.taken(prev, next, before, states)
	default:
		return ""
	}
}

// taken lists the sites that people no longer let serve, of each service, and how many are
// left, those that have failed apart: who is dead has no clients to lose.
func (w *world) taken(prev, next *plan.Sealed, after *prepared, states map[health.Subject]health.State) string {
	before := w.specOf(prev.Plan.GetSpec())
	var b strings.Builder
	for _, svc := range before.set.Services {
		n := 0
		var gone []string
		for _, e := range svc.Endpoints {
			if slices.ContainsFunc(e.Addresses, func(a netip.Addr) bool {
				return slices.ContainsFunc(steer.Subjects(svc, a), func(s steer.SubjectOf) bool { return states[s.Subject] == health.Down })
			}) {
				continue
			}
			now, is := after.set.Service(svc.Name), false
			if now != nil && now.Endpoint(e.Cluster) != nil {
				is = meant(next.Plan, after.set, now, now.Endpoint(e.Cluster))
			}
			if is {
				n++
			} else if meant(prev.Plan, before.set, svc, &e) {
				gone = append(gone, e.Cluster)
			}
		}
		if len(gone) > 0 {
			fmt.Fprintf(&b, "%s without %s, %d left; ", svc.Name, strings.Join(gone, ","), n)
		}
	}
	return b.String()
}
