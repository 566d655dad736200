package fleet

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

const (
	loopTick      = 50 * time.Millisecond // director's is 25
	heartbeatTick = 250 * time.Millisecond
	storeTick     = 5 * time.Second
	fetchTick     = time.Second
	stallLimit    = 150 * time.Millisecond
)

// director is one process and its machine. What is below `life` is gone with it.
type director struct {
	w    *world
	name string
	site string
	key  ed25519.PrivateKey
	disk disk
	boot uint64

	up      bool
	life    int
	paused  time.Duration // it does nothing before
	downed  time.Duration // when it crashed last, for the checks
	stoodTo time.Duration // until when it stood still last, for the checks
	self
}

// self is what a process holds in memory.
type self struct {
	seq           uint64
	observer      *health.Observer
	book          *health.Book
	publish       *health.Publisher
	decider       *steer.Decider
	clocks        core.Clocks
	memo          core.Memo
	ids           core.Horizon
	force         *inForce // answered from
	next          *inForce // offered
	wanted        *plan.Sealed
	got           map[string][]byte // documents at hand for it
	store         storeState
	decision      steer.Decision
	rampNext      time.Time // when some return takes a step; zero: never
	dirty         bool
	told          plan.Identity
	beat          time.Duration
	ticked        time.Duration
	saving        bool
	unsaved       bool
	acked         plan.Identity // what the store was told
	heard         map[string]time.Duration
	thinks        map[health.Subject]health.Vote // what it last voted, lies apart
	lied          bool
	readmits      map[string]time.Time
	prober        prober
	campaign      campaign
	fit           core.Stewardship
	busy, syncing bool // with a duty, with its files
	folderRuns    int
	changed       bool // to be looked at
	serials       map[string]uint32
	words         urgent
	usurps        *usurped      // a rogue director: its own plan
	refused       plan.Identity // the last plan that was refused, though well signed
	decided       uint64        // how many tables there were
	since         time.Duration // of this life, for the checks
	live          plan.Identity // what it has answered from in this life, for the checks
}

// storeState is what the last read of the store said.
type storeState struct {
	ok      bool
	problem string
}

func (p *director) public() []byte { return p.key.Public().(ed25519.PublicKey) }

func (p *director) tell(format string, args ...any) {
	if p.w.log != nil {
		p.w.tell(p.name + ": " + fmt.Sprintf(format, args...))
	}
}

// after does something in this life.
func (p *director) after(d time.Duration, do func()) { p.w.push(p.w.now+d, p, do) }

func (p *director) every(d time.Duration, do func()) {
	p.after(d, func() { do(); p.every(d, do) })
}

// wallTime is what its clock shows.
func (p *director) wallTime() time.Time { return p.w.time().Add(p.w.wall(p)) }

// start is a process that begins, from its disk.
func (p *director) start() {
	w := p.w
	p.up, p.paused = true, 0
	p.life++
	p.boot++
	p.self = self{
		observer: health.NewObserver(w.time()), book: health.NewBook(p.name, nil, 0), publish: health.NewPublisher(p.name, p.boot, nil),
		decider: new(steer.Decider), heard: map[string]time.Duration{}, thinks: map[health.Subject]health.Vote{}, ticked: w.now,
	}
	p.since = w.now
	p.readJournal()
	p.lastGood()
	p.tell("started, boot %d, on plan %d.%d", p.boot, p.ids.Force.Epoch, p.ids.Force.Revision)
	phase := func(d time.Duration) time.Duration { return w.some(0, d) }
	p.after(phase(loopTick), func() { p.tick(); p.every(loopTick, p.tick) })
	p.after(phase(50*time.Millisecond), func() { p.readStore(); p.every(storeTick, p.readStore) })
	p.after(phase(fetchTick), func() { p.fetch(); p.every(fetchTick, p.fetch) })
	p.after(phase(time.Second), func() { p.steward(); p.every(time.Second, p.steward) })
	p.after(phase(time.Second), func() { p.acknowledge(); p.every(time.Second, p.acknowledge) })
	p.after(phase(10*time.Second), func() { p.collect(); p.every(10*time.Second, p.collect) })
	p.after(phase(5*time.Second), func() { p.syncFolder(); p.every(5*time.Second, p.syncFolder) })
	p.after(phase(100*time.Millisecond), p.stand)
	if w.s.hasOperators() {
		p.every(urgentTick, func() { p.urge(true) })
	}
	w.ledger.started(p)
}

