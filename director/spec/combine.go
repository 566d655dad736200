package spec

import "fmt"

func readCombine(c cursor) Combine {
	var b Combine
	if !c.object(fields{
		"mode": func(c cursor) {
			if c.choice("all", "any") == "any" {
				b.AtLeast = 1
			}
		},
		"atLeast":       func(c cursor) { b.AtLeast = int(c.integer(1, maxItems)) },
		"degradedBelow": func(c cursor) { b.DegradedBelow = c.integer(1, maxItems*maxWeight) },
	}) {
		return b
	}
	if c.v.get("mode") != nil && c.v.get("atLeast") != nil {
		c.fail("has mode and atLeast, which say the same", "keep one of the two")
	}
	return b
}

// checkCombine compares what must pass with what there is.
func (k *checker) checkCombine(o *object, g *GlobalService) {
	n, sum := 0, int64(0)
	for i := range g.Probes {
		if p := &g.Probes[i]; !p.Soft() {
			n++
			sum += max(1, p.Weight)
		}
	}
	b := g.Combine
	switch {
	case o.isBroken("spec.probes"):
	case b.AtLeast > n && n == 0:
		k.fail(o, "spec.combine", "there is no probe that an address must pass", "add one, such as probes: [{tcp: {port: 443}}]")
	case b.AtLeast > n:
		k.fail(o, "spec.combine.atLeast", fmt.Sprintf("%d must pass and there are %d: no address ever would", b.AtLeast, n), fmt.Sprintf("write at most %d", n))
	case b.DegradedBelow > 0 && b.AtLeast == 0:
		k.fail(o, "spec.combine.degradedBelow", "never counts where all probes must pass: the first that fails is a failure", "add mode: any or atLeast")
	case b.DegradedBelow > sum:
		k.fail(o, "spec.combine.degradedBelow", fmt.Sprintf("the weights are %d in all: every address would be degraded for ever", sum), fmt.Sprintf("write at most %d", sum))
	}
	if b.DegradedBelow == 0 && !o.isBroken("spec.probes") {
		for i := range g.Probes {
			if g.Probes[i].Weight > 1 {
				k.warn(o, item("spec.probes", i)+".weight", "counts for combine.degradedBelow alone, and that is not given", "add it, or leave the weight out")
			}
		}
	}
}

// NeedsProbes tells whether the set holds what ReaderProbes of package plan stands for:
// an older director would count the probes of an address otherwise, or refuse them.
func (s *Set) NeedsProbes() bool {
	for _, c := range s.Clusters {
		if c.Via != "" || c.ControlPlane != nil && c.ControlPlane.Via != "" {
			return true
		}
	}
	for _, g := range s.Services {
		if g.Combine != (Combine{}) || g.Steering.Ramp != defaultRamp {
			return true
		}
		for i := range g.Probes {
			if g.Probes[i].Soft() || g.Probes[i].Weight > 1 || g.Probes[i].later() {
				return true
			}
		}
	}
	return false
}
