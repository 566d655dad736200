package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/spec"
)

// TestBadSpecNeverReplaces: whatever happens to a director's spec folder, the
// good spec stays in force, the director says what is wrong, and it survives a
// restart over it (S19, S12).
func TestBadSpecNeverReplaces(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	ctx := t.Context()
	good := local.DemoSpec(r.Fleet)
	// A folder that is changed before it was ever seen is a new director's: shown,
	// not applied.
	r.until(15*time.Second, "d1's folder is on record", func() error {
		records, err := r.client(1).Audit(ctx, 0, 20)
		for _, a := range records {
			if a.Who == "d1" || strings.Contains(a.What, "the folder of d1") {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("%d records, none of them", len(records)))
	})
	must(t, r.WriteSpec(1, strings.ReplaceAll(good, "served by divert", "served by all")))
	r.until(15*time.Second, "the good spec is applied", func() error { return r.text(1, "served by all") })
	r.settle()
	before, err := r.client(2).Spec(ctx)
	must(t, err)
	unchanged := func() error {
		now, err := r.client(2).Spec(ctx)
		if err != nil {
			return err
		}
		if changes := spec.Diff(before, now); len(changes) > 0 {
			return fmt.Errorf("the spec has changed: %v", changes)
		}
		if err := r.all("pay.example.org", "fra")(); err != nil {
			return err
		}
		return r.text(1, "served by all")
	}
	good = strings.ReplaceAll(good, "served by divert", "served by all")

	tests := []struct {
		name  string
		bad   func(string) string
		check string // what `divert check` says of it; "" = it has nothing against it
		told  string // what status says of it
	}{
		{"not YAML", func(string) string { return "\t{" }, "fleet.yaml:1", "fleet.yaml:1"},
		{"an unknown key", func(s string) string { return strings.Replace(s, "siteNames: true", "sightNames: true", 1) }, "sightNames", "sightNames"},
		{"an unknown cluster", func(s string) string { return strings.Replace(s, "{cluster: nyc,", "{cluster: nyx,", 1) }, "nyx", "nyx"},
		{"a host outside every zone", func(s string) string { return strings.Replace(s, "[pay.example.org]", "[pay.example.net]", 1) }, "pay.example.net", "pay.example.net"},
		{"a wrong record", func(s string) string { return strings.Replace(s, "ns1 A 192.0.2.53", "ns1 A 192.0.2.300", 1) }, "192.0.2.300", "192.0.2.300"},
		{"cut short", func(s string) string { return s[:len(s)*3/4] + "\n  {" }, "fleet.yaml:", "fleet.yaml:"},
		{"half of the endpoints gone", func(s string) string {
			for _, site := range []string{"nyc", "sin"} {
				s = strings.ReplaceAll(s, fmt.Sprintf("  - {cluster: %s, addresses: [%s]}\n", site, r.Cluster(site)), "")
			}
			s = strings.Replace(s, "policy: geo, order: [fra, nyc, sin]", "policy: geo, order: [fra]", 1)
			return strings.Replace(s, "policy: failover, order: [fra, nyc, sin]", "policy: failover, order: [fra]", 1)
		}, "", "GlobalService pay"}, // waits for a person
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			r := r.on(t)
			must(t, r.WriteSpec(1, tc.bad(good)))
			out, code := r.divert(1, "check", r.SpecDir(1))
			if tc.check != "" && (code != 1 || !strings.Contains(out, tc.check) || !strings.Contains(out, "fleet.yaml:")) {
				t.Errorf("check: exit %d, want 1, the file, the line and %q:\n%s", code, tc.check, out)
			}
			r.until(15*time.Second, "status tells of it", func() error {
				s, err := r.status(1)
				all := strings.Join(s.Problems, "\n") + fmt.Sprint(s.Pending)
				if err == nil && !strings.Contains(all, tc.told) {
					err = fmt.Errorf("told: %s", all)
				}
				return err
			})
			r.holds(500*time.Millisecond, "nothing changes", unchanged)
		})
	}

	for name, harm := range map[string]func() error{
		"an empty file":  func() error { return r.WriteSpec(1, "") },
		"no file at all": func() error { return os.Remove(filepath.Join(r.SpecDir(1), "fleet.yaml")) },
		"no folder":      func() error { return os.RemoveAll(r.SpecDir(1)) },
	} {
		t.Run(name, func(t *testing.T) {
			must(t, harm())
			r.on(t).holds(6*time.Second, "nothing changes", unchanged)
			must(t, r.WriteSpec(1, good))
		})
	}

	must(t, r.WriteSpec(1, "kind: Nonsense\n"))
	must(t, r.Kill("d1"))
	must(t, r.Start(ctx, "d1"))
	r.until(15*time.Second, "a restart over a wrong folder answers as before", unchanged)
	must(t, r.WriteSpec(1, strings.ReplaceAll(good, "served by all", "served by everybody")))
	r.until(20*time.Second, "a good folder is applied again", func() error { return r.text(3, "served by everybody") })
}
