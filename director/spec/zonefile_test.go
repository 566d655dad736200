package spec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestZoneFilePlaces: a zone's file is read from the folders of the spec only,
// links followed as a ConfigMap's are, and whatever is wrong with it is said once.
func TestZoneFilePlaces(t *testing.T) {
	const zone = "kind: Zone\nmetadata: {name: example.org}\nspec: {nameservers: [ns1.example.org], file: FILE}\n"
	tests := []struct {
		name, file string
		want       string // of the only error; "" = none
	}{
		{"beside", "in.zone", ""},
		{"below", "zones/below.zone", ""},
		{"another folder of the spec", "../other/in.zone", ""},
		{"byte order mark", "bom.zone", ""},
		{"above", "../../out.zone", "lies outside the folder"},
		{"in full", "/etc/passwd", "lies outside the folder"},
		{"a link out", "link.zone", "lies outside the folder"},
		{"not there", "none.zone", "no such file"},
		{"a folder", "zones", "is no regular file"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			top := t.TempDir()
			dir := filepath.Join(top, "spec")
			const text = "ns1 A 192.0.2.1\n"
			for _, name := range []string{"spec/a/in.zone", "spec/a/zones/below.zone", "spec/other/in.zone", "out.zone"} {
				write(t, filepath.Join(top, name), text)
			}
			write(t, filepath.Join(dir, "a", "bom.zone"), "\ufeff"+text)
			if err := os.Symlink(filepath.Join(top, "out.zone"), filepath.Join(dir, "a", "link.zone")); err != nil {
				t.Skip(err)
			}
			write(t, filepath.Join(dir, "a", "zone.yaml"), strings.Replace(zone, "FILE", tc.file, 1))
			set, raws, problems := LoadWith([]string{dir}, func(*Zone) []Problem {
				if tc.want != "" {
					t.Error("a zone that was not read is checked")
				}
				return nil
			})
			if tc.want == "" {
				if len(problems) > 0 || len(raws) != 1 || set.Zones[0].Records != text {
					t.Fatalf("got %v, records %q", problems, set.Zones[0].Records)
				}
				return
			}
			if len(problems) != 1 || !strings.Contains(problems[0].String(), tc.want) || problems[0].Line != 3 {
				t.Fatalf("got %v, want one problem of line 3 with %q", problems, tc.want)
			}
		})
	}
}

// TestLinkedSpec: a file that is linked into a folder brings the zone file that
// stands beside what it links to.
func TestLinkedSpec(t *testing.T) {
	top := t.TempDir()
	write(t, filepath.Join(top, "store/zone.yaml"), "kind: Zone\nmetadata: {name: example.org}\nspec: {nameservers: [ns1.example.org], file: in.zone}\n")
	write(t, filepath.Join(top, "store/in.zone"), "ns1 A 192.0.2.1\n")
	write(t, filepath.Join(top, "spec/none"), "")
	for _, name := range []string{"zone.yaml", "in.zone"} {
		if err := os.Symlink(filepath.Join(top, "store", name), filepath.Join(top, "spec", name)); err != nil {
			t.Skip(err)
		}
	}
	if _, raws, problems := Load([]string{filepath.Join(top, "spec")}); len(problems) > 0 || len(raws) != 1 {
		t.Fatalf("got %v", problems)
	}
}

// TestConflictOnce: what stands in the way of a host is said once, of its line.
func TestConflictOnce(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), `kind: Cluster
metadata: {name: fra}
spec: {location: {country: DE}}
---
kind: Zone
metadata: {name: example.org}
spec:
  nameservers: [shop.example.org]
  records: |
    pay A 192.0.2.1
---
kind: GlobalService
metadata: {name: shop}
spec:
  hosts: [shop.example.org, pay.example.org]
  endpoints: [{cluster: fra, addresses: [192.0.2.10]}]
  probes: [{tcp: {port: 443}}]
`)
	// A checker that complains of each host, for it knows more of records: here
	// that $GENERATE stands in the way of the second.
	_, _, problems := LoadWith([]string{dir}, func(z *Zone) []Problem {
		out := []Problem{{Message: "the name server shop.example.org. has no address in the zone", Warning: true}}
		for _, host := range z.Steered {
			out = append(out, Problem{Message: host + " has a static address or CNAME", Remedy: "rename the host"})
		}
		return out
	})
	if len(problems) != 2 || problems[0].Line != 9 || !strings.Contains(problems[0].Message, "shop.example.org has") || problems[1].Line != 10 {
		t.Fatalf("got %v, want shop.example.org at the records and pay.example.org at line 10", problems)
	}
}

// TestQuotedRecords: every mistake of a text that is no literal block is told,
// with its line in the text, each with its own remedy.
func TestQuotedRecords(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), `kind: Cluster
metadata: {name: fra}
spec: {location: {country: DE}}
---
kind: Zone
metadata: {name: example.org}
spec: {nameservers: [ns1.example.net], records: "bad BAD bad\nshop A 192.0.2.1\n$INCLUDE x"}
---
kind: GlobalService
metadata: {name: shop}
spec:
  hosts: [shop.example.org]
  endpoints: [{cluster: fra, addresses: [192.0.2.10]}]
  probes: [{tcp: {port: 443}}]
`)
	_, _, problems := LoadWith([]string{dir}, func(*Zone) []Problem { return []Problem{{Line: 1, Message: "bad"}} })
	for i, want := range []string{"line 1 of the records: bad (correct", "line 2 of the records: the A record", "line 3 of the records: $INCLUDE"} {
		if len(problems) != 3 || problems[i].Line != 7 || !strings.Contains(problems[i].String(), want) {
			t.Fatalf("got %v, want %q", problems, want)
		}
	}
}

// TestShadowedRecords: what another zone of the fleet hides is told.
func TestShadowedRecords(t *testing.T) {
	const text = `kind: Zone
metadata: {name: example.org}
spec:
  nameservers: [ns1.example.net]
  records: |
    www.sub A 192.0.2.1
    lent NS ns.lent
    ns.lent A 192.0.2.2
---
kind: Zone
metadata: {name: sub.example.org}
spec: {nameservers: [ns1.example.net]}
---
kind: Zone
metadata: {name: lent.example.org}
spec: {nameservers: [ns1.example.net]}
`
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), text)
	_, _, problems := Load([]string{dir})
	if len(problems) != 1 || problems[0].Line != 6 || !problems[0].Warning || !strings.Contains(problems[0].Message, "never served") {
		t.Fatalf("got %v", problems)
	}
}
