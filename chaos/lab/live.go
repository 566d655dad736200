//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/divertdns/divert/chaos/relay"
)

// lives are the faults that nothing may die of, and F19, which something does once.
// F4, F5, F6 and F14 befall paths, all at once and for -hours; the others befall the
// fleet, one after the other and for -phase each.
var lives = []string{"F4", "F5", "F6", "F14", "F9", "F12", "F12-stop", "isolated", "F19"}

// Times of the faults that nothing may die of.
const (
	watchPace  = 250 * time.Millisecond  // of questions: whoever moves stays away for 10 s at least
	burst      = 200 * time.Millisecond  // F5
	burstPause = 500 * time.Millisecond  // after each, or two would be one of 400 ms and more
	burstMean  = 1500 * time.Millisecond // and this much more, exponentially
	slowFor    = 10 * time.Second        // F14 comes and goes
	stopFor    = 400 * time.Millisecond  // F12-stop: a director stands still that long
	goFor      = 100 * time.Millisecond  // and runs that long
)

// paths are the services whose paths have a fault.
var paths = map[string][]string{"F4": {"lossy1", "lossy2"}, "F5": {"burst", "uplink"}, "F6": {"blind1", "blind2"}, "F14": {"slow"}}

// watched is what became of the services under one fault that may move nothing.
type watched struct {
	Fault string         `json:"fault"`
	For   time.Duration  `json:"for"`
	Moves map[string]int `json:"moves"`          // by server: how often an answer changed that should not
	Seen  []string       `json:"seen,omitempty"` // the first of them
	Note  string         `json:"note,omitempty"`
}

// divert gives the moves of the fleet: those of the director with the most.
func (w watched) divert() (n int) {
	for name, moves := range w.Moves {
		if isDirector(name) {
			n = max(n, moves)
		}
	}
	return n
}

// live tries the faults that nothing may die of.
func (l *lab) live(ctx context.Context, r *report) error {
	has := func(f string) bool { return slices.Contains(l.faults, f) }
	var services []service
	for _, f := range lives {
		for i, name := range paths[f] {
			if !has(f) {
				continue
			}
			s := service{name: name, port: openPort, primary: l.world.fresh()}
			switch name {
			case "burst":
				s.primary = wireAddress(kindBurst, i)
			case "uplink":
				s.primary = wireAddress(kindUplink, i)
			case "slow":
				s.primary = wireAddress(kindSlow, i)
			}
			services = append(services, s)
		}
	}
	onPaths := len(services) > 0 && l.hours > 0
	if onPaths {
		if err := l.begin(ctx, services); err != nil {
			return err
		}
		took := time.Duration(l.hours * float64(time.Hour))
		l.say("F4, F5, F6, F14: for %s", took.Round(time.Second))
		done, err := l.underPaths(ctx, services, took)
		r.Watched = append(r.Watched, done...)
		for _, v := range l.rivals {
			v.stop(l.world)
		}
		if err != nil {
			return err
		}
	}
	return l.fleetFaults(ctx, r, has)
}

// underPaths has F4, F5, F6 and F14 at once, each on its own services.
func (l *lab) underPaths(ctx context.Context, services []service, took time.Duration) ([]watched, error) {
	ctx, cancel := context.WithTimeout(ctx, took)
	defer cancel()
	var wg sync.WaitGroup
	var errs error
	for _, s := range services {
		switch s.name {
		case "lossy1", "lossy2":
			errs = errors.Join(errs, drop("lossy", s.primary.String()))
		case "blind1", "blind2":
			errs = errors.Join(errs, drop("blind", fmt.Sprintf("%s . %s", directorAddress(2), s.primary)))
		case "burst":
			for i := 1; i <= l.fleet.directors; i++ {
				wg.Go(func() { l.bursts(ctx, fmt.Sprintf("d%d", i), "burst") })
			}
			for _, r := range l.rivals {
				wg.Go(func() { l.bursts(ctx, r.address.String(), "burst") })
			}
		case "uplink":
			wg.Go(func() { l.bursts(ctx, relay.Any, "uplink") })
		case "slow":
			wg.Go(func() { l.slows(ctx) })
		}
	}
	began := time.Now()
	moves := l.watch(ctx, services, watchPace)
	wg.Wait()
	errs = errors.Join(errs, nft("flush set ip lab lossy; flush set ip lab blind"))
	var out []watched
	for _, f := range lives {
		if names := paths[f]; slices.Contains(l.faults, f) && names != nil {
			out = append(out, tally(f, time.Since(began), names, moves))
		}
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		errs = errors.Join(errs, ctx.Err())
	}
	return out, errs
}

