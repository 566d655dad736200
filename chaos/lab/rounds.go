//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// How rounds follow each other.
const (
	batchSize     = 16                     // services that live at once, so that signals need not be stretched
	roundEvery    = 500 * time.Millisecond // and up to 200 ms more
	roundPatience = 20 * time.Second       // for a change
	attemptsPer   = 3                      // rounds tried for one that counts, at most
)

// deaths are the faults that a service dies of, in rounds.
var deaths = []string{"F1", "F1-link", "F2", "F3"}

// victim is a service that is going to die.
type victim struct {
	service
	fault   string
	process *process
	rack    *rack
}

// round is what became of one.
type round struct {
	Fault   string                   `json:"fault"`
	Changed map[string]time.Duration `json:"changed"`           // by server: from the fault to the first answer that differs; never
	Early   []string                 `json:"early,omitempty"`   // servers that moved before the fault: false moves
	Stalled bool                     `json:"stalled,omitempty"` // the machine stood still: it does not count
}

// first and last give when the first and the last director's answer changed.
func (r round) first(directors int) time.Duration {
	best := never
	for i := 1; i <= directors; i++ {
		best = min(best, r.Changed[fmt.Sprintf("d%d", i)])
	}
	return best
}

func (r round) last(directors int) time.Duration {
	worst := time.Duration(0)
	for i := 1; i <= directors; i++ {
		worst = max(worst, r.Changed[fmt.Sprintf("d%d", i)])
	}
	return worst
}

// rounds runs until each fault has had its number of rounds that count, or three times
// as many.
func (l *lab) rounds(ctx context.Context, faults []string, want int) ([]round, error) {
	var all []round
	counted, tried := map[string]int{}, map[string]int{}
	for ctx.Err() == nil {
		var open []string
		for _, f := range faults {
			if counted[f] < want && tried[f] < attemptsPer*want {
				open = append(open, f)
			}
		}
		if len(open) == 0 {
			break
		}
		var batch []string
		planned := map[string]int{}
		for i := 0; len(batch) < batchSize && i < batchSize; i++ {
			for _, f := range open {
				if len(batch) < batchSize && planned[f] < want-counted[f] {
					batch = append(batch, f)
					planned[f]++
				}
			}
		}
		done, err := l.batch(ctx, batch)
		for _, r := range done {
			tried[r.Fault]++
			if !r.Stalled {
				counted[r.Fault]++
			}
		}
		all = append(all, done...)
		if err != nil {
			return all, err
		}
		l.say("rounds: %v of %d that count, %d stalled so far", counted, want, stalledOf(all))
	}
	return all, ctx.Err()
}

func stalledOf(rounds []round) (n int) {
	for _, r := range rounds {
		if r.Stalled {
			n++
		}
	}
	return n
}

// batch makes fresh services, lets all find them alive, and lets one after the other
// die.
func (l *lab) batch(ctx context.Context, faults []string) (done []round, err error) {
	var victims []*victim
	var services []service
	defer func() {
		for _, v := range victims {
			if v.process != nil {
				l.world.processes.kill(v.process)
			}
			if v.rack != nil {
				l.world.processes.kill(v.rack.process)
				v.rack.end()
			}
		}
		for _, r := range l.rivals {
			r.stop(l.world)
		}
		err = errors.Join(err, nft("flush set ip lab dead"))
	}()
	for _, f := range faults {
		v, err := l.victim(f)
		if err != nil {
			return nil, err
		}
		victims, services = append(victims, v), append(services, v.service)
	}
	if err := l.begin(ctx, services); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs error
	for _, v := range victims {
		wg.Go(func() {
			r, err := l.round(ctx, v)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				done = append(done, r)
			}
			errs = errors.Join(errs, err)
		})
		if !rest(ctx, roundEvery+rand.N(200*time.Millisecond)) {
			break
		}
	}
	wg.Wait()
	if name := l.world.processes.ended(); name != "" {
		errs = errors.Join(errs, fmt.Errorf("%s has ended by itself: see its log", name))
	}
	return done, errs
}

