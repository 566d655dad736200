package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/resolve"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/probe"
)

const (
	loopTick      = 25 * time.Millisecond
	heartbeatTick = 250 * time.Millisecond
	verdictTick   = 5 * time.Second
	stallLimit    = 100 * time.Millisecond // SEMANTICS, Know thyself
	batch         = 1024                   // events taken at once before deciding
	renamePause   = 500 * time.Millisecond // between two tables for other addresses of hostnames: some change with each answer
	maxLines      = 100                    // lines of the log for one turn, beyond which it counts
)

// loop is the one level-triggered loop: it owns votes, certificates and
// verdicts, and turns them with the plan in force into the table that answers.
// Nothing in it waits for a disk, a peer or the store.
type loop struct {
	name     string
	observer *health.Observer
	book     *health.Book
	publish  *health.Publisher
	decider  *steer.Decider
	prepared atomic.Pointer[steer.Prepared] // the decider's, for whoever decides about commands, and what probes are called
	horizon  *horizon
	outbox   outbox
	courier  *courier
	prober   *probe.Scheduler
	pace     func(health.Subject) (probe.Pace, bool) // the prober's
	resolver *resolve.Resolver
	table    *atomic.Pointer[answer.Table]
	identity string // that DNS tells whoever asks; "" = not told
	version  string
	earth    atomic.Pointer[earth] // that clients are placed by; by the loop alone
	surveyed atomic.Pointer[earth] // the newest that is known; by the survey. nil: none yet
	shown    *metrics
	log      *slog.Logger
	now      func() time.Time

	reports       chan health.Report // read at each awakening; see Director.report
	messages      chan gossip.Message
	queries       chan func(time.Time)
	exchange      *exchange
	planned       wake // the spec files': a plan came into force
	wakeup        wake
	plans, panel  func(gossip.Message)      // the mail of the librarian and of the panel, never blocking
	loads         func(gossip.Message)      // the mail of loads, never blocking
	words         func(gossip.Message)      // mail about emergencies, never blocking
	autos         *autoQueue                // transitions for the sealer; nil: none is wanted
	sealed        func(gossip.Message)      // mail about the sealed audit log, never blocking
	claims        func(gossip.Message)      // who shows a token, never blocking
	keys          func(gossip.Message)      // mail about gossip keys, never blocking
	secrets       func(gossip.Message)      // mail about the fleet's secrets, never blocking
	urgent        overlay                   // what operators have said while the store is away
	renamed       atomic.Bool               // hostnames have other addresses
	newer         wake                      // a heartbeat names a newer plan
	save          wake                      // the saver's: plan or certificates changed
	stepped       wake                      // the saver's, which may wait: a return took a step
	changed       func()                    // status changed
	running       bool                      // run has begun; before, New takes the last good state into force
	clocks        core.Clocks               // what the others' heartbeats say of ours
	proberStalled atomic.Pointer[time.Time] // when the prober last stood still; nil = not since looked
	abstains      func() string             // why this director does not vote; "" = it does

	failing   map[string]bool // dependencies that several clusters fail behind, as it was logged
	ticked    time.Time
	beat      time.Time
	verdicts  time.Time     // when the endpoints' verdicts were last shown
	told      plan.Identity // acknowledged in the last heartbeat
	unsaid    unsaid        // heartbeats that could not be sent
	unshown   bool          // certificates came into force since show
	showed    time.Time
	describer describer
	decision  steer.Decision
	decided   bool
	described time.Time // when hostnames last had other addresses
	flips     flips
	bounds    bounds
	ramps     ramps
	stale     bool                 // isolated, or behind a known plan
	dirty     bool                 // something that the answers depend on changed
	readmits  map[string]time.Time // override ID -> since when on our clock
	alarms    map[string]string    // by director
	unfit     *earth               // that no table could be made by
	history   *history             // of what is told; nil = none is kept
}

// outbox is what the loop needs of gossip.
type outbox interface {
	Broadcast(kind uint8, payload []byte) (gossip.Message, error)
	Send(to string, kind uint8, payload []byte) (gossip.Message, error)
	Alarms() map[string]string
	Refresh() // what this director says of itself changed
}

