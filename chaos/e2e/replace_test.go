package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
)

// TestReplace (F22): each director is replaced while clients ask, and no query is
// lost; the fleet is whole again each time, and a successor that fails leaves the
// one before in charge.
func TestReplace(t *testing.T) {
	rounds := 1
	if level() == "long" {
		rounds = 7
	}
	r := start(t, local.Options{})
	r.settle()
	l, stop := r.query(1000, "shop.example.org", "pay.example.org", "api.example.org")
	defer stop()
	for range rounds {
		for i := 1; i <= r.Directors(); i++ {
			before, err := r.status(i)
			if err != nil {
				t.Fatal(err)
			}
			must(t, r.Replace(t.Context(), local.Name(i)))
			r.until(20*time.Second, local.Name(i)+" is whole again", func() error {
				s, err := r.status(i)
				if err != nil {
					return err
				}
				for _, d := range s.Directors {
					if !d.Heard || d.DNS != "ok" || d.Plan != fmt.Sprintf("%d.%d", before.Plan.Epoch, before.Plan.Revision) {
						return fmt.Errorf("%s sees %s: heard %v, plan %s, dns %s", local.Name(i), d.Name, d.Heard, d.Plan, d.DNS)
					}
				}
				return nil
			})
		}
	}
	// A successor of nobody.
	settings := filepath.Join(t.TempDir(), "director.yaml")
	if err := os.WriteFile(settings, []byte("name: d1\ndataDir: .\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), binary, "serve", "--replace", "-c", settings).CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("no director runs on")) {
		t.Errorf("a successor of nobody: %v\n%s", err, out)
	}
	stop()
	if asked, answered := l.asked.Load(), l.answered.Load(); asked != answered {
		t.Errorf("%d of %d queries were lost", asked-answered, asked)
	}
	for i := 1; i <= r.Directors(); i++ {
		b, err := r.Log(local.Name(i))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(b), "another process has taken over"); got != rounds {
			t.Errorf("%s was replaced %d times, want %d", local.Name(i), got, rounds)
		}
	}
}
