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
	if i := strings.LastIndex(text, `: "`); i >= 0 {
		if unquoted, err := strconv.Unquote(text[i+2:]); err == nil {
			what, token = text[:i], unquoted
		}
	}
	var parse *dns.ParseError
	parsed := errors.As(err, &parse)
	ended := strings.TrimSpace(token) == "" && parsed
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
	case what == "garbage after rdata":
		return fmt.Sprintf("%q is more than a record of this type takes; text with blanks is written in quotes", token)
	case what == "":
		if inner := errors.Unwrap(err); inner != nil {
			return fmt.Sprintf("%q cannot be read: %s", token, strings.TrimPrefix(inner.Error(), "dns: "))
		}
		return fmt.Sprintf("%q cannot be read: its value is not allowed there (RFC 9460 for SVCB and HTTPS, RFC 3123 for APL)", token)
	}
	if rest, ok := strings.CutPrefix(what, "bad "); ok {
		return misfit(rest, token)
	}
	return text
}

// misfit says of "MX Pref" and its like what was read there and how such a record is
// written.
func misfit(where, token string) string {
	rrtype, field, _ := strings.Cut(strings.TrimSpace(where), " ")
	shown := "type " + rrtype
	switch rrtype {
	case "SVCB":
		shown = "type SVCB or HTTPS"
	case "RFC3597":
		shown = "such a type"
	}
	text := fmt.Sprintf("%q is no %s of a record of %s", token, fieldName(rrtype, field), shown)
	if form := forms[rrtype]; form != "" {
		text += ", which is written like " + form
	}
	return text
}

// forms are what the data of the types looks like that people write.
var forms = map[string]string{
	"A": "192.0.2.1", "AAAA": "2001:db8::1",
	"AFSDB": "1 host", "CAA": `0 issue "ca.example.net"`, "CERT": "PKIX 0 0 BASE64", "CNAME": "www.example.net.", "DNAME": "example.net.",
	"DNSKEY": "257 3 13 BASE64", "DS": "12345 13 2 HEX", "EUI48": "00-00-5e-00-53-2a", "EUI64": "00-00-5e-ef-10-00-00-2a", "KX": "10 host",
	"LOC": "52 22 23.000 N 4 53 32.000 E -2.00m", "MX": "10 mail", "NAPTR": `10 100 "s" "SIP+D2U" "" _sip._udp`, "NS": "ns1.example.net.", "PTR": "host.example.net.",
	"RP": "mail.address.example.net. text.example.net.", "SMIMEA": "3 1 1 HEX", "SRV": "10 5 443 host", "SSHFP": "4 2 HEX",
	"SOA": "ns1 hostmaster 1 3600 600 86400 60", "SVCB": `1 . alpn="h2" port=443`, "TLSA": "3 1 1 HEX", "URI": `10 1 "https://www.example.net/"`,
	"RFC3597": `\# 4 c0000201, with the number of octets first and as many after it`,
}

// fieldName is a field of the parser's in the words of the RFCs.
func fieldName(rrtype, field string) string {
	switch {
	case rrtype == "A" && field == "A":
		return "IPv4 address"
	case rrtype == "AAAA" && field == "AAAA":
		return "IPv6 address"
	case rrtype == "RFC3597":
		return "unknown data (RFC 3597)"
	}
	switch field {
	case "Mx", "Ns", "Ptr", "Mb", "Md", "Mf", "Mg", "Mr", "Host", "Hostname", "Exchanger", "Fqdn", "Target":
		return "host name"
	case "Pref", "Preference":
		return "preference, a whole number up to 65535,"
	case "Mbox":
		return "mailbox, a mail address with a dot for its @,"
	}
	var b strings.Builder
	for i, c := range field {
		if i > 0 && unicode.IsUpper(c) && unicode.IsLower(rune(field[i-1])) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	if b.Len() == 0 {
		return "data"
	}
	return b.String()
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
