package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

// backendSpec is a service whose sites are backends of their own, so that each can be
// killed: b1 is fra's, b2 nyc's.
func backendSpec(f *local.Fleet, name, policy, ttl string) string {
	return fmt.Sprintf(`---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: %[1]s}
spec:
  hosts: [%[1]s.example.org]
  ttl: %[3]s
  endpoints:
  - {cluster: fra, addresses: [%[4]s]}
  - {cluster: nyc, addresses: [%[5]s]}
  probes:
  - http: {scheme: http, port: %[6]d, path: /healthz, body: ok}
  steering: {policy: %[2]s, order: [fra, nyc]}
`, name, policy, ttl, f.Backend(1), f.Backend(2), local.ServicePort)
}

// leavers gives which of some networks one director sends to an address.
func (r *rig) leavers(i int, host, addr string, of []netip.Prefix) map[netip.Prefix]bool {
	r.t.Helper()
	out := map[netip.Prefix]bool{}
	for k, got := range r.told(i, []string{host}, of)[host] {
		if got == addr {
			out[of[k]] = true
		}
	}
	return out
}

// stands waits until the drain of a scope is in a state, or at a step, as a director says.
func (r *rig) stands(i int, scope, state string, moved int) {
	r.t.Helper()
	r.until(20*time.Second, fmt.Sprintf("the drain of %s is %s with %d ‰ away", scope, state, moved), func() error {
		s, err := r.status(i)
		if err != nil {
			return err
		}
		for _, o := range s.Overrides {
			if o.Scope == scope && o.Pace != nil {
				if o.Pace.State == state && o.Pace.Moved == moved {
					return nil
				}
				return fmt.Errorf("%s, %d, waits for %s", o.Pace.State, o.Pace.Moved, o.Pace.Waits)
			}
		}
		return fmt.Errorf("no such drain: %v", s.Overrides)
	})
}

