package probe

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/divertdns/divert/health"
)

// loop is the state of one Run; only its goroutine touches it.
type loop struct {
	*Scheduler
	schedule *schedule
	flights  *flights // probes that our own sockets carry
	flying   []*probing
	spare    []*probing     // ended, to be used again
	wg       sync.WaitGroup // probes in goroutines
	planned  time.Time      // when the loop wanted to be awake; zero before the first time
	reap     time.Duration  // how long to leave the sockets alone
	verdict  time.Duration  // until one that is out is late, or missed
	gray     int            // addresses and ports in gray failure
}

// probing is one probe that is out. Of a target there may be several: a fast signal
// leaves whether or not the one before was answered.
type probing struct {
	entry  *entry
	req    *request
	at     time.Time
	index  int  // in loop.flying
	void   bool // in flight during a stall
	late   bool // looked at for lateness
	missed bool // reported as missed; an answer may still come
}

// reuses says whether a probe may go over a connection that was kept, and leave its own:
// while connecting is tested beside it, and there is no doubt. A site that lets nobody in
// must not look well to those who are inside.
func (p *probing) reuses() bool {
	g := p.entry.group
	return p.req.shareable && g.signals > 0 && g.answered && g.missed == 0 && !g.inDoubt && !p.entry.failing
}

// result is what a probe in a goroutine brings home.
type result struct {
	probing *probing
	out     outcome
}

// Run probes until ctx ends, and leaves nothing in flight behind it.
func (s *Scheduler) Run(ctx context.Context) error {
	l := &loop{
		Scheduler: s,
		schedule:  newSchedule(),
		flights:   newFlights(s.opts.Source, s.policy),
	}
	s.mu.Lock()
	s.changed, s.done = s.wanted != nil, nil
	s.mu.Unlock()

	inner, cancel := context.WithCancel(ctx)
	defer s.sessions.close()
	defer l.wg.Wait()
	defer cancel()
	defer l.flights.close()
	defer l.dismissAll()
	defer s.metrics.inFlight.Set(0)

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-s.wake:
		}
		if ctx.Err() != nil {
			return nil
		}
		now := time.Now()
		l.stalled(now)
		l.inputs(now)
		l.settle(now) // a peer's doubt takes effect now
		l.launch(inner, now)
		// Answers are read before lateness is judged: a director that gets little time
		// sees no misses (F12).
		l.flights.poll(time.Now(), l.finish)
		l.judge(now)
		l.settle(now)
		l.metrics.inFlight.Set(float64(len(l.flying)))
		l.planned = now.Add(l.sleep(now))
		timer.Reset(time.Until(l.planned))
	}
}

func (l *loop) settle(now time.Time) {
	if l.schedule.settle(now) {
		l.setStretch(l.schedule.limits.fast.calm)
		l.metrics.limits(l.schedule)
	}
}

// stalled voids what was in flight while we did not run: a timeout then says
// nothing about the target. The loop is due at most one tick after it last
// began while anything is in flight, so no stall over 100 ms goes unseen.
func (l *loop) stalled(now time.Time) {
	late := now.Sub(l.planned)
	if l.planned.IsZero() || late <= stallAfter-tick {
		return
	}
	l.metrics.stalls.Inc()
	for _, p := range l.flying {
		p.void = true
	}
	l.schedule.spread(now)
	l.opts.Stalled(now, late)
}

// inputs takes in what others have left since.
func (l *loop) inputs(now time.Time) {
	l.mu.Lock()
	var targets []Target
	changed := l.changed
	if changed {
		targets, l.changed = l.wanted, false
	}
	var doubts map[health.Subject]bool
	if len(l.doubts) > 0 {
		doubts, l.doubts = l.doubts, make(map[health.Subject]bool)
	}
	done := l.done
	l.done = nil
	l.mu.Unlock()

	for _, r := range done {
		l.finish(r.probing, r.out)
	}
	if changed {
		l.adopt(targets, now)
	}
	for subject, late := range doubts {
		e := l.schedule.entries[subject]
		g := l.schedule.groups[unmap(subject.Addr)]
		if e != nil {
			g = e.group
		}
		if g != nil {
			l.doubt(g, now, e.doubting())
		}
		switch {
		case e == nil || e.Fast:
		case late:
			l.hurry(e, now)
		case l.schedule.press(e, now):
			l.schedule.soon(e, now)
		}
	}
}

