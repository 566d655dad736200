package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
)

// TestOldDisk: a director that starts from an older copy of its own disk
// acknowledges nothing until it holds the newest plan, which a peer has (S3).
func TestOldDisk(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	must(t, r.Stop("d3"))
	old := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(old, os.DirFS(r.DataDir(3))))
	must(t, r.Start(t.Context(), "d3"))
	r.settle()
	r.must(1, "drain", "cluster/fra", "--reason", "INC-11")
	must(t, r.Kill("d3"))
	must(t, r.Cut(t.Context(), "d3", "etcd"))
	must(t, os.RemoveAll(r.DataDir(3)))
	must(t, os.CopyFS(r.DataDir(3), os.DirFS(old)))
	must(t, r.Start(t.Context(), "d3"))
	r.until(15*time.Second, "the newest plan comes from a peer", r.answers(3, "pay.example.org", "nyc"))
}