// lastGood takes the newest generation of the disk into force (S12), as director's
// lastGood does.
func (p *director) lastGood() {
	g, newest := p.disk.load()
	if g == nil {
		p.ids.Blank = true
		return // the store has it
	}
	p.ids.Raise(g.highest)
	sealed, err := plan.Open(g.plan)
	if err != nil {
		panic(err) // what was written here
	}
	f := p.w.put(sealed, g.docs)
	p.book.SetSubjects(f.watched(), p.w.time())
	if err := p.book.Restore(g.health, p.w.time()); err != nil {
		panic(err)
	}
	p.takeForce(f)
	p.ids.Lost, p.ids.Blank = !newest || g.lost, g.blank
	p.ids.Saved = sealed.Identity
}

func (p *director) crash() {
	p.tell("crashed")
	p.downed = p.w.now
	p.up = false
	p.life++
	p.self = self{}
}

// tick is the loop's.
func (p *director) tick() {
	p.watchdog()
	p.probe()
	p.step()
}

// watchdog is the look at itself of director's loop.
func (p *director) watchdog() {
	if gap := p.w.now - p.ticked; gap > stallLimit {
		p.observer.Stalled(p.w.time())
		p.book.Slept(gap, p.w.time())
	}
	p.ticked = p.w.now
}

// step does all that is due, in the order of director's loop.
func (p *director) step() {
	p.watchdog()
	now := p.w.time()
	p.adopt()
	p.book.Abstain(p.book.Isolated(now))
	if votes := p.speak(p.observer.Votes(p.book, now)); len(votes) > 0 {
		p.publish.Cast(votes, now)
	}
	for _, out := range p.publish.Due(now) {
		p.ballot(out)
	}
	if made := p.book.Judge(now); len(made) > 0 {
		p.transitions(made, true)
	}
	for _, peer := range p.book.Differing(now) {
		p.send(peer, kindSummary, health.EncodeSummary(p.book.Summary()))
	}
	if p.dirty || !p.rampNext.IsZero() && !now.Before(p.rampNext) {
		p.decide(p.force)
	}
	if acked := p.ids.Acked(); p.w.now-p.beat >= heartbeatTick || acked != p.told {
		p.told = acked
		p.heartbeat()
	}
	p.save()
}

// speak turns votes into lies, while this director is a liar; when it is one no more it
// says what it thinks of all.
func (p *director) speak(votes []health.Vote) []health.Vote {
	for _, v := range votes {
		p.thinks[v.Subject] = v
	}
	liar := p.w.any("lie", p.name)
	if !liar && !p.lied {
		return votes
	}
	p.lied = liar
	var out []health.Vote
	for _, v := range p.thinks {
		if liar && health.After(v.N) == health.Down {
			v.To, v.Suspicion = health.Down, 9999
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b health.Vote) int { return a.Subject.Compare(b.Subject) })
	return out
}

// adopt takes an offered plan into force, if it may replace the one that is.
func (p *director) adopt() {
	f := p.next
	p.next = nil
	if f == nil || p.force != nil && f.sealed.Identity == p.force.sealed.Identity {
		return
	}
	if err := follows(p.inForce(), f.sealed); err != nil {
		p.tell("plan refused: %v", err)
		return
	}
	p.takeForce(f)
	p.unsaved = true
}

func (p *director) inForce() *plan.Sealed {
	if p.force == nil {
		return nil
	}
	return p.force.sealed
}

