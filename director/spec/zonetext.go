package spec

import (
	"strconv"
	"strings"
)

func decimal(i int) string { return strconv.Itoa(i) }

// zoneText is what a zone's text says in outline: enough to know who brings
// SOA and NS and which names stand in the way of a steered host. The records
// themselves are dnsserver/zone's to read, and are checked there (ZoneChecker).
type zoneText struct {
	origin, text string
	soa, ns      int // line of the apex SOA, and of the first apex NS; 0 = none
	problems     []Problem
}

type zoneRecord struct {
	owner string // lower case, no last dot
	kind  string // A, NS, …
	line  int
	// hinted is the name whose addresses an HTTPS or SVCB record brings as hints; "" =
	// it brings none.
	hinted string
}

func scanZone(zone, text string) zoneText {
	t := zoneText{origin: zone, text: text}
	s := t.scanner()
	s.problems = &t.problems
	for r := range s.records {
		if r.owner != zone {
			continue
		}
		switch r.kind {
		case "SOA":
			t.soa = r.line
		case "NS":
			if t.ns == 0 {
				t.ns = r.line
			}
		case "CNAME":
			t.problems = append(t.problems, Problem{
				Line: r.line, Message: "a CNAME stands at the zone's apex, beside SOA and NS",
				Remedy: "write A and AAAA records, or a GlobalService with the host " + zone,
			})
		}
	}
	return t
}

// records gives each record. They are read anew each time, since a zone may have a
// million, and few are of interest.
func (t *zoneText) records(yield func(zoneRecord) bool) { t.scanner().records(yield) }

func (t *zoneText) scanner() *zoneScanner {
	return &zoneScanner{text: t.text, origin: t.origin, owner: t.origin}
}

// zoneScanner splits master-file text (RFC 1035 section 5.1) into records.
type zoneScanner struct {
	text     string
	origin   string
	owner    string
	problems *[]Problem // nil = they are known
}

func (s *zoneScanner) problem(p Problem) {
	if s.problems != nil {
		*s.problems = append(*s.problems, p)
	}
}

func (s *zoneScanner) records(yield func(zoneRecord) bool) {
	var tokens []string
	depth, start, blank := 0, 0, false
	number := 0
	for line := range strings.Lines(s.text) {
		number++
		if depth == 0 {
			tokens, start = tokens[:0], number
			blank = strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
		}
		tokens, depth = tokenize(line, tokens, depth)
		if depth > 0 || len(tokens) == 0 {
			continue
		}
		if r, ok := s.entry(tokens, blank, start); ok && !yield(r) {
			return
		}
	}
}

// tokenize adds the tokens of a line; depth counts open parentheses.
func tokenize(line string, tokens []string, depth int) ([]string, int) {
	from := -1 // where the token at hand begins
	flush := func(to int) {
		if from >= 0 {
			tokens = append(tokens, line[from:to])
		}
		from = -1
	}
	quoted := false
	for i := 0; i < len(line); i++ {
		switch ch := line[i]; {
		case ch == '\\' && i+1 < len(line):
			if from < 0 {
				from = i
			}
			i++
		case ch == '"' || quoted:
			quoted = quoted != (ch == '"')
			if from < 0 {
				from = i
			}
		case ch == ';':
			flush(i)
			return tokens, depth
		case ch == '(':
			flush(i)
			depth++
		case ch == ')':
			flush(i)
			depth = max(0, depth-1)
		case ch == ' ', ch == '\t', ch == '\r', ch == '\n':
			flush(i)
		case from < 0:
			from = i
		}
	}
	flush(len(line))
	return tokens, depth
}

// entry reads one entry; ok is false where it is no record.
func (s *zoneScanner) entry(tokens []string, blank bool, line int) (r zoneRecord, ok bool) {
	if !blank && strings.HasPrefix(tokens[0], "$") {
		s.directive(tokens, line)
		return r, false
	}
	if !blank {
		s.owner = s.absolute(tokens[0])
		tokens = tokens[1:]
	}
	for len(tokens) > 0 && (isTTL(tokens[0]) || isClass(tokens[0])) {
		tokens = tokens[1:]
	}
	if len(tokens) == 0 {
		return r, false
	}
	kind := strings.ToUpper(tokens[0])
	// Only a dynamic update has such, and on the wire it would be malformed. An
	// APL may list nothing (RFC 3123 section 4).
	if len(tokens) == 1 && kind != "APL" && isCapital(kind[0]) {
		s.problem(Problem{
			Line: line, Message: "the " + kind + " record of " + s.owner + " has no data", Remedy: "write it after the type, or take the line out",
		})
	}
	return zoneRecord{s.owner, kind, line, s.hinted(kind, tokens[1:])}, true
}

// hinted finds the target of a service binding that brings hints (RFC 9460 section
// 7.3).
func (s *zoneScanner) hinted(kind string, data []string) string {
	if kind != "HTTPS" && kind != "SVCB" || len(data) < 3 || data[0] == "0" { // an alias's are ignored
		return ""
	}
	for _, param := range data[2:] {
		if key, _, _ := strings.Cut(param, "="); key == "ipv4hint" || key == "ipv6hint" {
			if data[1] == "." { // the owner (section 2.5.2)
				return s.owner
			}
			return s.absolute(data[1])
		}
	}
	return ""
}

func (s *zoneScanner) directive(tokens []string, line int) {
	switch strings.ToUpper(tokens[0]) {
	case "$ORIGIN":
		if len(tokens) > 1 {
			s.origin = s.absolute(tokens[1])
		}
	case "$INCLUDE":
		s.problem(Problem{
			Line: line, Message: "$INCLUDE is not supported: a zone is one text, stored whole",
			Remedy: "paste the other file in its place",
		})
	}
}

func (s *zoneScanner) absolute(name string) string {
	name = strings.ToLower(name)
	switch {
	case name == "@":
		return s.origin
	case strings.HasSuffix(name, "."):
		return strings.TrimSuffix(name, ".")
	case s.origin == "":
		return name
	default:
		return name + "." + s.origin
	}
}

func isTTL(s string) bool {
	return s[0] >= '0' && s[0] <= '9' && strings.Trim(strings.ToLower(s), "0123456789smhdw") == ""
}

func isClass(s string) bool {
	switch strings.ToUpper(s) {
	case "IN", "CH", "HS", "CS":
		return true
	default:
		return false
	}
}
