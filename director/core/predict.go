package core

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// predictor says where load would go. It knows how much each pool has, and by the census
// where clients may be, but not who of them asks how much: what it says of who takes over
// how much is a guess, of the right size.
type predictor struct {
	loads *Loads
	of    map[steer.Scope]*pool   // by endpoint
	part  map[steer.Scope]float64 // what an endpoint has of its pool
	known map[[2]*steer.Ruling][]stream
	// clients is how many are at each place; nil: as many at each
	clients []float64
}

// stream is a part of one cluster's clients that goes to another.
type stream struct {
	from, to string
	part     float64
}

func newPredictor(loads *Loads, list []*pool, clients []float64) *predictor {
	p := &predictor{loads: loads, of: map[steer.Scope]*pool{}, part: map[steer.Scope]float64{}, known: map[[2]*steer.Ruling][]stream{}, clients: clients}
	for _, one := range list {
		sum := 0.0
		for _, s := range one.sites {
			p.of[s.scope()] = one
			sum += loads.Parts[s.scope()]
		}
		for _, s := range one.sites {
			if sum > 0 {
				p.part[s.scope()] = loads.Parts[s.scope()] / sum
			} else {
				p.part[s.scope()] = 1 / float64(len(one.sites))
			}
		}
	}
	return p
}

// weight is how many clients a place counts for; the unknown one, and one where nobody is
// known to be, for little.
func (p *predictor) weight(place int) float64 {
	const little = 0.01
	switch {
	case p.clients == nil && place > 0:
		return 1
	case place < len(p.clients):
		return max(p.clients[place], little)
	default:
		return little
	}
}

// clientsOf counts where clients are, by the places that a spec tells apart.
func (w *work) clientsOf(sets ...*spec.Set) []float64 {
	if w.s.Census == nil {
		return nil
	}
	var out []float64
	for _, c := range w.s.Census(sets...)(netip.Prefix{}) {
		for int(c.Place) >= len(out) {
			out = append(out, 0)
		}
		out[c.Place] += c.Clients
	}
	return out
}

// load is what an endpoint has now, as far as is known.
func (p *predictor) load(at steer.Scope) float64 {
	if of := p.of[at]; of != nil {
		return p.loads.Pools[of.Scope] * p.part[at]
	}
	return 0
}

// shift says by how much a change of decisions changes the load of each pool.
func (p *predictor) shift(services []compared) map[steer.Scope]float64 {
	out := map[steer.Scope]float64{}
	for i := range services {
		b, a := services[i].before, services[i].after
		if b == nil || a == nil || b.Ruling == a.Ruling {
			continue
		}
		for _, m := range p.moves(b, a) {
			from, to := endpoint(b.Name, m.from), endpoint(b.Name, m.to)
			load := p.load(from) * m.part
			if of := p.of[from]; of != nil {
				out[of.Scope] -= load
			}
			if of := p.of[to]; of != nil {
				out[of.Scope] += load
			}
		}
	}
	return out
}

func endpoint(service, cluster string) steer.Scope {
	return steer.Scope{Kind: steer.ScopeEndpoint, Service: service, Cluster: cluster}
}

// moves says what part of each cluster's clients goes where between two decisions.
func (p *predictor) moves(b, a *steer.Service) []stream {
	key := [2]*steer.Ruling{b.Ruling, a.Ruling}
	out, ok := p.known[key]
	if !ok {
		out = p.movesOf(b.Ruling, a.Ruling)
		p.known[key] = out
	}
	return out
}

func (p *predictor) movesOf(b, a *steer.Ruling) []stream {
	from, to := counted(b), counted(a)
	if len(from.Sets) == 0 || len(to.Sets) == 0 {
		return nil
	}
	had, went := map[string]float64{}, map[[2]string]float64{}
	for _, t := range p.together(from, to) {
		x, y := partsOf(&from.Sets[t.sets[0]]), partsOf(&to.Sets[t.sets[1]])
		gain := 0.0
		for _, c := range sortedKeys(y) {
			gain += max(0, y[c]-x[c])
		}
		for _, c := range sortedKeys(x) {
			had[c] += t.weight * x[c]
			less := x[c] - y[c]
			if less <= 0 || gain <= 0 {
				continue
			}
			for _, g := range sortedKeys(y) {
				if more := y[g] - x[g]; more > 0 {
					went[[2]string{c, g}] += t.weight * less * more / gain
				}
			}
		}
	}
	var out []stream
	for _, c := range sortedKeys(had) {
		for _, g := range sites(a) {
			if part := went[[2]string{c, g}]; part > 0 {
				out = append(out, stream{from: c, to: g, part: part / had[c]})
			}
		}
	}
	return out
}

// sites names a ruling's sites, in the order of the spec.
func sites(r *steer.Ruling) []string {
	var out []string
	for i := range r.Len() {
		cluster, _, _ := r.Glance(i)
		out = append(out, cluster)
	}
	return out
}

// counted is the view by which clients are counted: one of the families is enough.
func counted(r *steer.Ruling) *steer.View {
	if len(r.V4.Sets) > 0 {
		return &r.V4
	}
	return &r.V6
}

// pairing is places that have the same sets.
type pairing struct {
	sets   [2]uint16
	weight float64
}

func (p *predictor) together(from, to *steer.View) []pairing {
	at := map[[2]uint16]int{}
	var out []pairing
	for i := range min(len(from.ByPlace), len(to.ByPlace)) {
		key := [2]uint16{from.ByPlace[i], to.ByPlace[i]}
		n, ok := at[key]
		if !ok {
			n = len(out)
			at[key] = n
			out = append(out, pairing{sets: key})
		}
		out[n].weight += p.weight(i)
	}
	return out
}

func partsOf(s *steer.Set) map[string]float64 {
	out := map[string]float64{}
	for i, part := range s.Parts(1) {
		out[s.Choices[i].Cluster] += part
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// guests says what part of each pool's clients have another site as their first choice.
func (p *predictor) guests(services []steer.Service) map[steer.Scope]float64 {
	out := map[steer.Scope]float64{}
	known := map[*steer.Ruling]map[string]float64{}
	for i := range services {
		s := &services[i]
		parts, ok := known[s.Ruling]
		if !ok {
			parts = p.guestsOf(s.Ruling)
			known[s.Ruling] = parts
		}
		for _, c := range sortedKeys(parts) {
			at := endpoint(s.Name, c)
			if of := p.of[at]; of != nil {
				out[of.Scope] += p.part[at] * parts[c]
			}
		}
	}
	return out
}

func (p *predictor) guestsOf(r *steer.Ruling) map[string]float64 {
	view := counted(r)
	all, out := map[string]float64{}, map[string]float64{}
	for _, t := range p.together(view, view) {
		set := &view.Sets[t.sets[0]]
		for n, part := range set.Parts(1) {
			c := set.Choices[n].Cluster
			all[c] += t.weight * part
			if n > 0 && !set.Weighted {
				out[c] += t.weight * part
			}
		}
	}
	for c := range out {
		if out[c] /= all[c]; all[c] == 0 {
			out[c] = 0
		}
	}
	return out
}
