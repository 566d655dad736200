package director

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
)

const aimSpec = meshSpec + `
---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: cart}
spec:
  hosts: [cart.example.org, "*.cart.example.org"]
  siteNames: true
  endpoints: [{cluster: fra, addresses: [192.0.2.1]}, {cluster: nyc, hostname: lb.example.net}]
  probes: [{http: {scheme: http, port: 8080, path: /healthz}, interval: 500ms}, {tcp: {port: 9090}}]
  steering: {policy: failover, order: [fra, nyc]}
  alias: true
---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: soft}
spec:
  hosts: [soft.example.org]
  endpoints: [{cluster: fra, addresses: [192.0.2.1]}]
  probes: [{tcp: {port: 9090}}, {prometheus: {url: "https://prometheus.example.net", query: up, below: 1}}]
`

func aimSet(t testing.TB) *spec.Set {
	t.Helper()
	raws, problems := spec.Parse("aim.yaml", []byte(aimSpec))
	if spec.Failed(problems) {
		t.Fatal(problemsError(problems))
	}
	set, problems := spec.Resolve(raws)
	if spec.Failed(problems) {
		t.Fatal(problemsError(problems))
	}
	return set
}

// TestAim: each way to name a target, and what is probed there.
func TestAim(t *testing.T) {
	set := aimSet(t)
	tests := []struct {
		text string
		want string // addresses and probes, in order; or the refusal
	}{
		{"pay", "192.0.2.1 fast :8080|192.0.2.1 http :8080/healthz|192.0.2.2 fast :8080|192.0.2.2 http :8080/healthz"},
		{"service/pay", "192.0.2.1 fast :8080|192.0.2.1 http :8080/healthz|192.0.2.2 fast :8080|192.0.2.2 http :8080/healthz"},
		{"pay@nyc", "192.0.2.2 fast :8080|192.0.2.2 http :8080/healthz"},
		{"service/pay@nyc", "192.0.2.2 fast :8080|192.0.2.2 http :8080/healthz"},
		{"Pay.Example.org.", "192.0.2.1 fast :8080|192.0.2.1 http :8080/healthz|192.0.2.2 fast :8080|192.0.2.2 http :8080/healthz"},
		{"nyc.cart.example.org", "lb.example.net fast :8080|lb.example.net fast :9090|lb.example.net http :8080/healthz|lb.example.net tcp :9090"},
		{"lb.example.net", "lb.example.net fast :8080|lb.example.net fast :9090|lb.example.net http :8080/healthz|lb.example.net tcp :9090"},
		{"any.cart.example.org", "192.0.2.1 fast :8080|192.0.2.1 fast :9090|192.0.2.1 http :8080/healthz|192.0.2.1 tcp :9090|lb.example.net fast :8080|lb.example.net fast :9090|lb.example.net http :8080/healthz|lb.example.net tcp :9090"},
		{"192.0.2.1:9090", "192.0.2.1 fast :9090|192.0.2.1 tcp :9090"},
		{"::ffff:192.0.2.2", "192.0.2.2 fast :8080|192.0.2.2 http :8080/healthz"},
		{"signal/192.0.2.2:8080", "192.0.2.2 fast :8080"},
		{"soft", "192.0.2.1 fast :9090|192.0.2.1 tcp :9090|192.0.2.1 prometheus up"},

		// Nothing that the spec does not have is ever probed (C12).
		{"192.0.2.9", "has nothing to probe"},
		{"127.0.0.1:22", "has nothing to probe"},
		{"169.254.169.254", "has nothing to probe"},
		{"signal/192.0.2.1:22", "has nothing to probe"},
		{"check/0123456789abcdef@192.0.2.1:8080", "has nothing to probe"},
		{"www.example.net", "there is no service"},
		{"pay@sin", "there is no site of pay"},
		{"cluster/frankfurt", "there is no cluster"},
		{"cluster/", "scope"},
		{"fleet", "there is no service"},
		{"", "names nothing"},
		{"pay ", "names nothing"},
		{"pay\x1b", "names nothing"},
		{strings.Repeat("a", maxAim+1), "names nothing"},
	}
	for _, tc := range tests {
		list, err := aim(set, tc.text)
		var got []string
		for _, a := range list {
			got = append(got, set.NameOf(a.Subject.Addr.Addr())+" "+a.of.String())
		}
		refusal := (*core.Refusal)(nil)
		switch {
		case err == nil && strings.Join(got, "|") != tc.want:
			t.Errorf("%q: got %s, want %s", tc.text, strings.Join(got, "|"), tc.want)
		case err != nil && (!errors.As(err, &refusal) || !strings.Contains(refusal.Reason, tc.want) || refusal.Remedy == ""):
			t.Errorf("%q: got %v, want a refusal with %q and a remedy", tc.text, err, tc.want)
		}
	}
}

// TestAimOnce: what services share is probed once, as often as it is probed otherwise,
// and names them all.
func TestAimOnce(t *testing.T) {
	list, err := aim(aimSet(t), "cluster/fra")
	if err != nil || len(list) != 6 {
		t.Fatalf("got %d subjects, %v, want 6", len(list), err)
	}
	for _, a := range list {
		if a.of.String() == "http :8080/healthz" && !slices.Equal(a.endpoints, []string{"cart@fra"}) && !slices.Equal(a.endpoints, []string{"pay@fra"}) {
			t.Errorf("%s: for %v", a.Subject, a.endpoints)
		}
		if a.of.String() == "fast :8080" && !slices.Equal(a.endpoints, []string{"cart@fra", "pay@fra"}) {
			t.Errorf("%s: for %v, want both services", a.Subject, a.endpoints)
		}
	}
}

// TestAimBounded: no question takes more probes than an answer holds.
func TestAimBounded(t *testing.T) {
	set := aimSet(t)
	pay := *set.Service("pay")
	for i := range maxAimed {
		more := pay
		more.Name = "pay" + utoa(uint64(i))
		more.Probes = slices.Clone(pay.Probes)
		h := *pay.Probes[0].HTTP
		h.Path = "/" + more.Name
		more.Probes[0].HTTP = &h
		set.Services = append(set.Services, &more)
	}
	if list, err := aim(set, "cluster/fra"); err == nil || !strings.Contains(err.Error(), "at most 2048") {
		t.Errorf("got %d subjects, %v", len(list), err)
	}
}

// FuzzAim: whatever a peer names, only subjects of the spec come of it (C12).
func FuzzAim(f *testing.F) {
	set := aimSet(f)
	known := subjects(set)
	for _, s := range []string{"pay", "pay@fra", "cluster/fra", "192.0.2.1:8080", "signal/192.0.2.1:8080", "*.cart.example.org", "[::1%eth0]:53"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := aim(set, text)
		if err == nil && len(list) == 0 {
			t.Errorf("%q: neither a target nor a refusal", text)
		}
		for _, a := range list {
			if !slices.Contains(known, a.Subject) {
				t.Errorf("%q gives %s, which the spec does not have", text, a.Subject)
			}
		}
	})
}
