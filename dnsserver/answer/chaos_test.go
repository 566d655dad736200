package answer

import (
	"testing"

	"github.com/miekg/dns"
)

// RFC 4892 section 3: who this is, for who asks in class CH, only where configured.
func TestChaosIdentity(t *testing.T) {
	told := compiled(t, func(o *Options) { o.ID, o.Version = "d1.example.net", "Divert" })
	silent := compiled(t, nil)
	for _, tc := range []struct{ name, want string }{
		{"id.server.", "d1.example.net"},
		{"ID.Server.", "d1.example.net"},
		{"hostname.bind.", "d1.example.net"},
		{"version.server.", "Divert"},
		{"version.bind.", "Divert"},
		{"authors.bind.", ""},
		{"server.", ""},
	} {
		for _, table := range []*Table{told, silent} {
			m := new(dns.Msg)
			m.SetQuestion(tc.name, dns.TypeTXT)
			m.Question[0].Qclass = dns.ClassCHAOS
			raw, _ := table.Reply(nil, pack1(t, m), testClient)
			var got dns.Msg
			if err := got.Unpack(raw); err != nil {
				t.Fatal(err)
			}
			if table == silent || tc.want == "" {
				if got.Rcode != dns.RcodeRefused || len(got.Answer) != 0 {
					t.Errorf("%s: got\n%v\nwant it refused", tc.name, &got)
				}
				continue
			}
			if len(got.Answer) != 1 || got.Answer[0].(*dns.TXT).Txt[0] != tc.want || got.Answer[0].Header().Class != dns.ClassCHAOS {
				t.Errorf("%s: got\n%v\nwant %s", tc.name, &got, tc.want)
			}
		}
	}
}
