// Package linear holds what commands and reads must look like together, if the fleet's
// intent is to be one object (S5). It looks at histories, and never makes one.
package linear

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
)

// Call is a command or a read.
type Call struct {
	Verb  core.Verb // "" = a read
	Scope string
	After string // of what wrote: the Drains of its plan
}

// Reply is what it saw: the revision that it made, or that it read.
type Reply struct {
	Revision uint64
	Wrote    bool
}

// History is what was asked and answered, by one clock.
type History struct{ ops []porcupine.Operation }

// Open is the end of a call that had no answer: it is done at some time after it began,
// or never. One that is known to be never done has no place in a history.
const Open = math.MaxInt64

// Add adds a call with its beginning and its end.
func (h *History) Add(began, ended int64, in Call, out Reply) {
	h.ops = append(h.ops, porcupine.Operation{ClientId: len(h.ops), Input: in, Call: began, Output: out, Return: ended})
}

// Len counts the calls.
func (h *History) Len() int { return len(h.ops) }

// Linearizable tells whether there is an order of the calls, none before its beginning or
// after its end, in which each saw what the ones before it left.
func (h *History) Linearizable() bool { return porcupine.CheckOperations(intent, h.ops) }

// register is the fleet's intent as one object: the revision, and what is drained or
// returns. Whoever commits makes the next revision; whoever finds nothing to do, or reads,
// has seen the present one.
type register struct {
	revision uint64
	drains   string
}

var intent = porcupine.Model{
	Init: func() any { return register{revision: 1} },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(register), input.(Call), output.(Reply)
		has := func(drains, scope, keep string) bool { return strings.Contains(drains+" ", " "+scope+"="+keep) }
		if !out.Wrote {
			return out.Revision == now.revision && (in.Verb != core.Undrain || !has(now.drains, in.Scope, "0 ")), now
		}
		ok := out.Revision == now.revision+1
		switch in.Verb {
		case core.Drain:
			ok = ok && has(in.After, in.Scope, "")
		case core.Undrain:
			ok = ok && has(now.drains, in.Scope, "")
		}
		return ok, register{revision: out.Revision, drains: in.After}
	},
}

// Drains writes the drains of a plan, by scope, with the clients that are left, in per
// mille, or that they return: " cluster/fra=0 cluster/nyc=returns".
func Drains(p *plan.Plan) string {
	var out []string
	for _, o := range p.GetOverrides() {
		if o.GetKind() == plan.Override_DRAIN {
			left := fmt.Sprint(o.Keep())
			if o.Ends() {
				left = "returns" // maybe of none yet, and to undrain it again changes nothing
			}
			out = append(out, fmt.Sprintf(" %s=%s", o.GetScope(), left))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "")
}
