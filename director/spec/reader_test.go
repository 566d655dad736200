package spec

import (
	"os"
	"path/filepath"
	"reflect"
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
