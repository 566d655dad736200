package spec

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestZoneOfByLabel (C6): the most specific zone, by whole labels, against a
// search through all zones.
func TestZoneOfByLabel(t *testing.T) {
	label := rapid.SampledFrom([]string{"a", "b", "ab", "org", "example"})
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.Map(rapid.SliceOfN(label, 1, 4), func(labels []string) string { return strings.Join(labels, ".") })
		set := &Set{}
		for _, n := range rapid.SliceOfNDistinct(name, 0, 5, rapid.ID).Draw(t, "zones") {
			set.Zones = append(set.Zones, &Zone{Name: n})
		}
		slices.SortFunc(set.Zones, func(a, b *Zone) int { return strings.Compare(a.Name, b.Name) })
		host := name.Draw(t, "host")
		var want *Zone
		for _, z := range set.Zones {
			inside := host == z.Name || strings.HasSuffix(host, "."+z.Name)
			if inside && (want == nil || len(z.Name) > len(want.Name)) {
				want = z
			}
		}
		if got := set.ZoneOf(strings.ToUpper(host) + "."); got != want {
			t.Fatalf("%s: got %v, want %v", host, got, want)
		}
	})
}

// permute shuffles the keys of every mapping, which changes no meaning.
func permute(t *rapid.T, v *value) *value {
	copied := *v
	copied.entries = rapid.Permutation(v.entries).Draw(t, "keys")
	for i := range copied.entries {
		copied.entries[i].value = permute(t, copied.entries[i].value)
	}
	copied.list = slices.Clone(v.list)
	for i := range copied.list {
		copied.list[i] = permute(t, copied.list[i])
	}
	return &copied
}

// writeYAML writes a value in flow style with its keys in their order.
func writeYAML(b *strings.Builder, v *value) {
	switch v.kind {
	case kindMap:
		b.WriteString("{")
		for _, e := range v.entries {
			fmt.Fprintf(b, "%q: ", e.key)
			writeYAML(b, e.value)
			b.WriteString(", ")
		}
		b.WriteString("}")
	case kindList:
		b.WriteString("[")
		for _, e := range v.list {
			writeYAML(b, e)
			b.WriteString(", ")
		}
		b.WriteString("]")
	default:
		b.Write(v.canonical())
	}
}

// TestPermutation (metamorphic): neither the order of documents nor that of
// keys changes what is stored, meant or complained of.
func TestPermutation(t *testing.T) {
	_, raws, problems := Load([]string{"testdata/good/design"})
	if Failed(problems) {
		t.Fatal(problems)
	}
	want, _ := Resolve(raws)
	wantSet := indent(t, want)
	rapid.Check(t, func(rt *rapid.T) {
		var b strings.Builder
		for _, i := range rapid.Permutation([]int{0, 1, 2, 3, 4, 5}).Draw(rt, "documents") {
			root, err := parseJSON(raws[i].JSON)
			if err != nil {
				rt.Fatal(err)
			}
			b.WriteString("---\n")
			writeYAML(&b, permute(rt, root))
			b.WriteString("\n")
		}
		got, problems := Parse("permuted.yaml", []byte(b.String()))
		if Failed(problems) {
			rt.Fatalf("%v in\n%s", problems, b.String())
		}
		if changes := Diff(raws, got); len(changes) != 0 {
			rt.Fatalf("got %v", changes)
		}
		for i := range raws {
			if !bytes.Equal(raws[i].JSON, got[i].JSON) {
				rt.Fatalf("stored bytes differ: %s and %s", raws[i].JSON, got[i].JSON)
			}
		}
		set, _ := Resolve(rapid.Permutation(got).Draw(rt, "objects"))
		if !bytes.Equal(indent(t, set), wantSet) {
			rt.Fatal("the Set differs")
		}
	})
}

