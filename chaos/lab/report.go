//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// judgeLimit is what a test may demand of a machine that does other things too.
const judgeLimit = 10 * time.Second

// report is all that a run has shown; JSON has durations in nanoseconds.
type report struct {
	Directors int           `json:"directors"`
	Delay     time.Duration `json:"delay"`
	Began     time.Time     `json:"began"`
	Took      time.Duration `json:"took"`
	Stalls    int           `json:"stalls"`
	Longest   time.Duration `json:"longestStall"`
	Rounds    []round       `json:"rounds"`
	Summary   []line        `json:"summary"`
	Watched   []watched     `json:"watched"`
	Flaps     *flaps        `json:"flaps,omitempty"`
}

// line sums up the rounds of a fault for one column.
type line struct {
	Fault     string     `json:"fault"`
	Who       string     `json:"who"` // first, last (of the directors), or a rival
	Counted   int        `json:"counted"`
	Stalled   int        `json:"stalled"`
	Never     int        `json:"never"`
	Early     int        `json:"early"` // rounds before which it had moved: false moves
	Quantiles []quantile `json:"quantiles"`
	Sooner    int        `json:"sooner,omitempty"` // of a rival: rounds in which it changed before Divert's last director
}

func (r *report) finish(l *lab) {
	r.Took = time.Since(r.Began)
	r.Stalls, r.Longest = l.dog.count()
	for _, fault := range deaths {
		var columns []string
		samples := map[string][]time.Duration{}
		early, sooner := map[string]int{}, map[string]int{}
		stalled, counted := 0, 0
		for _, v := range r.Rounds {
			if v.Fault != fault {
				continue
			}
			for _, name := range v.Early {
				if isDirector(name) {
					name = "last"
				}
				early[name]++
			}
			if v.Stalled {
				stalled++
				continue
			}
			counted++
			samples["first"] = append(samples["first"], v.first(r.Directors))
			samples["last"] = append(samples["last"], v.last(r.Directors))
			for _, rival := range l.rivals {
				samples[rival.name] = append(samples[rival.name], v.Changed[rival.name])
				if v.Changed[rival.name] < v.last(r.Directors) {
					sooner[rival.name]++
				}
			}
		}
		if counted+stalled == 0 {
			continue
		}
		columns = []string{"first", "last"}
		for _, rival := range l.rivals {
			columns = append(columns, rival.name)
		}
		for _, who := range columns {
			n := 0
			for _, d := range samples[who] {
				if d == never {
					n++
				}
			}
			r.Summary = append(r.Summary, line{
				Fault: fault, Who: who, Counted: counted, Stalled: stalled, Never: n, Early: early[who], Sooner: sooner[who],
				Quantiles: quantiles(samples[who], 0.5, 0.95, 0.99),
			})
		}
	}
}

