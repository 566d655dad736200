package answer

import (
	"math/big"
	"slices"
)

// oracleAdmits tells which sites of a set a client may be told of, and whether that
// depends on who it is: those whose share admits it, and all where no site is there for
// everybody; of those, the ones of the least level that has any.
func oracleAdmits(s *Steered, set *Set, unit uint64) (out []bool, ramps bool) {
	zero := !slices.ContainsFunc(set.Sites, func(s Site) bool { return s.Weight > 0 })
	used := func(s Site) bool { return answersOf(s) > 0 && (!set.Weighted || s.Weight > 0 || zero) }
	all := func(s Site) bool { return s.Share == 0 || s.Share >= 100 }
	whole := slices.ContainsFunc(set.Sites, func(s Site) bool { return used(s) && all(s) })
	// reached tells whether no site of a lower level is there for everybody.
	reached := func(s Site) bool {
		return !slices.ContainsFunc(set.Sites, func(o Site) bool { return used(o) && o.Level < s.Level && (!whole || all(o)) })
	}
	out = make([]bool, len(set.Sites))
	for i, site := range set.Sites {
		h := mix(mix(fnv([]byte(s.Service), []byte(site.Cluster))^unit) + 0x9e3779b97f4a7c15)
		percent := new(big.Rat).SetFrac(new(big.Int).SetUint64(h>>32*100), new(big.Int).SetUint64(1<<32))
		out[i] = used(site) && (!whole || all(site) || percent.Cmp(new(big.Rat).SetInt64(int64(site.Share))) < 0)
		ramps = ramps || whole && used(site) && !all(site) && reached(site)
	}
	told := slices.Clone(out)
	for i, site := range set.Sites {
		for j, other := range set.Sites {
			told[i] = told[i] && !(out[j] && other.Level < site.Level)
		}
	}
	return told, ramps
}
