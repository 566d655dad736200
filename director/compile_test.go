package director

import (
	"fmt"
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
	zones, doubts, err := (*zoneTexts)(nil).static(set, serialsOf(&plan.Plan{}, false))
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

// A large text is read once, by whoever needs it first, and again when anything is
// another that it is read from; how many are held is bounded.
func TestZoneTextsAreReadOnce(t *testing.T) {
	large := func(name string, n int) *spec.Zone {
		var b strings.Builder
		b.WriteString("ns1 A 192.0.2.53\n")
		for i := range n {
			fmt.Fprintf(&b, "host%d A 192.0.2.1\n", i)
		}
		return &spec.Zone{Name: name, Nameservers: []string{"ns1." + name}, Hostmaster: "dns-admin@example.org", Records: b.String()}
	}
	texts := new(zoneTexts)
	z := large("example.org", 5000)
	if len(z.Records) < largeText {
		t.Fatalf("%d octets try nothing", len(z.Records))
	}
	if problems := texts.check(z); len(problems) > 0 {
		t.Fatal(problems)
	}
	read := texts.read(z).static
	if again := texts.read(z).static; again != read {
		t.Error("the same text is read anew")
	}
	// The names that are steered are not of the text.
	steered := *z
	steered.Steered = []string{"host7.example.org"}
	if problems := texts.check(&steered); len(problems) != 1 || len(texts.kept) != 1 {
		t.Errorf("got %v, %d texts", problems, len(texts.kept))
	}
	for _, other := range []func(*spec.Zone){
		func(z *spec.Zone) { z.Records += "more A 192.0.2.1\n" },
		func(z *spec.Zone) { z.Hostmaster = "other@example.org" },
		func(z *spec.Zone) { z.Nameservers = append(z.Nameservers, "ns.example.net") },
		func(z *spec.Zone) { z.SOA.Minimum = 7 * time.Second },
		func(z *spec.Zone) { z.CNAMEs = []string{"www.example.org"} },
		func(z *spec.Zone) { z.Name = "example.net" },
	} {
		changed := *z
		other(&changed)
		if texts.read(&changed).static == read {
			t.Errorf("%+v: not read anew", changed.Name)
		}
	}
	// A serial is the plan's (S13), whatever was read before.
	zones, _, err := texts.static(&spec.Set{Zones: []*spec.Zone{z}}, serialsOf(&plan.Plan{Zones: []*plan.ZoneSerial{{Name: "example.org", Serial: 7}}}, false))
	if err != nil || zones[0].Static != read || zones[0].Serial != 7 {
		t.Errorf("got %+v, %v", zones, err)
	}
	// Only what is in force is kept then.
	texts.settle(zones)
	if len(texts.kept) != 1 || texts.kept[0].static != read {
		t.Errorf("%d texts are kept", len(texts.kept))
	}
	sum := 0
	for i := range 10 {
		k := keptText{size: keptTexts / 4}
		k.sum[0] = byte(i)
		texts.remember(k)
	}
	for _, k := range texts.kept {
		sum += k.size
	}
	if sum > keptTexts || texts.kept[0].sum[0] != 9 {
		t.Errorf("%d octets are held, the last first? %v", sum, texts.kept[0].sum[0])
	}
}
