package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

// TestRoster: a director that nobody has listed answers the fleet's plan once it
// has it, and counts nothing until a person approves it. A removed one does not
// come back by itself (SEMANTICS, Enrolment and Roster).
func TestRoster(t *testing.T) {
	long(t)
	r := start(t, local.Options{Spares: 1})
	r.settle()
	ctx := t.Context()
	standing := func(want string) func() error {
		return func() error {
			for i := 1; i <= r.Directors(); i++ {
				s, err := r.status(i)
				if err != nil {
					return err
				}
				if d4 := directorIn(s, "d4"); d4.Standing != want {
					return fmt.Errorf("%s sees d4 %q", local.Name(i), d4.Standing)
				}
			}
			return nil
		}
	}
	counted := func(i, n, q int) error {
		s, err := r.status(i)
		if err == nil && (s.Quorum.Directors != n || s.Quorum.Needed != q) {
			err = fmt.Errorf("%s counts %d directors and needs %d", local.Name(i), s.Quorum.Directors, s.Quorum.Needed)
		}
		return err
	}

	must(t, r.Start(ctx, "d4"))
	r.until(20*time.Second, "a stranger is pending", standing("pending"))
	must(t, counted(1, 3, 2))
	out := decode[api.Outcome](t, r.must(1, "drain", "cluster/fra", "--reason", "INC-16", "-o", "json"))
	if len(out.Applied) != 3 {
		t.Errorf("a drain waits for %v, want the three of the roster", out.Applied)
	}
	r.must(1, "undrain", "cluster/fra", "--reason", "over")
	r.holds(3*time.Second, "it stays pending", standing("pending"))
	if list := r.must(2, "director", "list"); !strings.Contains(list, "pending") {
		t.Errorf("director list does not show it:\n%s", list)
	}

	r.must(2, "director", "approve", "d4", "--reason", "a fourth site")
	r.until(20*time.Second, "it counts everywhere, by its own word too", func() error {
		for i := 1; i <= 4; i++ {
			if err := counted(i, 4, 3); err != nil {
				return err
			}
		}
		s, err := r.status(1)
		if d4 := directorIn(s, "d4"); err == nil && (!d4.Heard || d4.DNS != "ok" || d4.Standing != "active" || d4.Plan == "") {
			err = fmt.Errorf("d4: %+v", d4)
		}
		return err
	})
	out = decode[api.Outcome](t, r.must(4, "drain", "cluster/fra", "--reason", "INC-17", "-o", "json"))
	if len(out.Applied) != 4 {
		t.Errorf("a drain is on %v, want all four", out.Applied)
	}
	if err := r.answers(4, "pay.example.org", "nyc")(); err != nil {
		t.Error(err)
	}

	r.must(1, "undrain", "cluster/fra", "--reason", "over")
	r.must(3, "director", "remove", "d4", "--reason", "the site is given up")
	r.until(10*time.Second, "it counts no more", func() error { return counted(1, 3, 2) })
	must(t, r.Stop("d4"))
	must(t, r.Start(ctx, "d4"))
	r.holds(10*time.Second, "it does not come back by itself", func() error {
		if err := standing("removed")(); err != nil {
			return err
		}
		return counted(1, 3, 2)
	})
	if text, code := r.divert(4, "drain", "cluster/nyc", "--reason", "INC-18", "--timeout", "3s"); code == 0 {
		t.Errorf("a removed director commands the fleet:\n%s", text)
	}
	if err := r.all("pay.example.org", "fra")(); err != nil {
		t.Error(err)
	}
	r.must(1, "director", "approve", "d4", "--reason", "the site is taken up again")
	r.until(20*time.Second, "a person brings it back", func() error { return counted(1, 4, 3) })
}

// TestClone: a machine is copied, and two processes live with one identity. Both
// are ignored as voters and every director raises the alarm, until one of them is
// ended and the other restarted (F26).
func TestClone(t *testing.T) {
	long(t)
	r := start(t, local.Options{Spares: 1})
	r.settle()
	ctx := t.Context()
	must(t, r.Impersonate(4, 3))
	must(t, r.Start(ctx, "d4"))
	r.until(30*time.Second, "the others raise the alarm", func() error {
		for i := 1; i <= 2; i++ {
			s, err := r.status(i)
			if err != nil {
				return err
			}
			if d3 := directorIn(s, "d3"); !strings.Contains(d3.Alarm, "two live processes") || d3.Heard {
				return fmt.Errorf("%s sees d3 with alarm %q, heard %v", local.Name(i), d3.Alarm, d3.Heard)
			}
		}
		return nil
	})
	if out := r.must(1, "status"); !strings.Contains(out, "two live processes") {
		t.Errorf("status says nothing of it:\n%s", out)
	}

	// Neither of the two counts: what d3 and its clone see moves nothing with one
	// other director, and the other two still decide.
	must(t, r.Cut(ctx, "d3", "fra"))
	must(t, r.Cut(ctx, "d4", "fra"))
	must(t, r.Cut(ctx, "d1", "fra"))
	r.holds(5*time.Second, "d1 and the two that are one move nothing", func() error {
		for i := 1; i <= 2; i++ {
			if err := r.answers(i, "pay.example.org", "fra")(); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, r.Cut(ctx, "d2", "fra"))
	r.until(6*time.Second, "d1 and d2 move it", func() error {
		for i := 1; i <= 2; i++ {
			if err := r.answers(i, "pay.example.org", "nyc")(); err != nil {
				return err
			}
		}
		return nil
	})
	for i := 1; i <= 4; i++ {
		must(t, r.Heal(ctx, local.Name(i), "fra"))
	}

	// The clone began later, so its boot is the higher: what the original says may
	// be a recording, and the alarm says what to do.
	must(t, r.Kill("d4"))
	r.until(30*time.Second, "the alarm says what to do", func() error {
		s, err := r.status(1)
		if d3 := directorIn(s, "d3"); err == nil && !strings.Contains(d3.Alarm, "Restart the director") {
			err = fmt.Errorf("d3: alarm %q", d3.Alarm)
		}
		return err
	})
	must(t, r.Stop("d3"))
	must(t, r.Start(ctx, "d3"))
	r.until(30*time.Second, "the alarm ends with the restart", func() error {
		s, err := r.status(1)
		if d3 := directorIn(s, "d3"); err == nil && (d3.Alarm != "" || !d3.Heard) {
			err = fmt.Errorf("d3: alarm %q, heard %v", d3.Alarm, d3.Heard)
		}
		return err
	})
	r.must(1, "readmit", "cluster/fra", "--reason", "the wires are back")
	r.until(15*time.Second, "all agree again", r.all("pay.example.org", "fra"))
}
