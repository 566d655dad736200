package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// run starts every server, measures all in turn, and ends them. What is missing
// is said in the report.
func run(ctx context.Context, s settings) (r *report, err error) {
	dir, err := os.MkdirTemp("", "divert-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r = &report{Machine: machine(), Rounds: s.rounds, Seconds: s.length.Seconds(), Pinned: s.pin, Scenarios: s.scenarios}
	chosen, missing := choose(s)
	if s.install && len(missing) > 0 {
		if err := install(ctx, s.progress, missing); err != nil {
			fmt.Fprintln(s.progress, "installing:", err)
		}
		chosen, missing = choose(s)
	}
	for _, m := range missing {
		r.Missing = append(r.Missing, m.String())
		fmt.Fprintln(s.progress, "without", m)
	}
	loadCore, pinned := -1, []int(nil)
	if s.pin {
		all := cores()
		if len(all) < 2 {
			return nil, errors.New("-pin needs two cores")
		}
		loadCore, pinned = all[0], all[1:]
	}
	b := &bench{settings: s, report: r, world: newWorld(), core: loadCore}
	defer func() { err = errors.Join(err, b.stop()) }()
	for _, server := range chosen {
		p := place{dir: filepath.Join(dir, server.name), workers: workersOf(pinned), world: b.world, divert: s.divert}
		if p.addr, err = freePort(); err != nil {
			return nil, err
		}
		if server.name == divertName && s.divert == "" {
			fmt.Fprintln(s.progress, "building divert")
			if p.divert, err = buildDivert(ctx, dir); err != nil {
				return nil, err
			}
		}
		fmt.Fprintln(s.progress, "starting", server.name)
		running, err := start(ctx, server, p, pinned)
		if err == nil {
			b.running = append(b.running, running)
			err = running.check()
		}
		if err != nil {
			if ctx.Err() != nil || server.name == divertName || server.echo {
				return nil, err
			}
			// A peer of another version than we know shall not keep the others from it.
			fmt.Fprintln(s.progress, err)
			r.Missing = append(r.Missing, fmt.Sprintf("%s: %v", server.name, err))
			if running != nil {
				b.running = b.running[:len(b.running)-1]
				if err := running.stop(); err != nil {
					return nil, err
				}
			}
			continue
		}
		r.Servers = append(r.Servers, described{server.name, server.note, server.peer})
	}
	r.CPU = "cgroup"
	if len(b.running) > 0 && b.running[0].group.dir == "" {
		r.CPU = "/proc"
	}
	return r, b.measure(ctx)
}

func machine() string {
	return fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}

// absent is a server that cannot be measured.
type absent struct {
	server
	why error
}

func (a absent) String() string {
	text := fmt.Sprintf("%s: %v", a.name, a.why)
	if len(a.debian) > 0 {
		text += "; on Debian it is in " + strings.Join(a.debian, " ")
	}
	return text
}

// choose takes the servers that were asked for and are there.
func choose(s settings) (chosen []server, missing []absent) {
	for _, server := range servers() {
		if len(s.servers) > 0 && !slices.Contains(s.servers, server.name) {
			continue
		}
		if err := server.installed(); err != nil {
			missing = append(missing, absent{server, err})
			continue
		}
		chosen = append(chosen, server)
	}
	return chosen, missing
}

// installed tells what a server lacks.
func (s server) installed() error {
	if s.program == "" {
		return nil
	}
	if _, err := look(s.program); err != nil {
		return err
	}
	for _, pattern := range s.needs {
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			return nil
		}
	}
	if len(s.needs) > 0 {
		return fmt.Errorf("%s is there without %s", s.program, filepath.Base(s.needs[0]))
	}
	return nil
}

// bench is the servers while they are measured.
type bench struct {
	settings
	report  *report
	world   *world
	running []*process
	core    int // of the load
	changer *changer
}

