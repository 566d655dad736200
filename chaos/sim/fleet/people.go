package fleet

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

const (
	patience  = 9 * time.Second  // of a person who has no answer
	awaiting  = 12 * time.Second // for a command to be complete
	tallyTick = 100 * time.Millisecond
)

// operation is a command as whoever gave it saw it.
type operation struct {
	cmd   core.Command
	began time.Duration
	ended time.Duration // 0: no answer came
	got   verdict
	told  bool // that it is done, so already or refused
	tries int

	applied  map[string]bool
	complete bool
}

// order gives a command to the director that the event names first.
func (w *world) order(e Event, cmd core.Command) {
	cmd.ID = fmt.Sprintf("c%d", len(w.people)+1)
	cmd.Author, cmd.Reason = e.by(), "INC-1"
	cmd.BreakGlass = slices.Contains(e.Args, "glass")
	w.utter(w.director(e.Args[0]), &operation{cmd: cmd, began: w.now, applied: map[string]bool{}})
}

func (w *world) utter(p *director, op *operation) {
	if p == nil || !p.up {
		return // whoever is asked cannot be reached: nothing was said
	}
	if op.tries == 0 {
		w.people = append(w.people, op)
		w.report.Commands++
	}
	op.tries++
	try := op.tries
	w.push(w.now, p, func() {
		p.commit(op.cmd, nil, func(v verdict) {
			if op.told || op.tries != try {
				return // nobody listens any more
			}
			op.answered(p, v)
		})
	})
	w.after(patience, func() {
		if !op.told && op.tries == try && try < 4 && w.rnd.IntN(3) > 0 {
			w.utter(w.directors[w.rnd.IntN(len(w.directors))], op) // the same ID, by way of another
		}
	})
}

func (op *operation) answered(p *director, v verdict) {
	p.tell("%s %s %s: %+v", op.cmd.ID, op.cmd.Verb, op.cmd.Scope, v)
	if v.unknown || v.refusal != "" && op.tries > 1 {
		return // what came of the first try is as unknown as before
	}
	op.told, op.got, op.ended = true, v, p.w.now
	if !v.id.IsZero() {
		p.await(op, p.w.now+awaiting)
	}
}

// await watches the directors take a plan into force, as director's Do does (S6).
func (p *director) await(op *operation, until time.Duration) {
	if p.force == nil || p.w.now > until {
		return
	}
	all := true
	for _, e := range p.force.sealed.Plan.Active() {
		name := e.GetName()
		if op.applied[name] {
			continue
		}
		all = false
		acked := p.ids.Acked()
		if name != p.name {
			acked = plan.Identity{}
			if h, _, ok := p.book.Peer(name); ok {
				acked, _ = plan.ParseIdentity(h.Plan) // none: acknowledges nothing
			}
		}
		if !core.Holds(acked, op.got.id) {
			continue
		}
		if name == p.name {
			op.applied[name] = true
			continue
		}
		p.confirm(name, op)
	}
	if all {
		op.complete = true
		p.w.report.Complete++
		p.w.ledger.complete(p, op)
		return
	}
	p.after(tallyTick, func() { p.await(op, until) })
}

// confirm asks a director's DNS which plan it answers from.
func (p *director) confirm(name string, op *operation) {
	w, peer := p.w, p.w.director(name)
	w.after(w.way(), func() {
		if peer == nil || !peer.up || peer.force == nil || peer.paused > w.now || w.cutOff(p.name, name) {
			return
		}
		id := peer.ids.Force
		w.push(w.now+w.way(), p, func() {
			if core.Holds(id, op.got.id) {
				op.applied[name] = true
			}
		})
	})
}

func (w *world) override(e Event) {
	cmd := core.Command{Verb: core.Verb(e.What), Scope: e.Args[1], For: e.For}
	if len(e.Args) > 2 {
		cmd.Force, cmd.LastResort = strings.Contains(e.Args[2], "force"), strings.Contains(e.Args[2], "last")
	}
	if len(e.Args) > 2 && strings.Contains(e.Args[2], "paced") {
		cmd.Paced, cmd.LastResort, cmd.Steps, cmd.Wait = true, true, []int{10, 50, 100}, time.Second
	}
	if len(e.Args) > 2 && strings.Contains(e.Args[2], "now") {
		cmd.Now = true
	}
	w.order(e, cmd)
}

func (w *world) apply(e Event) {
	raws := w.raws(e.Args[1])
	w.order(e, core.Command{Verb: core.Apply, Source: core.SourceFiles, Objects: raws, Force: e.Args[1] == "4"})
}

// canary applies a variant that some directors are to try first.
func (w *world) canary(e Event) {
	w.order(e, core.Command{Verb: core.Apply, Source: core.SourceFiles, Objects: w.raws(e.Args[1]), Canary: strings.Split(e.Args[2], ","), Soak: e.For})
}