// TestPaced (SEMANTICS section 4): the TTL falls first, then the same clients leave on every
// director, and whoever has left stays away; complete when seen; then it comes back in steps.
// A survivor that fails holds the next drain, has it rolled back, and both are on record.
func TestPaced(t *testing.T) {
	long(t)
	r := start(t, local.Options{Clusters: local.DefaultSites()[:2], Backends: 2, Spec: func(f *local.Fleet) string {
		return local.FleetSpec(f) + backendSpec(f, "web", "failover", "8s")
	}})
	r.settle()
	_, stop := r.query(100, "web.example.org")
	defer stop()
	const host, scope = "web.example.org", "service/web@fra"
	fra, nyc := r.Backend(1).String(), r.Backend(2).String()
	some := sampled(3000)

	r.must(1, "drain", scope, "--paced", "--steps", "10,50,100", "--wait", "3s", "--for", "10m", "--reason", "INC-21")
	r.stands(2, scope, "moving", 0)
	// One old TTL long it is the time to that step, and that begins anew when all are known
	// to have it.
	for last, anew := uint32(8), false; last > 5; {
		reply, err := r.reply(2, host, some[0].String())
		if err != nil {
			t.Fatal(err)
		}
		a := reply.Answer[0].(*dns.A)
		if a.A.String() != fra || a.Hdr.Ttl > 8 || anew && a.Hdr.Ttl > last {
			t.Fatalf("before its first step: %v, after a TTL of %d", a, last)
		}
		anew = anew || a.Hdr.Ttl > last
		last = a.Hdr.Ttl
		<-time.After(200 * time.Millisecond)
	}
	var gone map[netip.Prefix]bool
	for _, moved := range []int{100, 500} {
		r.stands(1, scope, "moving", moved)
		now := r.leavers(1, host, nyc, some)
		t.Logf("%d ‰ are to have left, and %d of %d have", moved, len(now), len(some))
		if part := 1000 * len(now) / len(some); part < moved-40 || part > moved+40 {
			t.Errorf("%d ‰ of the clients have left, want about %d", part, moved)
		}
		for c := range gone {
			if !now[c] {
				t.Errorf("%s had left, and is back at %d ‰", c, moved)
			}
		}
		gone = now
		other := r.leavers(3, host, nyc, some)
		if _, p, err := r.pace(scope); err == nil && p.Moved == moved && !maps.Equal(now, other) { // else the next step has come
			t.Errorf("at %d ‰ d1 and d3 move different clients: %d and %d", moved, len(now), len(other))
		}
	}
	r.stands(3, scope, "done", 1000)
	if left := r.leavers(3, host, fra, some); len(left) > 0 {
		t.Errorf("S6: complete, and %d clients are sent there yet", len(left))
	}
	out := r.must(2, "undrain", scope, "--reason", "INC-21 is over", "--follow")
	for _, want := range []string{"step 1 of 3, 90 % of its clients are away", "step 2 of 3, 50 % of its clients are away", "all its clients are back"} {
		if !strings.Contains(out, want) {
			t.Errorf("the return does not show %q:\n%s", want, out)
		}
	}

	// It goes as the last time, but for its wait.
	r.must(1, "drain", scope, "--paced", "--wait", "3s", "--for", "10m", "--reason", "INC-22")
	r.stands(1, scope, "moving", 100)
	must(t, r.Kill("b2"))
	r.stands(3, scope, "held", 100)
	s, err := r.status(3)
	must(t, err)
	const why = "web@nyc is failed: "
	if !strings.Contains(strings.Join(s.Alerts, "\n"), "drain of "+scope+" is held: "+why) {
		t.Errorf("nobody is told that it is held: %q", s.Alerts)
	}
	r.stands(2, scope, "rolled back", 0)
	r.until(5*time.Second, "all clients are back", func() error {
		if away := r.leavers(2, host, nyc, some[:200]); len(away) > 0 {
			return fmt.Errorf("%d are away", len(away))
		}
		return nil
	})
	var said []string
	for _, a := range decode[[]api.AuditRecord](t, r.must(1, "audit", "--limit", "10", "-o", "json")) {
		said = append(said, a.What)
	}
	for _, want := range []string{"hold the drain of " + scope + ", 10 % moved: " + why, "roll back the drain of " + scope + ", 10 % moved: " + why} {
		if !slices.ContainsFunc(said, func(what string) bool { return strings.Contains(what, want) }) {
			t.Errorf("the audit log lacks %q: %q", want, said)
		}
	}
	if out, code := r.divert(1, "drain", scope, "--paced", "--reason", "again"); code != 1 || !strings.Contains(out, "last healthy site of web") {
		t.Errorf("onto what is dead: exit %d\n%s", code, out)
	}
	stop()
}

