package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

// TestAuditSealed (S15, F10): what commands do is sealed by every director, and each has
// the others' signatures for it, also after one was away; it is exported, verified without
// any director, and read while etcd is away. Who alters a tile is found out.
func TestAuditSealed(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	r.must(1, "drain", "cluster/fra", "--reason", "INC-7")
	alike := func(revision uint64, signers ...string) func() error {
		return func() error {
			for i := 1; i <= r.Directors(); i++ {
				if !slices.Contains(signers, local.Name(i)) {
					continue
				}
				report, err := r.client(i).AuditVerify(t.Context())
				if err != nil {
					return err
				}
				if !report.Good || report.Revision < revision || !slices.Equal(report.Signers, signers) || report.Store != "" {
					return fmt.Errorf("%s: %+v", local.Name(i), report)
				}
			}
			return nil
		}
	}
	revision := func() uint64 {
		s, err := r.client(1).Status(t.Context())
		must(t, err)
		return s.Plan.Revision
	}
	r.until(40*time.Second, "all have sealed it", alike(revision(), "d1", "d2", "d3"))
	must(t, r.Kill("d3"))
	r.divert(1, "undrain", "cluster/fra", "--timeout", "1s")
	r.until(40*time.Second, "two have sealed it", alike(revision(), "d1", "d2"))
	must(t, r.Start(t.Context(), "d3"))
	r.until(60*time.Second, "all have sealed it again", alike(revision(), "d1", "d2", "d3"))

	file := filepath.Join(t.TempDir(), "audit.jsonl")
	r.must(2, "audit", "export", file)
	s, err := r.client(1).Status(t.Context())
	must(t, err)
	verify := []string{"audit", "verify", file}
	for _, d := range s.Directors {
		verify = append(verify, "--key", d.Name+"="+d.Key)
	}
	if out := strings.Join(strings.Fields(r.must(1, verify...)), " "); !strings.Contains(out, "signed by d1, d2, d3 nothing was altered") {
		t.Errorf("of an export: %s", out)
	}

	must(t, r.Kill("etcd"))
	found := false
	for _, a := range decode[[]api.AuditRecord](t, r.must(3, "audit", "--limit", "100", "-o", "json")) {
		found = found || a.Sealed && a.Why == "INC-7"
	}
	if !found {
		t.Error("F10: the drain is not in the audit log while etcd is away")
	}
	must(t, r.Start(t.Context(), "etcd"))

	// A tile that somebody wrote anew, with a record that says otherwise.
	must(t, r.Kill("d2"))
	tiles, err := filepath.Glob(filepath.Join(r.DataDir(2), "audit", "*", "tile-*"))
	if err != nil || len(tiles) == 0 {
		t.Fatalf("tiles: %v, %v", tiles, err)
	}
	raw, err := os.ReadFile(tiles[0])
	must(t, err)
	must(t, os.WriteFile(tiles[0], []byte(strings.Replace(string(raw), "INC-7", "INC-8", 1)), 0o600))
	must(t, r.Start(t.Context(), "d2"))
	r.until(60*time.Second, "it was put right from etcd", alike(revision(), "d1", "d2", "d3"))
}
