package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
)

// TestLeaderKilled: the leader's death moves nothing and stops nothing; another
// leads soon (L3), and a person's command waits for neither.
func TestLeaderKilled(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	var leader string
	r.until(15*time.Second, "somebody leads", func() error {
		s, err := r.status(1)
		if err == nil && s.Leader == "" {
			err = fmt.Errorf("nobody leads")
		}
		leader = s.Leader
		return err
	})
	must(t, r.Kill(leader))
	other := 1
	if leader == "d1" {
		other = 2
	}
	out, code := r.divert(other, "drain", "cluster/fra", "--reason", "INC-10", "--timeout", "3s")
	if code != 3 || !strings.Contains(out, leader) {
		t.Errorf("a drain with %s dead: exit %d, want 3 and its name:\n%s", leader, code, out) // S6
	}
	if err := r.answers(other, "pay.example.org", "nyc")(); err != nil {
		t.Error(err)
	}
	r.until(15*time.Second, "another leads", func() error {
		s, err := r.status(other)
		if err == nil && (s.Leader == "" || s.Leader == leader) {
			err = fmt.Errorf("leader %q", s.Leader)
		}
		return err
	})
	must(t, r.Start(t.Context(), leader))
	r.until(15*time.Second, "the dead one comes back with the drain", r.all("pay.example.org", "nyc"))
}

// TestPartition: one director is cut off from its peers and the store. It
// freezes and answers what it knew (F7, S8); the others act; all rejoin (F8, L2).
func TestPartition(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	ctx := t.Context()
	must(t, r.Cut(ctx, "d3", local.Peers))
	must(t, r.Cut(ctx, "d3", "etcd"))
	r.until(5*time.Second, "d3 is isolated", func() error {
		s, err := r.status(3)
		if err == nil && !s.Isolated {
			err = fmt.Errorf("hears %d", s.Quorum.Hears)
		}
		return err
	})
	must(t, r.Kill("fra"))
	r.until(5*time.Second, "the majority acts", func() error {
		if err := r.answers(1, "pay.example.org", "nyc")(); err != nil {
			return err
		}
		return r.answers(2, "pay.example.org", "nyc")()
	})
	r.holds(2*time.Minute, "the minority answers what it knew", r.answers(3, "pay.example.org", "fra"))
	must(t, r.Heal(ctx, "d3", local.Peers))
	must(t, r.Heal(ctx, "d3", "etcd"))
	r.until(20*time.Second, "it rejoins and agrees", r.answers(3, "pay.example.org", "nyc"))
}
