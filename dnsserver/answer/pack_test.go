package answer

import (
	"bytes"
	"testing"

	"github.com/miekg/dns"
)

// pack gives a record's owner, lower case, and the record ready to be sent.
func pack(rr dns.RR) (owner, record []byte, err error) {
	if owner, err = appendName(nil, rr.Header().Name); err != nil {
		return nil, nil, err
	}
	record, err = new(gathered).pack(nil, rr)
	return owner, record, err
}

// Names that need no parser come out as the parser has them.
func TestAppendName(t *testing.T) {
	label63 := "a23456789012345678901234567890123456789012345678901234567890123"
	for _, name := range []string{
		"example.org.", "EXAMPLE.Org.", "*.example.org.", "_sip._udp.example.org.", "example.org", ".", "a\\.b.example.org.", "a\\032b.org.",
		label63 + ".org.", label63 + "4.org.", label63 + "." + label63 + "." + label63 + "." + label63[:61] + ".",
		label63 + "." + label63 + "." + label63 + "." + label63[:62] + ".", "", "a..b.", ".a.", "a b.",
	} {
		got, gotErr := appendName([]byte("before"), name)
		want, wantErr := wire(name)
		if (gotErr == nil) != (wantErr == nil) || gotErr == nil && string(got) != "before"+string(want) {
			t.Errorf("%q: got %x, %v, want %x, %v", name, got, gotErr, want, wantErr)
		}
	}
}

// A name comes back from the key that it is ordered by, whatever octets it has, and
// keys order as RFC 4034 section 6.1 does.
func TestSortKey(t *testing.T) {
	// The example of that section, in its order.
	names := []string{
		"\x07example\x00", "\x01a\x07example\x00", "\x08yljkjljk\x01a\x07example\x00", "\x01z\x01a\x07example\x00",
		"\x04zabc\x01a\x07example\x00", "\x01z\x07example\x00", "\x01\x00\x01z\x07example\x00", "\x01\x01\x01z\x07example\x00",
		"\x02\x01\x00\x01z\x07example\x00", "\x01*\x01z\x07example\x00", "\x01\xc8\x01z\x07example\x00",
	}
	for i, name := range names {
		if got := nameOfKey(sortKey(nil, []byte(name))); got != name {
			t.Errorf("%q came back as %q", name, got)
		}
		if i > 0 && bytes.Compare(sortKey(nil, []byte(names[i-1])), sortKey(nil, []byte(name))) >= 0 {
			t.Errorf("%q does not stand before %q", names[i-1], name)
		}
	}
	if got := nameOfKey(sortKey(nil, []byte{0})); got != "\x00" {
		t.Errorf("the root came back as %q", got)
	}
}