// run owns the loop's state until ctx ends.
func (l *loop) run(ctx context.Context) error {
	tick := time.NewTicker(loopTick)
	defer tick.Stop()
	l.ticked, l.running = l.now(), true
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-l.messages:
			l.message(m)
		case s := <-l.exchange.synced:
			l.sync(s, l.now())
		case q := <-l.queries:
			q(l.now())
		case <-l.wakeup:
		case <-tick.C:
		}
		l.drain()
		l.watchdog()
		l.step(l.now())
	}
}

// drain takes what else is there, within bounds, so that a burst is decided
// upon once.
func (l *loop) drain() {
	for range batch {
		select {
		case r := <-l.reports:
			l.report(r)
		case m := <-l.messages:
			l.message(m)
		default:
			return
		}
	}
}

// watchdog notices that this process itself stood still: what was in flight
// then says nothing about others, and what waited for it is old.
func (l *loop) watchdog() {
	now := l.now()
	if gap := now.Sub(l.ticked); gap > stallLimit+loopTick {
		l.observer.Stalled(now)
		l.book.Slept(gap, now)
		l.shown.stalls.Inc()
	}
	if at := l.proberStalled.Swap(nil); at != nil {
		l.observer.Stalled(*at)
		l.shown.stalls.Inc()
	}
	l.ticked = now
}

func (l *loop) report(r health.Report) {
	l.observer.Report(r)
}

// step does all that is due. With nothing new it does next to nothing.
func (l *loop) step(now time.Time) {
	l.adopt(now)
	l.relocate()
	isolated := l.book.Isolated(now)
	l.book.Abstain(l.abstains() != "" || isolated)
	if votes := l.observer.Votes(l.book, now); len(votes) > 0 {
		l.publish.Cast(votes, now)
	}
	l.send(now)
	if made := l.book.Judge(now); len(made) > 0 {
		l.transitions(made, "judged")
	}
	for _, peer := range l.book.Differing(now) {
		l.courier.post(peer, kindSummary, health.EncodeSummary(l.book.Summary()))
	}
	if stale := isolated || l.horizon.behind(); stale != l.stale {
		l.stale, l.dirty, l.decided = stale, true, false // EDE 3 comes and goes with it
	}
	if now.Sub(l.described) >= renamePause && l.renamed.Swap(false) {
		l.dirty, l.decided, l.described = true, false, now // the same decision, other addresses
	}
	if l.ramps.due(now) {
		l.dirty, l.decided = true, false
		l.stepped.up() // or a crash would have clients taken from who is back for long
	}
	if l.urgent.due() {
		l.dirty, l.decided = true, false
	}
	if l.dirty {
		l.decide()
	}
	// What others wait for, the word that a plan is in force here, goes at once.
	if acked := l.horizon.acked(); now.Sub(l.beat) >= heartbeatTick || acked != l.told {
		l.told = acked
		l.heartbeat(now)
	}
}

// adopt takes an offered plan into force.
func (l *loop) adopt(now time.Time) {
	f, err := l.horizon.take()
	if err != nil {
		l.log.Warn("plan refused", slog.Any("err", err))
		return
	}
	if f == nil {
		return
	}
	if !l.takeForce(f, now) {
		return
	}
	l.log.Info("plan in force", slog.Uint64("epoch", f.sealed.Identity.Epoch), slog.Uint64("revision", f.sealed.Identity.Revision),
		slog.String("hash", f.sealed.Identity.Hash.Short()), slog.String("writer", f.sealed.Signer))
	l.save.up()
	l.changed()
}

// takeForce makes a plan the one that is answered from. The order matters: the
// table first, then all else, last the word that it is so. False: no table can
// be made of it, and the old plan stays.
func (l *loop) takeForce(f *inForce, now time.Time) bool {
	old := l.horizon.current()
	if old == nil || !sameSpecs(old, f) {
		l.book.SetSubjects(subjects(f.specs()...), now)
	}
	if !l.decideOn(f, l.earth.Load()) {
		if old != nil && !sameSpecs(old, f) {
			l.book.SetSubjects(subjects(old.specs()...), now)
		}
		return false
	}
	if len(f.doubts) > 0 && (old == nil || old.spec != f.spec) {
		l.log.Warn("the plan holds what this version would refuse; it serves what it can read of it",
			slog.Int("problems", len(f.doubts)), slog.Any("first", f.doubts[0]))
	}
	roster := core.Voters(f.sealed.Plan)
	if old == nil || !sameSpecs(old, f) || !slices.Equal(roster, core.Voters(old.sealed.Plan)) {
		l.book.SetRoster(roster, f.spec.Fleet.QuorumObservers)
		specs := f.specs()
		probes, watched := targets(specs[0], roster, l.name, specs[1:]...)
		l.observer.Set(watched)
		l.prober.Set(probes)
		l.resolver.Set(hostnames(specs...))
		l.publish.SetPeers(core.Others(roster, l.name))
	}
	l.setReadmits(f, now)
	l.horizon.swap(f)
	l.unshown = true
	l.planned.up()
	l.outbox.Refresh()
	l.ticked = l.now() // as in decideOn
	return true
}