// TestRollout (SEMANTICS section 4): a spec that one director tries is everybody's after its
// soak, and a drain commits meanwhile; one that alarms is taken back, and nobody else has
// seen it; revert is one step. Interlocks refuse whatever takes too much away, and what passes
// them is on record.
func TestRollout(t *testing.T) {
	long(t)
	r := start(t, local.Options{Clusters: local.DefaultSites()[:2], Backends: 2, Spec: func(f *local.Fleet) string {
		return local.FleetSpec(f) + backendSpec(f, "web", "failover", "5s") + `---
apiVersion: divert.dev/v1alpha1
kind: Interlock
metadata: {name: one-stays}
spec: {assert: {atLeast: 1, of: [cluster/fra, cluster/nyc]}}
---
apiVersion: divert.dev/v1alpha1
kind: Interlock
metadata: {name: nyc-by-hand}
spec: {gate: {switch: nyc-work, of: [cluster/nyc]}}
`
	}})
	r.settle()
	_, stop := r.query(100, "web.example.org")
	defer stop()
	fra, nyc := r.Backend(1).String(), r.Backend(2).String()
	const host = "web.example.org"
	file := func(name, from, to string) string {
		t.Helper()
		text := backendSpec(r.Fleet, "web", "failover", "5s")
		changed := strings.Replace(text, from, to, 1)
		if changed == text {
			t.Fatalf("no %q in %s", from, text)
		}
		path := filepath.Join(t.TempDir(), name+".yaml")
		must(t, os.WriteFile(path, []byte(changed), 0o600))
		return path
	}
	answers := func(want ...string) func() error {
		return func() error {
			for i, addr := range want {
				got, err := r.sites(i+1, host)
				if err == nil && got != addr {
					err = fmt.Errorf("d%d answers %s, want %s", i+1, got, addr)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
	}

	turned := file("turned", "order: [fra, nyc]", "order: [nyc, fra]")
	r.must(1, "apply", "-f", turned, "--canary", "d2", "--soak", "5s", "--reason", "nyc first")
	must(t, answers(fra, nyc, fra)())
	if out, code := r.divert(3, "drain", "cluster/nyc", "--now", "--reason", "INC-31"); code != 1 || !strings.Contains(out, "nyc-by-hand") {
		t.Errorf("a closed gate: exit %d\n%s", code, out)
	}
	r.must(3, "drain", "cluster/fra", "--now", "--reason", "INC-31")
	must(t, answers(nyc, nyc, nyc)())
	r.must(3, "undrain", "cluster/fra", "--reason", "over")
	r.until(15*time.Second, "it is all directors' after its soak", answers(nyc, nyc, nyc))
	out := r.must(3, "revert", "--reason", "not yet")
	must(t, answers(fra, fra, fra)())
	if !strings.Contains(out, "reverted to the spec from before") {
		t.Errorf("revert says\n%s", out)
	}

	// An address at which nobody is: failed by what is tried, and well by what is in force.
	dead := file("dead", "addresses: ["+nyc+"]", "addresses: ["+strings.Replace(nyc, ".20.2", ".20.9", 1)+"]")
	r.must(2, "apply", "-f", dead, "--canary", "d3", "--soak", "30s", "--reason", "moved")
	r.until(15*time.Second, "it is taken back", func() error {
		s, err := r.status(1)
		if err == nil && (s.Rollout == nil || s.Rollout.State != "stopped" || !strings.Contains(s.Rollout.Why, "web@nyc is failed")) {
			err = fmt.Errorf("%+v", s.Rollout)
		}
		return err
	})
	for i := 1; i <= r.Directors(); i++ {
		records, err := r.client(i).Spec(t.Context())
		must(t, err)
		if text, _ := json.Marshal(records); !strings.Contains(string(text), nyc) {
			t.Errorf("d%d answers from what was taken back: %s", i, text)
		}
	}
	if out := r.must(1, "rollout", "status"); !strings.Contains(out, "was taken back") {
		t.Errorf("rollout status says\n%s", out)
	}

	// Interlocks: a gate until its switch is on, an assertion until it is forced.
	r.must(1, "interlock", "on", "nyc-work", "--reason", "INC-32")
	r.must(2, "drain", "cluster/nyc", "--now", "--reason", "INC-32")
	text, code := r.divert(1, "drain", "cluster/fra", "--now", "--reason", "INC-33", "--force", "--dry-run")
	if code != 0 || !strings.Contains(text, "interlock one-stays wants at least 1 of cluster/fra, cluster/nyc") {
		t.Errorf("what --force would pass: exit %d\n%s", code, text)
	}
	r.must(2, "interlock", "off", "nyc-work", "--reason", "INC-32")
	if out, code := r.divert(3, "undrain", "cluster/nyc", "--reason", "over"); code != 1 || !strings.Contains(out, "divert interlock on nyc-work") {
		t.Errorf("a closed gate brings nothing back: exit %d\n%s", code, out)
	}
	r.must(3, "undrain", "cluster/nyc", "--reason", "over", "--force", "--confirm", "cluster/nyc")
	records := decode[[]api.AuditRecord](t, r.must(1, "audit", "--limit", "1", "-o", "json"))
	if len(records) != 1 || !records[0].Forced {
		t.Errorf("that it was forced is not on record: %+v", records)
	}
	stop()
}