// bursts loses everything between two ends of the wire for 200 ms at a time.
func (l *lab) bursts(ctx context.Context, from, to string) {
	set := func(f relay.Fault) {
		l.world.relay.Shape(from, to, f)
		l.world.relay.Shape(to, from, f)
	}
	defer set(relay.Fault{})
	for rest(ctx, burstPause+time.Duration(rand.ExpFloat64()*float64(burstMean))) {
		set(relay.Fault{Loss: 1})
		rest(ctx, burst)
		set(relay.Fault{})
	}
}

// slows delays by 300 ms and more, there and back together; it begins and ends at once.
func (l *lab) slows(ctx context.Context) {
	set := func(f relay.Fault) {
		l.world.relay.Shape(relay.Any, "slow", f)
		l.world.relay.Shape("slow", relay.Any, f)
	}
	defer set(relay.Fault{})
	for ctx.Err() == nil {
		set(relay.Fault{Delay: 150 * time.Millisecond, Jitter: 50 * time.Millisecond, Reorder: 0.05, Duplicate: 0.05})
		rest(ctx, slowFor)
		set(relay.Fault{})
		rest(ctx, slowFor)
	}
}

// move is an answer that has changed from the primary to another.
type move struct {
	server, service string
	answer          netip.Addr
	at              time.Time
	back            bool // it changed to the primary
}

// watch asks all servers for services until ctx ends, and tells every change.
func (l *lab) watch(ctx context.Context, services []service, pace time.Duration) []move {
	var mu sync.Mutex
	var out []move
	var wg sync.WaitGroup
	for name, server := range l.servers() {
		for _, s := range services {
			a, err := newAsker(server, s.name)
			if err != nil {
				l.say("%s cannot be asked: %v", name, err)
				continue
			}
			wg.Go(func() {
				defer a.close()
				last := s.primary
				_ = a.each(ctx, pace, func(answer netip.Addr, at time.Time) bool {
					if answer != last && (answer == s.primary || last == s.primary) {
						mu.Lock()
						out = append(out, move{name, s.name, answer, at, answer == s.primary})
						mu.Unlock()
					}
					last = answer
					return false
				})
			})
		}
	}
	wg.Wait()
	slices.SortFunc(out, func(a, b move) int { return a.at.Compare(b.at) })
	return out
}

// tally counts the moves of some services.
func tally(fault string, took time.Duration, names []string, moves []move) watched {
	w := watched{Fault: fault, For: took, Moves: map[string]int{}}
	for _, m := range moves {
		if m.back || !slices.Contains(names, m.service) {
			continue
		}
		w.Moves[m.server]++
		if isDirector(m.server) && len(w.Seen) < 20 {
			w.Seen = append(w.Seen, fmt.Sprintf("%s %s moved %s to %s", m.at.Format("15:04:05.000"), m.server, m.service, m.answer))
		}
	}
	return w
}

// fleetFaults tries what befalls directors or the API server, one after the other, and
// flapping last. Rivals have no part in it.
func (l *lab) fleetFaults(ctx context.Context, r *report, has func(string) bool) error {
	if !slices.ContainsFunc([]string{"F9", "F12", "F12-stop", "isolated", "F19"}, has) {
		return nil
	}
	quiet := []service{
		{name: "quiet1", port: openPort, primary: l.world.fresh()},
		{name: "quiet2", port: openPort, primary: l.world.fresh()},
		{name: "quiet3", port: openPort, primary: serviceAddress(1, 1)},
	}
	flapping := service{name: "flapping", port: openPort, primary: l.world.fresh()}
	cut := service{name: "cut", port: openPort, primary: l.world.fresh()}
	if err := l.fleet.apply(ctx, append(slices.Clone(quiet), flapping, cut)); err != nil {
		return err
	}
	rest(ctx, l.warmUp)
	var names []string
	for _, s := range quiet {
		names = append(names, s.name)
	}
	for _, f := range []struct {
		name string
		run  func(ctx context.Context) (note string, err error)
	}{
		{"F9", l.controlPlane},
		{"F12", l.starved},
		{"F12-stop", l.stopped},
		{"isolated", func(ctx context.Context) (string, error) { return l.isolated(ctx, cut) }},
	} {
		if !has(f.name) || ctx.Err() != nil {
			continue
		}
		l.say("%s: for %s", f.name, l.phase)
		inner, cancel := context.WithTimeout(ctx, l.phase)
		began := time.Now()
		var note string
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { note, err = f.run(inner) })
		moves := l.watch(inner, quiet, watchPace)
		cancel()
		wg.Wait()
		w := tally(f.name, time.Since(began), names, moves)
		w.Note = note
		r.Watched = append(r.Watched, w)
		if err := errors.Join(err, ctx.Err()); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		rest(ctx, 2*time.Second)
	}
	if has("F19") && ctx.Err() == nil {
		flaps, err := l.flap(ctx, flapping)
		r.Flaps = flaps
		return err
	}
	return ctx.Err()
}

