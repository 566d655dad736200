package core

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// move is what comes next of a drain in steps, or why nothing does yet.
type move struct {
	pace  *plan.Pace // as it is then; nil: as it was
	ends  bool       // the drain is over
	down  bool       // clients leave by it
	notes bool       // it only says from when the wait of the step in force counts
	what  string
	waits string
}

// stepID is the ID of the next write of a drain in steps. It follows from what is done, so
// that two leaders, or one before and after its death, cannot do it twice (S4).
func stepID(o *plan.Override) string {
	return fmt.Sprintf("step-%s-%d", o.GetId(), o.GetPace().GetWrites()+1)
}

// steps lists the writes of drains in steps that are due.
func steps(s State) []Command {
	var out []Command
	var w *work
	for _, o := range s.Plan.Plan.GetOverrides() {
		if o.GetPace() == nil {
			continue
		}
		if w == nil {
			w = &work{s: s, set: s.Spec, next: s.Plan.Plan}
		}
		if m := w.nextMove(o); m.pace != nil || m.ends {
			// The reason is the drain's own: two leaders must utter the same command.
			out = append(out, Command{ID: stepID(o), Verb: Step, Scope: o.GetScope(), Author: s.Me, Reason: o.GetReason()})
		}
	}
	return out
}

// step writes what comes next of the drain whose next write has the command's ID.
func (w *work) step() error {
	i := slices.IndexFunc(w.next.GetOverrides(), func(o *plan.Override) bool { return o.GetPace() != nil && stepID(o) == w.c.ID })
	if i < 0 {
		w.noop, w.done = true, "done already, or its drain is no more"
		return nil
	}
	o := w.next.GetOverrides()[i]
	m := w.nextMove(o)
	if m.pace == nil && !m.ends {
		w.noop, w.done = true, m.waits
		return nil
	}
	if m.down && !o.GetForced() {
		if err := w.leavesNone(o); err != nil {
			return err
		}
	}
	if m.notes { // the step stays the one that it was
		m.pace.Writes++
		o.Pace, w.done, w.what = m.pace, m.what, m.what
		return nil
	}
	if p := o.GetPace(); m.down || p.GetState() == plan.Pace_RETURNING {
		w.keepLate(o.GetScope(), o.Keep(), w.s.Now.Sub(p.GetNext().AsTime()))
	}
	if m.ends {
		w.drop(func(other *plan.Override) bool { return other == o })
	} else {
		m.pace.Since, m.pace.Revision, m.pace.Writes = timestamppb.New(w.s.Now), w.next.GetRevision(), o.GetPace().GetWrites()+1
		o.Pace = m.pace
	}
	w.done, w.what = m.what, m.what
	return nil
}

// leavesNone refuses a step of a drain that would in the end take a last site: others have
// gone since it began.
func (w *work) leavesNone(o *plan.Override) error {
	scope, err := steer.ParseScope(o.GetScope())
	if err != nil {
		return err
	}
	if undo := w.foresee(); undo != nil {
		defer undo()
	}
	if hit := w.compare(scope).lastSites(); len(hit) > 0 {
		return &Refusal{
			Reason: fmt.Sprintf("the next step of the drain of %s is not taken: it would take the last healthy site of %s", scope, list(hit)),
			Remedy: "restore another site, or undrain it",
		}
	}
	return nil
}

// nextMove decides what comes next of a drain in steps; it looks at the cheapest first.
func (w *work) nextMove(o *plan.Override) move {
	scope, err := steer.ParseScope(o.GetScope())
	if err != nil {
		return move{waits: err.Error()}
	}
	state := o.GetPace().GetState()
	if int(o.GetPace().GetStep()) >= len(o.GetPace().GetSteps()) { // see checkPaces: what the store holds may be refused here
		return move{waits: "somebody to undrain it: it is at a step that it has not"}
	}
	if state == plan.Pace_DONE || state == plan.Pace_ROLLED_BACK {
		return move{}
	}
	// Precedence: a person's word, that nothing moves by itself, before all else.
	if by := w.frozen(scope, time.Time{}); by != "" {
		return move{waits: by}
	}
	switch state {
	case plan.Pace_MOVING, plan.Pace_HELD:
		return w.forth(o, scope)
	case plan.Pace_RETURNING, plan.Pace_ROLLING_BACK:
		return w.back(o, scope)
	default:
		return move{waits: "this director does not know what it is at: it may be older than the plan"}
	}
}

