// Command play runs the simulator of a fleet: many seeds, one seed with all that
// happens in it, or a scenario file. It ends with 1 when a row of INVARIANTS did not
// hold, and leaves the scenario, made as small as it gets, in a file. It never decides
// what holds: that is fleet's.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/divertdns/divert/chaos/sim/fleet"
)

func main() {
	seed := flag.Uint64("seed", 1, "first seed")
	seeds := flag.Int("seeds", 0, "how many; 0 = as many as the time allows")
	limit := flag.Duration("for", 5*time.Minute, "how long to go on")
	told := flag.Bool("v", false, "tell what happens, of the one seed or scenario")
	file := flag.String("scenario", "", "play this file instead")
	out := flag.String("out", "chaos/sim/fleet/testdata", "folder for the scenario of what did not hold; \"\" = none")
	name := flag.String("name", "", "of that file; default: the row and the seed")
	on := flag.Bool("on", false, "go on after what does not hold, and list all")
	workers := flag.Int("workers", runtime.GOMAXPROCS(0), "runs at once")
	flag.Parse()
	if *file != "" || *told {
		os.Exit(single(*file, *seed, *told))
	}
	os.Exit(many(*seed, *seeds, *limit, *workers, *out, *name, *on))
}

// single plays one scenario.
func single(file string, seed uint64, told bool) int {
	s := fleet.Random(seed)
	if file != "" {
		text, err := os.ReadFile(file)
		if err == nil {
			s, err = fleet.Parse(string(text))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
	}
	var log func(string)
	if told {
		log = func(line string) { fmt.Println(line) }
	}
	r := fleet.Tell(s, log)
	if r.Broken != nil {
		fmt.Println(r.Broken)
		return 1
	}
	fmt.Printf("all held: %s, %d steps, %d plans, %d falls\n", r.Time, r.Steps, r.Plans, r.Falls)
	return 0
}

// processor is the processor time of this process.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type broken struct {
	seed uint64
	what *fleet.Violation
}

// many plays seeds until the first that does not hold, or until the end.
func many(first uint64, seeds int, limit time.Duration, workers int, out, name string, on bool) int {
	began, used := time.Now(), processor()
	var (
		mu     sync.Mutex // guards all below
		next   = first
		sum    fleet.Report
		played int
		bad    *broken
	)
	take := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if bad != nil && !on || time.Since(began) > limit || seeds > 0 && next >= first+uint64(seeds) {
			return 0, false
		}
		next++
		return next - 1, true
	}
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for {
				seed, ok := take()
				if !ok {
					return
				}
				r := fleet.Run(fleet.Random(seed))
				mu.Lock()
				played++
				sum.Time, sum.Steps, sum.Plans = sum.Time+r.Time, sum.Steps+r.Steps, sum.Plans+r.Plans
				sum.Falls, sum.Commands, sum.Complete = sum.Falls+r.Falls, sum.Commands+r.Commands, sum.Complete+r.Complete
				if r.Broken != nil && on {
					fmt.Printf("seed %d: %s\n", seed, r.Broken)
				}
				if r.Broken != nil && (bad == nil || seed < bad.seed) {
					bad = &broken{seed: seed, what: r.Broken}
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	fmt.Printf("%d seeds from %d in %s: %.1f fleet-hours, %.3f for each second of a processor; %d steps, %d plans, %d falls, %d commands of which %d complete\n",
		played, first, time.Since(began).Round(time.Second), sum.Time.Hours(), sum.Time.Hours()/(processor()-used).Seconds(), sum.Steps, sum.Plans, sum.Falls, sum.Commands, sum.Complete)
	if bad == nil {
		return 0
	}
	fmt.Printf("seed %d: %s\n", bad.seed, bad.what)
	if out == "" || on {
		return 1
	}
	small := fleet.Shrink(fleet.Random(bad.seed), bad.what.Row, 400)
	what := fleet.Run(small).Broken
	if what == nil {
		what = bad.what
	}
	from := fmt.Sprintf("seed %d", bad.seed)
	if name == "" {
		name = fmt.Sprintf("%s-%d", what.Row, bad.seed)
	} else {
		from += ", with the mutant " + name
	}
	path := filepath.Join(out, name+".txt")
	text := fleet.File(small, what, from)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	fmt.Printf("made smaller, it is in %s:\n%s", path, text)
	return 1
}
