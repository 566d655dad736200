package steer

import "slices"

// rest lists what else residency leaves to the clients of a set, tier after tier, where
// hostnames stand in the answers as what they resolve to. Which of them has addresses,
// and of which family, each director finds out for itself, and it may be none of those
// chosen: then these answer, so that neither the health nor the drain of a site decides
// whether the type exists (S1, S14). The choices never depend on it.
func (d *decision) rest(f Family, k class, allowed []int, chosen []Choice) []Choice {
	left := slices.DeleteFunc(slices.Clone(allowed), func(i int) bool {
		return slices.ContainsFunc(chosen, func(c Choice) bool { return int(c.site) == d.c.sites[i].rank })
	})
	var out []Choice
	for len(left) > 0 {
		t := d.tiers(f, left, false)
		sites, _ := d.prefer(k, t.sites, true)
		out = append(out, d.choices(sites, &t, false, true)...)
		left = slices.DeleteFunc(left, func(i int) bool { return slices.Contains(t.sites, i) })
	}
	return out
}
