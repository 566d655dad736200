package fleet

import (
	"slices"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/health"
)

// disk is what a machine keeps: generations, the newest last, and the folder of spec
// files.
type disk struct {
	good  []generation
	hurtn time.Duration // when it was last torn or emptied; 0 = never
	files int           // the variant of the spec that the folder holds; -1 = none

	journal []byte // of operators' words; nil: there is none
}

// generation is store.Generation, as far as it matters here.
type generation struct {
	plan, health []byte
	docs         [][]byte      // that it names
	id           plan.Identity // of the plan
	highest      plan.Identity
	lost, blank  bool // what nobody had said yet
	torn         bool
	down         []health.Subject // what was down by it, for the checks
}

// keep is a write that has reached the disk. At least three good ones stay.
func (d *disk) keep(g generation) {
	d.good = append(d.good, g)
	if len(d.good) > 3 {
		d.good = slices.Delete(d.good, 0, len(d.good)-3)
	}
}

// load gives the newest that verifies, and whether it is the newest; nil: none does.
func (d *disk) load() (g *generation, newest bool) {
	for i := len(d.good) - 1; i >= 0; i-- {
		if !d.good[i].torn {
			return &d.good[i], i == len(d.good)-1
		}
	}
	return nil, false
}

// hurt tears the newest generation (F17), or takes all away.
func (d *disk) hurt(how string, now time.Duration) {
	d.hurtn = max(now, 1)
	switch how {
	case "torn":
		if n := len(d.good); n > 0 {
			d.good[n-1].torn = true
		}
	case "lost":
		d.good, d.journal = nil, nil
	}
}

// save writes what is in force and what is known of health, off the loop. Only when
// that is on the disk may the plan be acknowledged (S6).
func (p *director) save() {
	if !p.unsaved || p.saving || p.force == nil {
		return
	}
	p.saving, p.unsaved = true, false
	f := p.force
	g := generation{plan: f.sealed.Raw, id: f.sealed.Identity, docs: f.docs(), health: p.book.Save(p.w.time()), highest: p.ids.Highest, lost: p.ids.Lost, blank: p.ids.Blank, down: p.downs()}
	p.after(p.w.some(time.Millisecond, 25*time.Millisecond), func() {
		p.saving = false
		if p.w.any("disk-full", p.name) {
			p.after(time.Second, func() { p.unsaved = true })
			return
		}
		p.disk.keep(g)
		p.ids.Saved = f.sealed.Identity
		p.step()
	})
}

// downs lists what is down by certificate.
func (p *director) downs() []health.Subject {
	var out []health.Subject
	for s, st := range p.book.Standing() {
		if st == health.Down {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, health.Subject.Compare)
	return out
}