// setReadmits tells the observer which waits a person has ended.
func (l *loop) setReadmits(f *inForce, now time.Time) {
	since := map[string]time.Time{}
	at := map[health.Subject]time.Time{}
	for s, o := range core.Readmitted(f.sealed.Plan, f.spec) {
		t, ok := since[o.GetId()]
		if !ok {
			if t, ok = l.readmits[o.GetId()]; !ok {
				t = now
				if !l.running {
					// From the disk at a start, its age counts: it ends waits that began
					// before it, and none that began since.
					t = now.Add(-max(now.Sub(o.GetStart().AsTime()), 0))
				}
			}
			since[o.GetId()] = t
		}
		at[s] = t
	}
	l.readmits = since
	l.observer.Readmits(at)
}

// transitions notes certificates that came into force.
func (l *loop) transitions(certs []health.Certificate, how string) {
	var set *spec.Set // none yet, while the certificates of the disk are read
	if f := l.horizon.current(); f != nil {
		set = f.spec
	}
	names, several := l.prepared.Load(), map[health.State]int{}
	for i, c := range certs {
		several[c.To()]++
		if i >= maxLines {
			continue
		}
		l.log.Info("transition", slog.String("probe", names.Name(c.Subject)), slog.String("address", set.NameOf(c.Subject.Addr.Addr())),
			slog.String("to", c.To().String()), slog.Uint64("n", c.N), slog.String("why", c.Reason), slog.String("how", how))
	}
	for to, n := range several {
		l.shown.certificates.WithLabelValues(to.String(), how).Add(float64(n))
	}
	if n := len(certs) - maxLines; n > 0 {
		l.log.Info("more transitions", slog.Int("subjects", n), slog.String("how", how))
	}
	l.dirty = true
	l.history.transitions(certs, l.now())
	l.autos.add(certs, l.now(), func(c health.Certificate) string {
		return fmt.Sprintf("%s at %s is %s", names.Name(c.Subject), set.NameOf(c.Subject.Addr.Addr()), c.To())
	})
	l.unshown = true
	l.save.up()
	l.changed()
}

// decide makes the table anew from what holds now, if it differs.
func (l *loop) decide() {
	l.dirty = false
	f := l.horizon.current()
	if f == nil {
		return
	}
	if l.decided && !l.moved() {
		return
	}
	l.decideOn(f, l.earth.Load())
}

// moved tells whether the state of any subject may be another than as last decided
// upon.
func (l *loop) moved() bool {
	l.flips.take(l.book)
	return l.flips.all || len(l.flips.changes) > 0
}

