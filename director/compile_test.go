package director

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/dnsserver/answer"
)

// TestCheckZoneOfGoodSpecs: what the spec package takes, the rules of DNS take.
func TestCheckZoneOfGoodSpecs(t *testing.T) {
	folders, err := filepath.Glob("spec/testdata/good/*")
	if err != nil {
		t.Fatal(err)
	}
	zones := 0
	for _, folder := range folders {
		if info, err := os.Stat(folder); err != nil || !info.IsDir() {
			continue
		}
		set, _, problems := spec.LoadWith([]string{folder}, CheckZone)
		if spec.Failed(problems) {
			t.Errorf("%s: got %v", folder, problems)
			continue
		}
		for _, z := range set.Zones {
			zones++
			if problems := CheckZone(z); spec.Failed(problems) {
				t.Errorf("%s, %s: got %v", folder, z.Name, problems)
			}
		}
	}
	if zones < 2 {
		t.Errorf("found %d zones", zones)
	}
}

// TestCheckZoneConflicts: each host that a record stands in the way of is a
// problem of its own.
func TestCheckZoneConflicts(t *testing.T) {
	problems := CheckZone(&spec.Zone{
		Name: "example.org", Nameservers: []string{"ns1.example.net"}, Hostmaster: "admin@example.org",
		Records: "$GENERATE 1-9 n$ A 192.0.2.$\n", Steered: []string{"n1.example.org", "n2.example.org", "shop.example.org"},
	})
	if len(problems) != 2 || problems[0].Message != "zone example.org.: n1.example.org. has a static address or CNAME" || problems[0].Remedy == "" {
		t.Errorf("got %v, want one for each of n1 and n2", problems)
	}
}

// Hints of one's own for a steered host are refused however they are written, and
// those for other names are not (RFC 9460 section 7.3).
func TestCheckZoneFindsHints(t *testing.T) {
	tests := []struct {
		name, records, want string
	}{
		{"by number (RFC 3597)", `shop TYPE65 \# 11 0001 00 0004 0004 c000020a`, "for the steered host shop.example.org. itself"},
		{"made by $GENERATE", "$GENERATE 1-1 s$ SVCB 1 shop ipv4hint=192.0.2.10", "for the steered host shop.example.org. itself"},
		{"none", "shop HTTPS 1 . alpn=h2", ""},
		{"an alias", "shop HTTPS 0 cdn.example.net.", ""},
		{"of another name", "cdn HTTPS 1 . ipv4hint=192.0.2.10", ""},
	}
	for _, tc := range tests {
		problems := CheckZone(&spec.Zone{
			Name: "example.org", Nameservers: []string{"ns1.example.net"}, Hostmaster: "h@example.org",
			Steered: []string{"shop.example.org"}, Records: tc.records + "\n",
		})
		if tc.want == "" && len(problems) == 0 {
			continue
		}
		if len(problems) != 1 || problems[0].Warning || !strings.Contains(problems[0].Message, tc.want) || problems[0].Remedy == "" {
			t.Errorf("%s: got %v, want %q", tc.name, problems, tc.want)
		}
	}
}

// S12: a rule about records that is newer than a stored plan takes no answers
// away. What can be read is served, and what is doubted is told.
func TestStoredZonesAreServedWhateverIsNewlyRefused(t *testing.T) {
	set := &spec.Set{Zones: []*spec.Zone{{
		Name: "example.org", Nameservers: []string{"ns1.example.org"}, Hostmaster: "dns-admin@example.org", Records: "ns1 A 192.0.2.53\nempty A\n",
	}}}
	zones, doubts, err := staticZones(set, &plan.Plan{})
	if err != nil {
		t.Fatal(err)
	}
	if len(doubts) != 1 || !strings.Contains(doubts[0].Error(), "example.org") {
		t.Errorf("doubts: %v", doubts)
	}
	table, err := answer.Compile(answer.Options{Zones: zones})
	if err != nil {
		t.Fatal(err)
	}
	q := new(dns.Msg)
	q.SetQuestion("ns1.example.org.", dns.TypeA)
	packet, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := table.Reply(nil, packet, answer.Client{Transport: answer.UDP, Now: time.Now()})
	var r dns.Msg
	if err := r.Unpack(raw); err != nil || len(r.Answer) != 1 {
		t.Errorf("got %v\n%v", err, &r)
	}
}
