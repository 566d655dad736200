package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

// key gives what a director says of the gossip key.
func (r *rig) key(i int) api.GossipKey {
	if s, err := r.status(i); err == nil && s.GossipKey != nil {
		return *s.GossipKey
	}
	return api.GossipKey{}
}

// turned waits until a turn-over is complete on all directors, and holds their key files
// against each other and against the one from before.
func (r *rig) turned(before string, changes bool) (now string) {
	r.t.Helper()
	r.until(60*time.Second, "the gossip key is turned over everywhere", func() error {
		now = ""
		for i := 1; i <= r.Directors(); i++ {
			k := r.key(i)
			if k.Turn != nil || k.Also != "" || k.Fleet == "" || k.Fleet != k.Key {
				return fmt.Errorf("%s: %+v, turn %+v", local.Name(i), k, k.Turn)
			}
			raw, err := os.ReadFile(r.GossipKeyFile(i))
			if err != nil {
				return err
			}
			if now == "" {
				now = string(raw)
			}
			if string(raw) != now {
				return fmt.Errorf("the key files of d1 and %s differ", local.Name(i))
			}
		}
		return nil
	})
	if (now != before) != changes {
		r.t.Errorf("the key has changed: %v, want %v", now != before, changes)
	}
	for i := 1; i <= r.Directors(); i++ {
		if info, err := os.Stat(r.GossipKeyFile(i)); err != nil || info.Mode().Perm() != 0o600 {
			r.t.Errorf("key file of %s: %v, %v", local.Name(i), info.Mode(), err)
		}
		if _, err := os.Stat(r.DataDir(i) + "/gossip.next"); err == nil {
			r.t.Errorf("%s keeps a key that was drawn", local.Name(i))
		}
	}
	return now
}

// secretless searches what people see and what is stored for a key.
func (r *rig) secretless(keys ...string) {
	r.t.Helper()
	for i := 1; i <= r.Directors(); i++ {
		b, _ := r.Log(local.Name(i))
		texts := map[string]string{"log": string(b), "status": r.must(i, "status", "-o", "json"), "audit": r.must(i, "audit", "-o", "json")}
		for where, text := range texts {
			for _, key := range keys {
				if strings.Contains(text, strings.TrimSpace(key)) {
					r.t.Errorf("the %s of %s holds a gossip key", where, local.Name(i))
				}
			}
		}
	}
}

// TestKeysRotate turns the gossip key over under load: no query fails, no packet is one that
// cannot be decrypted, and no director is without a quorum for an instant. In the long suite
// each director is killed in each phase, one is away for a while, and one turn-over is taken
// back.
func TestKeysRotate(t *testing.T) {
	r := start(t, local.Options{Clusters: local.DefaultSites()[:2]})
	r.settle()
	raw, err := os.ReadFile(r.GossipKeyFile(1))
	must(t, err)
	first := string(raw)
	garbled := func(i int) float64 { return r.metrics(i)[`divert_gossip_dropped_total{reason="undecryptable"}`] }

	_, stop := r.query(200, "pay.example.org")
	out := r.must(2, "keys", "rotate", "--reason", "every quarter")
	for _, want := range []string{"all add", "all use", "all remove", "complete: all gossip under"} {
		if !strings.Contains(out, want) {
			t.Errorf("rotate does not say %q:\n%s", want, out)
		}
	}
	second := r.turned(first, true)
	stop()
	for i := 1; i <= r.Directors(); i++ {
		if n := garbled(i); n != 0 {
			t.Errorf("%s could not decrypt %v packets", local.Name(i), n)
		}
		s, err := r.status(i)
		must(t, err)
		if s.Isolated || s.Quorum.Hears != r.Directors() || len(s.Alerts) > 0 {
			t.Errorf("%s hears %d, alerts %q", local.Name(i), s.Quorum.Hears, s.Alerts)
		}
	}
	r.secretless(first, second)
	if level() != "long" {
		return
	}

	// Each is killed as soon as each phase is seen, and comes back with what its file says.
	last := second
	for _, phase := range []string{"add", "use", "remove"} {
		for victim := 1; victim <= 3; victim++ {
			asked := victim%3 + 1
			if _, code := r.divert(victim, "keys", "rotate", "--reason", "INC-1", "--timeout", "10s", "-o", "json"); code != 0 {
				t.Fatalf("rotate: code %d", code)
			}
			r.until(30*time.Second, "phase "+phase, func() error {
				k := r.key(asked)
				if k.Turn == nil && k.Key != "" && phase == "remove" { // it was quick
					return nil
				}
				if k.Turn == nil || k.Turn.Phase != phase {
					return fmt.Errorf("%+v", k.Turn)
				}
				return nil
			})
			must(t, r.Kill(local.Name(victim)))
			must(t, r.Start(t.Context(), local.Name(victim)))
			last = r.turned(last, true)
		}
	}

	// One is away: all wait for it, and say so; it comes back and the turn-over ends.
	must(t, r.Kill("d3"))
	text, code := r.divert(1, "keys", "rotate", "--reason", "INC-2", "--timeout", "15s")
	if code != 3 || !strings.Contains(text, "d3") {
		t.Errorf("with d3 away: code %d\n%s", code, text)
	}
	if text := r.must(2, "keys", "status"); !strings.Contains(text, "waits: d3 is not heard") {
		t.Errorf("keys status does not name who is waited for:\n%s", text)
	}
	must(t, r.Start(t.Context(), "d3"))
	last = r.turned(last, true)

	// Taken back while one is away.
	must(t, r.Kill("d3"))
	if _, code := r.divert(1, "keys", "rotate", "--reason", "INC-3", "--timeout", "15s"); code != 3 {
		t.Errorf("with d3 away: code %d", code)
	}
	if _, code := r.divert(2, "keys", "rotate", "--back", "--reason", "INC-3", "--timeout", "15s"); code != 3 {
		t.Errorf("taken back with d3 away: code %d", code)
	}
	must(t, r.Start(t.Context(), "d3"))
	last = r.turned(last, false)

	// One comes back with a disk from before, and is told how to be heard again.
	must(t, r.Kill("d3"))
	must(t, os.WriteFile(r.GossipKeyFile(3), []byte(first), 0o600))
	must(t, r.Start(t.Context(), "d3"))
	r.until(20*time.Second, "d3 is told what to do", func() error {
		s, err := r.status(3)
		if err == nil && !strings.Contains(strings.Join(s.Alerts, "\n"), "copy the key file of a director that is there") {
			err = fmt.Errorf("alerts: %q", s.Alerts)
		}
		return err
	})
	r.until(20*time.Second, "what an old key sends is counted", func() error { // else the zeros above say nothing
		if garbled(1) == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	must(t, os.WriteFile(r.GossipKeyFile(3), []byte(last), 0o600))
	r.until(30*time.Second, "it is heard again without a restart", func() error {
		s, err := r.status(1)
		if err == nil && s.Quorum.Hears != 3 {
			err = fmt.Errorf("d1 hears %d", s.Quorum.Hears)
		}
		return err
	})
	r.turned(last, false)
	r.secretless(first, second, last)
}
