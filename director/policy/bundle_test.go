package policy

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/divertdns/divert/director/spec"
)

// shipped is the bundle that users copy.
const shipped = "../../deploy/opa"

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func loaded(t *testing.T, dir string) (Bundle, *Policy) {
	t.Helper()
	b, problems := ReadDir(dir)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	p, problems := Compile(b, dir)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return b, p
}

// both is a bundle with a rule at each point.
func both(drain string) map[string]string {
	return map[string]string{
		"drain.rego":     "package divert.drain\n" + drain,
		"admission.rego": "package divert.admission\ndeny contains \"never\" if false\n",
	}
}

// TestHash: a bundle has one hash, wherever it lies, and another one for each change that
// directors would evaluate; tests take no part.
func TestHash(t *testing.T) {
	files := both("deny contains \"no\" if input.now > 1\n")
	files["data.json"] = `{"a": 1}`
	first, _ := ReadDir(write(t, files))
	again, _ := ReadDir(write(t, files))
	if first.Hash() != again.Hash() {
		t.Error("the same folder has two hashes")
	}
	files["drain_test.rego"] = "package divert.drain_test\ntest_it if true\n"
	files["README.md"], files[".hidden.rego"] = "words", "no rego"
	if b, problems := ReadDir(write(t, files)); len(problems) > 0 || b.Hash() != first.Hash() {
		t.Errorf("tests and other files change the hash: %v", problems)
	}
	files["data.json"] = `{"a": 2}`
	if b, _ := ReadDir(write(t, files)); b.Hash() == first.Hash() {
		t.Error("other data have the same hash")
	}
	files["data.json"] = `{"a": 1}`
	files["sub/drain.rego"] = files["drain.rego"]
	delete(files, "drain.rego")
	if b, _ := ReadDir(write(t, files)); b.Hash() == first.Hash() {
		t.Error("another path has the same hash")
	}
}

func TestDecode(t *testing.T) {
	b, _ := loaded(t, shipped)
	octets := b.Encode()
	got, err := Decode(octets)
	if err != nil || !bytes.Equal(got.Encode(), octets) || got.Hash() != b.Hash() {
		t.Fatalf("%v", err)
	}
	if _, problems := Compile(got, ""); len(problems) > 0 {
		t.Fatalf("what directors read does not compile: %v", problems)
	}
	for _, bad := range [][]byte{
		nil, []byte("x"), octets[:len(octets)-1], append(bytes.Clone(octets), 'x'),
		[]byte(magic + "6 1\na.txt1"), []byte(magic + "6 01\na.rego1"), []byte(magic + "99999999999999999999 1\n"),
		[]byte(magic + "9 0\n../a.rego"), []byte(magic + "6 0\nb.rego6 0\na.rego"), []byte(magic + "6 0\na.rego6 0\na.rego"),
		[]byte(magic + "11 0\na_test.rego"),
	} {
		if _, err := Decode(bad); !errors.Is(err, ErrBundle) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

// FuzzDecode: octets that others wrote are a bundle in its one encoding, or refused.
func FuzzDecode(f *testing.F) {
	b, _ := ReadDir(shipped)
	f.Add(b.Encode())
	f.Add([]byte(magic + "6 3\na.regoabc"))
	f.Fuzz(func(t *testing.T, octets []byte) {
		b, err := Decode(octets)
		if err != nil {
			return
		}
		if !bytes.Equal(b.Encode(), octets) || len(b.Files) > MaxFiles {
			t.Errorf("%q is read as another", octets)
		}
		Compile(b, "") // ends, with or without problems
	})
}

func TestBundleBounds(t *testing.T) {
	many := both("deny contains \"no\" if false\n")
	for i := range MaxFiles {
		many[strings.Repeat("x", i+1)+".rego"] = "package x\n"
	}
	large := both("deny contains \"no\" if false\n")
	large["data.json"] = `{"a": "` + strings.Repeat("x", MaxOctets) + `"}`
	nested := both("deny contains \"no\" if false\n")
	nested["deep.rego"] = "package deep\nx := " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "\n"
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"none", map[string]string{"a.txt": "x"}, "holds no *.rego"},
		{"tests alone", map[string]string{"a_test.rego": "package a\n"}, "holds no *.rego"},
		{"yaml", map[string]string{"drain.rego": "package x\n", "data.yaml": "a: 1"}, "data.yaml: error: would not be read"},
		{"data in a folder", map[string]string{"drain.rego": "package x\n", "a/data.json": "{}"}, "would not be read"},
		{"many files", many, "one more than the 64 files"},
		{"large", large, "at most 256 KiB"},
		{"nested", nested, "deep.rego:2: error: "},
		{"odd data", map[string]string{"drain.rego": "package x\n", "data.json": "[]"}, "data.json: error: is no JSON object"},
		{"null", map[string]string{"drain.rego": "package x\n", "data.json": "null"}, "data.json: error: is no JSON object"},
		{"data over rules", map[string]string{"drain.rego": "package x\n", "data.json": `{"divert": {}}`}, "has the key divert"},
		{"syntax", both("deny contains {\n"), "drain.rego:3: error: "},
		{"an unknown function", both("deny contains \"x\" if nowhere(1)\n"), "drain.rego:2: error: undefined function nowhere"},
		{"one point", map[string]string{"drain.rego": "package divert.drain\ndeny contains \"no\" if false\n"}, "there is no rule data.divert.admission.deny"},
		{"an empty file", map[string]string{"drain.rego": ""}, "drain.rego"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := write(t, tc.files)
			b, problems := ReadDir(dir)
			if len(problems) == 0 {
				_, problems = Compile(b, dir)
			}
			if !strings.Contains(text(problems), tc.want) {
				t.Errorf("got %q, want %q", text(problems), tc.want)
			}
		})
	}
}

func text(problems []spec.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.String() + "\n")
	}
	return b.String()
}