// decideOn puts the table of a decision in place, and with it the earth that it is
// made by; false: it cannot be made.
func (l *loop) decideOn(f *inForce, on *earth) bool {
	start := time.Now()
	fit := on.fit(f.spec)
	l.flips.take(l.book)
	l.ramps.look(f.spec, l.book, &l.flips, l.now())
	changed := l.flips.given()
	decision := l.decider.Decide(steer.Input{
		Spec: f.spec, Plan: l.urgent.over(f.sealed.Plan), States: l.book.Standing(), Returns: l.ramps.returns, Earlier: l.ramps.earlier, Changed: changed, Places: fit.places,
	})
	var before *answer.Table
	if l.describer.spec == f.spec {
		before = l.table.Load()
	}
	table, err := fit.compile(answer.Options{
		Zones: l.describer.describe(f, decision), Plan: f.sealed.Identity.String(), Stale: l.stale, Before: before,
		NSID: []byte(l.identity), ID: l.identity, Version: l.version,
	})
	if err != nil {
		// The checks let through what cannot be compiled: keep what serves.
		l.log.Error("table refused, the old one stays in force", slog.Any("err", err))
		l.shown.compileErrors.Inc()
		l.decided = false // the decider was told what has changed, and the table does not hold it
		l.history.untold()
		return false
	}
	l.table.Store(table)
	l.urgent.took()
	l.earth.Store(on)
	l.prepared.Store(l.decider.Prepared())
	l.tellMoves(l.decision, decision, func(s health.Subject) bool { return l.book.VotedUp(s, l.now()) })
	l.decision, l.decided, l.dirty = decision, true, false
	l.history.tell(l, f, on, changed)
	l.shown.decided(f)
	l.verdicts = time.Time{} // shown with the next heartbeat
	l.shown.compile.Observe(time.Since(start).Seconds())
	l.ticked = l.now() // this was work; the prober, which ran on, has its own watchdog
	l.changed()
	return true
}

// send hands out the votes that are due, and counts this director's own by what
// it has signed.
func (l *loop) send(now time.Time) {
	for _, out := range l.publish.Due(now) {
		var m gossip.Message
		var err error
		if out.To == "" {
			m, err = l.outbox.Broadcast(kindBallot, out.Payload)
		} else {
			m, err = l.outbox.Send(out.To, kindBallot, out.Payload)
		}
		if err != nil {
			l.log.Debug("ballot not sent", slog.String("to", out.To), slog.Any("err", err))
		}
		if len(m.Raw) == 0 || out.To != "" {
			continue
		}
		own := health.Ballot{Director: l.name, Boot: m.Boot, Seq: m.Seq, Votes: out.Votes, Cover: out.Cover, Raw: m.Raw}
		if _, err := l.book.Ballot(own, now); err != nil && !errors.Is(err, health.ErrForeign) {
			l.log.Debug("own ballot", slog.Any("err", err))
		}
	}
}

func (l *loop) heartbeat(now time.Time) {
	l.beat = now
	h := health.Heartbeat{
		Votes: l.publish.Digest(), Certificates: l.book.Digest(), Heard: l.book.Heard(),
		Wall: now, Abstaining: l.abstains() != "" || l.book.Isolated(now),
	}
	if !l.told.IsZero() {
		h.Plan = l.told.String()
	}
	if f := l.horizon.current(); f != nil {
		h.Highest = f.sealed.Identity.String()
	}
	_, err := l.outbox.Broadcast(kindHeartbeat, health.EncodeHeartbeat(h))
	if l.unsaid.note(err, l.log) {
		l.changed()
	}
	l.tend(now)
}

// tend looks, four times a second, at what changes without an event.
func (l *loop) tend(now time.Time) {
	if l.unshown && now.Sub(l.showed) >= showTick {
		l.show()
	}
	f := l.horizon.current()
	if f == nil {
		return
	}
	others, there := core.Others(core.Voters(f.sealed.Plan), l.name), map[string]bool{}
	for _, name := range others {
		_, at, ok := l.book.Peer(name)
		there[name] = ok && now.Sub(at) <= 10*time.Second
	}
	l.horizon.hear(len(others), there, now)
	if alarms := l.outbox.Alarms(); !maps.Equal(alarms, l.alarms) {
		for name, what := range alarms {
			if l.alarms[name] != what {
				l.log.Error("a director's identity is in doubt", slog.String("peer", name), slog.String("why", what))
			}
		}
		l.alarms = alarms
		l.changed()
	}
	l.shown.observe(l, now)
	l.tellShared()
	l.showBounds(f.spec, now)
	if now.Sub(l.verdicts) >= verdictTick {
		l.verdicts = now
		l.shown.verdicts(l, l.decision) // what never fell becomes healthy without a decision
	}
}

// inspect runs a question on the loop, which alone may look at votes. One that the loop
// has taken is waited for whatever becomes of ctx: it still writes into its asker's variables.
func (l *loop) inspect(ctx context.Context, ask func(time.Time)) error {
	done := make(chan struct{})
	select {
	case l.queries <- func(now time.Time) { defer close(done); ask(now) }:
		<-done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sortedNames orders keys for people.
func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