// controlPlane drops all that is sent to the API server (F9).
func (l *lab) controlPlane(ctx context.Context) (string, error) {
	element := fmt.Sprintf("%s . 6443", l.fleet.control)
	if err := drop("mute", element); err != nil {
		return "", err
	}
	note := "never shown as impaired"
	for rest(ctx, time.Second) {
		if s, err := l.fleet.clients[0].Status(ctx); err == nil {
			for _, c := range s.Clusters {
				if c.Name == clusterNames[0] && c.ControlPlane != "ok" && c.ControlPlane != "" {
					note = "shown as " + c.ControlPlane
				}
			}
		}
	}
	return note, pass("mute", element)
}

// starved gives a director 2 % of a core (F12).
func (l *lab) starved(ctx context.Context) (string, error) {
	if l.group == "" {
		return "left out: no cgroup with a CPU quota can be made here", nil
	}
	if err := errors.Join(limit(l.group, starveQuota), confine(l.group, l.fleet.processes[1].cmd.Process.Pid)); err != nil {
		return "", err
	}
	<-ctx.Done()
	return "d2 has 2 ms of CPU in each 100", limit(l.group, -1)
}

// stopped lets a director run for 100 ms of each half second (F12).
func (l *lab) stopped(ctx context.Context) (string, error) {
	p := l.fleet.processes[1].cmd.Process
	for ctx.Err() == nil {
		_ = p.Signal(syscall.SIGSTOP)
		rest(ctx, stopFor)
		_ = p.Signal(syscall.SIGCONT)
		rest(ctx, goFor)
	}
	return "d2 runs for 100 ms of each 500", p.Signal(syscall.SIGCONT)
}

// isolated cuts a director off from its peers and all clusters (S8), and meanwhile lets
// a service die: the others move, that one keeps what it knew.
func (l *lab) isolated(ctx context.Context, dies service) (note string, err error) {
	l.world.relay.Cut("d2", relay.Any)
	l.world.relay.Cut(relay.Any, "d2")
	err = drop("dead", directorAddress(2).String())
	rest(ctx, l.phase/4)
	err = errors.Join(err, drop("dead", dies.primary.String()))
	rest(ctx, l.phase/4)
	for i := 1; i <= l.fleet.directors; i++ {
		want := fallback(1)
		if i == 2 {
			want = dies.primary
		}
		if wrong := answers(ctx, l.fleet.dns(i), dies, want); wrong != nil {
			note += fmt.Sprintf("d%d: %v; ", i, wrong)
		}
	}
	l.world.relay.Heal(relay.Any, relay.Any)
	err = errors.Join(err, pass("dead", directorAddress(2).String()))
	healed := time.Now()
	if wrong := until(ctx, 20*time.Second, "d2 follows", func(ctx context.Context) error {
		return answers(ctx, l.fleet.dns(2), dies, fallback(1))
	}); wrong != nil {
		note += wrong.Error()
	}
	followed := time.Since(healed)
	<-ctx.Done()
	err = errors.Join(err, pass("dead", dies.primary.String()))
	if note == "" {
		return fmt.Sprintf("d2 kept its answers, and followed %s after it was healed", followed.Round(100*time.Millisecond)), err
	}
	return "WRONG: " + note, err
}