func milliseconds(d time.Duration) string {
	if d == never {
		return "never"
	}
	return fmt.Sprintf("%d", d.Milliseconds())
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%d directors, %s each way between them; %s; the machine stood still for more than %s %d times, %s at most.\n",
		r.Directors, r.Delay, r.Took.Round(time.Second), stallLimit, r.Stalls, r.Longest.Round(time.Millisecond))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Summary) > 0 {
		fmt.Fprintln(w, "\nFrom the fault to the first changed answer, in ms, with 95 % intervals. A rival is slower or not by quantiles;\n\"sooner\" are single rounds in which it was before Divert's last director.")
		fmt.Fprintln(t, "fault\twho\trounds\tstalled\tnever\tmoved before\tp50\tp95\tp99\tsooner")
		for _, s := range r.Summary {
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d", s.Fault, s.Who, s.Counted, s.Stalled, s.Never, s.Early)
			for i := range 3 {
				if i >= len(s.Quantiles) {
					fmt.Fprint(t, "\t-")
					continue
				}
				q := s.Quantiles[i]
				high := "…"
				if q.High != never {
					high = milliseconds(q.High)
				}
				fmt.Fprintf(t, "\t%s (%s–%s)", milliseconds(q.Value), milliseconds(q.Low), high)
			}
			fmt.Fprintf(t, "\t%d\n", s.Sooner)
		}
		_ = t.Flush()
		for _, text := range r.slower() {
			fmt.Fprintln(w, "SLOWER:", text)
		}
	}
	if len(r.Watched) > 0 {
		fmt.Fprintln(w, "\nMoves under faults that may move nothing; a rate of 0 has the upper end of its 95 % interval behind it.")
		fmt.Fprintln(t, "fault\tfor\tmoves\tper hour\trivals\t")
		for _, v := range r.Watched {
			hours := v.For.Hours()
			rate := fmt.Sprintf("%.1f", float64(v.divert())/hours)
			if v.divert() == 0 {
				rate = fmt.Sprintf("0 (< %.1f)", 3/hours)
			}
			var rivals []string
			for name, n := range v.Moves {
				if !isDirector(name) {
					rivals = append(rivals, fmt.Sprintf("%s %d", name, n))
				}
			}
			slices.Sort(rivals)
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\n", v.Fault, v.For.Round(time.Second), v.divert(), rate, strings.Join(rivals, ", "), v.Note)
		}
		_ = t.Flush()
		for _, v := range r.Watched {
			for _, text := range v.Seen {
				fmt.Fprintln(w, "MOVED:", v.Fault, text)
			}
		}
	}
	if f := r.Flaps; f != nil {
		fmt.Fprintf(w, "\nF19: fell %s ms after it first died, returned %d times while it flapped, was back %s ms after it was well;\nfell again after %s ms, and then stayed away for %s: %v\n",
			milliseconds(f.First), f.Returns, milliseconds(f.Back), milliseconds(f.Again), flapDamped, f.Damped)
	}
}

// slower tells by which quantiles Divert's last director is slower than a rival.
func (r *report) slower() (out []string) {
	last := map[string]line{}
	for _, s := range r.Summary {
		if s.Who == "last" {
			last[s.Fault] = s
		}
	}
	for _, s := range r.Summary {
		if s.Who == "first" || s.Who == "last" {
			continue
		}
		for i, q := range s.Quantiles {
			if ours := last[s.Fault].Quantiles; i < len(ours) && ours[i].Value > q.Value {
				out = append(out, fmt.Sprintf("%s p%.0f: %s ms, %s %s ms", s.Fault, 100*q.Share, milliseconds(ours[i].Value), s.Who, milliseconds(q.Value)))
			}
		}
	}
	return out
}

func (r *report) write(file string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(raw, '\n'), 0o644)
}

// judge tells what may not be on any machine: a move where there was no death, a death
// that moved nothing, a return that was not damped. Times are a benchmark's.
func (r *report) judge() error {
	var errs []error
	for _, s := range r.Summary {
		if s.Who != "last" {
			continue
		}
		if s.Early > 0 {
			errs = append(errs, fmt.Errorf("%s: %d services moved before they died", s.Fault, s.Early))
		}
	}
	for _, v := range r.Rounds {
		if d := v.last(r.Directors); d > judgeLimit {
			errs = append(errs, fmt.Errorf("%s: the last director's answer changed after %s ms, want %s at most: %v", v.Fault, milliseconds(d), judgeLimit, v.Changed))
		}
	}
	for _, v := range r.Watched {
		if n := v.divert(); n > 0 {
			errs = append(errs, fmt.Errorf("%s: %d moves, want none", v.Fault, n))
		}
		if strings.HasPrefix(v.Note, "WRONG") {
			errs = append(errs, fmt.Errorf("%s: %s", v.Fault, v.Note))
		}
	}
	if f := r.Flaps; f != nil {
		switch {
		case f.First > judgeLimit || f.Again > judgeLimit:
			errs = append(errs, fmt.Errorf("F19: a fall was delayed: %+v", *f))
		case f.Returns > 0 || f.Back < 10*time.Second || !f.Damped:
			errs = append(errs, fmt.Errorf("F19: a return was not damped: %+v", *f))
		}
	}
	return errors.Join(errs...)
}
