package director

import (
	"sync/atomic"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
)

// urgent is what operators' words come to, as the loop is to go by them; immutable.
type urgent struct{ judged []core.Emergency }

// overlay hands them to the loop, and back how far it is. The zero overlay has none.
type overlay struct {
	view      atomic.Pointer[urgent] // by emergencies, and New before
	used      atomic.Pointer[urgent] // that the table in force goes by; by the loop
	tried     *urgent                // by the loop
	added     []*plan.Override       // the drains that it adds; by the loop
	decisions atomic.Uint64          // how many there were; by the loop
	done      wake                   // emergencies': there was another; nil where nobody waits
}

// due tells whether the table is to be made by other words.
func (o *overlay) due() bool { return o.view.Load() != o.tried }

// over gives a plan with the drains of the words that the table is to go by.
func (o *overlay) over(p *plan.Plan) *plan.Plan {
	o.tried, o.added = o.view.Load(), nil
	if o.tried == nil {
		return p
	}
	with := core.Overlay(p, o.tried.judged)
	o.added = with.GetOverrides()[len(p.GetOverrides()):]
	return with
}

// took notes that the table that was tried is in force.
func (o *overlay) took() {
	o.used.Store(o.tried)
	o.decisions.Add(1)
	if o.done != nil {
		o.done.up()
	}
}
