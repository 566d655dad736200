package dnsserver

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/answer"
)

// TestCountsSurviveTables: what a label counted goes on from table to table,
// whether one took over the numbering of the one before or not.
func TestCountsSurviveTables(t *testing.T) {
	zone := func(clusters ...string) []answer.Zone {
		z := answer.Zone{Origin: "example.org."}
		for _, text := range []string{"example.org. 60 IN SOA ns1.example.org. h.example.org. 1 2 3 4 5", "example.org. 60 IN NS ns1.example.org."} {
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Fatal(err)
			}
			z.Records = append(z.Records, rr)
		}
		set := answer.Set{}
		for _, c := range clusters {
			set.Sites = append(set.Sites, answer.Site{Cluster: c, Domain: c, Weight: 1, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
		}
		z.Steered = []answer.Steered{{Name: "shop.example.org.", Service: "shop", TTL: 5, Answers: 1, A: answer.View{Sets: []answer.Set{set}}}}
		return []answer.Zone{z}
	}
	m := newMetrics()
	want := map[string]uint64{}
	var before *answer.Table
	for step, tc := range []struct {
		clusters []string
		follow   bool
	}{
		{[]string{"fra"}, false},
		{[]string{"fra"}, true},
		{[]string{"fra", "nyc"}, true},
		{[]string{"nyc", "fra"}, false},
		{[]string{"sin"}, true},
		{[]string{"fra"}, true},
	} {
		o := answer.Options{Zones: zone(tc.clusters...)}
		if tc.follow {
			o.Before = before
		}
		table, err := answer.Compile(o)
		if err != nil {
			t.Fatal(err)
		}
		before = table
		q := new(dns.Msg)
		q.SetQuestion("shop.example.org.", dns.TypeA)
		packet, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			_, tally := table.Reply(nil, packet, answer.Client{Transport: answer.UDP})
			m.count(m.of(table), answer.UDP, tally)
		}
		want[tc.clusters[0]] += 2
		for label, counter := range m.labels {
			if got := counter.sum(); label.Cluster != "" && got != 0 && got != want[label.Cluster] {
				t.Errorf("step %d: %s has %d answers, want %d", step, label.Cluster, got, want[label.Cluster])
			}
		}
		for i, label := range table.Labels() {
			if m.of(table).label[i] != m.labels[label] {
				t.Errorf("step %d: %v is not counted where it is read", step, label)
			}
		}
	}
}
