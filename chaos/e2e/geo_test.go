package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/miekg/dns"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/dnsserver/geo/mmdb/mmdbtest"
)

// TestGeoDatabase (S12): the files of geo databases are swapped, cut short and taken
// away under directors that answer. What is whole is answered by, what is not changes
// nothing, no query is lost, and who differs is named.
func TestGeoDatabase(t *testing.T) {
	dir := t.TempDir()
	file := func(i int) string { return filepath.Join(dir, local.Name(i)+".mmdb") }
	edition := func(name, continent, country string, lat, lon float64) []byte {
		return mmdbtest.Make(t, mmdbwriter.Options{DatabaseType: name},
			mmdbtest.Network{Prefix: "198.51.100.0/25", Record: mmdbtest.City(continent, country, lat, lon)},
			mmdbtest.Network{Prefix: "198.51.100.128/25", Record: mmdbtest.City(continent, country, lat+2, lon+2)})
	}
	const client = "198.51.100.0/24" // the country table does not place it
	american, asian := edition("American", "NA", "US", 40.7, -74), edition("Asian", "AS", "SG", 1.3, 103.8)
	for i := 1; i <= 3; i++ {
		mmdbtest.Put(t, file(i), american)
	}
	r := start(t, local.Options{Geo: file})
	r.settle()
	l, stop := r.query(300, "shop.example.org", "pay.example.org")
	defer stop()
	for i := 1; i <= 3; i++ {
		must(t, r.near(i, "shop.example.org", client, "nyc"))
	}
	reply, err := r.reply(1, "shop.example.org", "198.51.100.0/26")
	if err != nil {
		t.Fatal(err)
	}
	// RFC 7871 section 7.2.1: both halves are one place for this spec.
	if echo := reply.IsEdns0().Option[0].(*dns.EDNS0_SUBNET); echo.SourceScope != 24 {
		t.Errorf("the scope is /%d, want /24", echo.SourceScope)
	}
	alerts := func(i int, want ...string) error {
		s, err := r.status(i)
		if err != nil {
			return err
		}
		all := strings.Join(s.Alerts, "\n")
		for _, w := range want {
			if !strings.Contains(all, w) {
				return fmt.Errorf("%s does not say %q: %q", local.Name(i), w, all)
			}
		}
		if len(want) == 0 && strings.Contains(all, "geo") {
			return fmt.Errorf("%s says %q", local.Name(i), all)
		}
		return nil
	}
	for i := 1; i <= 3; i++ {
		must(t, alerts(i))
	}

	mmdbtest.Put(t, file(1), asian)
	if err := os.WriteFile(file(2), asian[:len(asian)/2], 0o600); err != nil { // in place, and the copy breaks off
		t.Fatal(err)
	}
	must(t, os.Remove(file(3)))
	r.until(30*time.Second, "d1 answers by the new file, and all say what is wrong", func() error {
		if err := r.near(1, "shop.example.org", client, "sin"); err != nil {
			return err
		}
		const differ = "d1 by "
		if err := alerts(1, "different geo tables", "d1 by Asian of ", "d2 and d3 by another"); err != nil {
			return err
		}
		if err := alerts(2, file(2), "clients are placed by American of ", "d2 and d3 by American of ", differ); err != nil {
			return err
		}
		return alerts(3, file(3), "no such file", differ)
	})
	for i := 2; i <= 3; i++ {
		must(t, r.near(i, "shop.example.org", client, "nyc"))
	}
	if out := r.must(1, "explain", "shop.example.org", "--client", "198.51.100.200"); !strings.Contains(out, "SG, AS, near 3.2 105.8") || !strings.Contains(out, "placed by Asian of 2027-01-15") {
		t.Errorf("explain says\n%s", out)
	}
	if level() == "long" {
		mmdbtest.Put(t, file(2), asian)
		mmdbtest.Put(t, file(3), asian)
		r.until(30*time.Second, "all answer by the new file, and nothing is wrong", func() error {
			for i := 1; i <= 3; i++ {
				if err := r.near(i, "shop.example.org", client, "sin"); err != nil {
					return err
				}
				if err := alerts(i); err != nil {
					return err
				}
			}
			return nil
		})
		// F22: whoever takes over answers by it from the first query on.
		must(t, r.Replace(t.Context(), "d2"))
		must(t, r.near(2, "shop.example.org", client, "sin"))
	}
	stop()
	if asked, answered := l.asked.Load(), l.answered.Load(); asked != answered {
		t.Errorf("%d of %d queries were lost", asked-answered, asked)
	}
}
