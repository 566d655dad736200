package gossip

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/store/fsys"
)

func folder(dir string) Folder { return fsys.Folder{FS: fsys.OS{}, Dir: dir} }

// The key lasts, the boot grows, and nobody else may read them.
func TestLoadIdentity(t *testing.T) {
	dir := t.TempDir()
	first, err := LoadIdentity(folder(dir), "d1")
	if err != nil {
		t.Fatal(err)
	}
	last := first.Boot
	for range 3 {
		next, err := LoadIdentity(folder(dir), "d1")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(next.Key, first.Key) || next.Name != "d1" {
			t.Error("the key changed over a restart")
		}
		if next.Boot <= last {
			t.Errorf("boot %d after %d", next.Boot, last)
		}
		last = next.Boot
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 || strings.HasSuffix(e.Name(), fsys.Temporary) {
			t.Errorf("left %s with mode %v", e.Name(), info.Mode())
		}
	}
	if _, err := LoadIdentity(folder(dir), "d2"); err == nil || !strings.Contains(err.Error(), `belongs to director "d1"`) {
		t.Errorf("another name: got %v", err)
	}
	if _, err := LoadIdentity(folder(t.TempDir()), "a/b"); err == nil {
		t.Error("a name with a slash was taken")
	}
}

// A boot never comes twice: not when the clock runs back (F15), when the disk
// comes from an old copy, or when the counter is torn (F17).
func TestNextBoot(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	tests := []struct {
		name string
		file string // "" for none
		now  time.Time
		want uint64
	}{
		{"first start", "", now, 1_800_000_000},
		{"next start", record(1_700_000_000), now, 1_800_000_000},
		{"same second", record(1_800_000_000), now, 1_800_000_001},
		{"clock ran back", record(1_800_003_600), now, 1_800_003_601},
		{"clock before 1970", record(7), time.Unix(-5, 0), 8},
		{"torn", record(1_900_000_000)[:10], now, 1_800_000_000},
		{"flipped", strings.Replace(record(1_900_000_000), "19", "29", 1), now, 1_800_000_000},
	}
	for _, tc := range tests {
		path := filepath.Join(t.TempDir(), bootFile)
		if tc.file != "" {
			if err := os.WriteFile(path, []byte(tc.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := nextBoot(folder(filepath.Dir(path)), tc.now)
		if err != nil || got != tc.want {
			t.Errorf("%s: got %d, %v, want %d", tc.name, got, err, tc.want)
		}
		if again, err := nextBoot(folder(filepath.Dir(path)), tc.now); err != nil || again <= got {
			t.Errorf("%s: then %d, %v", tc.name, again, err)
		}
	}
}

func record(boot uint64) string {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if _, err = nextBoot(folder(dir), time.Unix(int64(boot), 0)); err != nil {
		panic(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, bootFile))
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// F17: a damaged identity is refused with the remedy, never replaced.
func TestDamagedIdentity(t *testing.T) {
	dir := t.TempDir()
	if _, err := LoadIdentity(folder(dir), "d1"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, identityFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seed := bytes.Index(good, []byte(`"seed":"`)) + len(`"seed":"`)
	for name, bad := range map[string][]byte{
		"empty":        {},
		"torn":         good[:len(good)/2],
		"flipped seed": bytes.Join([][]byte{good[:seed], {flipBase64(good[seed])}, good[seed+1:]}, nil),
		"renamed":      bytes.Replace(good, []byte(`"d1"`), []byte(`"d2"`), 1),
	} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadIdentity(folder(dir), "d1"); err == nil || !strings.Contains(err.Error(), "is damaged: restore it") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func flipBase64(c byte) byte {
	if c == 'A' {
		return 'B'
	}
	return 'A'
}