// recover is a person who puts a store right; by force, where its plan is refused.
func (w *world) recover(e Event) {
	p := w.director(e.Args[0])
	w.order(e, core.Command{Verb: verbRecover, Force: p != nil && p.up && p.store.problem == refusedPlan})
}

func (w *world) turn(e Event) {
	verb := core.InterlockOff
	if e.Args[1] == "on" {
		verb = core.InterlockOn
	}
	w.order(e, core.Command{Verb: verb, Scope: switchName})
}

func (w *world) raws(variant string) []spec.Raw {
	var n int
	if _, err := fmt.Sscan(variant, &n); err != nil || n < 0 || n >= variants {
		panic("no variant " + variant)
	}
	raws, problems := spec.Parse("fleet.yaml", []byte(yamlOf(w.s, n)))
	if spec.Failed(problems) {
		panic(fmt.Sprint(problems))
	}
	return raws
}

func (w *world) roster(e Event) {
	d := w.director(e.Args[1])
	if d == nil {
		return
	}
	cmd := core.Command{Verb: core.DirectorRemove, Scope: d.name, Director: &core.Director{Name: d.name}}
	if e.What == "approve" {
		cmd.Verb = core.DirectorAdd
		cmd.Director = &core.Director{Name: d.name, Site: d.site, Key: d.public()}
	}
	w.order(e, cmd)
}

// folder puts other files into a director's folder: newer ones, or last month's.
func (w *world) folder(e Event) {
	if p := w.director(e.Args[0]); p != nil {
		_, err := fmt.Sscan(e.Args[1], &p.disk.files)
		if err != nil {
			panic(err)
		}
	}
}

// syncFolder commits what the files newly bring over what they last brought (S19), as
// director's folders do.
func (p *director) syncFolder() {
	if p.disk.files < 0 || p.force == nil || len(p.force.sealed.Plan.Director(p.name).GetKey()) == 0 || p.syncing {
		return
	}
	apply, _ := core.Pending(p.force.doc, p.name, p.w.raws(fmt.Sprint(p.disk.files)))
	if len(apply) == 0 || !p.usable() {
		return
	}
	p.syncing = true
	p.folderRuns++
	cmd := core.Command{
		ID: fmt.Sprintf("folder-%s-%d-%d", p.name, p.boot, p.folderRuns), Verb: core.Apply, Source: core.SourceFiles, Folder: p.name,
		Objects: apply, Author: "director " + p.name, Reason: "spec files changed",
	}
	p.commit(cmd, nil, func(verdict) { p.syncing = false })
}

func resultOf(raw []byte) *plan.Result {
	r := &plan.Result{}
	if err := proto.Unmarshal(raw, r); err != nil {
		panic(err)
	}
	return r
}

// rest is what is done in the quiet at the end, so that what must come back is seen to.
func (w *world) rest() {
	active := func() []*director {
		var out []*director
		top := w.highest()
		for _, p := range w.directors {
			if p.up && top != nil && top.sealed.Plan.Director(p.name).GetStanding() == plan.Director_ACTIVE {
				out = append(out, p)
			}
		}
		return out
	}
	again := func(p *director) {
		if p.store.problem != "" && slices.Contains(active(), p) {
			w.recover(Event{Args: []string{p.name}})
		}
	}
	for i := range 2 * len(w.directors) { // a person tries them all, twice
		p := w.directors[i%len(w.directors)]
		w.after(time.Duration(3+i/2)*time.Second, func() { again(p) })
	}
	if len(w.ledger.usurped) > 0 { // who was switched off for its plan is heard no more, after ten seconds
		for i, p := range w.directors {
			w.after(10500*time.Millisecond+time.Duration(i)*300*time.Millisecond, func() { again(p) })
		}
	}
	// Where nobody has a plan left, and the store none that may be used, it is for a
	// person to begin anew.
	alive := func(check func([]*director)) func() {
		return func() {
			if list := active(); len(list) > 0 {
				check(list)
			}
		}
	}
	w.after(13*time.Second, alive(w.checkLeader))
	w.after(14*time.Second, alive(w.checkVisible))
	last := clusters[w.s.Clusters-1].name
	w.after(16*time.Second, func() {
		limit := w.bound(active(), last) + time.Second
		w.faults = append(w.faults, &fault{Event: Event{At: w.now, What: "die", Args: []string{last, "silent"}}, until: w.now + time.Hour})
		if limit < 8*time.Second {
			w.after(limit, alive(func(list []*director) { w.checkDead(list, last) }))
		}
	})
	w.after(24*time.Second, alive(w.checkAgreed))
}

// highest gives the highest plan that anybody answers from.
func (w *world) highest() *inForce {
	var top *inForce
	for _, p := range w.directors {
		if p.up && p.force != nil && (top == nil || p.ids.Force.Compare(top.sealed.Identity) > 0) {
			top = p.force
		}
	}
	return top
}