// takeForce makes a plan the one that is answered from: the table first.
func (p *director) takeForce(f *inForce) {
	old := p.force
	now := p.w.time()
	if old == nil {
		p.since = p.w.now
	}
	if old == nil || !sameSpecs(old, f) {
		p.book.SetSubjects(f.watched(), now)
	}
	p.decide(f)
	roster := core.Voters(f.sealed.Plan)
	if old == nil || !sameSpecs(old, f) || !slices.Equal(roster, core.Voters(old.sealed.Plan)) {
		p.book.SetRoster(roster, f.set.Fleet.QuorumObservers)
		p.prober.set(p, f, roster)
		p.publish.SetPeers(core.Others(roster, p.name))
	}
	p.setReadmits(f)
	p.force = f
	p.ids.Swap(f.sealed.Identity)
	p.changed = true
	p.tell("plan %d.%d in force", f.sealed.Identity.Epoch, f.sealed.Identity.Revision)
	p.w.ledger.swap(p)
}

func (p *director) setReadmits(f *inForce) {
	since := map[string]time.Time{}
	at := map[health.Subject]time.Time{}
	for s, o := range core.Readmitted(f.sealed.Plan, f.set) {
		t, ok := p.readmits[o.GetId()]
		if !ok {
			t = p.w.time()
		}
		since[o.GetId()], at[s] = t, t
	}
	p.readmits = since
	p.observer.Readmits(at)
}

// decide makes the table of answers.
func (p *director) decide(f *inForce) {
	p.dirty = false
	if f == nil {
		return
	}
	side := f.on(p.name)
	p.decided++
	in := steer.Input{Spec: side.set, Plan: p.overlaid(f), States: p.book.Standing(), Places: places, Prepared: side.steer}
	if p.w.s.ramps() {
		in.Returns, in.Earlier, p.rampNext = p.returns(side.set)
	}
	p.decision = p.decider.Decide(in)
	p.changed = true
}

// returns lists what has come back of late, as director's ramps do.
func (p *director) returns(set *spec.Set) (back map[health.Subject]steer.Return, earlier map[health.Subject][]steer.Return, next time.Time) {
	steps, now := steer.Steps(set), p.w.time()
	back, earlier = map[health.Subject]steer.Return{}, map[health.Subject][]steer.Return{}
	wait := func(step time.Time) {
		if next.IsZero() || step.Before(next) {
			next = step
		}
	}
	for s, st := range p.book.Standing() {
		if st == health.Unknown {
			continue
		}
		chain := p.book.Chain(s)
		if r, step, ok := steer.ReturnOf(steps, chain, now); ok {
			back[s] = r
			wait(step)
		}
		if list, step := steer.ReturnsBefore(steps, chain, now); len(list) > 0 {
			earlier[s] = list
			wait(step)
		}
	}
	return back, earlier, next
}

// transitions notes what came into force; judged: by this director's own count.
func (p *director) transitions(certs []health.Certificate, judged bool) {
	for _, c := range certs {
		p.tell("%s %s, n=%d: %s", c.Subject, c.To(), c.N, c.Reason)
		p.w.ledger.transition(p, c, judged)
	}
	p.dirty, p.unsaved = true, true
}

func (p *director) heartbeat() {
	p.beat = p.w.now
	now := p.w.time()
	h := health.Heartbeat{
		Votes: p.publish.Digest(), Certificates: p.book.Digest(), Heard: p.book.Heard(),
		Wall: p.wallTime(), Abstaining: p.book.Isolated(now),
	}
	if !p.told.IsZero() {
		h.Plan = p.told.String()
		p.w.ledger.acked(p, p.told)
	}
	if p.force != nil {
		h.Highest = p.claims().Identity.String()
	}
	p.send("", kindHeartbeat, health.EncodeHeartbeat(h))
	if p.force == nil {
		return
	}
	others, there := core.Others(core.Voters(p.force.sealed.Plan), p.name), map[string]bool{}
	for _, name := range others {
		_, at, ok := p.book.Peer(name)
		there[name] = ok && now.Sub(at) <= 10*time.Second
	}
	p.ids.Hear(len(others), there, now)
}
