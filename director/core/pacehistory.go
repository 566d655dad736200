package core

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/divertdns/divert/director/plan"
)

// What is kept of how drains in steps went: bounded, as all of the plan is.
const (
	keptScopes = 24
	keptSteps  = 2 * mostSteps // those of drains and of returns
	keptLate   = 8             // times of one step
	fewLate    = 4             // fewer of them say nothing
)

// How late a step is before it is said to stall where its history says nothing, and at
// least: the leader looks once a second.
const (
	stallUnknown = 15 * time.Second
	stallLeast   = 3 * time.Second
)

// Paced is how a drain in steps stands.
type Paced struct {
	Override *plan.Override
	Waits    string // for what its next write waits; "" = for the leader alone, or for nothing
	Stalled  bool   // it is later than three in four of its own steps were
}

// Pacing says of each drain in steps what it waits for, in the order of the plan.
func Pacing(s State) []Paced {
	if s.Plan == nil || s.Spec == nil {
		return nil
	}
	var out []Paced
	w := &work{s: s, set: s.Spec, next: s.Plan.Plan}
	for _, o := range s.Plan.Plan.GetOverrides() {
		if o.GetPace() != nil {
			m := w.nextMove(o)
			if m.down && !o.GetForced() { // the leader's write of it may be refused
				trial := begin(s, Command{})
				if refusal, is := errors.AsType[*Refusal](trial.leavesNone(trial.byID(o.GetId()))); is {
					m.waits = refusal.Reason
				}
			}
			out = append(out, Paced{Override: o, Waits: m.waits, Stalled: Stalled(s.Plan.Plan, o, s.Now)})
		}
	}
	return out
}

// Stalled tells whether the next step of a drain is later than three in four of its own
// steps were (Maelstrom), by what the plan keeps of them.
func Stalled(p *plan.Plan, o *plan.Override, now time.Time) bool {
	switch o.GetPace().GetState() {
	case plan.Pace_MOVING, plan.Pace_RETURNING, plan.Pace_ROLLING_BACK:
	default:
		return false
	}
	next := o.GetPace().GetNext()
	return next != nil && now.Sub(next.AsTime()) > patience(p, o)
}

// patience is how late the next step may be: the p75 of that step's own history, of all
// steps of the scope where that is too short.
func patience(p *plan.Plan, o *plan.Override) time.Duration {
	h := historyOf(p, o.GetScope())
	var all []uint32
	for _, s := range h.GetSteps() {
		all = append(all, s.GetLate()...)
		if s.GetKeep() == o.Keep() && len(s.GetLate()) >= fewLate {
			return max(p75(s.GetLate()), stallLeast)
		}
	}
	if len(all) < fewLate {
		return stallUnknown
	}
	return max(p75(all), stallLeast)
}

func p75(late []uint32) time.Duration {
	late = slices.Sorted(slices.Values(late))
	return time.Duration(late[(3*len(late)-1)/4]) * time.Millisecond
}

func historyOf(p *plan.Plan, scope string) *plan.PaceHistory {
	for _, h := range p.GetPaces() {
		if h.GetScope() == scope {
			return h
		}
	}
	return nil
}

// history gives what the next plan keeps of a scope, to be written to; it is the last used.
func (w *work) history(scope string) *plan.PaceHistory {
	h := historyOf(w.next, scope)
	w.next.Paces = slices.DeleteFunc(w.next.Paces, func(o *plan.PaceHistory) bool { return o.GetScope() == scope })
	if h == nil {
		h = &plan.PaceHistory{Scope: scope}
	}
	if n := len(w.next.Paces) + 1 - keptScopes; n > 0 {
		w.next.Paces = slices.Delete(w.next.Paces, 0, n)
	}
	w.next.Paces = append(w.next.Paces, h)
	return h
}

// keepRun notes the steps and the wait of a drain: the next of its scope goes by them.
func (w *work) keepRun(scope string, moves []uint32, wait time.Duration) {
	h := w.history(scope)
	h.Moves, h.Wait = slices.Clone(moves), durationpb.New(wait)
}

// lastRun gives the steps of the last drain in steps of a scope, in per mille that have
// left, and their wait.
func (w *work) lastRun(scope string) (moves []uint32, wait time.Duration) {
	h := historyOf(w.next, scope)
	moves, wait = slices.Clone(h.GetMoves()), h.GetWait().AsDuration()
	// Nobody checks a history: what is no run must not make steps that all would refuse.
	if n := len(moves); n == 0 || n > mostSteps || moves[0] == 0 || moves[n-1] != plan.Whole || !slices.IsSorted(moves) || len(slices.Compact(slices.Clone(moves))) < n {
		moves = permille(pacedMoves[:])
	}
	if wait <= 0 || wait > longestWait {
		wait = pacedWait
	}
	return moves, wait
}

// keepLate notes how long after its earliest instant a step was followed by the next.
func (w *work) keepLate(scope string, keep uint32, late time.Duration) {
	h := w.history(scope)
	i, found := slices.BinarySearchFunc(h.Steps, keep, func(s *plan.StepHistory, k uint32) int { return cmp.Compare(s.GetKeep(), k) })
	if !found {
		if len(h.GetSteps()) >= keptSteps {
			return
		}
		h.Steps = slices.Insert(h.Steps, i, &plan.StepHistory{Keep: keep})
	}
	s := h.Steps[i]
	s.Late = append(s.Late, uint32(min(max(late, 0), longestWait)/time.Millisecond))
	s.Late = s.Late[max(0, len(s.Late)-keptLate):]
}
