package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

// TestEmergencyParted (F8, F10): with etcd gone and five directors in two halves that hear
// nothing of each other, an operator's drain is gone by where it is said, also by a minority,
// and named as missing elsewhere; when the halves meet it is in force on all, by gossip alone.
// The operator undrains it through the other half, and it does not come back. When etcd is
// back, what was ended and what is in force are settled once in the plan, and no answer
// changes at that (S15).
func TestEmergencyParted(t *testing.T) {
	r := start(t, local.Options{Directors: 5})
	r.settle()
	ctx := t.Context()
	const host = "pay.example.org"
	key := filepath.Join(t.TempDir(), "oncall.key")
	r.must(1, "keys", "operator", "new", key)
	r.must(1, "keys", "operator", "add", "oncall", key, "--reason", "on call")
	few, many := []int{1, 2}, []int{3, 4, 5}
	answer := func(of []int, cluster string) func() error {
		return func() error {
			var all error
			for _, i := range of {
				all = errors.Join(all, r.answers(i, host, cluster)())
			}
			return all
		}
	}
	hears := func(want bool) func() error {
		return func() error {
			for _, i := range few {
				s, err := r.status(i)
				if err != nil {
					return err
				}
				for _, d := range s.Directors {
					if slices.Contains(many, int(d.Name[1]-'0')) && d.Heard != want {
						return fmt.Errorf("d%d hears %s: %t", i, d.Name, d.Heard)
					}
				}
			}
			return nil
		}
	}

	must(t, r.Kill("etcd"))
	must(t, r.Part(few, many))
	r.until(20*time.Second, "the halves are apart", hears(false))
	out, code := r.divert(1, "drain", "cluster/fra", "--emergency", "--key", key, "--for", "30m", "--reason", "INC-30", "--id", "parted-1", "--timeout", "8s")
	if code != 3 || !strings.Contains(out, "d3") || !strings.Contains(out, "d4") || !strings.Contains(out, "d5") || strings.Contains(out, "all but d2") {
		t.Errorf("S6: exit %d, want 3 with who is missing:\n%s", code, out)
	}
	if err := errors.Join(answer(few, "nyc")(), r.emergency(2, "cluster/fra", "in force")()); err != nil {
		t.Errorf("where it was said: %v", err)
	}
	r.holds(3*time.Second, "the other half knows nothing of it", func() error {
		return errors.Join(answer(many, "fra")(), answer(few, "nyc")(), r.emergency(4, "cluster/fra", "none")())
	})

	must(t, r.Join(few, many))
	begun := time.Now()
	r.until(30*time.Second, "by gossip alone it is in force on all", r.all(host, "nyc"))
	t.Logf("in all answers %s after the halves met", time.Since(begun).Round(time.Millisecond))
	r.until(20*time.Second, "they hear each other", hears(true))
	r.must(5, "drain", "service/shop@sin", "--emergency", "--key", key, "--reason", "INC-31", "--id", "parted-2")
	r.must(5, "undrain", "cluster/fra", "--emergency", "--key", key, "--reason", "INC-30 is over")
	if err := r.all(host, "fra")(); err != nil {
		t.Errorf("undrained by the other half: %v", err)
	}
	must(t, r.Kill("d2"))
	must(t, r.Start(ctx, "d2"))
	r.until(20*time.Second, "it is up again", r.answers(2, host, "fra"))
	r.holds(3*time.Second, "what is undrained stays so, over a restart too", r.all(host, "fra"))

	must(t, r.Start(ctx, "etcd"))
	r.until(45*time.Second, "both are settled", func() error {
		if err := r.all(host, "fra")(); err != nil {
			t.Errorf("while they were settled: %v", err)
		}
		for i := 1; i <= 5; i++ {
			if err := errors.Join(r.emergency(i, "cluster/fra", "none")(), r.emergency(i, "service/shop@sin", "plan")()); err != nil {
				return err
			}
		}
		return nil
	})
	s, err := r.status(4)
	must(t, err)
	if !slices.ContainsFunc(s.Overrides, func(o api.Override) bool { return o.ID == "parted-2" && o.Emergency == nil }) {
		t.Errorf("it has not kept its ID: %+v", s.Overrides)
	}
	for id, want := range map[string]int{"parted-1": 1, "parted-2": 1} {
		told := 0
		for _, record := range decode[[]api.AuditRecord](t, r.must(4, "audit", "--limit", "100", "-o", "json")) {
			if strings.Contains(record.Command, "settle-"+id+"-") {
				told++
			}
		}
		if told != want {
			t.Errorf("S15: %d audit records of %s, want %d", told, id, want)
		}
	}
}