// forth decides about a drain whose clients leave, or are to.
func (w *work) forth(o *plan.Override, scope steer.Scope) move {
	p := o.GetPace()
	red, missing := w.wellness(o, scope)
	early, acks := w.s.Now.Before(p.GetNext().AsTime()), w.unacknowledged(p)
	held := p.GetState() == plan.Pace_HELD
	switch {
	case held && red == "" && missing == "":
		next := proto.CloneOf(p)
		next.State, next.Why, next.Next = plan.Pace_MOVING, "", timestamppb.New(w.s.Now.Add(p.GetWait().AsDuration()))
		return move{pace: next, what: fmt.Sprintf("go on with the drain of %s, %s moved: who takes over is well again", scope, moved(o))}
	case held && early:
		return move{waits: "who takes over to be well, else it is rolled back at " + clock(p.GetNext().AsTime())}
	case held:
		kept := w.kept(o)
		if unwell := append(w.unwell(scope, kept), w.closedGates(scope, kept)...); len(unwell) > 0 {
			return move{waits: "a rollback onto healthy sites only: " + list(unwell)}
		}
		return w.rollBack(o, scope)
	case red != "":
		next := proto.CloneOf(p)
		next.State, next.Why, next.Next = plan.Pace_HELD, red, timestamppb.New(w.s.Now.Add(p.GetWait().AsDuration()))
		return move{pace: next, what: fmt.Sprintf("hold the drain of %s, %s moved: %s", scope, moved(o), red)}
	case len(acks) > 0:
		return move{waits: acksText(acks, p)}
	case p.Last():
		next := proto.CloneOf(p)
		next.State, next.Next = plan.Pace_DONE, nil
		return move{pace: next, what: fmt.Sprintf("the drain of %s is complete: all %s answer without it", scope, count(len(w.s.Plan.Plan.Active()), "director"))}
	case p.GetAcked() != p.GetRevision():
		return w.noteAcked(o, scope)
	case early:
		return move{waits: "the wait of this step, until " + clock(p.GetNext().AsTime())}
	case missing != "":
		return move{waits: missing}
	}
	if rules := w.forbidden(o, scope); len(rules) > 0 && !o.GetForced() {
		return move{waits: list(rules)}
	}
	next := proto.CloneOf(p)
	next.Step++
	next.Next = timestamppb.New(w.s.Now.Add(p.GetWait().AsDuration()))
	return move{pace: next, down: true, what: fmt.Sprintf("drain %s: step %d of %d, %s moved",
		scope, next.GetStep()+1, len(next.GetSteps()), percent(plan.Whole-next.GetSteps()[next.GetStep()]))}
}

// noteAcked has the wait of a step count from when every registered director is known to
// answer by it, and not from when it was written: who acknowledged it late told its clients
// the old TTL, or the share before, until then. It stands in the plan, so that a new leader
// neither begins the wait anew nor cuts it short.
func (w *work) noteAcked(o *plan.Override, scope steer.Scope) move {
	next := proto.CloneOf(o.GetPace())
	wait := next.GetWait().AsDuration()
	if o.Keep() == plan.Whole { // it has lowered the TTL; the spec may have lowered it since
		wait = w.oldTTL(scope)
		if was := next.GetNext().AsTime().Sub(next.GetSince().AsTime()); was <= longestWait {
			wait = max(wait, was)
		}
	}
	next.Acked, next.Next = next.GetRevision(), timestamppb.New(w.s.Now.Add(wait))
	of, step, last := "drain", next.GetStep()+1, len(next.GetSteps())
	if o.GivesBack() { // its first is where it begins, and no step
		of, step, last = "return", next.GetStep(), len(next.GetSteps())-1
	}
	return move{pace: next, notes: true, what: fmt.Sprintf("the %s of %s: all %s answer by step %d of %d, its wait of %s begins",
		of, scope, count(len(w.s.Plan.Plan.Active()), "director"), step, last, spec.FormatDuration(wait))}
}

// rollBack begins to give the clients back that a held drain has taken: without the waits,
// since those who took over suffer, but by the steps, and each acknowledged.
func (w *work) rollBack(o *plan.Override, scope steer.Scope) move {
	p := proto.CloneOf(o.GetPace())
	up := slices.Clone(p.GetSteps()[:p.GetStep()+1])
	slices.Reverse(up)
	if up[len(up)-1] != plan.Whole {
		up = append(up, plan.Whole)
	}
	p.Steps, p.Step, p.State, p.Next = up, 0, plan.Pace_ROLLING_BACK, timestamppb.New(w.s.Now)
	what := fmt.Sprintf("roll back the drain of %s, %s moved: %s", scope, moved(o), p.GetWhy())
	if len(up) > 1 {
		p.Step = 1
	}
	if p.Last() {
		p.State, p.Next = plan.Pace_ROLLED_BACK, nil
	}
	return move{pace: p, what: what}
}

