package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
)

// TestRestartWithoutStore: everything stops, the store is gone for good, and
// each director still answers from its disk, drains included (S12).
func TestRestartWithoutStore(t *testing.T) {
	r := start(t, local.Options{})
	r.settle()
	r.must(1, "drain", "cluster/fra", "--reason", "INC-6")
	must(t, r.Kill("etcd"))
	for i := 1; i <= 3; i++ {
		must(t, r.Kill(local.Name(i)))
	}
	for i := 1; i <= 3; i++ {
		must(t, r.Start(t.Context(), local.Name(i)))
	}
	r.until(10*time.Second, "the last good answers", r.all("pay.example.org", "nyc"))
	must(t, r.Kill("nyc"))
	r.until(10*time.Second, "failover from the last good state, without a store", r.all("pay.example.org", "sin"))
}

// TestStoreSwapped: an empty store, or one restored from an old copy, changes no
// answer and takes no command until it is recovered (F25, S3).
func TestStoreSwapped(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	ctx := t.Context()
	must(t, r.Stop("etcd"))
	old := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(old, os.DirFS(r.EtcdDir())))
	must(t, r.Start(ctx, "etcd"))
	r.until(20*time.Second, "a drain", func() error {
		if out, code := r.divert(2, "drain", "cluster/fra", "--reason", "INC-7"); code != 0 {
			return fmt.Errorf("exit %d: %s", code, out)
		}
		return nil
	})
	for _, tc := range []struct {
		name string
		swap func() error
	}{
		{"restored from an old copy", func() error { return os.CopyFS(r.EtcdDir(), os.DirFS(old)) }},
		{"replaced by an empty one", func() error { return nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			must(t, r.Stop("etcd"))
			must(t, os.RemoveAll(r.EtcdDir()))
			must(t, tc.swap())
			must(t, r.Start(ctx, "etcd"))
			r.until(20*time.Second, "it is recognised", func() error {
				out, code := r.divert(1, "drain", "cluster/nyc", "--reason", "INC-8")
				if code != 1 || !strings.Contains(out, "store recover") {
					return fmt.Errorf("exit %d: %s", code, out)
				}
				return nil
			})
			r.holds(3*time.Second, "no answer changes", r.all("pay.example.org", "nyc"))
			r.must(1, "store", "recover")
			r.must(1, "drain", "cluster/sin", "--reason", "INC-9")
			r.must(1, "undrain", "cluster/sin", "--reason", "over")
			if err := r.all("pay.example.org", "nyc")(); err != nil {
				t.Error(err)
			}
		})
	}
}
