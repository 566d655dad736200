package zone

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/miekg/dns"
)

// explain says in words of the field what the parser has against a record: it
// takes what it does not know for a TTL, and calls the end of a line a token.
func explain(err error) string {
	text := plain(err)
	what, token := text, ""
	if i := strings.LastIndex(text, `: "`); i > 0 {
		if unquoted, err := strconv.Unquote(text[i+2:]); err == nil {
			what, token = text[:i], unquoted
		}
	}
	var parse *dns.ParseError
	ended := strings.TrimSpace(token) == "" && errors.As(err, &parse)
	beforeType := slices.Contains([]string{
		"not a TTL", "unknown RR type", "no blank before class", "no blank before TTL", "no blank before RR type",
		"expecting RR type, TTL or class, not this...", "expecting RR type or class, not this...", "expecting RR type or TTL, not this...",
	}, what)
	_, class := dns.StringToClass[strings.ToUpper(token)]
	switch {
	case beforeType && (ended || class):
		return "the record ends before its type"
	case beforeType && strings.ContainsRune("-0123456789", rune(token[0])):
		return fmt.Sprintf("%q is neither a TTL nor a type: a record has a name, a TTL if any, a type and data", token)
	case beforeType:
		return fmt.Sprintf(`%q is no type of record; one that is not known by name is written TYPE65280 \# and its data (RFC 3597)`, token)
	case ended:
		return "the record ends before its data does"
	default:
		return text
	}
}

// plain leaves out the parser's name and its own idea of the line.
func plain(err error) string {
	text := strings.TrimPrefix(err.Error(), "dns: ")
	if i := strings.LastIndex(text, " at line: "); i > 0 {
		text = text[:i]
	}
	return text
}

// alone tells whether an entry is a name and no more.
func alone(text string) bool {
	first, rest := word(text)
	second, _ := word(rest)
	return !strings.Contains(first, "(") && (second == "" || second[0] == ';')
}

// empty tells whether a record has no data, as only a dynamic update may (RFC
// 2136 section 2.5), which the parser takes. An APL may list nothing (RFC 3123
// section 4), and zeroes that are written are data.
func empty(rr dns.RR, text string) bool {
	h := rr.Header()
	text = strings.TrimRightFunc(text, unicode.IsSpace)
	last := text[strings.LastIndexFunc(text, unicode.IsSpace)+1:]
	if h.Rrtype == dns.TypeAPL || !strings.EqualFold(last, dns.Type(h.Rrtype).String()) {
		return false
	}
	none, known := dns.TypeToRR[h.Rrtype]
	if !known {
		return false
	}
	blank := none()
	*blank.Header() = *h
	return blank.String() == rr.String()
}
