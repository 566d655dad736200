package zone

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/internal/records"
)

// read cuts the text into entries and gives each to miekg's parser by itself, so
// that one mistake does not hide the next, and each record knows its line.
func (z *parser) read(text string) {
	state := reading{origin: z.origin, ttl: DefaultTTL}
	z.out.List = records.New(min(strings.Count(text, "\n")+3, MaxRecords+1))
	for e := range z.split(text) {
		if z.out.Len() > MaxRecords {
			z.problem(e.line, "the zone has more than %d records", MaxRecords)
			return
		}
		first, _ := word(e.text)
		switch {
		case first == "":
			continue
		case first[0] != '$':
			z.readRecord(&state, e, first)
			continue
		}
		fields := strings.Fields(e.text)
		switch strings.ToUpper(first) {
		case "$ORIGIN":
			z.readOrigin(&state, e, fields)
		case "$TTL":
			z.readTTL(&state, e, fields)
		case "$INCLUDE":
			z.problem(e.line, "$INCLUDE is refused: a zone is one text")
		case "$GENERATE":
			z.readGenerate(&state, e, fields)
		default:
			z.problem(e.line, "unknown directive %s", first)
		}
	}
}

// word gives the first word of a text, and what follows it.
func word(text string) (first, rest string) {
	text = strings.TrimLeftFunc(text, unicode.IsSpace)
	if end := strings.IndexFunc(text, unicode.IsSpace); end >= 0 {
		return text[:end], text[end:]
	}
	return text, ""
}

// reading is what an entry inherits from those before it.
type reading struct {
	origin string
	owner  string // of the last record, fully qualified; "" before the first
	ttl    uint32
	fixed  bool // by $TTL: else each stated TTL holds for the records after it
}

func (z *parser) readOrigin(state *reading, e chunk, fields []string) {
	if len(fields) != 2 {
		z.problem(e.line, "$ORIGIN takes one name")
		return
	}
	name, ok := absolute(fields[1], state.origin)
	if !ok {
		z.problem(e.line, "$ORIGIN %s is not a domain name", fields[1])
		return
	}
	state.origin = name
}

func (z *parser) readTTL(state *reading, e chunk, fields []string) {
	if len(fields) != 2 {
		z.problem(e.line, "$TTL takes one duration")
		return
	}
	rrs, err := z.parse("$TTL "+fields[1]+"\n. IN A 192.0.2.1\n", ".", 0)
	if err != nil || len(rrs) != 1 || rrs[0].Header().Ttl > MaxTTL {
		z.problem(e.line, "$TTL %s is not a duration from 0 to %d s", fields[1], MaxTTL)
		return
	}
	state.ttl, state.fixed = rrs[0].Header().Ttl, true
}

// maxGenerate is how many steps the parser takes.
const maxGenerate = 65_536

// readGenerate bounds the range before the parser walks it.
func (z *parser) readGenerate(state *reading, e chunk, fields []string) {
	steps, err := generateSteps(fields)
	if err != nil {
		z.problem(e.line, "$GENERATE: %v", err)
		return
	}
	if steps > maxGenerate || steps+z.out.Len() > MaxRecords {
		z.problem(e.line, "$GENERATE makes %d records; one may make %d, and a zone may have %d", steps, maxGenerate, MaxRecords)
		return
	}
	z.keep(state, e, e.text, !generateTTL(fields))
}

// generateTTL tells whether a TTL is stated: range, owner, [TTL] [class] type …;
// neither a class nor a type begins with a digit.
func generateTTL(fields []string) bool {
	digit := func(i int) bool { return i < len(fields) && fields[i][0] >= '0' && fields[i][0] <= '9' }
	return digit(3) || len(fields) > 3 && strings.EqualFold(fields[3], "IN") && digit(4)
}

func generateSteps(fields []string) (int, error) {
	if len(fields) < 2 {
		return 0, errors.New("wants a range")
	}
	span, stepText, hasStep := strings.Cut(fields[1], "/")
	first, last, ok := strings.Cut(span, "-")
	if !ok {
		return 0, fmt.Errorf("%q is not a range", fields[1])
	}
	from, err1 := strconv.ParseUint(first, 10, 31)
	to, err2 := strconv.ParseUint(last, 10, 31)
	step := uint64(1)
	var err3 error
	if hasStep {
		step, err3 = strconv.ParseUint(stepText, 10, 31)
	}
	if errors.Join(err1, err2, err3) != nil || step == 0 || to < from {
		return 0, fmt.Errorf("%q is not a range", fields[1])
	}
	return int((to-from)/step) + 1, nil
}

