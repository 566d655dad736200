package fleet

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/director/store/model"
	"github.com/divertdns/divert/health"
)

const (
	prefix = "divert/"
	// quiet follows when all is mended: what must come back has so long (L1 to L4).
	quiet = 27 * time.Second
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Violation is a row of INVARIANTS that did not hold.
type Violation struct {
	Row  string
	At   time.Duration
	Text string
}

func (v *Violation) String() string { return fmt.Sprintf("%s at %s: %s", v.Row, v.At, v.Text) }

// Report is what a run came to.
type Report struct {
	Broken   *Violation // the first; nil: all held
	Time     time.Duration
	Steps    int
	Plans    int // committed
	Falls    int // of subjects, in the fleet
	Commands int
	Complete int // of those, seen on every registered director
	Refused  int // times that a director refused a plan of a rogue one
}

// world is one run.
type world struct {
	s         Scenario
	rnd       *rand.Rand
	now       time.Duration
	queue     queue
	queued    uint64
	etcd      *model.Etcd
	keys      store.Keys
	directors []*director
	docs      map[plan.Hash]*prepared
	faults    []*fault
	backup    *model.Image
	people    []*operation
	ledger    ledger
	broken    *Violation
	report    Report
	log       func(string) // nil: nobody reads it
	urgentN   int          // words that were said, or forged
}

// fault is an event while it lasts.
type fault struct {
	Event
	until time.Duration
}

func (f *fault) lasts(t time.Duration) bool { return f.At <= t && t < f.until }
func (f *fault) of(name string) bool {
	return slices.Contains(strings.Split(f.Args[0], ","), name)
}

// Run plays a scenario to its end, or to the first thing that does not hold.
func Run(s Scenario) Report { return run(s, nil).report }

// Tell is Run, with what happens told line by line.
func Tell(s Scenario, log func(string)) Report { return run(s, log).report }

func run(s Scenario, log func(string)) *world {
	w := newWorld(s)
	w.log = log
	for w.broken == nil && len(w.queue) > 0 && w.queue[0].at <= s.Length+quiet {
		e := heap.Pop(&w.queue).(*event)
		w.now = e.at
		w.report.Steps++
		if e.of != nil {
			if e.life != e.of.life || !e.of.up {
				continue
			}
			if e.of.paused > w.now {
				w.ledger.stood(e.of)
				w.push(e.of.paused, e.of, e.do)
				continue
			}
		}
		e.do()
		w.check(e.of)
	}
	if w.broken == nil {
		w.checkEnd()
	}
	w.report.Broken, w.report.Time = w.broken, w.now
	return w
}

func newWorld(s Scenario) *world {
	w := &world{
		s: s, rnd: rand.New(rand.NewPCG(s.Seed, 1)), keys: store.KeysBelow(prefix),
		docs: map[plan.Hash]*prepared{}, ledger: newLedger(),
	}
	w.etcd = model.New(w.written)
	for i := range s.Directors {
		w.directors = append(w.directors, &director{w: w, name: nameOf(i), site: siteOf(i), key: keyOf(nameOf(i)), disk: disk{files: -1}})
	}
	w.directors[0].disk.files = 0
	w.begin()
	for _, p := range w.directors {
		p.start()
	}
	for _, e := range s.Events {
		w.push(e.At, nil, func() {
			w.tell("-- " + e.String())
			verbs[e.What](w, e)
		})
	}
	w.push(s.Length, nil, w.mend)
	w.every(200*time.Millisecond, func() { w.etcd.Expire(w.now) })
	if w.s.hasOperators() {
		w.every(time.Second, w.checkSpread)
	}
	return w
}

// begin writes the first plan, as d1 does, and gives it to every disk.
func (w *world) begin() {
	first := w.directors[0]
	raws, problems := spec.Parse("fleet.yaml", []byte(yamlOf(w.s, 0)))
	if spec.Failed(problems) {
		panic(fmt.Sprint(problems))
	}
	change, err := core.Bootstrap(
		core.State{Places: placesFor, Now: epoch, Me: first.name}, raws,
		core.Director{Name: first.name, Site: first.site, Key: first.public()}, "fleet-1",
	)
	if err != nil {
		panic(err)
	}
	if w.s.hasOperators() {
		change.Plan.Operators = listed()
	}
	sealed, docs, chunks, _ := first.seal(change, nil)
	tx, err := store.Prepare(prefix, store.Commit{
		Next: sealed, Chunks: chunks, Audit: change.Audit, Result: &plan.Result{Id: "bootstrap"}, Interlocks: core.InterlockChanges(change, nil, nil),
	})
	if err != nil {
		panic(err)
	}
	for _, c := range chunks {
		w.etcd.Put(w.keys.Blob(plan.Sum(c)), string(c), 0)
	}
	if done, _, _, err := w.etcd.Commit(tx); err != nil || !done {
		panic(fmt.Sprintf("the first plan is not written: %v", err))
	}
	for _, p := range w.directors {
		p.disk.keep(generation{plan: sealed.Raw, id: sealed.Identity, docs: docs, health: health.NewBook(p.name, nil, 0).Save(epoch), highest: sealed.Identity})
	}
}

// mend ends all faults and brings everybody back.
func (w *world) mend() {
	w.tell("-- all is mended")
	for _, f := range w.faults {
		f.until = min(f.until, w.now)
	}
	for _, p := range w.directors {
		p.paused = min(p.paused, w.now)
		if w.ledger.usurped[p.ids.Force.Hash] != "" {
			p.crash() // people switch off who answers from such a plan: nothing can be recovered while it names that
			continue
		}
		if !p.up {
			p.start()
		}
	}
	w.rest()
}

// wrong notes the first row that does not hold.
func (w *world) wrong(row, format string, args ...any) {
	if w.broken == nil {
		w.broken = &Violation{Row: row, At: w.now, Text: fmt.Sprintf(format, args...)}
		w.tell("!! " + w.broken.String())
	}
}

func (w *world) tell(line string) {
	if w.log != nil {
		w.log(fmt.Sprintf("%9.3fs %s", w.now.Seconds(), line))
	}
}

func (w *world) time() time.Time { return epoch.Add(w.now) }

// prepare gives what follows from a document, made once.
func (w *world) prepare(doc []byte) (*prepared, error) {
	sum := plan.Sum(doc)
	if p := w.docs[sum]; p != nil {
		return p, nil
	}
	read, err := plan.ReadDoc(doc)
	if err != nil {
		return nil, err
	}
	set, problems := spec.Resolve(core.Raws(read))
	if set == nil || spec.Failed(problems) {
		return nil, fmt.Errorf("a spec that cannot be read: %v", problems)
	}
	p := &prepared{doc: read, bytes: doc, set: set, subjects: subjectsOf(set), steer: steer.Prepare(set, places)}
	w.docs[sum] = p
	return p, nil
}

func (w *world) director(name string) *director {
	if name == whoLeads {
		name = w.leader()
	}
	i := slices.IndexFunc(w.directors, func(p *director) bool { return p.name == name })
	if i < 0 {
		return nil
	}
	return w.directors[i]
}

// event is something to be done; of a director, only while it lives that life.
type event struct {
	at   time.Duration
	n    uint64
	of   *director
	life int
	do   func()
}

type queue []*event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].n < q[j].n
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*event)) }
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

func (w *world) push(at time.Duration, of *director, do func()) {
	w.queued++
	e := &event{at: at, n: w.queued, of: of, do: do}
	if of != nil {
		e.life = of.life
	}
	heap.Push(&w.queue, e)
}

// after does something of the world's own.
func (w *world) after(d time.Duration, do func()) { w.push(w.now+d, nil, do) }

func (w *world) every(d time.Duration, do func()) {
	w.after(d, func() { do(); w.every(d, do) })
}

// some is a random duration.
func (w *world) some(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rnd.Int64N(int64(most-least)+1))
}
