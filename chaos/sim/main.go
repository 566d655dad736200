// Command sim prints what a simulation of the detector says: false moves in bad
// weather, the rate of false moves where that is too rare to be counted, and the
// time to find a death. It never touches a network: what it simulates is detect's.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/divertdns/divert/chaos/sim/detect"
)

// wanted is the most false moves a year of one endpoint, INVARIANTS F4.
const wanted = 1e-5

// options are what a person may choose.
type options struct {
	leap    float64 // hours of patterns that can be leapt through
	hours   float64 // hours of the others
	rounds  int
	samples int
	seed    uint64
}

// report is all that is printed, or given as JSON.
type report struct {
	Seed     uint64    `json:"seed"`
	Patterns []pattern `json:"patterns"`
	Rates    []rate    `json:"rates"`
	Deaths   []death   `json:"deaths"`
}

type pattern struct {
	Name    string  `json:"name"`
	Hours   float64 `json:"hours"`
	Moves   int     `json:"moves"`
	Peak    float64 `json:"peakSuspicion"`
	Seconds float64 `json:"seconds"` // it took
}

type rate struct {
	Name    string  `json:"name"`
	PerYear float64 `json:"perYear"`
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
	Bound   float64 `json:"bound"`
	Samples int     `json:"samples"`
	Hits    int     `json:"hits"`
}

type death struct {
	Name     string        `json:"name"`
	Rounds   int           `json:"rounds"`
	FirstP50 time.Duration `json:"firstP50"`
	FirstP99 time.Duration `json:"firstP99"`
	LastP50  time.Duration `json:"lastP50"`
	LastP99  time.Duration `json:"lastP99"`
}

func main() {
	var o options
	asJSON := flag.Bool("json", false, "give the report as JSON")
	flag.Float64Var(&o.leap, "leap", 10000, "hours to simulate where paths lose packets independently")
	flag.Float64Var(&o.hours, "hours", 3, "hours to simulate in every other weather")
	flag.IntVar(&o.rounds, "rounds", 500, "deaths to find, for each time")
	flag.IntVar(&o.samples, "samples", 1_000_000, "samples for each rate")
	flag.Uint64Var(&o.seed, "seed", 1, "seed: the same one gives the same report, but for what it took")
	flag.Parse()
	r := simulate(o)
	give := r.print
	if *asJSON {
		give = r.json
	}
	if err := give(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if bad := r.judge(); len(bad) > 0 {
		for _, line := range bad {
			fmt.Fprintln(os.Stderr, line)
		}
		os.Exit(1)
	}
}

// simulate does everything, as much at once as there are cores.
func simulate(o options) *report {
	r := &report{Seed: o.seed}
	var jobs []func()
	patterns := detect.Patterns()
	r.Patterns = make([]pattern, len(patterns))
	for i, p := range patterns {
		jobs = append(jobs, func() {
			began := time.Now()
			result := detect.Result{}
			if p.Leap {
				result = detect.Skip(p.Model, o.leap, o.seed)
			} else {
				result = detect.Run(p.Model, o.hours, o.seed)
			}
			r.Patterns[i] = pattern{Name: p.Name, Hours: result.Hours, Moves: result.Moves, Peak: result.Peak, Seconds: time.Since(began).Seconds()}
		})
	}
	for _, p := range patterns {
		if !p.Leap {
			continue
		}
		i := len(r.Rates)
		r.Rates = append(r.Rates, rate{})
		jobs = append(jobs, func() {
			e := detect.Rare(p.Model, o.samples, o.seed)
			r.Rates[i] = rate{Name: p.Name, PerYear: e.PerYear, Low: e.Low, High: e.High, Bound: detect.Bound(p.Model), Samples: e.Samples, Hits: e.Hits}
		})
	}
	deaths := detect.Dying()
	r.Deaths = make([]death, len(deaths))
	for i, p := range deaths {
		jobs = append(jobs, func() {
			t := detect.Deaths(p.Model, o.rounds, o.seed)
			r.Deaths[i] = death{
				Name: p.Name, Rounds: o.rounds, FirstP50: detect.Quantile(t.First, 0.5), FirstP99: detect.Quantile(t.First, 0.99),
				LastP50: detect.Quantile(t.Last, 0.5), LastP99: detect.Quantile(t.Last, 0.99),
			}
		})
	}
	var all sync.WaitGroup
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, job := range jobs {
		free <- struct{}{}
		all.Go(func() { job(); <-free })
	}
	all.Wait()
	return r
}

// judge lists what does not hold.
func (r *report) judge() (bad []string) {
	for _, p := range r.Patterns {
		if p.Moves > 0 {
			bad = append(bad, fmt.Sprintf("%s: %d false moves in %.0f hours", p.Name, p.Moves, p.Hours))
		}
	}
	for _, e := range r.Rates {
		if e.Hits == 0 || e.High > wanted {
			bad = append(bad, fmt.Sprintf("%s: %.2g false moves a year, at most %.2g, by %d hits: want at most %.0g", e.Name, e.PerYear, e.High, e.Hits, wanted))
		}
	}
	return bad
}

func (r *report) json(to io.Writer) error {
	e := json.NewEncoder(to)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r *report) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "False moves, of a target that is well (seed %d)\thours\tmoves\tmost suspicion, of 20\thours a second\n", r.Seed)
	for _, p := range r.Patterns {
		fmt.Fprintf(w, "%s\t%g\t%d\t%.2f\t%.1f\n", p.Name, p.Hours, p.Moves, p.Peak, p.Hours/p.Seconds)
	}
	fmt.Fprintf(w, "\nFalse moves of an endpoint in a year\testimate\t95 %%\tby calculation at most\thits of samples\n")
	for _, e := range r.Rates {
		fmt.Fprintf(w, "%s\t%.1e\t%.1e – %.1e\t%.1e\t%d of %d\n", e.Name, e.PerYear, e.Low, e.High, e.Bound, e.Hits, e.Samples)
	}
	fmt.Fprintf(w, "\nFrom a death to its being found, ms\tfirst director p50\tp99\tlast director p50\tp99\n")
	for _, d := range r.Deaths {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\n", d.Name, d.FirstP50.Milliseconds(), d.FirstP99.Milliseconds(), d.LastP50.Milliseconds(), d.LastP99.Milliseconds())
	}
	return w.Flush()
}
