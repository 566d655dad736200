package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// report is all that was measured. Its JSON is for machines; nothing in it is
// rounded.
type report struct {
	Machine   string      `json:"machine"`
	CPU       string      `json:"cpu"` // where it is read
	Rounds    int         `json:"rounds"`
	Seconds   float64     `json:"seconds"`
	Pinned    bool        `json:"pinned"`
	Servers   []described `json:"servers"`
	Missing   []string    `json:"missing,omitempty"`
	Scenarios []scenario  `json:"-"`
	Measured  []measured  `json:"measured"`
	Rows      []row       `json:"rows"`
	Bounds    []bound     `json:"bounds"`
}

type described struct {
	Name string `json:"name"`
	Note string `json:"note"`
	Peer bool   `json:"peer"`
}

// measured is one server in one scenario, once.
type measured struct {
	Round    int     `json:"round"`
	Server   string  `json:"server"`
	Scenario string  `json:"scenario"`
	Answers  uint64  `json:"answers"`
	Seconds  float64 `json:"seconds"`
	CPU      float64 `json:"cpuSeconds"`
	Lost     uint64  `json:"lost"`
	Wrong    uint64  `json:"wrong"`
	Silence  float64 `json:"longestSilenceSeconds"`
	Changes  float64 `json:"changesPerSecond,omitempty"`
}

// cost is the CPU time of an answer, in microseconds; where nobody asked, what is
// used in a second, in milliseconds.
func (m measured) cost() float64 {
	if m.Answers == 0 {
		return m.CPU / m.Seconds * 1e3
	}
	return m.CPU / float64(m.Answers) * 1e6
}

func (m measured) line() string {
	if m.Answers == 0 {
		return fmt.Sprintf("%6.1f ms of CPU a second", m.cost())
	}
	text := fmt.Sprintf("%7.0f answers/s  %6.3f µs each", float64(m.Answers)/m.Seconds, m.cost())
	if m.Lost+m.Wrong > 0 {
		text += fmt.Sprintf("  %d lost, %d wrong", m.Lost, m.Wrong)
	}
	return text
}

// spread is the median over the rounds, with the least and the most.
type spread struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

func spreadOf(values []float64) *spread {
	if len(values) == 0 {
		return nil
	}
	v := slices.Sorted(slices.Values(values))
	middle := v[len(v)/2]
	if len(v)%2 == 0 {
		middle = (v[len(v)/2-1] + middle) / 2
	}
	return &spread{middle, v[0], v[len(v)-1]}
}

func (s *spread) text(format string) string {
	if s == nil {
		return "-"
	}
	return fmt.Sprintf(format+" ("+format+"–"+format+")", s.Median, s.Least, s.Most)
}

// row is one server in one scenario. Ratios are taken round by round, since the
// machine may be slower in one than in another, and are medians of those.
type row struct {
	Scenario string  `json:"scenario"`
	Server   string  `json:"server"`
	Answers  float64 `json:"answersPerSecond"`
	Lost     uint64  `json:"lost"`
	Wrong    uint64  `json:"wrong"`
	Cost     *spread `json:"cpuMicrosecondsPerAnswer,omitempty"`
	Idle     *spread `json:"cpuMillisecondsPerSecond,omitempty"`
	ToEcho   *spread `json:"toEcho,omitempty"`
	ToBest   *spread `json:"toBestPeer,omitempty"`
	Best     string  `json:"bestPeer,omitempty"`
	Silence  float64 `json:"longestSilenceSeconds"`
	Changes  float64 `json:"changesPerSecond,omitempty"`
}

// costs lists a server's costs in a scenario, by round.
func (r *report) costs(server, scenario string) map[int]float64 {
	out := map[int]float64{}
	for _, m := range r.Measured {
		if m.Server == server && m.Scenario == scenario {
			out[m.Round] = m.cost()
		}
	}
	return out
}

// ratio compares two, round by round.
func ratio(a, b map[int]float64) *spread {
	var values []float64
	for round, cost := range a {
		if other := b[round]; other > 0 {
			values = append(values, cost/other)
		}
	}
	return spreadOf(values)
}

