package fleet

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/health"
)

// checkLeader is L3, when all has been well for longer than a session and two seconds.
func (w *world) checkLeader(active []*director) {
	var who []string
	for _, p := range active {
		if p.leads() {
			who = append(who, p.name)
		}
	}
	for _, p := range w.directors { // who was removed may still lead, and can write nothing
		if !slices.Contains(active, p) && p.leads() {
			who = append(who, p.name)
		}
	}
	switch len(who) {
	case 0:
		w.wrong("L3", "nobody leads")
	case 1:
	default:
		w.wrong("L3", "%s believe that they lead", strings.Join(who, ", "))
	}
}

// checkVisible is L4: a command is in force on every director within a second.
func (w *world) checkVisible(active []*director) {
	before := len(w.people)
	w.order(Event{Args: []string{active[w.rnd.IntN(len(active))].name}}, core.Command{Verb: core.Readmit, Scope: "cluster/" + clusters[0].name})
	w.after(time.Second, func() {
		op := w.people[before]
		if !op.told || op.got.id.IsZero() {
			w.wrong("L4", "%s: no answer in a second, or refused: %+v", op.cmd.ID, op.got)
			return
		}
		for _, p := range active {
			if !has(p.ids.Force, op.got.id) {
				w.wrong("L4", "%s has plan %s, a second after %s was in %s", p.name, order(p.ids.Force), op.cmd.ID, order(op.got.id))
			}
		}
	})
}

// bound is the longest time that the directors say a death in a cluster takes them now.
func (w *world) bound(active []*director, cluster string) time.Duration {
	most := time.Duration(0)
	// As prober has it, whose loop turns each 50 ms.
	rhythm := health.Rhythm{Interval: 250 * time.Millisecond, Doubt: 100 * time.Millisecond, Late: 100 * time.Millisecond, Missed: 350 * time.Millisecond}
	for _, p := range active {
		if p.force == nil {
			continue
		}
		for _, s := range p.force.watched() {
			if s.Kind == health.KindSignal && clusterOf(s.Addr.Addr()) == cluster {
				d, _ := p.observer.Bound(p.book, s, rhythm, w.time())
				most = max(most, d)
			}
		}
	}
	return most
}

// checkDead is L1: what died is out of the answers of all, within the bound that they
// exported and a second.
func (w *world) checkDead(active []*director, cluster string) {
	for _, p := range active {
		if p.force == nil || p.book.Isolated(w.time()) {
			w.wrong("L1", "%s has no plan, or hears too few, though all is well", p.name)
			continue
		}
		for _, s := range p.force.watched() {
			if s.Kind == health.KindSignal && clusterOf(s.Addr.Addr()) == cluster && p.book.Chain(s).State() != health.Down {
				w.wrong("L1", "%s has %s for alive, longer than the bound", p.name, s)
			}
		}
	}
}

// checkAgreed is L2: all hold one plan and one opinion, and answer alike.
func (w *world) checkAgreed(active []*director) {
	if n := len(w.ledger.landed); n > 0 && w.now-w.ledger.landed[n-1].at < time.Second {
		w.after(time.Second, func() { w.checkAgreed(active) }) // it is under way to them
		return
	}
	groups := map[bool][]*director{} // those who try another spec answer by it
	for _, p := range active {
		tries := tries(p.force.sealed.Plan, p.name)
		groups[tries] = append(groups[tries], p)
	}
	for _, group := range groups {
		w.checkAlike(group)
	}
}

// checkAlike holds the directors of one rollout group against each other.
func (w *world) checkAlike(active []*director) {
	first, text := "", ""
	for _, p := range active {
		var b strings.Builder
		fmt.Fprintf(&b, "plan %s %s\n", order(p.ids.Force), p.ids.Force.Hash.Short())
		for i := range p.decision.Services {
			s := &p.decision.Services[i]
			for n, set := range s.V4.Sets {
				fmt.Fprintf(&b, "%s %d:", s.Name, n)
				for _, c := range set.Choices {
					fmt.Fprintf(&b, " %s/%d", c.Cluster, c.Weight)
				}
				b.WriteString("\n")
			}
		}
		switch {
		case first == "":
			first, text = p.name, b.String()
		case text != b.String():
			w.wrong("L2", "%s and %s differ:\n%s%s%s", first, p.name, text, b.String(), w.differing(active[0], p))
		}
	}
}

// differing says what two directors hold of the subjects of which they hold different
// things.
func (w *world) differing(a, b *director) string {
	var out strings.Builder
	for _, s := range a.force.watched() {
		if a.book.Chain(s).N == b.book.Chain(s).N {
			continue
		}
		for _, p := range []*director{a, b} {
			waits, _ := p.observer.Waits(s, p.book.Chain(s), w.time())
			fmt.Fprintf(&out, "%s has %s n=%d, waits %+v, hears %+v\n", p.name, s, p.book.Chain(s).N, waits, p.book.Opinions(s, w.time()))
		}
	}
	return out.String()
}

// checkEnd is what can be told when all is over: S4's honesty and S5.
func (w *world) checkEnd() {
	if w.ledger.swaps > 0 {
		return // what a person brought back has no part of what was done since
	}
	done := map[string]*landing{}
	settled := map[plan.Hash]string{} // by the plan: what a second person's word settled
	for _, l := range w.ledger.landed {
		done[l.c.cmd.ID] = l
		settled[l.sealed.Identity.Hash] = l.c.cmd.Settles()
	}
	for _, op := range w.people {
		l := done[op.cmd.ID]
		switch {
		case op.told && !op.got.id.IsZero() && (l == nil || l.sealed.Identity.Hash != op.got.id.Hash) && settled[op.got.id.Hash] != op.cmd.Settles():
			w.wrong("S4", "%s was told to be done in %s, and is not", op.cmd.ID, order(op.got.id))
		case op.told && op.got.refusal != "" && l != nil:
			w.wrong("S4", "%s was told to have changed nothing (%s), and is in %s", op.cmd.ID, op.got.refusal, order(l.sealed.Identity))
		}
	}
	for _, l := range w.ledger.landed {
		a := &plan.Audit{}
		if v := w.etcd.Get(w.keys.Audit(l.sealed.Identity.Revision)); v.Create == 0 || proto.Unmarshal([]byte(v.Value), a) != nil || a.GetCommand() != l.c.recorded() {
			w.wrong("S15", "the record of %s is gone", order(l.sealed.Identity))
		}
	}
	if !w.linearizable() {
		w.wrong("S5", "the history of commands is not linearizable")
	}
}