func (l *loop) dismissAll() {
	for _, g := range l.schedule.groups {
		l.dismiss(g)
	}
}

func (l *loop) doubt(g *group, now time.Time, lasts time.Duration) {
	if l.schedule.doubt(g, now, lasts) {
		l.metrics.bursts.Inc()
	}
}

// hurry presses a deep probe that is late, here or at a peer: two at once, since one alone
// is not believed and the second would otherwise come a while after the first. What is
// answered wrongly gets no second one at once: an error of an instant would be two.
func (l *loop) hurry(e *entry, now time.Time) {
	if l.schedule.press(e, now) {
		e.again = true
		l.schedule.soon(e, now)
	}
}

func (l *loop) adopt(targets []Target, now time.Time) {
	added, left := l.schedule.set(targets, l.prepare, now)
	for _, g := range left {
		l.dismiss(g)
	}
	for _, e := range added {
		if e.req.refused != "" {
			l.log.Warn("probe is never sent", slog.String("probe", cmp.Or(e.Name, e.Subject.String())),
				slog.String("address", cmp.Or(e.Hostname, e.Subject.Addr.Addr().String())), slog.String("why", e.req.refused))
		}
	}
	l.expiry.keep(l.schedule.entries)
	refused, count := 0, [kinds]int{}
	paces := make(map[health.Subject]*pace, len(l.schedule.entries))
	l.settle(now) // else the first paces would be those of before
	for subject, e := range l.schedule.entries {
		count[e.req.kind]++
		if e.req.refused != "" {
			refused++
		}
		e.pace.tell(l.schedule, e)
		paces[subject] = e.pace
	}
	for k := kindFast; k < kinds; k++ {
		l.metrics.targets[k].Set(float64(count[k]))
	}
	l.metrics.refused.Set(float64(refused))
	l.mu.Lock()
	l.paces = paces
	l.mu.Unlock()
}

// launch starts all that is due. Each probe has its own socket or goroutine;
// how many there are is bounded by the spec and the limits.
func (l *loop) launch(ctx context.Context, now time.Time) {
	for e := l.schedule.next(now); e != nil; e = l.schedule.next(now) {
		r := e.req
		p := l.begin(e, now)
		timeout := e.Timeout
		if e.Fast {
			timeout = signalLife
		}
		switch {
		case r.refused != "":
			l.finish(p, outcome{void: true, reason: r.refused})
		case l.sockets && r.plain && r.hostname == nil:
			if !e.Fast || e.group.inDoubt {
				l.reap = 0
			}
			l.flights.start(p, timeout, l.finish)
			if e.Fast {
				l.stand(e, now)
			}
		default:
			if r.tls != nil && r.hostname == nil && p.reuses() {
				one := *r
				one.shares, r = true, &one
			}
			subject := e.Subject
			if r.exec != nil {
				l.runs.begin(subject, e.Interval, now)
			}
			l.wg.Go(func() {
				deadline, cancel := context.WithTimeout(ctx, timeout)
				defer cancel()
				out := l.reach(deadline, r)
				if r.exec != nil {
					l.runs.end(subject, out, !out.void)
				}
				l.mu.Lock()
				l.done = append(l.done, result{p, out})
				l.mu.Unlock()
				l.poke()
			})
		}
	}
}

func (l *loop) begin(e *entry, now time.Time) *probing {
	p := &probing{}
	if n := len(l.spare); n > 0 {
		p, l.spare = l.spare[n-1], l.spare[:n-1]
	}
	*p = probing{entry: e, req: e.req, at: now, index: len(l.flying)}
	l.flying = append(l.flying, p)
	e.out++
	return p
}

func (l *loop) end(p *probing) {
	last := len(l.flying) - 1
	l.flying[p.index] = l.flying[last]
	l.flying[p.index].index = p.index
	l.flying[last] = nil
	l.flying = l.flying[:last]
	if len(l.spare) < 128 {
		l.spare = append(l.spare, p)
	}
}

