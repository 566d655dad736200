package director

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
)

// S12: a director that has answered from a plan is told from a new one by its disk alone,
// damaged or not, and what is open of its secrets is an alert until it is closed.
func TestExposedSecrets(t *testing.T) {
	s := spec.DefaultSettings()
	s.DataDir = t.TempDir()
	s.Gossip.KeyFile = filepath.Join(s.DataDir, "gossip.key")
	if HasServed(s) {
		t.Error("a new director has served")
	}
	if _, err := store.OpenDisk(filepath.Join(s.DataDir, "state"), nil); err != nil {
		t.Fatal(err)
	}
	if HasServed(s) {
		t.Error("a director that saved nothing has served")
	}
	if err := os.WriteFile(filepath.Join(s.DataDir, "state", "generation-00000000000000000001"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !HasServed(s) {
		t.Error("a director with a generation has not served")
	}

	if err := os.WriteFile(s.Gossip.KeyFile, oldKey, 0o600); err != nil {
		t.Fatal(err)
	}
	d := &Director{settings: s, registry: prometheus.NewRegistry(), opts: Options{WatchSecrets: true}}
	d.watchSecrets()
	for _, tc := range []struct {
		mode os.FileMode
		want int
	}{{0o644, 1}, {0o600, 0}} {
		if err := os.Chmod(s.Gossip.KeyFile, tc.mode); err != nil {
			t.Fatal(err)
		}
		var out api.Status
		d.describeSecrets(&out)
		if len(out.Alerts) != tc.want || slices.ContainsFunc(out.Alerts, func(a string) bool { return !strings.Contains(a, "chmod 600 ") }) {
			t.Errorf("mode %o: alerts %q", tc.mode, out.Alerts)
		}
		found, err := d.registry.Gather()
		if err != nil || len(found) != 1 || found[0].GetMetric()[0].GetGauge().GetValue() != float64(tc.want) {
			t.Errorf("mode %o: measured %v, %v", tc.mode, found, err)
		}
	}
}
