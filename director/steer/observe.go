package steer

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/divertdns/divert/health"
)

// rolls is what is observed of a site, by family. It never changes once made, and is
// shared by the decisions that see the same.
type rolls [2]Roll

// observe rolls all sites up.
func (c *compiled) observe(src source) []*rolls {
	out := make([]*rolls, len(c.sites))
	for i := range c.sites {
		out[i] = c.sites[i].observe(src)
	}
	return out
}

func (s *site) observe(src source) *rolls {
	var states [8]health.State
	return s.rollUp(s.states(states[:0], src), src)
}

// states reads the state of each subject of a site, in order.
func (s *site) states(out []health.State, src source) []health.State {
	for f := range s.addrs {
		for i := range s.addrs[f] {
			for j := range s.addrs[f][i].subjects {
				out = append(out, src.states[s.addrs[f][i].subjects[j].Subject])
			}
		}
	}
	return out
}

// rollUp is observe where the states have been read.
func (s *site) rollUp(states []health.State, src source) *rolls {
	r := new(rolls)
	for f := range r {
		r[f].All = s.all[f]
		left := r[f].of(s.addrs[f], states, src)
		if len(src.returns) > 0 && s.ramp > 0 {
			r[f].back = s.back(f, states, src)
		}
		states = left
	}
	return r
}

// seen is what a decider has seen of a kind of service.
type seen struct {
	rolls  []*rolls         // of each site
	fresh  bool             // rolls is handed out to nobody yet
	states [][]health.State // of each site's subjects, in order
	soft   [][]health.Subject
}

// look looks at all sites, and tells whether anything has changed.
func (k *seen) look(c *compiled, src source) bool {
	if k.rolls == nil {
		k.rolls, k.fresh = make([]*rolls, len(c.sites)), true
		k.states, k.soft = make([][]health.State, len(c.sites)), make([][]health.Subject, len(c.sites))
	}
	moved := false
	for i := range c.sites {
		moved = k.lookAt(&c.sites[i], i, src) || moved
	}
	return moved
}

// lookAt looks at one site, and tells whether it has changed.
func (k *seen) lookAt(s *site, i int, src source) bool {
	var room [8]health.State
	states := s.states(room[:0], src)
	soft := s.soft(src)
	if k.rolls[i] != nil && slices.Equal(states, k.states[i]) && slices.Equal(soft, k.soft[i]) {
		return false
	}
	k.states[i], k.soft[i] = append(k.states[i][:0], states...), soft
	k.rollUp(s, i, src)
	return true
}

// tell takes note of a change at a site, and tells whether the site is to be rolled up
// for it, once however much changes.
func (k *seen) tell(s *site, i int, c *health.Change, src source) (moved bool) {
	if c.Subject.Kind == health.KindSoft {
		soft := s.soft(src)
		moved = !slices.Equal(soft, k.soft[i])
		k.soft[i] = soft
	} else {
		n := 0
		for f := range s.addrs {
			for a := range s.addrs[f] {
				for j := range s.addrs[f][a].subjects {
					if k.states[i][n] != c.State && s.addrs[f][a].subjects[j].Subject == c.Subject {
						k.states[i][n], moved = c.State, true
					}
					n++
				}
			}
		}
	}
	if !moved || k.rolls[i] == nil {
		return false
	}
	k.own()
	k.rolls[i] = nil
	return true
}

// rollUp rolls a site up by the states that are remembered.
func (k *seen) rollUp(s *site, i int, src source) {
	k.own()
	k.rolls[i] = s.rollUp(k.states[i], src)
}

// own makes the list of rolls one that nobody else has.
func (k *seen) own() {
	if !k.fresh {
		k.rolls, k.fresh = slices.Clone(k.rolls), true
	}
}

// soft lists the soft subjects down at a site.
func (s *site) soft(src source) (out []health.Subject) {
	if len(src.soft) == 0 {
		return nil
	}
	for f := range s.addrs {
		for i := range s.addrs[f] {
			out = append(out, src.softAt(s.addrs[f][i])...)
		}
	}
	return out
}

// watchers finds the sites that have an address, of whatever kind of service.
type watchers struct {
	sites []watcher        // by address
	first map[[16]byte]int // in sites
}

type watcher struct {
	addr netip.Addr
	kind int32
	site int32
}

func newWatchers(p *Prepared) *watchers {
	w := &watchers{}
	for k := range p.kinds {
		for i := range p.kinds[k].sites {
			s := &p.kinds[k].sites[i]
			for f := range s.all {
				for _, a := range s.all[f] {
					w.sites = append(w.sites, watcher{addr: a, kind: int32(k), site: int32(i)})
				}
			}
		}
	}
	slices.SortFunc(w.sites, func(a, b watcher) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.kind, b.kind), cmp.Compare(a.site, b.site))
	})
	w.first = make(map[[16]byte]int, len(w.sites))
	for i, site := range slices.Backward(w.sites) {
		w.first[site.addr.As16()] = i
	}
	return w
}

// of lists the sites that have an address.
func (w *watchers) of(a netip.Addr) []watcher {
	i, found := w.first[a.Unmap().As16()]
	if !found {
		return nil
	}
	n := i
	for n < len(w.sites) && w.sites[n].addr.As16() == w.sites[i].addr.As16() {
		n++
	}
	return w.sites[i:n]
}
