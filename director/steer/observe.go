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
	r := new(rolls)
	for f := range r {
		r[f].All = s.all[f]
		r[f].of(s.addrs[f], src)
	}
	return r
}

// seen is what a decider has seen of a kind of service.
type seen struct {
	rolls  []*rolls         // of each site; handed out, so that a change makes another list
	states [][]health.State // of each site's subjects, in order
	soft   [][]health.Subject
}

// look looks at all sites, and tells whether anything has changed.
func (k *seen) look(c *compiled, src source) bool {
	if k.rolls == nil {
		k.rolls = c.observe(src)
		k.states, k.soft = make([][]health.State, len(c.sites)), make([][]health.Subject, len(c.sites))
		for i := range c.sites {
			k.note(&c.sites[i], i, src)
		}
		return true
	}
	moved := false
	for i := range c.sites {
		moved = k.lookAt(c, i, src, moved) || moved
	}
	return moved
}

// lookAt looks at one site, and tells whether it has changed. Own says that the list
// of rolls is not handed out yet.
func (k *seen) lookAt(c *compiled, i int, src source, own bool) bool {
	s := &c.sites[i]
	if !k.note(s, i, src) {
		return false
	}
	if !own {
		k.rolls = slices.Clone(k.rolls)
	}
	k.rolls[i] = s.observe(src)
	return true
}

// note remembers the states of a site's subjects, and tells whether they are others.
func (k *seen) note(s *site, i int, src source) (moved bool) {
	n := 0
	var soft []health.Subject
	for f := range s.addrs {
		for a := range s.addrs[f] {
			for j := range s.addrs[f][a].subjects {
				st := src.states[s.addrs[f][a].subjects[j].Subject]
				if n == len(k.states[i]) {
					k.states[i], moved = append(k.states[i], st), true
				} else if k.states[i][n] != st {
					k.states[i][n], moved = st, true
				}
				n++
			}
			if len(src.soft) > 0 {
				soft = append(soft, src.softAt(s.addrs[f][a])...)
			}
		}
	}
	if !slices.Equal(soft, k.soft[i]) {
		k.soft[i], moved = soft, true
	}
	return moved
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
