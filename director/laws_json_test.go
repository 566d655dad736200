package director_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

// TestTimesAreSeconds: no time.Duration is a field of what the API, the commands or `-o json`
// show: as a bare number it is of nanoseconds, of which nobody can tell what they are. What
// is in seconds says so in its name.
func TestTimesAreSeconds(t *testing.T) {
	found := 0
	for _, dir := range []string{"api", "core", "../cmd/divert"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			fset := token.NewFileSet()
			parsed, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				s, ok := n.(*ast.StructType)
				if !ok {
					return true
				}
				for _, f := range s.Fields.List {
					if f.Tag == nil {
						continue
					}
					name, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
					if name == "" || name == "-" {
						continue
					}
					found++
					if sel, ok := f.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Duration" {
						t.Errorf("%s: %q is a time.Duration: write a float64 of seconds, %q", fset.Position(f.Pos()), name, name+"Seconds")
					}
				}
				return true
			})
		}
	}
	if found < 200 {
		t.Errorf("%d fields with a name only: the law looks at too little", found)
	}
	// What is declared elsewhere and shown in these.
	seen := map[reflect.Type]bool{}
	var walk func(at string, r reflect.Type)
	walk = func(at string, r reflect.Type) {
		if r == reflect.TypeFor[time.Duration]() {
			t.Errorf("%s is a time.Duration", at)
		}
		if seen[r] || r.PkgPath() == "time" {
			return
		}
		seen[r] = true
		switch r.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array:
			walk(at, r.Elem())
		case reflect.Map:
			walk(at, r.Elem())
		case reflect.Struct:
			for field := range r.Fields() {
				if field.IsExported() && field.Tag.Get("json") != "-" {
					walk(at+"."+field.Name, field.Type)
				}
			}
		}
	}
	for _, root := range []any{api.Status{}, api.Outcome{}, api.Explanation{}, api.Probing{}, api.AuditRecord{}, api.Emergencies{}, core.Command{}} {
		walk(reflect.TypeOf(root).String(), reflect.TypeOf(root))
	}
}

// TestCommandInSeconds: a command comes back as it was sent, to the nanosecond.
func TestCommandInSeconds(t *testing.T) {
	for _, d := range []time.Duration{0, time.Nanosecond, 1500 * time.Millisecond, time.Second / 3, 72*time.Hour - time.Nanosecond, -time.Second} {
		c := core.Command{ID: "a1", Verb: core.Drain, Scope: "cluster/fra", Author: "ann", For: d, Wait: d, Soak: d, Steps: []int{1, 100}}
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var got core.Command
		if err := json.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%s came back as %+v, %v", data, got, err)
		}
	}
	data, err := json.Marshal(core.Command{Verb: core.Apply, For: time.Hour, Soak: 5 * time.Minute})
	if want := `"forSeconds":3600,"soakSeconds":300}`; err != nil || !strings.HasSuffix(string(data), want) {
		t.Errorf("got %s, %v; want …%s", data, err, want)
	}
}
