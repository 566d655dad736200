package fleet

import (
	"time"

	"github.com/divertdns/divert/chaos/linear"
)

// linearizable is S5. What became of a command that had no answer is in the audit log:
// it was done at some time after it was given, or never.
func (w *world) linearizable() bool {
	var history linear.History
	add := func(began, ended time.Duration, in linear.Call, out linear.Reply) {
		to := int64(linear.Open)
		if ended > 0 {
			to = int64(ended)
		}
		history.Add(int64(began), to, in, out)
	}
	people := map[string]*operation{}
	for _, op := range w.people {
		people[op.cmd.ID] = op
		if op.told && op.got.noop > 0 && op.tries == 1 {
			add(op.began, op.ended, linear.Call{Verb: op.cmd.Verb, Scope: op.cmd.Scope}, linear.Reply{Revision: op.got.noop})
		}
	}
	for _, l := range w.ledger.landed {
		in := linear.Call{Verb: l.c.does.Verb, Scope: l.c.does.Scope, After: linear.Drains(l.sealed.Plan)}
		began, ended := l.c.began, time.Duration(0)
		if op := people[l.c.cmd.ID]; op != nil {
			began = op.began
			// Who was told by a later try that it is so already was not told of this.
			if op.told && !op.got.id.IsZero() {
				ended = op.ended
			}
		}
		add(began, ended, in, linear.Reply{Revision: l.sealed.Identity.Revision, Wrote: true})
	}
	for _, r := range w.ledger.reads {
		add(r.began, r.ended, linear.Call{}, linear.Reply{Revision: r.revision})
	}
	return history.Linearizable()
}
