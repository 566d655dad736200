package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func seed(f *testing.F, patterns ...string) {
	f.Helper()
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, path := range files {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
}

// FuzzParse: no input panics, and what is accepted is canonical, is accepted
// again as what it is, and resolves.
func FuzzParse(f *testing.F) {
	seed(f, "testdata/bad/*.yaml", "testdata/good/*/*.y*ml", "testdata/good/*/*.json")
	noFile := func(string) (string, error) { return "", errors.New("no files here") }
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{"fuzz.yaml", "fuzz.json"} {
			raws, problems := parse(name, data, noFile)
			if len(problems) > maxProblems+1 {
				t.Fatalf("%d problems", len(problems))
			}
			if Failed(problems) {
				if raws != nil {
					t.Fatal("resources in spite of errors")
				}
				continue
			}
			for _, raw := range raws {
				v, err := parseJSON(raw.JSON)
				if err != nil || !bytes.Equal(v.canonical(), raw.JSON) {
					t.Fatalf("%s is not canonical: %v", raw.JSON, err)
				}
				again, problems := parse("again.json", raw.JSON, noFile)
				if Failed(problems) || len(again) != 1 || !bytes.Equal(again[0].JSON, raw.JSON) {
					t.Fatalf("%s read again: %s, %v", raw.JSON, again, problems)
				}
			}
			if set, problems := Resolve(raws); set == nil {
				t.Fatalf("what was parsed cannot be resolved: %v", problems)
			}
		}
	})
}

// FuzzResolve: no stored bytes panic.
func FuzzResolve(f *testing.F) {
	seed(f, "testdata/good/*/*.json")
	f.Add([]byte(`{"kind":"GlobalService","metadata":{"name":"shop"},"spec":{"hosts":["*.a"],"endpoints":[{"cluster":"a","addresses":["::1"]}],"residency":[{"clients":{"countries":["DE"]},"clusters":{"a":"b"}}],"pins":[{"prefix":"::/0","cluster":"a"}],"probes":[{"http":{"port":1}}]}}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		raws := []Raw{{Kind: KindCluster, Name: "a", JSON: json.RawMessage(`{"kind":"Cluster","metadata":{"name":"a"},"spec":{}}`)}}
		for _, kind := range kindNames() {
			raws = append(raws, Raw{Kind: kind, Name: "shop", JSON: data})
		}
		if set, _ := Resolve(raws); set != nil {
			Diff(raws, raws[:1])
			CheckTogether(DefaultSettings(), set)
		}
		Diff(raws[:1], raws)
	})
}

// FuzzLoadSettings: no settings file panics.
func FuzzLoadSettings(f *testing.F) {
	seed(f, "testdata/settings/bad/*.yaml", "testdata/settings/good/*.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, problems := ParseSettings("fuzz.yaml", data)
		if !Failed(problems) && (s.Name == "" || s.Site == "" || s.API.Listen == "" || s.Etcd.Embedded == (len(s.Etcd.Endpoints) > 0)) {
			t.Fatalf("accepted %+v", s)
		}
	})
}

// FuzzZoneText: the outline of a zone's text never panics and names lines that
// are there.
func FuzzZoneText(f *testing.F) {
	seed(f, "testdata/good/small/zones/*.zone", "testdata/bad/*.zone")
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := bytes.Count(data, []byte("\n")) + 1
		text := scanZone("example.org", string(data))
		for r := range text.records {
			if r.line < 1 || r.line > lines || r.kind == "" {
				t.Fatalf("got %+v of %d lines", r, lines)
			}
		}
	})
}

// FuzzJSON: stored objects are read, and strings written, as the library does.
func FuzzJSON(f *testing.F) {
	seed(f, "testdata/good/*/*.json")
	for _, text := range []string{
		`{"b":[1,-2.5e3,true,false,null,"x"],"a":{"k":"1","k":"2"}}`, `"\u0041\ud83d\ude00\ud800\n\"\\\/\b\f\r\t"`, "\"\xff\u2028<&>\x7f\"",
		` [ ] `, `{ "a" : { } , "" : [ [ ] ] }`, `1 2`, `[1,`, "\x00\x01\b\f\r\n\t\"\\ \xf0\x9f\x98\x80 \xff\xc0\u2029", strings.Repeat("[", 40) + strings.Repeat("]", 40),
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(string(data)); err != nil {
			t.Fatal(err)
		}
		if got, want := string(appendString(nil, string(data))), strings.TrimSuffix(b.String(), "\n"); got != want {
			t.Fatalf("%q is written %s, want %s", data, got, want)
		}
		got, err := parseJSON(data)
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		var v any
		wantErr := dec.Decode(&v)
		if wantErr == nil && dec.More() {
			wantErr = errTrailing
		}
		switch {
		case errors.Is(err, errTooDeep):
		case err != nil != !json.Valid(data) || wantErr != nil && err == nil:
			t.Fatalf("%q: got %v, want %v", data, err, wantErr)
		case err == nil:
			b.Reset()
			if err := enc.Encode(v); err != nil {
				t.Fatal(err)
			}
			if got, want := string(got.canonical()), strings.TrimSuffix(b.String(), "\n"); got != want {
				t.Fatalf("%q is read as %s, want %s", data, got, want)
			}
		}
	})
}
