package records

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// Names that need no parser come out as the parser has them.
func TestAppendName(t *testing.T) {
	label63 := "a23456789012345678901234567890123456789012345678901234567890123"
	for _, name := range []string{
		"example.org.", "EXAMPLE.Org.", "*.example.org.", "_sip._udp.example.org.", "example.org", ".", "a\\.b.example.org.", "a\\032b.org.",
		label63 + ".org.", label63 + "4.org.", label63 + "." + label63 + "." + label63 + "." + label63[:61] + ".",
		label63 + "." + label63 + "." + label63 + "." + label63[:62] + ".", "", "a..b.", ".a.", "a b.",
	} {
		got, gotErr := AppendName([]byte("before"), name)
		want, wantErr := Name(name)
		if (gotErr == nil) != (wantErr == nil) || gotErr == nil && string(got) != "before"+string(want) {
			t.Errorf("%q: got %x, %v, want %x, %v", name, got, gotErr, want, wantErr)
		}
	}
}

// A name comes back from the key that it is ordered by, whatever octets it has, and
// keys order as RFC 4034 section 6.1 does.
func TestKey(t *testing.T) {
	// The example of that section, in its order.
	names := []string{
		"\x07example\x00", "\x01a\x07example\x00", "\x08yljkjljk\x01a\x07example\x00", "\x01z\x01a\x07example\x00",
		"\x04zabc\x01a\x07example\x00", "\x01z\x07example\x00", "\x01\x00\x01z\x07example\x00", "\x01\x01\x01z\x07example\x00",
		"\x02\x01\x00\x01z\x07example\x00", "\x01*\x01z\x07example\x00", "\x01\xc8\x01z\x07example\x00",
	}
	for i, name := range names {
		if got := string(NameOfKey(nil, AppendKey(nil, []byte(name)))); got != name {
			t.Errorf("%q came back as %q", name, got)
		}
		if i > 0 && bytes.Compare(AppendKey(nil, []byte(names[i-1])), AppendKey(nil, []byte(name))) >= 0 {
			t.Errorf("%q does not stand before %q", names[i-1], name)
		}
	}
	if got := string(NameOfKey(nil, AppendKey(nil, []byte{0}))); got != "\x00" {
		t.Errorf("the root came back as %q", got)
	}
}

func add(t testing.TB, l *List, rr dns.RR, line int) {
	t.Helper()
	owner, err := Name(rr.Header().Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Add(AppendKey(nil, owner), rr, line); err != nil {
		t.Fatal(err)
	}
}

// What goes in comes out, by owner, each owner's in the order of the text, over as
// many blocks as it takes.
func TestList(t *testing.T) {
	const n = 40_000
	l := New(3)
	var want []string
	for i := range n {
		text := fmt.Sprintf("h%d.example.org.\t%d\tIN\tTXT\t\"of %d\"", i%(n/2), 60+i, i)
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		add(t, l, rr, i+1)
		want = append(want, text)
	}
	if len(l.blocks) < 3 {
		t.Fatalf("%d blocks try nothing", len(l.blocks))
	}
	l.Sort()
	rrs, err := l.RRs()
	if err != nil {
		t.Fatal(err)
	}
	owners := 0
	for first, end := range l.Owners {
		owners++
		if end-first != 2 || l.Line(first) >= l.Line(first+1) {
			t.Fatalf("records %d up to %d at lines %d and %d", first, end, l.Line(first), l.Line(first+1))
		}
		for i := first; i < end; i++ {
			if got := rrs[i].String(); got != want[l.Line(i)-1] || l.TTL(i) != uint32(59+l.Line(i)) || l.Type(i) != dns.TypeTXT {
				t.Fatalf("line %d: got %s, want %s", l.Line(i), got, want[l.Line(i)-1])
			}
		}
		if a, b := l.Find(l.Key(first)); a != first || b != end {
			t.Fatalf("found %d up to %d, want %d up to %d", a, b, first, end)
		}
	}
	if owners != n/2 || l.Len() != n {
		t.Errorf("%d owners of %d records", owners, l.Len())
	}
	if a, b := l.Find(AppendKey(nil, []byte("\x04none\x07example\x03org\x00"))); a != b {
		t.Error("found what is not there")
	}
	if !slices.IsSortedFunc(rrs, func(a, b dns.RR) int {
		x, _ := Name(a.Header().Name)
		y, _ := Name(b.Header().Name)
		return bytes.Compare(AppendKey(nil, x), AppendKey(nil, y))
	}) {
		t.Error("not in canonical order")
	}
}

// C8: no TTL is above seven days.
func TestTTL(t *testing.T) {
	l := New(1)
	add(t, l, &dns.A{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1 << 31}, A: []byte{192, 0, 2, 1}}, 0)
	add(t, l, &dns.TXT{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 1 << 31}, Txt: []string{"x"}}, 0)
	for i := range l.Len() {
		if l.TTL(i) != MaxTTL {
			t.Errorf("got %d", l.TTL(i))
		}
	}
}
