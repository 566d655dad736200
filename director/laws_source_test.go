package director_test

import (
	"go/ast"
	"strconv"
	"strings"
	"testing"
)

// TestMetricsSourceLaw holds what a registry cannot show of a vector that nothing
// has touched yet: counters, and only they, end in _total.
func TestMetricsSourceLaw(t *testing.T) {
	found := 0
	for _, dir := range []string{".", "api", "gossip", "store", "../dnsserver", "../health/probe", "../election/etcd"} {
		for file, tree := range parse(t, dir) {
			ast.Inspect(tree, func(n ast.Node) bool {
				lit, ok := n.(*ast.CompositeLit)
				if !ok {
					return true
				}
				kind, ok := lit.Type.(*ast.SelectorExpr)
				if !ok || !strings.HasSuffix(kind.Sel.Name, "Opts") {
					return true
				}
				for _, e := range lit.Elts {
					pair, ok := e.(*ast.KeyValueExpr)
					if !ok {
						continue
					}
					key, _ := pair.Key.(*ast.Ident)
					value, ok := pair.Value.(*ast.BasicLit)
					if !ok || key == nil || key.Name != "Name" {
						continue
					}
					found++
					name, err := strconv.Unquote(value.Value)
					if err != nil {
						t.Errorf("%s/%s: %v", dir, file, err)
					}
					if strings.HasSuffix(name, "_total") != (kind.Sel.Name == "CounterOpts") {
						t.Errorf("%s/%s: %s is made with %s", dir, file, name, kind.Sel.Name)
					}
				}
				return true
			})
		}
	}
	if found < 30 {
		t.Errorf("found %d metrics only", found)
	}
}