func (z *parser) readRecord(state *reading, e chunk, first string) {
	text := e.text
	if text[0] == ' ' || text[0] == '\t' {
		if state.owner == "" {
			z.problem(e.line, "a record without an owner, and none before it to take one from")
			return
		}
		text = state.owner + " " + text
	}
	switch {
	case alone(text):
		z.problem(e.line, "%s stands alone: a record has a name, a TTL if any, a type and data", first)
	case z.keep(state, e, text, false):
		return
	}
	if owner, ok := absolute(first, state.origin); ok && len(text) == len(e.text) {
		state.owner = owner // though the rest is wrong, for those that follow
	}
}

// keep parses one entry and takes its records, or says what is wrong with it. Those
// without a TTL have that of before where inherit is set: the parser gives what
// $GENERATE makes a TTL of its own choosing.
func (z *parser) keep(state *reading, e chunk, text string, inherit bool) (ok bool) {
	rrs, err := z.parse(text+"\n", state.origin, state.ttl)
	if err != nil {
		z.problem(e.line, "%s", explain(err))
		return false
	}
	for _, rr := range rrs {
		h := rr.Header()
		if inherit {
			h.Ttl = state.ttl
		}
		if empty(rr, text) {
			z.problem(e.line, "the %s record of %s has no data", dns.Type(h.Rrtype), dns.CanonicalName(h.Name))
			return false
		}
		state.owner = h.Name
		if !state.fixed {
			state.ttl = h.Ttl
		}
		z.take(rr, e.line)
	}
	return true
}

func (z *parser) parse(text, origin string, ttl uint32) ([]dns.RR, error) {
	p := dns.NewZoneParser(strings.NewReader(text), origin, "")
	p.SetDefaultTTL(ttl)
	var out []dns.RR
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		out = append(out, rr)
		if len(out) > MaxRecords {
			return nil, fmt.Errorf("more than %d records", MaxRecords)
		}
	}
	return out, p.Err()
}

func absolute(name, origin string) (string, bool) {
	switch {
	case name == "@":
		return origin, true
	case !dns.IsFqdn(name) && origin == ".":
		name += "."
	case !dns.IsFqdn(name):
		name += "." + origin
	}
	_, ok := dns.IsDomainName(name)
	return dns.CanonicalName(name), ok
}

// chunk is one entry of the text: a line, or several held together by parentheses.
type chunk struct {
	text string
	line int
}

// split finds where entries end: at a line's end outside parentheses. Comments
// stay, the parser knows them; a line with nothing else is left out.
func (z *parser) split(text string) func(func(chunk) bool) {
	return func(yield func(chunk) bool) { z.chunks(text, yield) }
}

func (z *parser) chunks(text string, yield func(chunk) bool) {
	line, start, begun := 1, 0, 1
	depth, quoted, comment, content := 0, false, false, false
	flush := func(end int) (more bool) {
		more = !content || yield(chunk{text: strings.TrimRight(text[start:end], "\r"), line: begun})
		content = false
		return more
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\n':
			if quoted {
				z.problem(line, "a quote is not closed")
				quoted, content, depth = false, false, 0
			}
			comment = false
			line++
			if depth == 0 {
				if !flush(i) {
					return
				}
				start, begun = i+1, line
			}
		case comment || c == ' ' || c == '\t' || c == '\r':
		case c == '\\':
			content = true
			if i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case c == '"':
			quoted, content = !quoted, true
		case quoted:
		case c == ';':
			comment = true
		case c == '(':
			depth, content = depth+1, true
		case c == ')':
			if depth == 0 {
				z.problem(line, "a ) without its (")
				content = false
				continue
			}
			depth--
		default:
			content = true
		}
	}
	switch {
	case quoted:
		z.problem(line, "a quote is not closed")
	case depth > 0:
		z.problem(begun, "a ( is not closed")
	default:
		flush(len(text))
	}
}