func (b *bench) stop() (err error) {
	for _, p := range b.running {
		err = errors.Join(err, p.stop())
	}
	return err
}

// measure goes round: in each round every scenario, in each scenario every server,
// so that what is compared was measured within seconds; the order turns, so that
// nobody always comes behind the same.
func (b *bench) measure(ctx context.Context) error {
	total := 0
	for _, sc := range b.scenarios {
		for _, p := range b.running {
			if !sc.divertOnly() || p.name == divertName {
				total += b.rounds
			}
		}
	}
	done, began := 0, time.Now()
	for round := range b.rounds {
		for _, sc := range b.scenarios {
			for i := range b.running {
				p := b.running[(i+round)%len(b.running)]
				if sc.divertOnly() && p.name != divertName {
					continue
				}
				m, err := b.fair(ctx, p, sc)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", p.name, sc, err)
				}
				m.Round = round
				b.report.Measured = append(b.report.Measured, m)
				done++
				left := time.Since(began) / time.Duration(done) * time.Duration(total-done)
				fmt.Fprintf(b.progress, "round %d of %d  %-15s %-9s %s  (%s left)\n", round+1, b.rounds, sc, p.name, m.line(), left.Round(time.Second))
			}
		}
	}
	return nil
}

// fair measures one server once, and anew where the load itself did not get to run
// for long: that says nothing of the server.
func (b *bench) fair(ctx context.Context, p *process, sc scenario) (measured, error) {
	for try := 1; ; try++ {
		m, starved, err := b.one(ctx, p, sc)
		silent := !sc.idle() && m.Answers == 0
		switch {
		case err != nil || starved < b.length/4 && !silent:
			return m, err
		case try == tries && silent:
			return m, fmt.Errorf("no answers, %d lost, %d wrong", m.Lost, m.Wrong)
		case try == tries:
			return m, fmt.Errorf("the machine is too busy with something else: the load stood still for %s", starved)
		case silent:
			fmt.Fprintf(b.progress, "%s gave no answer in %s: once more\n", p.name, b.length)
		default:
			fmt.Fprintf(b.progress, "the machine was busy with something else for %s: once more\n", starved.Round(time.Millisecond))
		}
	}
}

const tries = 5

// one measures one server once.
func (b *bench) one(ctx context.Context, p *process, sc scenario) (m measured, starved time.Duration, err error) {
	var o outcome
	made := 0
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	if sc.changes {
		if b.changer == nil {
			b.changer = newChanger(p)
		}
		group.Go(func() (err error) {
			made, err = b.changer.run(ctx)
			return err
		})
	}
	began := time.Now()
	switch {
	case sc.idle():
		o, err = b.still(ctx, p)
	case sc.kind == perf:
		o, err = b.byDnsperf(ctx, p, sc.clients)
	default:
		l := &load{to: p.addr, world: b.world, kind: sc.kind, clients: sc.clients, echo: p.echo, core: b.core}
		o, err = l.run(ctx, b.length, p.group.read)
	}
	took := time.Since(began)
	cancel()
	if changeErr := group.Wait(); changeErr != nil {
		err = errors.Join(err, changeErr)
	}
	m = measured{
		Server: p.name, Scenario: sc.String(), Answers: o.answers, Seconds: o.length.Seconds(), CPU: o.cpu.Seconds(),
		Lost: o.lost, Wrong: o.wrong, Silence: o.silence.Seconds(),
	}
	if sc.changes {
		m.Changes = float64(made) / took.Seconds()
	}
	return m, o.starved, err
}

// still measures what a server uses while nobody asks.
func (b *bench) still(ctx context.Context, p *process) (o outcome, err error) {
	before, err := p.group.read()
	if err != nil {
		return o, err
	}
	began := time.Now()
	select {
	case <-ctx.Done():
		return o, ctx.Err()
	case <-time.After(b.length):
	}
	after, err := p.group.read()
	return outcome{length: time.Since(began), cpu: after - before}, err
}
