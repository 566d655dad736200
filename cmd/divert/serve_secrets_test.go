package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/divertdns/divert/director/spec"
)

// S12: an upgrade to a divert that looks at the modes of key files stops no director that
// clients go by already. A new one is refused.
func TestOpenSecretsStopNoDirectorThatServed(t *testing.T) {
	s := spec.DefaultSettings()
	s.DataDir = t.TempDir()
	s.Gossip.KeyFile = filepath.Join(s.DataDir, "gossip.key")
	if err := os.WriteFile(s.Gossip.KeyFile, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.Gossip.KeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	refused := (*exit)(nil)
	if _, err := secretFiles(s); !errors.As(err, &refused) || refused.code != exitRefused || len(refused.problems) != 1 {
		t.Errorf("a new director: %v", err)
	}
	if err := os.Mkdir(filepath.Join(s.DataDir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.DataDir, "state", "generation-00000000000000000001"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if warnings, err := secretFiles(s); err != nil || len(warnings) != 1 || spec.Failed(warnings) {
		t.Errorf("one that has served: %v, %v", warnings, err)
	}
}
