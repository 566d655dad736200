package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// TestTornDisk: everything stops, the store is gone, and what one director wrote
// last is torn: it answers from the generation before, marked behind, and
// acknowledges nothing until a peer has given it the newest plan (F17, S3, S12).
func TestTornDisk(t *testing.T) {
	long(t)
	const host = "pay.example.org"
	r := start(t, local.Options{})
	r.settle()
	ctx := t.Context()
	before := generations(t, r.DataDir(3))
	r.must(1, "drain", "cluster/fra", "--reason", "INC-15")
	must(t, r.Kill("etcd"))
	for i := 1; i <= r.Directors(); i++ {
		must(t, r.Kill(local.Name(i)))
	}
	torn := 0
	for _, path := range generations(t, r.DataDir(3)) {
		if slices.Contains(before, path) {
			continue
		}
		info, err := os.Stat(path)
		must(t, err)
		must(t, os.Truncate(path, info.Size()/2))
		torn++
	}
	if torn == 0 {
		t.Fatalf("d3 said that it has the drain, and wrote no generation: %v", before) // S6
	}

	must(t, r.Start(ctx, "d3"))
	r.until(15*time.Second, "d3 answers from the generation before", r.answers(3, host, "fra"))
	r.holds(3*time.Second, "it is behind, alone as it is", func() error {
		s, err := r.status(3)
		if d3 := directorIn(s, "d3"); err == nil && (!s.Behind || d3.Plan != "") {
			err = fmt.Errorf("behind %v, and acknowledges plan %q", s.Behind, d3.Plan)
		}
		return err
	})
	must(t, r.Start(ctx, "d1"))
	must(t, r.Start(ctx, "d2"))
	r.until(20*time.Second, "the newest plan comes from a peer", r.all(host, "nyc"))
	r.until(10*time.Second, "it is behind no more", func() error {
		s, err := r.status(3)
		if d3 := directorIn(s, "d3"); err == nil && (s.Behind || d3.Plan == "") {
			err = fmt.Errorf("behind %v, acknowledges plan %q", s.Behind, d3.Plan)
		}
		return err
	})
}

// generations lists what a director's disk holds.
func generations(t *testing.T, data string) []string {
	t.Helper()
	out, err := filepath.Glob(filepath.Join(data, "state", "generation-*"))
	must(t, err)
	return slices.DeleteFunc(out, func(path string) bool { return strings.HasSuffix(path, ".tmp") })
}

// TestKilledWhileApplying kills a director again and again while it takes plans
// in. Whatever it starts with again, alone, is one plan whole, its zone and its
// drains of one revision, and none older than what it has acknowledged (F24, S3,
// S6).
func TestKilledWhileApplying(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	ctx := t.Context()
	base := local.DemoSpec(r.Fleet)
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	// Version n is in the zone's text, and in the order of pay: a mix would show.
	site := func(n int) string { return []string{"fra", "nyc"}[n%2] }
	apply := func(n int) (string, int) {
		text := strings.ReplaceAll(base, "served by divert", fmt.Sprintf("version %d", n))
		if n%2 == 1 {
			text = strings.ReplaceAll(text, "policy: failover, order: [fra, nyc, sin]", "policy: failover, order: [nyc, fra, sin]")
		}
		must(t, os.WriteFile(file, []byte(text), 0o600))
		return r.divert(1, "apply", "-f", file, "--reason", "a new version", "--timeout", "3s")
	}
	held := 0 // the newest version that d2 is known to hold
	acknowledged, older, newest := 0, 0, 0
	began := time.Now()
	if out, code := apply(1); code != 0 {
		t.Fatalf("apply: exit %d\n%s", code, out)
	}
	took := time.Since(began) // of an apply that nobody disturbs
	held = 1
	for n := range 12 {
		version := n + 2
		killed := make(chan error, 1)
		// Most of it is the command's own start and the store's commit.
		time.AfterFunc(time.Duration((0.6+0.5*rand.Float64())*float64(took)), func() { killed <- r.Kill("d2") })
		out, code := apply(version)
		must(t, <-killed)
		switch {
		case code == 0:
			held = version // all had it, d2 too
			acknowledged++
		case code != 3 || !strings.Contains(out, "d2"):
			t.Fatalf("apply of version %d: exit %d\n%s", version, code, out)
		}
		must(t, r.Cut(ctx, "d2", local.Peers))
		must(t, r.Cut(ctx, "d2", local.Etcd))
		must(t, r.Start(ctx, "d2"))
		var found int
		r.until(20*time.Second, "d2 answers from its disk", func() (err error) {
			found, err = r.version(2)
			return err
		})
		if found < held || found > version {
			t.Errorf("after version %d, with %d acknowledged, d2 holds %d", version, held, found)
		}
		if got, err := r.sites(2, "pay.example.org"); err != nil || got != site(found) {
			t.Errorf("a mix: d2 says version %d and answers %s (%v), want %s", found, got, err, site(found))
		}
		if found == version {
			newest++
		} else {
			older++
		}
		must(t, r.Heal(ctx, "d2", local.Peers))
		must(t, r.Heal(ctx, "d2", local.Etcd))
		r.until(30*time.Second, "d2 has caught up", func() error { return r.text(2, fmt.Sprintf("version %d", version)) })
		r.settle()
	}
	t.Logf("12 kills in applies of about %s: %d after the acknowledgement; the disk held the new plan %d times, the old one %d times", took.Round(time.Millisecond), acknowledged, newest, older)
}

// version reads which version of the zone a director answers; 0 = the first.
func (r *rig) version(i int) (int, error) {
	txt, err := r.zoneText(i)
	if err != nil || txt == "served by divert" {
		return 0, err
	}
	var n int
	if _, err := fmt.Sscanf(txt, "version %d", &n); err != nil {
		return 0, fmt.Errorf("%s says %q", local.Name(i), txt)
	}
	return n, nil
}
