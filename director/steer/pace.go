package steer

import (
	"cmp"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
)

// keeps gives the percentage of its clients that a drain in steps leaves a site: package
// answer knows whole percents, and nobody leaves before the step that says so.
func (st *standing) keeps() uint8 {
	if st.paced == nil {
		return allShare
	}
	return uint8(min((st.paced.keep+9)/10, allShare))
}

// leaves tells whether some of a site's clients have left it by a drain in steps.
func (st *standing) leaves() bool { return st.keeps() < allShare }

// share gives the percentage of its clients that a site may have among the sites of its
// tier, 0 = all. A return and a drain in steps go by the same hash of the client, so that
// the lesser of the two is what both allow, and whoever has left stays away at later steps.
// A person's word comes before a return: what is drained takes over nobody's clients. Where
// every site of a tier is being drained, what was drained last keeps its own (S1).
func (d *decision) share(f Family, i int, sites []int) uint8 {
	st := &d.stand[i]
	if !st.leaves() {
		return d.returned(f, i, sites)
	}
	last := true
	for _, j := range sites {
		other := &d.stand[j]
		if !other.leaves() {
			last = false
			break
		}
		last = last && cmp.Or(cmp.Compare(other.paced.o.GetRevision(), st.paced.o.GetRevision()), cmp.Compare(other.paced.o.GetId(), st.paced.o.GetId())) <= 0
	}
	if last {
		return 0
	}
	if back := st.rolls[f].back.share; back > 0 && back < st.keeps() {
		return back
	}
	return st.keeps()
}

// PaceWhy says how far a drain in steps has come with a site that has clients yet.
func PaceWhy(cluster string, o *plan.Override) string {
	by := "the drain by " + o.GetAuthor()
	if r := o.GetReason(); r != "" {
		by += " (" + r + ")"
	}
	kept, p := percentOf(o.Keep()), o.GetPace()
	switch p.GetState() {
	case plan.Pace_RETURNING:
		return fmt.Sprintf("%s returns from %s: it has %s of its clients", cluster, by, kept)
	case plan.Pace_ROLLED_BACK:
		return fmt.Sprintf("%s has all its clients: %s was rolled back: %s", cluster, by, p.GetWhy())
	case plan.Pace_ROLLING_BACK:
		return fmt.Sprintf("%s has %s of its clients: %s is rolled back: %s", cluster, kept, by, p.GetWhy())
	case plan.Pace_HELD:
		return fmt.Sprintf("%s keeps %s of its clients: %s is held: %s", cluster, kept, by, p.GetWhy())
	default:
		return fmt.Sprintf("%s keeps %s of its clients by %s, step %d of %d", cluster, kept, by, p.GetStep()+1, len(p.GetSteps()))
	}
}

// percentOf shows a share that is given in per mille.
func percentOf(share uint32) string {
	if share%10 == 0 {
		return fmt.Sprintf("%d %%", share/10)
	}
	return fmt.Sprintf("%.1f %%", float64(share)/10)
}

// becomes gives what a drain in steps is in the end, as long as it is on its way there.
func becomes(d *drain) *drain {
	p := d.o.GetPace()
	if p.GetNext() == nil || p.GetState() != plan.Pace_MOVING || d.keep == 0 {
		return nil
	}
	o := proto.CloneOf(d.o)
	o.Pace = nil
	return &drain{scope: d.scope, o: o}
}

// ahead lists the instants at which a drain changes what is answered, as far as the plan
// says: its next step, and its end.
func (d *drain) ahead() (out []time.Time) {
	p := d.o.GetPace()
	if next := p.GetNext(); next != nil && (d.then != nil || p.GetState() != plan.Pace_MOVING) {
		out = append(out, next.AsTime())
	}
	if end := d.o.GetEnd(); end != nil && !d.o.Ends() {
		out = append(out, end.AsTime())
	}
	return out
}

// at gives what becomes of a drain until an instant, as far as it is known: itself, or what
// its steps come to; nil: it is gone.
func (d *drain) at(when time.Time) *drain {
	if !d.o.Ends() && endsBy(d.o, when) {
		return nil
	}
	next := d.o.GetPace().GetNext()
	switch {
	case next == nil || next.AsTime().After(when):
		return d
	case d.o.GetPace().GetState() == plan.Pace_MOVING && d.then == nil:
		return d // it has come to its end
	default:
		return d.then
	}
}
