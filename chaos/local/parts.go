package local

import "fmt"

// Part cuts the directors of one side from those of the other, by their numbers, both ways:
// gossip and votes, plans and certificates. What they ask of each other's DNS passes.
func (f *Fleet) Part(a, b []int) error { return f.between(a, b, f.wires.Cut) }

// Join undoes Part.
func (f *Fleet) Join(a, b []int) error {
	return f.between(a, b, func(from, to string) { f.wires.Heal(from, to) })
}

func (f *Fleet) between(a, b []int, set func(from, to string)) error {
	for _, i := range append(append([]int{}, a...), b...) {
		if i < 1 || i > f.opts.Directors+f.opts.Spares {
			return fmt.Errorf("there is no director %d in this fleet", i)
		}
	}
	for _, i := range a {
		for _, k := range b {
			for _, way := range [][2]string{{Name(i), Name(k)}, {Name(k), Name(i)}} {
				set(way[0], way[1])
				set(way[0], streamsOf(way[1]))
			}
		}
	}
	return nil
}