// finish books an outcome and reports it, unless it was missed before.
func (l *loop) finish(p *probing, o outcome) {
	l.end(p)
	e, now := p.entry, time.Now()
	l.schedule.ended(e, now)
	if e.gone {
		return
	}
	if p.void && p.req.refused == "" {
		o = outcome{void: true, reason: "we stalled ourselves"}
	}
	if p.missed && !o.ok {
		return // that is known
	}
	l.metrics.ended(p.req.kind, o, p.missed)
	if !o.expires.IsZero() {
		l.expiry.note(e.Subject, o.expires, p.req.warn)
	}
	if !o.void {
		l.learn(p, o, now)
	}
	r := o.report(e.Subject, now)
	r.Late = p.missed
	l.opts.Report(r)
}

// learn takes an outcome that says something of the target. A signal that was missed and
// then answered says how slow the path has become, which is all it says now.
func (l *loop) learn(p *probing, o outcome, now time.Time) {
	e, g := p.entry, p.entry.group
	if e.Fast {
		g.signal(o.ok, p.at)
	}
	if o.ok || e.Fast && !o.timeout {
		e.patience.heard(o.latency)
	}
	first := e.judge(o.ok)
	if first || e.Fast && e.failing && e.failed <= sure {
		l.doubt(g, now, e.doubting())
	}
	if first && !e.Fast {
		l.schedule.press(e, now)
		l.schedule.soon(e, now) // confirm at once, whoever was in doubt already
	}
}

// judge looks at those that are out and have had no answer by now: late ones are reason
// for doubt, fast signals past their deadline are missed. It says nothing of a target
// that is known to fail, nor twice of one that has not answered since.
func (l *loop) judge(now time.Time) {
	l.verdict = time.Hour
	for _, p := range l.flying {
		e, age := p.entry, now.Sub(p.at)
		if p.void || e.gone || p.req.refused != "" {
			continue
		}
		if !p.late {
			if wait := e.late() - age; wait > 0 {
				l.verdict = min(l.verdict, wait)
			} else {
				p.late = true
				l.tardy(e, age, now)
			}
		}
		if e.Fast && !p.missed {
			if wait := e.patience.deadline() - age; wait > 0 {
				l.verdict = min(l.verdict, wait)
			} else {
				p.missed = true
				o := outcome{reason: "timeout connecting", timeout: true, latency: age}
				l.metrics.ended(p.req.kind, o, false)
				l.learn(p, o, now)
				l.opts.Report(o.report(e.Subject, now))
			}
		}
	}
}

func (l *loop) tardy(e *entry, age time.Duration, now time.Time) {
	if e.failing || e.tardy {
		return
	}
	e.tardy = true
	l.doubt(e.group, now, e.doubting())
	if !e.Fast {
		l.hurry(e, now)
	}
	l.metrics.late.Inc()
	l.opts.Report(health.Report{Subject: e.Subject, Late: true, At: now, Latency: age, Reason: "no answer yet"})
}

// sleep says how long nothing needs to be done. Sockets of ours are looked at
// in batches: at growing distances while an exchange or a doubtful signal is
// out, and otherwise with whatever wakes us next. The round trip of a signal
// is the kernel's own measure and does not suffer from it.
func (l *loop) sleep(now time.Time) time.Duration {
	d := l.schedule.wait(now)
	if len(l.flying) == 0 {
		return d
	}
	switch {
	case l.flights.urgent():
		l.reap = min(max(2*l.reap, time.Millisecond), maxSlack)
		d = min(d, l.reap)
	case l.flights.count() > 0:
		d = min(d, maxSlack)
	}
	return max(min(d, l.verdict, tick), 0)
}

// Stretch gives the factor by which fast intervals are now stretched to keep
// within the limit, where there is no doubt: 1 when they are not.
func (s *Scheduler) Stretch() float64 { return math.Float64frombits(s.stretch.Load()) }

func (s *Scheduler) setStretch(f float64) {
	s.stretch.Store(math.Float64bits(f))
	s.metrics.stretch.Set(f)
}

// Pace says how a target is probed now. False: it is not.
func (s *Scheduler) Pace(subject health.Subject) (Pace, bool) {
	s.mu.Lock()
	p := s.paces[subject]
	s.mu.Unlock()
	if p == nil {
		return Pace{}, false
	}
	return p.load(), true
}
