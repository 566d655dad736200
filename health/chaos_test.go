package health

import (
	"fmt"
	"testing"
	"time"
)

// TestL2WhateverHappenedAllAgree: a minute of one-way cuts, loss, reordering,
// restarts, and targets that die for some and for all. Once that is over all
// directors come to hold the same, and never differ for more than five seconds;
// what is dead is down.
func TestL2WhateverHappenedAllAgree(t *testing.T) {
	for seed := range uint64(120) {
		size := 3 + 2*int(seed%2)
		t.Run(fmt.Sprintf("%d directors, seed %d", size, seed), func(t *testing.T) {
			f := newFleet(t, seed, size, 2)
			if seed%4 < 2 { // two of them in one fault domain
				f.roster[1].Site = f.roster[0].Site
				for _, n := range f.nodes {
					n.b.SetRoster(f.roster, 0)
				}
			}
			one := func() string { return f.roster[f.rnd.IntN(size)].Name }
			f.loss = []float64{0, 0.05, 0.2}[f.rnd.IntN(3)]
			f.delay = []time.Duration{10 * ms, 100 * ms, 300 * ms}[f.rnd.IntN(3)]
			cuts, dead := map[[2]string]bool{}, map[string]bool{}
			f.cut = func(from, to string) bool { return cuts[[2]string{from, to}] }
			f.dead = func(name string, target int) bool { return dead[fmt.Sprint(name, target)] }
			kill := func(target int, yes bool) {
				for _, d := range f.roster {
					dead[fmt.Sprint(d.Name, target)] = yes
				}
			}
			f.advance(3 * time.Second)
			for range 60 {
				target := 1 + f.rnd.IntN(2)
				switch f.rnd.IntN(7) {
				case 0:
					cuts[[2]string{one(), one()}] = true
				case 1:
					clear(cuts)
				case 2, 3:
					key := fmt.Sprint(one(), target)
					dead[key] = !dead[key]
				case 4:
					kill(target, f.rnd.IntN(2) == 0)
				case 5:
					if name := one(); f.silent[name] {
						f.start(name)
					} else if f.rnd.IntN(4) == 0 {
						f.crash(name)
					}
				}
				f.advance(500 * ms)
			}
			clear(cuts)
			f.loss = 0
			for _, d := range f.roster {
				if f.silent[d.Name] {
					f.start(d.Name)
				}
			}
			kill(1, false)
			kill(2, false)
			f.advance(200 * ms) // who has just started sees each once: else its probe is the suspect
			kill(1, true)
			kill(2, f.rnd.IntN(2) == 0)
			since := f.now
			for end := f.now + 30*time.Second; f.now < end; f.advance(100 * ms) {
				if f.alike() {
					since = f.now
				} else if f.now-since > 5*time.Second {
					break
				}
			}
			if !f.alike() {
				f.same()
			}
			f.agree(1, Down)
		})
	}
}

// alike reports whether all directors would answer alike.
func (f *fleet) alike() bool {
	for s, state := range f.nodes[0].b.States() {
		for _, n := range f.nodes[1:] {
			if (state == Down) != (n.b.States()[s] == Down) {
				return false
			}
		}
	}
	return true
}