// begin has the fleet and its rivals answer for services, and waits until all see them
// alive; then a little longer, so that paths have a history.
func (l *lab) begin(ctx context.Context, services []service) error {
	var wg sync.WaitGroup
	errs := make([]error, len(l.rivals))
	for i, r := range l.rivals {
		wg.Go(func() { errs[i] = r.start(ctx, l.world, services) })
	}
	err := l.fleet.apply(ctx, services)
	wg.Wait()
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	rest(ctx, l.warmUp)
	return ctx.Err()
}

func (l *lab) victim(fault string) (*victim, error) {
	l.named++
	v := &victim{fault: fault, service: service{name: fmt.Sprintf("s%d", l.named), port: openPort, primary: l.world.fresh()}}
	var err error
	switch fault {
	case "F1-link":
		if v.rack, err = l.world.rack(); err == nil {
			v.primary = v.rack.address
		}
	case "F2", "F3":
		v.port = lonePort
		v.process, err = l.world.backend(l.world.clusters[0], fmt.Sprintf("%s:%d", v.primary, v.port))
	}
	return v, err
}

// die begins the fault.
func (l *lab) die(ctx context.Context, v *victim) error {
	switch v.fault {
	case "F1":
		return drop("dead", v.primary.String())
	case "F1-link":
		return v.rack.down(ctx)
	case "F2":
		l.world.processes.kill(v.process)
		v.process = nil
		return nil
	case "F3":
		return v.process.cmd.Process.Signal(syscall.SIGSTOP)
	default:
		return fmt.Errorf("nobody dies of %s", v.fault)
	}
}

// isDirector tells a director's name, d1, from a rival's.
func isDirector(name string) bool { return name[0] == 'd' }

// servers are all that run, by name: a rival that has not been started is not asked.
func (l *lab) servers() map[string]netip.AddrPort {
	out := map[string]netip.AddrPort{}
	for i := 1; i <= l.fleet.directors; i++ {
		out[fmt.Sprintf("d%d", i)] = l.fleet.dns(i)
	}
	for _, r := range l.rivals {
		if r.process != nil {
			out[r.name] = netip.AddrPortFrom(r.address, 53)
		}
	}
	return out
}

// round asks every server every 5 ms, lets the victim die, and notes when each
// answer changes. The time before the fault begins is taken, so that what nft or a
// signal takes is never a server's gain.
func (l *lab) round(whole context.Context, v *victim) (round, error) {
	r := round{Fault: v.fault, Changed: map[string]time.Duration{}}
	ctx, cancel := context.WithTimeout(whole, roundPatience)
	defer cancel()
	var mu sync.Mutex // guards changed
	changed := map[string]time.Time{}
	var wg sync.WaitGroup
	var ready sync.WaitGroup
	for name, server := range l.servers() {
		a, err := newAsker(server, v.name)
		if err != nil {
			return r, err
		}
		ready.Add(1)
		wg.Go(func() {
			defer a.close()
			once := sync.OnceFunc(ready.Done)
			defer once()
			_ = a.each(ctx, askPace, func(answer netip.Addr, at time.Time) bool {
				once() // it has answered
				if answer == v.primary {
					return false
				}
				mu.Lock()
				defer mu.Unlock()
				changed[name] = at
				return true
			})
		})
	}
	ready.Wait()
	began := time.Now()
	err := l.die(ctx, v)
	wg.Wait()
	ended := began
	for name := range l.servers() {
		at, ok := changed[name]
		switch {
		case !ok:
			r.Changed[name] = never
		case at.Before(began):
			r.Early = append(r.Early, name)
			r.Changed[name] = 0
		default:
			r.Changed[name] = at.Sub(began)
		}
		if ok && at.After(ended) && isDirector(name) {
			ended = at
		}
	}
	r.Stalled = l.dog.stalled(began.Add(-300*time.Millisecond), ended)
	return r, errors.Join(err, whole.Err()) // one that was broken off shows nothing
}

// rest waits, and says whether to go on.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
