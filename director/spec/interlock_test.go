package spec

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestInterlockMembers: what counts as one, once each.
func TestInterlockMembers(t *testing.T) {
	_, raws, problems := Load([]string{"testdata/good/interlocks"})
	if Failed(problems) {
		t.Fatal(problems)
	}
	set, _ := Resolve(raws)
	tests := map[string]string{
		"two-clusters": "cluster/ams cluster/fra cluster/lab cluster/nyc",
		"eu":           "cluster/ams cluster/fra cluster/lab",
		"pay":          "service/bank/pay@fra service/bank/pay@nyc",
		"fra":          "domain/fra-dc1 service/shop@ams",
	}
	for name, want := range tests {
		var got []string
		for _, m := range set.Members(set.Interlock(name).Of()) {
			got = append(got, m.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %v, want %s", name, got, want)
		}
	}
	again := []Member{{Cluster: "fra"}, {Clusters: map[string]string{"jurisdiction": "eu"}}, {Cluster: "mars"}, {}}
	if got := fmt.Sprint(set.Members(again)); got != "[cluster/fra cluster/ams]" {
		t.Errorf("got %s", got)
	}
	if got := set.Switches(); !slices.Equal(got, []string{"fra-work"}) {
		t.Errorf("switches %v", got)
	}
}

// TestTooManyInterlocks: what changes of them must fit one transaction of the store.
func TestTooManyInterlocks(t *testing.T) {
	var b strings.Builder
	for i := range maxInterlocks + 1 {
		fmt.Fprintf(&b, "kind: Interlock\nmetadata: {name: rule-%03d}\nspec: {gate: {switch: s, of: [cluster/fra]}}\n---\n", i)
	}
	_, problems := Resolve(parsed(t, base+b.String()))
	if !slices.ContainsFunc(problems, func(p Problem) bool {
		return p.Path == "Interlock/rule-040 spec" && strings.Contains(p.Message, "there are 41 interlocks, more than 40")
	}) {
		t.Errorf("got %v", problems)
	}
}

// TestStoredInterlock: a rule that names what a later spec lacks stays, and refers to
// nothing that the set does not hold; one whose kind is not known here gives no Set.
func TestStoredInterlock(t *testing.T) {
	raws := parsed(t, base+`
kind: GlobalService
metadata: {name: shop}
spec: {hosts: [shop.example.org], endpoints: [{cluster: fra, addresses: [192.0.2.10]}]}
---
kind: Interlock
metadata: {name: some}
spec: {assert: {atLeast: 1, of: [{clusters: {}}]}}
`)
	i := slices.IndexFunc(raws, func(r Raw) bool { return r.Kind == KindInterlock })
	stored := slices.Clone(raws)
	stored[i].JSON = []byte(strings.Replace(string(raws[i].JSON), `{"clusters":{}}`, `"cluster/mars","cluster/fra","service/none"`, 1))
	set, problems := Resolve(stored)
	if set == nil || !Failed(problems) || fmt.Sprint(set.Interlocks[0].Assert.Of) != "[cluster/fra]" {
		t.Errorf("got %+v, %v", set, problems)
	}
	stored[i].JSON = []byte(strings.Replace(string(raws[i].JSON), `"assert"`, `"quota"`, 1))
	if set, problems := Resolve(stored); set != nil {
		t.Errorf("a rule of an unknown kind: %+v, %v", set.Interlocks, problems)
	}
}
