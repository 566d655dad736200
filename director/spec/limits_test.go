package spec

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestTooMuch: what would cost a director its memory or its time is refused
// before it is read.
func TestTooMuch(t *testing.T) {
	const head = "kind: Cluster\nmetadata: {name: a}\nspec:\n  location: {country: DE}\n"
	tests := []struct{ name, text, want string }{
		{"numbers", head + "  x: [" + strings.Repeat("1,", maxMarks) + "1]\n", "holds more than"},
		{"keys", head + strings.Repeat("  k: 1\n", maxMarks+1), "holds more than"},
		{"aliases", head + "  y: &a 1\n  x:\n" + strings.Repeat("  - *a\n", maxMarks/2+1), "holds more than"},
		{"documents", strings.Repeat("--- {\n", maxMarks/3), "holds more than"},
		{"comments", strings.Repeat("# a\n", 2*maxMarks) + head, ""},
		{"octets", head + "# " + strings.Repeat("a", maxFile), "octets, more than"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, problems := Parse("a.yaml", []byte(tc.text))
			switch {
			case tc.want == "" && len(problems) > 0:
				t.Fatalf("got %v", problems)
			case tc.want != "" && (len(problems) != 1 || !strings.Contains(problems[0].Message, tc.want)):
				t.Fatalf("got %d problems, first %v", len(problems), problems[:min(1, len(problems))])
			}
		})
	}
	// Many files that are each small enough.
	dir := t.TempDir()
	for i := range maxMarksOfAll/maxMarks + 2 {
		write(t, filepath.Join(dir, fmt.Sprintf("%d.yaml", i)), "# "+strings.Repeat("-", maxMarks-10)+"\n")
	}
	_, _, problems := Load([]string{dir})
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "all files together") {
		t.Fatalf("got %v", problems)
	}
}

// TestTooManyRules: the classes of clients are worked out for each rule, prefix
// and place.
func TestTooManyRules(t *testing.T) {
	service := func(body string) []Problem {
		_, _, problems := loadText(t, `kind: Cluster
metadata: {name: fra, labels: {jurisdiction: eu}}
spec: {location: {country: DE}}
---
kind: Zone
metadata: {name: example.org}
spec: {nameservers: [ns1.example.net]}
---
kind: GlobalService
metadata: {name: shop}
spec:
  hosts: [shop.example.org]
  endpoints: [{cluster: fra, addresses: [192.0.2.10]}]
  probes: [{tcp: {port: 443}}]
`+body)
		return problems
	}
	prefix := func(i int) string { return fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255) }
	var rules, regions, pins strings.Builder
	for i := range maxRules + 1 {
		fmt.Fprintf(&rules, "  - {clients: {prefixes: [%s]}, clusters: {jurisdiction: eu}}\n", prefix(i))
		fmt.Fprintf(&regions, "    - {clients: {prefixes: [%s]}, order: [fra]}\n", prefix(i))
	}
	var many []string
	for i := range maxPrefixes/2 + 1 {
		fmt.Fprintf(&pins, "  - {prefix: %s, cluster: fra}\n", prefix(i))
		many = append(many, prefix(i))
	}
	fmt.Fprintf(&pins, "  residency:\n  - {clients: {prefixes: [%s]}, clusters: {jurisdiction: eu}}\n", strings.Join(many, ", "))
	tests := []struct{ name, body, want string }{
		{"residency", "  residency:\n" + rules.String(), "257 rules, more than 256"},
		{"regions", "  steering:\n    regions:\n" + regions.String(), "257 regions, more than 256"},
		{"prefixes", "  pins:\n" + pins.String(), "10002 prefixes, more than 10000"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			problems := service(tc.body)
			if len(problems) != 1 || !strings.Contains(problems[0].Message, tc.want) || problems[0].Line == 0 {
				t.Fatalf("got %d problems, first %v", len(problems), problems[:min(1, len(problems))])
			}
		})
	}
}

func loadText(t *testing.T, text string) (*Set, []Raw, []Problem) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.yaml")
	write(t, path, text)
	return Load([]string{path})
}