// best is the cheapest peer of a scenario.
func (r *report) best(scenario string) (name string) {
	least := math.Inf(1)
	for _, s := range r.Servers {
		if !s.Peer {
			continue
		}
		if cost := median(r.costs(s.Name, scenario)); cost < least {
			name, least = s.Name, cost
		}
	}
	return name
}

func median(costs map[int]float64) float64 {
	var values []float64
	for _, c := range costs {
		values = append(values, c)
	}
	if s := spreadOf(values); s != nil {
		return s.Median
	}
	return math.Inf(1)
}

// summarise fills in the rows and the bounds.
func (r *report) summarise() {
	r.Rows, r.Bounds = nil, nil
	for _, sc := range r.Scenarios {
		asked := scenario{kind: sc.kind, clients: sc.clients, ports: sc.ports}.String()
		best := r.best(asked)
		for _, s := range r.Servers {
			of := row{Scenario: sc.String(), Server: s.Name}
			var costs, rates, changes []float64
			for _, m := range r.Measured {
				if m.Server != s.Name || m.Scenario != of.Scenario {
					continue
				}
				costs = append(costs, m.cost())
				rates = append(rates, float64(m.Answers)/m.Seconds)
				changes = append(changes, m.Changes)
				of.Lost += m.Lost
				of.Wrong += m.Wrong
				of.Silence = max(of.Silence, m.Silence)
			}
			if len(costs) == 0 {
				continue
			}
			of.Answers, of.Changes = spreadOf(rates).Median, spreadOf(changes).Median
			if sc.idle() {
				of.Idle = spreadOf(costs)
			} else {
				of.Cost = spreadOf(costs)
				of.ToEcho = ratio(r.costs(s.Name, of.Scenario), r.costs("echo", asked))
				if best != "" {
					of.Best, of.ToBest = best, ratio(r.costs(s.Name, of.Scenario), r.costs(best, asked))
				}
			}
			r.Rows = append(r.Rows, of)
		}
	}
	r.bounds()
}

func (r *report) writeJSON(w io.Writer) error {
	r.summarise()
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(r)
}

func (r *report) writeText(w io.Writer) error {
	r.summarise()
	var b strings.Builder
	fmt.Fprintf(&b, "1,000 steered names, %d prefixes; %s; CPU time by %s", prefixes, r.Machine, r.CPU)
	fmt.Fprintf(&b, "; %d rounds of %gs, medians (least–most)\n\n", r.Rounds, r.Seconds)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SCENARIO\tSERVER\tANSWERS/S\tLOST\tWRONG\tCPU µs/ANSWER\tTO ECHO\tTO BEST PEER")
	var last string
	for _, of := range r.Rows {
		if of.Idle != nil {
			continue
		}
		if last != "" && of.Scenario != last {
			fmt.Fprintln(t, "\t\t\t\t\t\t\t")
		}
		last = of.Scenario
		best := of.ToBest.text("%.2f")
		if of.Best != "" {
			best += " " + of.Best
		}
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%d\t%d\t%s\t%s\t%s\n", of.Scenario, of.Server, of.Answers, of.Lost, of.Wrong, of.Cost.text("%.2f"), of.ToEcho.text("%.2f"), best)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	b.WriteString("\n")
	for _, of := range r.Rows {
		if of.Changes > 0 {
			fmt.Fprintf(&b, "%s: %.1f changes of the plan a second, longest silence %.0f ms\n", of.Scenario, of.Changes, of.Silence*1e3)
		}
		if of.Idle != nil {
			fmt.Fprintf(&b, "%s, nobody asking: %s ms of CPU a second\n", of.Scenario, of.Idle.text("%.1f"))
		}
	}
	for _, held := range r.Bounds {
		fmt.Fprintln(&b, held)
	}
	for _, s := range r.Servers {
		fmt.Fprintf(&b, "%s: %s\n", s.Name, s.Note)
	}
	for _, m := range r.Missing {
		fmt.Fprintf(&b, "not measured: %s\n", m)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
