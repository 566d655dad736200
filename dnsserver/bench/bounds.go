package main

import "fmt"

// bound is one that the project holds itself to.
type bound struct {
	What  string  `json:"what"`
	Limit float64 `json:"limit"`
	Got   *spread `json:"got"`
	Holds bool    `json:"holds"`
}

func (b bound) String() string {
	word := "HELD  "
	if !b.Holds {
		word = "MISSED"
	}
	return fmt.Sprintf("%s  %s: %s, at most %.2f", word, b.What, b.Got.text("%.2f"), b.Limit)
}

// bounds compares what there is with what was promised.
func (r *report) bounds() {
	add := func(what string, limit float64, got *spread) {
		if got != nil {
			r.Bounds = append(r.Bounds, bound{what, limit, got, got.Median <= limit})
		}
	}
	for _, of := range r.Rows {
		if of.Server != divertName || of.Cost == nil {
			continue
		}
		if of.Changes > 0 {
			quiet, _ := parseScenario(of.Scenario)
			quiet.changes = false
			before := r.costs(divertName, quiet.String())
			add(of.Scenario+", to the same without, all that a change costs included", 1.1, ratio(r.costs(divertName, of.Scenario), before))
			add(of.Scenario+", to the same without, less what the changes cost while nobody asks", 1.1, ratio(r.lessChanges(of.Scenario), before))
			lost := float64(of.Lost + of.Wrong)
			add(of.Scenario+", lost", 0, &spread{lost, lost, lost})
			continue
		}
		add(of.Scenario+", to the echo floor", 1.15, of.ToEcho)
		add(of.Scenario+", to "+of.Best, 0.85, of.ToBest)
		if sc, err := parseScenario(of.Scenario); err == nil && sc.kind == ecs {
			for _, k := range []kind{plain, edns} {
				without := scenario{kind: k, clients: sc.clients, ports: sc.ports}.String()
				add(of.Scenario+", to "+without, 1.25, ratio(r.costs(divertName, of.Scenario), r.costs(divertName, without)))
			}
		}
	}
}

// lessChanges gives what answers cost in a scenario with changes, without what as
// many changes cost while nobody asks: deciding, signing and storing a plan is no
// part of answering, and is shown on its own.
func (r *report) lessChanges(scenario string) map[int]float64 {
	each := map[int]float64{} // seconds, by round
	for _, m := range r.Measured {
		if m.Server == divertName && m.Answers == 0 && m.Changes > 0 {
			each[m.Round] = m.CPU / m.Seconds / m.Changes
		}
	}
	out := map[int]float64{}
	for _, m := range r.Measured {
		if own, known := each[m.Round]; known && m.Server == divertName && m.Scenario == scenario {
			out[m.Round] = (m.CPU - own*m.Changes*m.Seconds) / float64(m.Answers) * 1e6
		}
	}
	return out
}
