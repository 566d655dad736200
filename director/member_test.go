package director

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/divertdns/divert/director/spec"
)

// S12: a member of etcd that cannot be made stops a director at its first start, where
// somebody looks, and none that has served.
func TestMemberStopsNoDirectorThatServed(t *testing.T) {
	s := spec.DefaultSettings()
	s.DataDir = t.TempDir()
	s.Etcd.Member.Name, s.Etcd.Member.Cluster = "fra", []string{"fra"}
	var logged strings.Builder
	d := &Director{settings: s, log: slog.New(slog.NewTextHandler(&logged, nil))}
	if err := d.keepMember(); err == nil {
		t.Error("a first start went on without the member that the settings want")
	}
	if err := os.Mkdir(filepath.Join(s.DataDir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.DataDir, "state", "generation-00000000000000000001"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.keepMember(); err != nil || d.child != nil || !strings.Contains(logged.String(), "one member short") {
		t.Errorf("one that has served: %v, %v, logged %q", err, d.child, logged.String())
	}
}
