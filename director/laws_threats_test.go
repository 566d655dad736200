package director_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// TestThreatsLaw: each row of the threat model names a test that exists, and each of the
// known ways to kill such a server (INVARIANTS) has its row.
func TestThreatsLaw(t *testing.T) {
	const doc = "director/api/DESIGN.md"
	_, section, found := strings.Cut(read(t, doc), "\n## Threat model\n")
	if !found {
		t.Fatalf("%s has no threat model", doc)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	known := proofs(t)
	exists := func(name string) bool {
		folder, test, qualified := strings.Cut(name, ".")
		if !qualified {
			return known["director/api:"+name]
		}
		for place := range known {
			in, is, _ := strings.Cut(place, ":")
			if is == test && (in == folder || strings.HasSuffix(in, "/"+folder)) {
				return true
			}
		}
		return false
	}
	test := regexp.MustCompile("`((?:[a-z0-9/]+\\.)?(?:Test|Fuzz)\\w+)`")
	ways, rows := map[string]bool{}, 0
	for line := range strings.Lines(section) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.HasSuffix(line, "| Test |") {
			continue
		}
		rows++
		cells := strings.Split(strings.Trim(line, "|"), "|")
		ways[strings.TrimSpace(cells[0])] = true
		named := test.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(named) == 0 && !strings.Contains(line, "| Not yet: ") {
			t.Errorf("%s: no test proves it: %s", doc, line)
		}
		for _, m := range named {
			if !exists(m[1]) {
				t.Errorf("%s: there is no test %s: %s", doc, m[1], line)
			}
		}
	}
	for i := 1; i <= 12; i++ {
		if way := fmt.Sprintf("C%d", i); !ways[way] {
			t.Errorf("%s has no row for %s", doc, way)
		}
	}
	if rows < 60 {
		t.Errorf("found %d rows only", rows)
	}
}
