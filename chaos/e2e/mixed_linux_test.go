package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
)

// older builds a divert that reads plans as they were before drains in steps, and is
// otherwise this one.
func older(t *testing.T) string {
	t.Helper()
	source, err := filepath.Abs("../../director/plan/plan.go")
	must(t, err)
	text, err := os.ReadFile(source)
	must(t, err)
	const line = "const Reader = "
	before, after, ok := strings.Cut(string(text), line)
	_, after, whole := strings.Cut(after, "\n")
	if !ok || !whole {
		t.Fatalf("%s has no %q", source, line)
	}
	dir := t.TempDir()
	changed, overlay, out := filepath.Join(dir, "plan.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "divert")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {source: changed}})
	must(t, err)
	must(t, os.WriteFile(changed, []byte(before+line+"ReaderProbes\n"+after), 0o600))
	must(t, os.WriteFile(overlay, replace, 0o600))
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-o", out, "../../cmd/divert")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return out
}

// TestMixedVersions (F22, S3, S6): a fleet of which one director is older. What that one
// cannot read is refused, with its name; where a person insists, it stays on its plan and
// answers on, says so, counts as missing, and neither leads nor commits. Once it is
// upgraded it follows.
func TestMixedVersions(t *testing.T) {
	long(t)
	old := older(t)
	r := start(t, local.Options{})
	r.settle()
	_, stop := r.query(100, "pay.example.org", "shop.example.org")
	defer stop()
	must(t, r.Use("d3", old))
	must(t, r.Replace(t.Context(), "d3"))
	r.settle()

	const scope = "cluster/fra"
	drain := []string{"drain", scope, "--paced", "--steps", "50,100", "--wait", "2s", "--for", "1h", "--reason", "INC-31"}
	r.until(20*time.Second, "the drain in steps is refused for d3", func() error {
		if out, code := r.divert(1, drain...); code != 1 || !strings.Contains(out, "too new for d3") {
			return fmt.Errorf("exit %d\n%s", code, out)
		}
		return nil
	})
	if out, code := r.divert(3, drain...); code != 1 || !strings.Contains(out, "too new for d3") {
		t.Errorf("on d3 itself: exit %d\n%s", code, out)
	}
	// What everybody reads is done, and seen on all three.
	r.must(1, "freeze", "--for", "1h", "--reason", "INC-31")
	r.must(3, "thaw", "--reason", "INC-31")
	before, err := r.status(3)
	must(t, err)

	if out, code := r.divert(1, append(drain, "--force", "--confirm", scope)...); code != 3 || !strings.Contains(out, "d3") {
		t.Errorf("with --force: exit %d, want 3 and that it is d3 which is missing\n%s", code, out)
	}
	r.until(10*time.Second, "d3 says that it is behind", func() error {
		s, err := r.status(3)
		switch {
		case err != nil:
			return err
		case !s.Behind || !strings.Contains(s.Store, "too new for this director"):
			return fmt.Errorf("behind %t, store %q", s.Behind, s.Store)
		case s.Plan == nil || s.Plan.Revision != before.Plan.Revision:
			return fmt.Errorf("plan %+v, want %d", s.Plan, before.Plan.Revision)
		case s.Leader == "d3":
			return fmt.Errorf("it leads")
		}
		return nil
	})
	if m := r.metrics(3); m["divert_plan_behind"] != 1 || m["divert_store_usable"] != 0 {
		t.Errorf("metrics: behind %v, usable %v", m["divert_plan_behind"], m["divert_store_usable"])
	}
	if log, err := r.Log("d3"); err != nil || !strings.Contains(string(log), "too new for this director") {
		t.Errorf("d3 logs nothing of it, %v", err)
	}
	if out, code := r.divert(3, "freeze", "--for", "1h", "--reason", "INC-31"); code != 1 || !strings.Contains(out, "too new for this director") {
		t.Errorf("d3 commits: exit %d\n%s", code, out)
	}
	r.holds(5*time.Second, "the drain waits for d3, which does not lead and answers on", func() error {
		s, p, err := r.pace(scope)
		switch {
		case err != nil:
			return err
		case p.Step != 1 || !strings.Contains(p.Waits, "d3"):
			return fmt.Errorf("step %d waits for %q", p.Step, p.Waits)
		case s.Leader == "d3":
			return fmt.Errorf("d3 leads")
		}
		return r.answers(3, "pay.example.org", "fra")()
	})
	// From its disk too.
	must(t, r.Stop("d3"))
	must(t, r.Start(t.Context(), "d3"))
	r.until(20*time.Second, "d3 answers from its disk", r.answers(3, "pay.example.org", "fra"))
	// Whoever leads ends, and who is left does, not d3.
	for i := 1; i <= 2; i++ {
		must(t, r.Kill(local.Name(i)))
		r.until(30*time.Second, "the other one leads", func() error {
			if s, err := r.status(3 - i); err != nil || s.Leader != local.Name(3-i) {
				return errors.Join(err, fmt.Errorf("leader %q", s.Leader))
			}
			return nil
		})
		must(t, r.Start(t.Context(), local.Name(i)))
		r.until(30*time.Second, local.Name(i)+" is back", func() error {
			s, err := r.status(3 - i)
			if d := directorIn(s, local.Name(i)); err != nil || !d.Heard || d.DNS != "ok" || d.Plan != fmt.Sprintf("%d.%d", s.Plan.Epoch, s.Plan.Revision) {
				return errors.Join(err, fmt.Errorf("%+v", d))
			}
			return nil
		})
	}

	must(t, r.Use("d3", binary))
	must(t, r.Replace(t.Context(), "d3"))
	r.until(time.Minute, "the drain goes on, to its end", func() error {
		if _, p, err := r.pace(scope); err != nil || p.State != "done" {
			return errors.Join(err, fmt.Errorf("%s at step %d: %s", p.State, p.Step, p.Waits))
		}
		return nil
	})
	r.until(10*time.Second, "all answer without it", r.all("pay.example.org", "nyc"))
	r.until(20*time.Second, "d3, upgraded, is like the others", func() error {
		if s, err := r.status(3); err != nil || s.Behind || s.Store != "ok" {
			return errors.Join(err, fmt.Errorf("behind %t, store %q", s.Behind, s.Store))
		}
		return nil
	})
}