// absence is how long at least a return waits, at each step, for directors that are not heard.
const absence = 15 * time.Second

// back decides about a drain whose clients come back. Who is away for long, and all but a
// few are there, holds no return up: a dead director would keep clients from a healthy site
// for ever (S18), or with one that suffers. Of his own clients he keeps away what he last
// knew, and they come at once when he does.
func (w *work) back(o *plan.Override, scope steer.Scope) move {
	p := o.GetPace()
	acks := w.unacknowledged(p)
	few := 2*len(acks) < len(w.s.Plan.Plan.Active())
	if len(acks) > 0 && !(few && !w.s.Now.Before(p.GetSince().AsTime().Add(max(p.GetWait().AsDuration(), absence)))) {
		return move{waits: acksText(acks, p)}
	}
	// As forth: who acknowledged late kept its clients away until then. A rollback waits for
	// nothing but all, and the step at which a return begins has given nobody back.
	if p.GetState() == plan.Pace_RETURNING && p.GetStep() > 0 && len(acks) == 0 && p.GetAcked() != p.GetRevision() {
		return w.noteAcked(o, scope)
	}
	m := w.backTo(o, scope)
	if len(acks) > 0 && m.what != "" {
		m.what += fmt.Sprintf("; without %s, which may still answer otherwise", list(acks))
	}
	return m
}

// backTo decides about it once it waits for nobody.
func (w *work) backTo(o *plan.Override, scope steer.Scope) move {
	p := o.GetPace()
	if unwell := w.unwell(scope, w.kept(o)); len(unwell) > 0 {
		return move{waits: "a return onto healthy sites only: " + list(unwell)}
	}
	if w.s.Now.Before(p.GetNext().AsTime()) {
		return move{waits: "the wait of this step, until " + clock(p.GetNext().AsTime())}
	}
	next := proto.CloneOf(p)
	next.Step++
	rolls := p.GetState() == plan.Pace_ROLLING_BACK
	switch {
	case next.Last() && rolls:
		next.State, next.Next = plan.Pace_ROLLED_BACK, nil
		return move{pace: next, what: fmt.Sprintf("the drain of %s is rolled back, all its clients are back: %s", scope, p.GetWhy())}
	case next.Last():
		return move{ends: true, what: fmt.Sprintf("end of the drain of %s: all its clients are back", scope)}
	case rolls:
		next.Next = timestamppb.New(w.s.Now)
		return move{pace: next, what: fmt.Sprintf("roll back the drain of %s: %s of its clients are back", scope, percent(next.GetSteps()[next.GetStep()]))}
	}
	next.Next = timestamppb.New(w.s.Now.Add(p.GetWait().AsDuration()))
	return move{pace: next, what: fmt.Sprintf("return of %s: step %d of %d, %s of its clients are back",
		scope, next.GetStep(), len(next.GetSteps())-1, percent(next.GetSteps()[next.GetStep()]))}
}

// kept gives what other drains keep away as a whole and for longer: it comes back by no
// return, and holds none up.
func (w *work) kept(o *plan.Override) []steer.Scope {
	return drainScopes(w.s.Plan.Plan, func(d *plan.Override) bool { return d.GetId() != o.GetId() && !d.Ends() && d.Keep() == 0 })
}

// frozen says which person's word keeps a scope from moving by itself, of those that end
// after an instant.
func (w *work) frozen(scope steer.Scope, after time.Time) string {
	for _, o := range w.s.Plan.Plan.GetOverrides() {
		if o.GetKind() != plan.Override_OBSERVE || o.GetAuthor() == SpecAuthor || !o.GetEnd().AsTime().After(after) {
			continue
		}
		service, isOne := strings.CutPrefix(o.GetScope(), "service/")
		if isOne && !slices.ContainsFunc(covered(w.set, scope), func(s site) bool { return s.service.Name == service }) {
			continue
		}
		return fmt.Sprintf("%s is frozen by %s (%s): nothing moves by itself", o.GetScope(), o.GetAuthor(), o.GetReason())
	}
	return ""
}

