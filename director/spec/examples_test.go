package spec

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite expectations in testdata")

// TestBadExamples runs every file of testdata/bad. The comment at its top is
// what Load says of it, without the file's name.
func TestBadExamples(t *testing.T) {
	runBad(t, "testdata/bad/*", func(path string) []Problem {
		_, raws, problems := Load([]string{path})
		if Failed(problems) != (raws == nil) {
			t.Errorf("%s: resources are given out in spite of errors", path)
		}
		return problems
	})
}

// TestBadSettings does the same with testdata/settings/bad.
func TestBadSettings(t *testing.T) {
	runBad(t, "testdata/settings/bad/*", func(path string) []Problem {
		_, problems := LoadSettings(path)
		return problems
	})
}

func runBad(t *testing.T, pattern string, load func(string) []Problem) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) < 10 {
		t.Fatalf("found %d files, %v", len(files), err)
	}
	for _, path := range files {
		if filepath.Ext(path) != ".yaml" {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			problems := load(path)
			if *update {
				// Twice: the comment's own length moves the lines.
				rewrite(t, path, problems)
				rewrite(t, path, load(path))
				problems = load(path)
			}
			want := header(t, path)
			got := printed(path, problems)
			if got != want {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
			if !Failed(problems) {
				t.Error("a bad example has no error")
			}
		})
	}
}

func printed(path string, problems []Problem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString("# " + strings.ReplaceAll(strings.TrimPrefix(p.String(), path+":"), filepath.Dir(path)+"/", "") + "\n")
	}
	return b.String()
}

func split(t *testing.T, path string) (comment, rest string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "#") {
			break
		}
		comment += line
	}
	return comment, strings.TrimPrefix(string(data), comment)
}

func header(t *testing.T, path string) string {
	t.Helper()
	comment, _ := split(t, path)
	return comment
}

func rewrite(t *testing.T, path string, problems []Problem) {
	t.Helper()
	_, rest := split(t, path)
	if err := os.WriteFile(path, []byte(printed(path, problems)+rest), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestGoodExamples loads every folder of testdata/good: no error, the warnings
// of its comment, and the defaulted Set of its set.json.
func TestGoodExamples(t *testing.T) {
	entries, err := os.ReadDir("testdata/good")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		t.Run(e.Name(), func(t *testing.T) {
			dir := filepath.Join("testdata/good", e.Name())
			set, raws, problems := Load([]string{dir})
			if Failed(problems) {
				t.Fatalf("got %v", problems)
			}
			golden(t, dir+".set.json", indent(t, set))
			golden(t, dir+".raw.json", indent(t, raws))
			golden(t, dir+".problems", []byte(printed("", problems)))

			again, problems := Resolve(raws)
			if again == nil || Failed(problems) {
				t.Fatalf("resolving what was loaded: %v", problems)
			}
			if got, want := indent(t, again), indent(t, set); !bytes.Equal(got, want) {
				t.Errorf("resolving what was loaded gives\n%s, want\n%s", got, want)
			}
		})
	}
}

func indent(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s", path, got)
	}
}
