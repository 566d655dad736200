package spec

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// TestReader: what is read again is what LoadWith would give, and it is told
// whether anything has changed, whatever the files' times say.
func TestReader(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const zone = `
apiVersion: divert.dev/v1alpha1
kind: Zone
metadata: {name: example.org}
spec: {nameservers: [ns1.example.net], hostmaster: dns-admin@example.org, file: example.org.zone}
`
	const cluster = `
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: fra}
spec: {location: {country: DE}}
`
	steps := []struct {
		name    string
		change  func()
		changed bool
	}{
		{"the first reading", func() { write("a.yaml", zone); write("example.org.zone", "www A 192.0.2.1\n") }, true},
		{"nothing", func() {}, false},
		{"the same again, written anew", func() { write("a.yaml", zone) }, false},
		{"a zone file of the same length", func() { write("example.org.zone", "www A 192.0.2.2\n") }, true},
		{"a new file", func() { write("b.yaml", cluster) }, true},
		{"nothing, with two files", func() {}, false},
		{"a file that is wrong", func() { write("b.yaml", "kind: Nonsense\n") }, true},
		{"still wrong", func() {}, false},
		{"a zone file that is gone", func() {
			if err := os.Remove(filepath.Join(dir, "example.org.zone")); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"still gone", func() {}, false},
		{"right again", func() { write("b.yaml", cluster); write("example.org.zone", "www A 192.0.2.2\n") }, true},
		{"a folder that is empty", func() {
			for _, name := range []string{"a.yaml", "b.yaml", "example.org.zone"} {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}, true},
		{"still empty", func() {}, false},
	}
	r := NewReader([]string{dir}, nil)
	for _, tc := range steps {
		tc.change()
		raws, problems, changed := r.Load()
		_, want, wantProblems := LoadWith([]string{dir}, nil)
		if changed != tc.changed {
			t.Errorf("%s: changed is %v, want %v", tc.name, changed, tc.changed)
		}
		if !reflect.DeepEqual(raws, want) || !reflect.DeepEqual(problems, wantProblems) {
			t.Errorf("%s: got %v, %v, want %v, %v", tc.name, raws, problems, want, wantProblems)
		}
	}
}

// What is stored as it was read is held once; what is read stays the same.
func TestReaderShares(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.yaml")
	if err := os.WriteFile(file, []byte("kind: Cluster\nmetadata: {name: fra}\nspec: {}\n---\nkind: Cluster\nmetadata: {name: nyc}\nspec: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := NewReader([]string{dir}, nil)
	raws, _, _ := r.Load()
	stored := []Raw{{Kind: KindCluster, Name: "fra", JSON: slices.Clone(raws[0].JSON)}, {Kind: KindCluster, Name: "nyc", JSON: []byte(`{}`)}}
	shared := r.Share(stored)
	again, _, changed := r.Load()
	if changed || &again[0].JSON[0] != &stored[0].JSON[0] || &again[1].JSON[0] != &raws[1].JSON[0] || !reflect.DeepEqual(again, raws) || !reflect.DeepEqual(shared, again) {
		t.Errorf("got %s, want %s", again, raws)
	}
}