// unacknowledged names the registered directors that are not known to answer by a step.
// A plan of an older epoch holds no step, whatever its revision: the store was recovered
// without it.
func (w *work) unacknowledged(p *plan.Pace) (lacking []string) {
	in := w.s.Plan.Identity
	for _, d := range w.s.Plan.Plan.Active() {
		id, ok := w.s.Acks[d.GetName()]
		if !ok || id.Fleet != in.Fleet || id.Epoch < in.Epoch || id.Revision < p.GetRevision() {
			lacking = append(lacking, d.GetName())
		}
	}
	return lacking
}

func acksText(lacking []string, p *plan.Pace) string {
	return fmt.Sprintf("%s to be heard and to answer by this step (plan revision %d)", list(lacking), p.GetRevision())
}

// wellness says what is wrong with who takes over: what is known to be, and, where nothing
// is, what is not known to be well. Missing is not green, but no reason to go back either.
func (w *work) wellness(o *plan.Override, scope steer.Scope) (red, missing string) {
	excused := func(s site) bool { _, found := slices.BinarySearch(o.GetPace().GetExcused(), s.String()); return found }
	w.takers(o, scope, func(s site, takers []site) {
		well := 0
		var wrong, unseen string
		for _, t := range takers {
			why, is := w.green(t)
			switch {
			case why == "":
				well++
			case excused(t):
			case is && wrong == "":
				wrong = why
			case !is && unseen == "":
				unseen = why
			}
		}
		if well == 0 && wrong == "" && unseen == "" && !o.GetForced() {
			wrong = "nothing that is well takes over " + s.service.Name
		}
		if red == "" {
			red = wrong
		}
		if missing == "" {
			missing = unseen
		}
	})
	return red, missing
}

// Watched lists the subjects whose fresh votes the drains in steps of a plan ask for, and
// one of a further scope; "" for none. The others need not be looked at.
func Watched(set *spec.Set, p *plan.Plan, scope string) map[health.Subject]bool {
	w := &work{set: set, next: p}
	out := map[health.Subject]bool{}
	watch := func(o *plan.Override) {
		s, err := steer.ParseScope(o.GetScope())
		if err != nil {
			return
		}
		w.takers(o, s, func(_ site, takers []site) {
			for _, t := range takers {
				for _, a := range t.end.Watched() {
					for _, of := range steer.Subjects(t.service, a) {
						out[of.Subject] = true
					}
				}
			}
		})
	}
	for _, o := range p.GetOverrides() {
		if st := o.GetPace().GetState(); st == plan.Pace_MOVING || st == plan.Pace_HELD {
			watch(o)
		}
	}
	if scope != "" {
		watch(&plan.Override{Scope: scope})
	}
	return out
}

// green says why a site is not known to be well now, by certificates and by fresh votes;
// "" when it is. Red: it is known not to be.
func (w *work) green(s site) (why string, red bool) {
	if !s.service.Probed() {
		return "", false
	}
	for _, f := range []steer.Family{steer.IPv4, steer.IPv6} {
		r := w.known().Rollup(s.service, s.end, f)
		switch {
		case len(r.All) == 0:
		case r.Health == steer.Failed:
			return fmt.Sprintf("%s is failed: %s is down", s, w.named(s, r.Down[0])), true
		case r.Health == steer.Degraded:
			why := fmt.Sprintf("%s is degraded", s)
			if down := slices.Concat(r.Down, r.Soft); len(down) > 0 {
				why += ": " + w.named(s, down[0])
			}
			return why, true
		case len(r.Live) < len(r.All):
			return fmt.Sprintf("%s has lost an address: %s is down", s, w.named(s, r.Down[0])), true
		case r.Health == steer.HealthUnknown:
			return fmt.Sprintf("%s has not been seen healthy", s), false
		}
	}
	for _, a := range s.end.Watched() {
		for _, of := range steer.Subjects(s.service, a) {
			// One that a service may do without has fallen, and is told of by nobody.
			if of.Subject.Kind != health.KindSoft && w.s.States[of.Subject] != health.Down && !w.s.Fresh[of.Subject] {
				return fmt.Sprintf("%s is not seen healthy by fresh votes: nothing is heard of %s", s, w.named(s, of.Subject)), false
			}
		}
	}
	return "", false
}

// moved shows how many of a scope's clients have left it.
func moved(o *plan.Override) string { return percent(plan.Whole - o.Keep()) }

func percent(permille uint32) string {
	if permille%10 == 0 {
		return fmt.Sprintf("%d %%", permille/10)
	}
	return fmt.Sprintf("%.1f %%", float64(permille)/10)
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05 UTC") }
