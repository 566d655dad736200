package answer

import (
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
