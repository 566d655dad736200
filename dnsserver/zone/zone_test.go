package zone

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func source(text string) Source {
	return Source{
		Origin: "example.org", Text: text, Nameservers: []string{"ns1.example.org", "ns.example.net"},
		Hostmaster: "dns.admin@example.org", Serial: 42, Aliases: []string{"lb.example.org."},
	}
}

const ns1 = "ns1 A 192.0.2.53\n"

func rrs(t testing.TB, r *Records) []dns.RR {
	t.Helper()
	out, err := r.RRs()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// soa is the zone's.
func soa(t *testing.T, r *Records) *dns.SOA {
	t.Helper()
	for _, rr := range rrs(t, r) {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa
		}
	}
	t.Fatal("no SOA")
	return nil
}

func TestParse(t *testing.T) {
	parsed, problems := Parse(source(`
ns1 A 192.0.2.53   ; a comment; with another
@   MX 10 mail
    MX 20 mail2.example.net.
$TTL 5m
WWW 	 CNAME	shop
txt TXT "a;b" ( "c (d"
      "e" ) ; the end
$ORIGIN lab
host AAAA 2001:db8::1
$ORIGIN example.org.
$GENERATE 1-3 n$ A 192.0.2.$
* TXT wild
sub NS ns.sub
ns.sub A 192.0.2.1
`))
	if len(problems) != 0 {
		t.Errorf("got problems %v, want none", problems)
	}
	var got []string
	for _, rr := range rrs(t, parsed) {
		got = append(got, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	want := []string{
		"example.org. 3600 IN MX 10 mail.example.org.",
		"example.org. 3600 IN MX 20 mail2.example.net.",
		"example.org. 3600 IN NS ns1.example.org.",
		"example.org. 3600 IN NS ns.example.net.",
		`example.org. 3600 IN SOA ns1.example.org. dns\.admin.example.org. 42 3600 600 86400 5`,
		`*.example.org. 300 IN TXT "wild"`,
		"host.lab.example.org. 300 IN AAAA 2001:db8::1",
		"n1.example.org. 300 IN A 192.0.2.1",
		"n2.example.org. 300 IN A 192.0.2.2",
		"n3.example.org. 300 IN A 192.0.2.3",
		"ns1.example.org. 3600 IN A 192.0.2.53",
		"sub.example.org. 300 IN NS ns.sub.example.org.",
		"ns.sub.example.org. 300 IN A 192.0.2.1",
		`txt.example.org. 300 IN TXT "a;b" "c (d" "e"`,
		"www.example.org. 300 IN CNAME shop.example.org.",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The text may bring its own SOA and NS; the serial is the plan's all the same (S13).
func TestOwnSOA(t *testing.T) {
	text := "@ 60 SOA ns1 admin ( 2026010101 ; serial\n 1h 10m 1d 30 )\n@ 60 NS ns1\n" + ns1
	parsed, problems := Parse(Source{Origin: "example.org.", Text: text, Serial: 7})
	if len(problems) != 0 {
		t.Fatalf("got problems %v, want none", problems)
	}
	if soa := soa(t, parsed); soa.Serial != 7 || soa.Minttl != 30 || soa.Refresh != 3600 {
		t.Errorf("got %v", soa)
	}
	parsed, _ = Parse(Source{Origin: "example.org.", Text: text})
	if soa := soa(t, parsed); soa.Serial != 2026010101 {
		t.Errorf("without a serial of the plan: got %v", soa)
	}
	_, problems = Parse(source(text))
	if len(problems) != 2 || problems[0].Line != 1 || problems[1].Line != 3 {
		t.Errorf("given twice: got %v, want problems at lines 1 and 3", problems)
	}
	// Timers come with their defaults filled in; they are for an SOA that is made.
	parsed, problems = Parse(Source{Origin: "example.org", Text: text, SOA: Timers{time.Hour, 10 * time.Minute, 24 * time.Hour, 5 * time.Second}})
	if Failed(problems) || soa(t, parsed).Minttl != 30 {
		t.Errorf("beside timers: got %v, %v", soa(t, parsed), problems)
	}
}

// Each row is a mistake, with the line it is on and what is said; "!" before it: a
// warning.
func TestProblems(t *testing.T) {
	tests := []struct {
		name, text string
		line       int
		want       string
	}{
		{"no IPv4 address", ns1 + "a A 192.0.2.300", 2, `"192.0.2.300" is no IPv4 address of a record of type A, which is written like 192.0.2.1`},
		{"no IPv6 address", ns1 + "a AAAA 192.0.2.3", 2, `"192.0.2.3" is no IPv6 address of a record of type AAAA, which is written like 2001:db8::1`},
		{"no preference", ns1 + "a MX mail", 2, `"mail" is no preference, a whole number up to 65535, of a record of type MX, which is written like 10 mail`},
		{"preference too large", ns1 + "a MX 70000 mail", 2, `"70000" is no preference`},
		{"no host name", ns1 + "a SRV 1 2 3 a..b", 2, `"a..b" is no host name of a record of type SRV, which is written like 10 5 443 host`},
		{"no matching type", ns1 + "a TLSA 3 1 x 00", 2, `"x" is no matching type of a record of type TLSA`},
		{"no SvcPriority", ns1 + "a HTTPS x .", 2, `"x" is no priority of a record of type SVCB or HTTPS, which is written like 1 .`},
		{"no port", ns1 + "a HTTPS 1 . port=x", 2, `"port=x" cannot be read: its value is not allowed there`},
		{"no unknown data", ns1 + `a TYPE65280 \# 4 zz`, 2, "is no unknown data (RFC 3597)"},
		{"too much", ns1 + "a MX 10 mail extra", 2, `"extra" is more than a record of this type takes`},
		{"unknown type", ns1 + "a WHAT 1", 2, `"WHAT" is no type of record`},
		{"unknown type behind a TTL", ns1 + "a 60 WHAT 1", 2, `"WHAT" is no type of record`},
		{"unknown type behind TTL and class", ns1 + "a 60 IN WHAT 1", 2, `"WHAT" is no type of record`},
		{"unknown type made", ns1 + "$GENERATE 1-3 n$ WHAT 1", 2, `"WHAT" is no type of record`},
		{"no TTL", ns1 + "a 1x A 192.0.2.1", 2, `"1x" is neither a TTL nor a type`},
		{"owner missing", ns1 + "A 192.0.2.1", 2, `"192.0.2.1" is neither a TTL nor a type`},
		{"owner alone", ns1 + "lone", 2, "lone stands alone"},
		{"owner alone, named as a type", ns1 + "a ; of old", 2, "a stands alone"},
		{"type missing", ns1 + "a 60", 2, "ends before its type"},
		{"type missing behind a class", ns1 + "a IN", 2, "ends before its type"},
		{"type missing behind both", ns1 + "a IN 60", 2, "ends before its type"},
		{"no data", ns1 + "a A", 2, "the A record of a.example.org. has no data"},
		{"no data, inherited owner", ns1 + " TXT", 2, "the TXT record of ns1.example.org. has no data"},
		{"no data before a comment", ns1 + "a A ; later", 2, "ends before its data does"},
		{"half the data", ns1 + "a MX 10", 2, "ends before its data does"},
		{"made without data", ns1 + "$GENERATE 1-3 n$ A", 2, "ends before its data does"},
		{"outside", ns1 + "www.example.com. A 192.0.2.1", 2, "outside the zone"},
		{"outside by label", ns1 + "badexample.org. A 192.0.2.1", 2, "outside the zone"},
		{"CNAME and other data", ns1 + "a CNAME b\na A 192.0.2.1", 3, "a CNAME and other data: A"},
		{"two CNAMEs", ns1 + "a CNAME b\na CNAME c", 3, "more than one CNAME"},
		{"CNAME at the apex", ns1 + "@ CNAME b", 2, "a CNAME at example.org."},
		{"SOA below", ns1 + "a SOA a. b. 1 2 3 4 5", 2, "belongs at example.org. only"},
		{"two DNAMEs", ns1 + "a DNAME b\na DNAME c", 3, "more than one DNAME"},
		{"below a DNAME", ns1 + "a DNAME b\nx.a A 192.0.2.1", 3, "below the DNAME at a.example.org."},
		{"wildcard DNAME", ns1 + "*.a DNAME b", 2, "!wildcard DNAME"},
		{"DNAME and CNAME", ns1 + "a DNAME b\na CNAME c", 2, "other data: DNAME"},
		{"DNAME and NS", ns1 + "a NS ns.example.net.\na DNAME c", 3, "DNAME and is delegated"},
		{"glue missing", ns1 + "sub NS ns.sub", 2, "!glue is missing"},
		{"sibling glue missing", ns1 + "sub NS ns.other\nother NS ns.example.net.", 2, "!glue is missing"},
		{"name server without address", ns1 + "sub NS nope", 2, "!has no address in the zone"},
		{"name server is a CNAME", ns1 + "sub NS www\nwww CNAME x", 2, "!is a CNAME"},
		{"name server is a CNAME that is not written", ns1 + "sub NS LB", 2, "server lb.example.org. is a CNAME"},
		{"below a delegation", ns1 + "sub NS ns.example.net.\nx.sub TXT hi", 3, "!below the delegation of sub.example.org."},
		{"at a delegation", ns1 + "sub NS ns.example.net.\nsub TXT hi", 3, "!stands at a delegation"},
		{"wildcard delegation", ns1 + "*.a NS ns.example.net.", 2, "cannot be delegated"},
		{"TTL too long", ns1 + "a 604801 A 192.0.2.1", 2, "TTL 604801"}, // C8
		{"TTL no number", ns1 + "$TTL soon", 2, "not a duration"},
		{"TTLs differ", ns1 + "a 60 A 192.0.2.1\na 70 A 192.0.2.2", 3, "!TTL 60 and 70"},
		{"duplicate", ns1 + "a A 192.0.2.1\nb A 192.0.2.1\na 60 A 192.0.2.1", 4, "duplicate of a record before it"},
		{"duplicate in other letters", ns1 + "a MX 10 b\nA MX 10 B", 3, "duplicate of a record before it"},
		{"class", ns1 + "a CH TXT hi", 2, "class CH"},
		{"include", ns1 + "$INCLUDE /etc/passwd", 2, "$INCLUDE is refused"},
		{"other directive", ns1 + "$DATE", 2, "unknown directive"},
		{"generate too much", ns1 + "$GENERATE 1-2000000000 n$ A 192.0.2.1", 2, "a zone may have"},
		{"generate more than one may", ns1 + "$GENERATE 1-65537 n$ A 192.0.2.1", 2, "one may make 65536"},
		{"generate nonsense", ns1 + "$GENERATE 9-1 n$ A 192.0.2.1", 2, "not a range"},
		{"quote", ns1 + "a TXT \"open\nb A 192.0.2.1", 2, "quote is not closed"},
		{"parenthesis", ns1 + "a TXT ( hi\nb A 192.0.2.1", 2, "( is not closed"},
		{"the other parenthesis", ns1 + "a TXT hi )", 2, ") without its ("},
		{"too long a set", ns1 + "$GENERATE 0-299 a TXT \"$-" + strings.Repeat("x", 240) + "\"", 2, "together have"},
		{"signed", ns1 + "a NSEC b A", 2, "not yet supported"},
		{"reserved type", ns1 + `a TYPE65535 \# 1 00`, 2, "does not belong in a zone"},                                  // RFC 6895 section 3.1
		{"a digest of the zone", ns1 + "@ ZONEMD 1 1 1 " + strings.Repeat("00", 48), 2, "!the serial follows the plan"}, // RFC 8976
		// RFC 9460 by section.
		{"2.4.2: an alias with parameters", ns1 + "a HTTPS 0 b alpn=h2", 2, "!its parameters are ignored"},
		{"7.1.1: no-default-alpn alone", ns1 + "a HTTPS 1 . no-default-alpn", 2, "!without alpn"},
		{"8: mandatory names itself", ns1 + "a SVCB 1 . mandatory=mandatory", 2, "!names itself"},
		{"8: mandatory names a key twice", ns1 + "a SVCB 1 . alpn=h2 mandatory=alpn,alpn", 2, "!names alpn twice"},
		{"8: a mandatory key that is not there", ns1 + "a SVCB 1 . alpn=h2 mandatory=alpn,port", 2, "!names port, which the record has not"},
		{"no owner", "  A 192.0.2.1\n" + ns1, 1, "without an owner"},
		{"origin", ns1 + "$ORIGIN a..b", 2, "not a domain name"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, problems := Parse(source(tc.text))
			message, warning := strings.CutPrefix(tc.want, "!")
			for _, p := range problems {
				if p.Line == tc.line && p.Warning == warning && strings.Contains(p.Message, message) {
					return
				}
			}
			t.Errorf("got %v, want line %d: %s", problems, tc.line, tc.want)
		})
	}
}

// Data that is all zeroes, or may be absent, is data.
func TestLittleData(t *testing.T) {
	_, problems := Parse(source(ns1 + "a EUI48 00-00-00-00-00-00\nb APL\nc TYPE65280 \\# 0\nd TXT \"\"\nptr PTR PTR\ne MX 0 .\n$GENERATE 1-3 h$ A 192.0.2.$\n"))
	if len(problems) != 0 {
		t.Errorf("got %v, want no problem", problems)
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, problems := Parse(source("a A nonsense\nb A 192.0.2.1\nc AAAA nonsense\nwww.example.com. A 192.0.2.1\nd A 192.0.2.1\nd CNAME b\n" + ns1))
	var lines []int
	for _, p := range problems {
		lines = append(lines, p.Line)
	}
	if len(lines) != 4 || lines[0] != 1 || lines[1] != 3 || lines[2] != 4 || lines[3] != 5 {
		t.Errorf("got %v, want problems at lines 1, 3, 4 and 5", problems)
	}
}

func TestApexProblems(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Source)
		want   string
	}{
		{"no nameservers", func(s *Source) { s.Nameservers = nil }, "no NS record and no nameservers"},
		{"no hostmaster", func(s *Source) { s.Hostmaster = "" }, "no hostmaster"},
		{"bad hostmaster", func(s *Source) { s.Hostmaster = "@example.org" }, "not a mail address"},
		{"bad nameserver", func(s *Source) { s.Nameservers = []string{"a..b"} }, "not a host name"},
		{"nameserver twice", func(s *Source) { s.Nameservers = []string{"ns.example.net", "NS.example.net."} }, "listed twice"},
		{"odd timer", func(s *Source) { s.SOA.Refresh = 1500 * time.Millisecond }, "soa.refresh"},
		{"no origin", func(s *Source) { s.Origin = "" }, "not the name of a zone"},
		{"too long", func(s *Source) { s.Text = strings.Repeat("\n", MaxText+1) }, "octets"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s := source(ns1)
			tc.change(&s)
			_, problems := Parse(s)
			if !Failed(problems) || !strings.Contains(problems[0].Message, tc.want) {
				t.Errorf("got %v, want %q", problems, tc.want)
			}
		})
	}
}

// FuzzParse feeds texts from anywhere: no panic, and what passes can be packed.
func FuzzParse(f *testing.F) {
	f.Add(ns1 + "a TXT ( \"x;\\\" y\" ) ; c\n\tMX 10 b\n$GENERATE 1-3/2 n$ A 192.0.2.$\n")
	f.Add("$TTL 1w\n$ORIGIN .\nexample.org. SOA a b 1 2 3 4 5\n*.x.example.org. DNAME y\n")
	f.Add("a\\.b A 192.0.2.1\n(\n)\n\"\n\\")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(strings.ToUpper(text), "$GENERATE") && len(text) > 200 {
			return // many records are slow, not wrong
		}
		parsed, problems := Parse(source(text))
		if Failed(problems) {
			return
		}
		for _, rr := range rrs(t, parsed) {
			if !dns.IsSubDomain("example.org.", rr.Header().Name) || rr.Header().Ttl > MaxTTL {
				t.Fatalf("%q: got %v", text, rr)
			}
			if _, err := dns.PackRR(rr, make([]byte, 1<<16), 0, nil, false); err != nil {
				t.Fatalf("%q: %v cannot be packed: %v", text, rr, err)
			}
		}
	})
}
