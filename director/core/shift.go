package core

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"slices"

	"github.com/divertdns/divert/director/steer"
)

// Weighing says how the per cents of a preview are made. Nobody here knows who asks how
// much: the addresses that the geo table has at a place stand for its clients.
const Weighing = "per cent of answers, each IPv4 address counting as one client where the geo table has it, each service alike; this is not traffic"

// muchShift is the part of the answers that clients have now, in per cent, above which a
// person at a terminal is asked whether so many are meant.
const muchShift = 25

// regionAll is of all clients whose place is known, regionNone of the rest.
const (
	regionAll  = "everywhere"
	regionNone = "unknown place"
)

// Census tells where the clients of a prefix are, by place.
type Census func(netip.Prefix) []Count

// Count is how many clients are at a place.
type Count struct {
	Place   uint16
	Clients float64
}

// Shift says how much of one region's answers of one type a change moves.
type Shift struct {
	Region   string  `json:"region"`   // everywhere, a continent, a country or prefix that a rule names, "unknown place"
	Type     string  `json:"type"`     // A, AAAA
	Services int     `json:"services"` // that it is counted over: all, but for a prefix those whose answers change there
	Changed  float64 `json:"changed"`  // per cent of the region's answers
	Moves    []Move  `json:"moves,omitempty"`
}

// Move is from where to where answers move. The same cluster twice: to other addresses of
// it. "": no answer.
type Move struct {
	From    string  `json:"from,omitempty"`
	To      string  `json:"to,omitempty"`
	Percent float64 `json:"percent"` // of the region's answers
}

// maxPrefixes is how many prefixes are told, those with the most changes first.
const maxPrefixes = 20

// way is from where to where.
type way struct{ from, to string }

// flow is a part of the answers that go a way.
type flow struct {
	way
	part float64
}

// portion is of the answers of one region and family.
type portion struct {
	clients  float64 // that it is counted over, times services
	ways     map[way]float64
	services int
}

func (p *portion) add(w way, clients float64) {
	if p.ways == nil {
		p.ways = map[way]float64{}
	}
	p.ways[w] += clients
}

// list gives what there is to tell: everywhere always, and each region of which something
// changes; of prefixes those with the most.
func (t *tally) list() []Shift {
	var out []Shift
	for r, name := range t.names {
		for f := range t.regions {
			p := t.regions[f][r]
			if t.count[f] == 0 || p == nil && r > 0 {
				continue
			}
			if p == nil {
				p = &portion{}
			}
			p.clients, p.services = t.whole[r]*float64(t.count[f]), t.count[f]
			if s := shiftOf(name, f, p); r == 0 || len(s.Moves) > 0 {
				out = append(out, s)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Shift) int { return cmp.Compare(rank(a.Region), rank(b.Region)) })
	var pieces []Shift
	for f := range t.pieces {
		for prefix, p := range t.pieces[f] {
			if s := shiftOf(prefix.String(), f, p); len(s.Moves) > 0 {
				pieces = append(pieces, s)
			}
		}
	}
	slices.SortFunc(pieces, func(a, b Shift) int {
		return cmp.Or(-cmp.Compare(a.Changed*float64(a.Services), b.Changed*float64(b.Services)), cmp.Compare(a.Region, b.Region), cmp.Compare(a.Type, b.Type))
	})
	return append(out, pieces[:min(len(pieces), maxPrefixes)]...)
}

// rank puts everywhere first, then the unknown place; regions stay in the order of places.
func rank(region string) int {
	switch region {
	case regionAll:
		return 0
	case regionNone:
		return 2
	default:
		return 1
	}
}

func shiftOf(region string, f int, p *portion) Shift {
	s := Shift{Region: region, Type: "A", Services: p.services}
	if steer.Family(f) == steer.IPv6 {
		s.Type = "AAAA"
	}
	if p.clients <= 0 {
		return s
	}
	for _, w := range slices.SortedFunc(maps.Keys(p.ways), compareWays) {
		share := p.ways[w] / p.clients * 100
		s.Changed += share
		if thousandths(share) > 0 {
			s.Moves = append(s.Moves, Move{From: w.from, To: w.to, Percent: thousandths(share)})
		}
	}
	s.Changed = thousandths(s.Changed)
	slices.SortFunc(s.Moves, func(a, b Move) int {
		return cmp.Or(-cmp.Compare(a.Percent, b.Percent), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return s
}

func compareWays(a, b way) int {
	return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
}

// thousandths keeps three decimals, so that sums of fractions show none of their own; what is
// there at all is never shown as nothing.
func thousandths(f float64) float64 {
	switch r := math.Round(f*1000) / 1000; {
	case f > negligible && r == 0:
		return 0.001
	default:
		return min(r, 100)
	}
}

// lose is the part of the answers that clients have now, of either type, that becomes
// another.
func lose(shifts []Shift) (most float64) {
	for _, s := range shifts {
		if s.Region != regionAll {
			continue
		}
		part := 0.0
		for _, m := range s.Moves {
			if m.From != "" {
				part += m.Percent
			}
		}
		most = max(most, part)
	}
	return most
}

// tellShifts says in the preview what part of the answers changes. What the leader does by
// itself nobody previews.
func (w *work) tellShifts() {
	if w.compared == nil || w.c.Verb == Expire || w.c.Verb == Step {
		return
	}
	shifts, percents := w.compared.shifts()
	for i := range w.prev.Effects {
		w.prev.Effects[i].Changed = percents[w.prev.Effects[i].Service]
	}
	w.prev.Shifts, w.prev.Weighing = shifts, Weighing
	if much := lose(shifts); w.doc != nil && much > muchShift {
		w.prev.Large = true
		w.prev.Warnings = append(w.prev.Warnings, muchText(much, w.c))
	}
}
