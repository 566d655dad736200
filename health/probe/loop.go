package probe

import (
	"context"
	"log/slog"
	"math"
	"net/netip"
	"sync"
	"time"
)

// loop is the state of one Run; only its goroutine touches it.
type loop struct {
	*Scheduler
	schedule *schedule
	flights  *flights // probes that our own sockets carry
	flying   map[*entry]*request
	wg       sync.WaitGroup // probes in goroutines
	planned  time.Time      // when the loop wanted to be awake; zero before the first time
	reap     time.Duration  // how long to leave the sockets alone
}

// result is what a probe in a goroutine brings home.
type result struct {
	entry *entry
	out   outcome
}

// Run probes until ctx ends, and leaves nothing in flight behind it.
func (s *Scheduler) Run(ctx context.Context) error {
	l := &loop{
		Scheduler: s,
		schedule:  newSchedule(),
		flights:   newFlights(s.opts.Source, s.policy),
		flying:    make(map[*entry]*request),
	}
	s.mu.Lock()
	s.changed, s.done = s.wanted != nil, nil
	s.mu.Unlock()

	inner, cancel := context.WithCancel(ctx)
	defer l.wg.Wait()
	defer cancel()
	defer l.flights.close()
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
		l.launch(inner, now)
		l.flights.poll(time.Now(), l.finish)
		if l.schedule.settle(now) {
			l.setStretch(l.schedule.stretch)
			l.metrics.interval.Set(l.schedule.longest().Seconds())
		}
		l.metrics.inFlight.Set(float64(len(l.flying)))
		l.planned = now.Add(l.sleep(now))
		timer.Reset(time.Until(l.planned))
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
	for e := range l.flying {
		e.void = true
	}
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
	var doubts map[netip.AddrPort]struct{}
	if len(l.doubts) > 0 {
		doubts, l.doubts = l.doubts, make(map[netip.AddrPort]struct{})
	}
	done := l.done
	l.done = nil
	l.mu.Unlock()

	for _, r := range done {
		l.finish(r.entry, r.out)
	}
	if changed {
		l.adopt(targets, now)
	}
	for addr := range doubts {
		if g := l.schedule.groups[addr]; g != nil && l.schedule.doubt(g, now) {
			l.metrics.bursts.Inc()
		}
	}
}

func (l *loop) adopt(targets []Target, now time.Time) {
	for _, e := range l.schedule.set(targets, l.prepare, now) {
		if e.req.refused != "" {
			l.log.Warn("probe is never sent", slog.String("subject", e.Subject.String()), slog.String("why", e.req.refused))
		}
	}
	refused, count := 0, [kinds]int{}
	for _, e := range l.schedule.entries {
		count[e.req.kind]++
		if e.req.refused != "" {
			refused++
		}
	}
	for k := kindFast; k < kinds; k++ {
		l.metrics.targets[k].Set(float64(count[k]))
	}
	l.metrics.refused.Set(float64(refused))
}

// launch starts all that is due. Each probe has its own socket or goroutine;
// how many there are is bounded by the spec, one for each target.
func (l *loop) launch(ctx context.Context, now time.Time) {
	for e := l.schedule.next(now); e != nil; e = l.schedule.next(now) {
		r, timeout := e.req, e.Timeout
		if e.Fast {
			timeout = e.patience.wait(e.Interval, e.ceiling())
		}
		l.flying[e] = r
		switch {
		case r.refused != "":
			l.finish(e, outcome{void: true, reason: r.refused})
		case l.sockets && r.plain && r.hostname == nil:
			if !e.Fast || e.group.inDoubt {
				l.reap = 0
			}
			l.flights.start(e, r, timeout, l.finish)
		default:
			l.wg.Go(func() {
				deadline, cancel := context.WithTimeout(ctx, timeout)
				defer cancel()
				out := l.reach(deadline, r)
				l.mu.Lock()
				l.done = append(l.done, result{e, out})
				l.mu.Unlock()
				l.poke()
			})
		}
	}
}

// finish books an outcome and reports it. It is the only caller of Report.
func (l *loop) finish(e *entry, o outcome) {
	r := l.flying[e]
	delete(l.flying, e)
	if e.gone {
		return
	}
	now := time.Now()
	if e.void && r.refused == "" {
		o = outcome{void: true, reason: "we stalled ourselves"}
	}
	l.metrics.ended(r.kind, o)
	if !o.void {
		l.learn(e, o, now)
	}
	l.schedule.back(e, now)
	l.opts.Report(o.report(e.Subject, now))
}

func (l *loop) learn(e *entry, o outcome, now time.Time) {
	if e.Fast {
		if o.timeout {
			e.patience.silence()
		} else {
			e.patience.heard(o.latency)
		}
	}
	if !e.judge(o.ok) {
		return
	}
	if l.schedule.doubt(e.group, now) {
		l.metrics.bursts.Inc()
	}
	if !e.Fast {
		e.again = true // confirm at once, whoever was in doubt already
	}
}

// sleep says how long nothing needs to be done. Sockets of ours are looked at
// in batches: at growing distances while an exchange or a doubtful signal is
// out, and otherwise with whatever wakes us next. The round trip of a signal
// is the kernel's own measure and does not suffer from it.
func (l *loop) sleep(now time.Time) time.Duration {
	d := time.Hour
	if len(l.schedule.queue) > 0 {
		d = l.schedule.queue[0].due.Sub(now)
	}
	if len(l.flying) == 0 {
		return max(d, 0)
	}
	switch {
	case l.flights.urgent():
		l.reap = min(max(2*l.reap, time.Millisecond), maxSlack)
		d = min(d, l.reap)
	case l.flights.count() > 0:
		d = min(d, maxSlack)
	}
	return max(min(d, tick), 0)
}

// Stretch gives the factor by which fast intervals are now stretched to keep
// within the limit: 1 when they are not.
func (s *Scheduler) Stretch() float64 { return math.Float64frombits(s.stretch.Load()) }

func (s *Scheduler) setStretch(f float64) {
	s.stretch.Store(math.Float64bits(f))
	s.metrics.stretch.Set(f)
}
