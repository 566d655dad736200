package director_test

import (
	"errors"
	"go/ast"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestMetricsSourceLaw holds what a registry cannot show of a vector that nothing
// has touched yet: counters, and only they, end in _total.
func TestMetricsSourceLaw(t *testing.T) {
	found := 0
	for _, dir := range []string{".", "api", "gossip", "resolve", "store", "../dnsserver", "../health/probe", "../election/etcd"} {
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

// TestSourceLaw holds what the linters do not: files a person can read, nothing
// left for later, errors that say what was being done, no default registry.
func TestSourceLaw(t *testing.T) {
	banned := map[string]string{
		"TO" + "DO": "an issue is the place", "FIX" + "ME": "an issue is the place",
		`"fail` + `ed to `:           "say what was being done",
		"prometheus.Must" + "Reg":    "a Registerer is given",
		"prometheus.Default" + "Reg": "a Registerer is given",
		"promauto." + "New":          "a Registerer is given",
	}
	for _, path := range tracked(t) {
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, ".pb.go") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root, path))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(string(b), "\n"); lines > 500 {
			t.Errorf("%s has %d lines", path, lines)
		}
		for text, instead := range banned {
			if strings.Contains(string(b), text) {
				t.Errorf("%s has %q: %s", path, text, instead)
			}
		}
	}
}