// TestResidencyTwin (S11, S14): where no error is found, every client class has
// an allowed cluster and each family that the hosts have; where one is found
// that cannot be blamed on a class that exists, something is wrong here.
func TestResidencyTwin(t *testing.T) {
	clusters := []*Cluster{
		{Name: "a", Environment: "prod", Labels: map[string]string{"x": "1", "y": "1"}},
		{Name: "b", Environment: "prod", Labels: map[string]string{"x": "1", "y": "2"}},
		{Name: "c", Environment: "prod", Labels: map[string]string{"x": "2", "y": "2"}},
	}
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	places := []struct{ country, continent string }{{"DE", "EU"}, {"FR", "EU"}, {"US", "NA"}, {"", "AS"}}
	clients := rapid.Custom(func(t *rapid.T) Clients {
		return Clients{
			Continents: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"EU", "NA"}), 0, 1, rapid.ID).Draw(t, "continents"),
			Countries:  rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"DE", "US"}), 1, 2, rapid.ID).Draw(t, "countries"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		g := &GlobalService{
			Name: "shop", Environment: "prod",
			ResidencyUnknown: rapid.SampledFrom([]ResidencyUnknown{ResidencyUnknownIntersect, ResidencyUnknownAllow}).Draw(t, "unknown"),
		}
		for _, c := range clusters {
			addresses := rapid.SampledFrom([][]netip.Addr{{v4}, {v6}, {v4, v6}}).Draw(t, "addresses")
			g.Endpoints = append(g.Endpoints, Endpoint{Cluster: c.Name, Addresses: addresses})
		}
		for range rapid.IntRange(1, 3).Draw(t, "rules") {
			g.Residency = append(g.Residency, ResidencyRule{
				Clients:  clients.Draw(t, "clients"),
				Clusters: map[string]string{rapid.SampledFrom([]string{"x", "y"}).Draw(t, "label"): rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "is")},
			})
		}
		k := &checker{set: &Set{Clusters: clusters}, objects: map[string]*object{}}
		for _, c := range clusters {
			k.objects["Cluster/"+c.Name] = &object{}
		}
		k.checkResidency(&object{document: document{root: &value{kind: kindMap}}}, g)

		good := true
		class := func(match func(*ResidencyRule) bool) {
			var has4, has6, any4, any6, some bool
			for _, e := range g.Endpoints {
				e4, e6 := slices.Contains(e.Addresses, v4), slices.Contains(e.Addresses, v6)
				any4, any6 = any4 || e4, any6 || e6
				ok := true
				for i := range g.Residency {
					r := &g.Residency[i]
					ok = ok && (!match(r) || r.Allows(k.set.Cluster(e.Cluster)))
				}
				if ok {
					some, has4, has6 = true, has4 || e4, has6 || e6
				}
			}
			good = good && some && has4 == any4 && has6 == any6
		}
		for _, p := range places {
			class(func(r *ResidencyRule) bool { return r.Clients.Has(p.country, p.continent) })
		}
		if g.ResidencyUnknown == ResidencyUnknownIntersect {
			class(func(*ResidencyRule) bool { return true })
		}
		if Failed(k.problems) == good {
			t.Fatalf("all client classes served: %v, but got %v", good, k.problems)
		}
	})
}

// TestDiffTells: two objects differ if and only if there is a change.
func TestDiffTells(t *testing.T) {
	word := rapid.SampledFrom([]string{"a", "b", "c"})
	var tree func(depth int) *rapid.Generator[*value]
	tree = func(depth int) *rapid.Generator[*value] {
		return rapid.Custom(func(t *rapid.T) *value {
			kinds := []kind{kindString, kindInt, kindMap, kindList}
			if depth == 0 {
				kinds = kinds[:2]
			}
			v := &value{kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
			switch v.kind {
			case kindString:
				v.text = word.Draw(t, "text")
			case kindInt:
				v.text = rapid.SampledFrom([]string{"1", "2"}).Draw(t, "number")
			case kindList:
				v.list = rapid.SliceOfN(tree(depth-1), 0, 3).Draw(t, "items")
			default:
				for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"name", "cluster", "x"}), 0, 3, rapid.ID).Draw(t, "keys") {
					v.entries = append(v.entries, entry{key: key, value: tree(depth-1).Draw(t, "value")})
				}
			}
			return v
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		x := Raw{Kind: KindCluster, Name: "a", JSON: tree(3).Draw(t, "x").canonical()}
		y := Raw{Kind: KindCluster, Name: "a", JSON: tree(3).Draw(t, "y").canonical()}
		if got := Diff([]Raw{x}, []Raw{y}); (len(got) == 0) != bytes.Equal(x.JSON, y.JSON) {
			t.Fatalf("%s and %s: got %v", x.JSON, y.JSON, got)
		}
	})
}

// TestContinents: a country of the checks lies where GeoNames, and with it the
// geo table, has it.
func TestContinents(t *testing.T) {
	for country, want := range map[string]string{"CX": "OC", "CC": "AS", "CY": "EU", "RU": "EU", "TR": "AS", "KZ": "AS", "XK": "EU", "TL": "OC"} {
		if got, _ := continentOf(country); got != want {
			t.Errorf("%s: got %s, want %s", country, got, want)
		}
	}
}
