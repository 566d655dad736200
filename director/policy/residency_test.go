package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
)

// residing is a bundle that says something of residency.
func residing(t *testing.T, rule string) *Policy {
	t.Helper()
	b := bundleOf(both(`deny contains "never" if false`))
	b.Files = append(b.Files, File{Path: "residency.rego", Text: []byte("package divert.residency\n\n" + rule + "\n")})
	p, problems := Compile(b, "")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return p
}

// places is a spec of three clusters, two of them in the EU, and two services.
func places() Resources {
	out := Resources{"Cluster": {}, "GlobalService": {}}
	for name, labels := range map[string]string{"fra": `{"jurisdiction": "eu"}`, "ams": `{"jurisdiction": "eu"}`, "nyc": `{"jurisdiction": "us"}`} {
		out["Cluster"][name] = json.RawMessage(fmt.Sprintf(`{"metadata": {"name": %q, "labels": %s}}`, name, labels))
	}
	for _, name := range []string{"shop", "pay"} {
		out["GlobalService"][name] = json.RawMessage(fmt.Sprintf(`{"metadata": {"name": %q}}`, name))
	}
	return out
}

// TestReside: what a rule says of residency as sets, and what is refused of it, strictly: a
// key that is mistyped would let clients go where they must not (S11).
func TestReside(t *testing.T) {
	for _, tc := range []struct {
		name, rule string
		want       string // sets, by ; between them
		problem    string
	}{
		{name: "nothing", rule: `sets := set()`},
		{name: "by labels", rule: `sets contains {"service": "shop", "clients": "everybody", "clusters": {"jurisdiction": "eu"}, "why": "law"}`, want: "shop: all clients only on ams, fra (law)"},
		{name: "by names", rule: `sets contains {"services": {"shop", "pay"}, "clients": {"countries": ["DE", "AT", "DE"], "prefixes": ["198.51.100.0/24"]}, "clusters": ["nyc", "fra", "gone"]}`, want: "pay, shop: clients of AT, DE, 198.51.100.0/24 only on fra, nyc"},
		{name: "put together", rule: "sets contains {\"service\": name, \"clients\": {\"continents\": [\"EU\"]}, \"clusters\": [\"fra\"]} if some name, _ in input.spec.GlobalService\nsets contains {\"service\": \"pay\", \"clients\": \"everybody\", \"clusters\": [\"nyc\", \"fra\"]}", want: "pay, shop: clients of EU only on fra; pay: all clients only on fra, nyc"},
		{name: "of another service", rule: `sets contains {"service": "other", "clients": "everybody", "clusters": ["fra"]}`},

		{name: "no set", rule: `sets := true`, problem: "is boolean true, and not a set of objects"},
		{name: "undefined", rule: `sets := {"x"} if input.nothing`, problem: "is undefined"},
		{name: "a text", rule: `sets contains "shop"`, problem: "it is no object"},
		{name: "mistyped", rule: `sets contains {"service": "shop", "client": "everybody", "clusters": ["fra"]}`, problem: `there is no key "client"`},
		{name: "mistyped clients", rule: `sets contains {"service": "shop", "clients": {"country": ["DE"]}, "clusters": ["fra"]}`, problem: `clients has no key "country"`},
		{name: "no clients", rule: `sets contains {"service": "shop", "clusters": ["fra"]}`, problem: "it has no clients"},
		{name: "nobody", rule: `sets contains {"service": "shop", "clients": {"countries": []}, "clusters": ["fra"]}`, problem: "clients names nobody"},
		{name: "some text", rule: `sets contains {"service": "shop", "clients": "all", "clusters": ["fra"]}`, problem: `clients is "all"`},
		{name: "no clusters", rule: `sets contains {"service": "shop", "clients": "everybody"}`, problem: "it has no clusters"},
		{name: "no such cluster", rule: `sets contains {"service": "shop", "clients": "everybody", "clusters": {"jurisdiction": "ch"}}`, problem: "nobody would answer these clients of shop"},
		{name: "no label", rule: `sets contains {"service": "shop", "clients": "everybody", "clusters": {}}`, problem: "asks for no label"},
		{name: "no service", rule: `sets contains {"clients": "everybody", "clusters": ["fra"]}`, problem: "service or services"},
		{name: "no continent", rule: `sets contains {"service": "shop", "clients": {"continents": ["XX"]}, "clusters": ["fra"]}`, problem: `there is no continent "XX"`},
		{name: "no country", rule: `sets contains {"service": "shop", "clients": {"countries": ["de"]}, "clusters": ["fra"]}`, problem: `there is no country "de"`},
		{name: "no prefix", rule: `sets contains {"service": "shop", "clients": {"prefixes": ["198.51.100.1/24"]}, "clusters": ["fra"]}`, problem: "is no prefix"},
		{name: "a long reason", rule: `sets contains {"service": "shop", "clients": "everybody", "clusters": ["fra"], "why": concat("", [x | some i in numbers.range(1, 300); x := "y"])}`, problem: "why has 300 octets"},
		{name: "an error", rule: `sets contains {"service": "shop", "clients": "everybody", "clusters": ["fra"]} if time.parse_rfc3339_ns("x") > 0`, problem: "residency.rego:3: time.parse_rfc3339_ns"},
		{name: "many", rule: `sets contains {"service": "shop", "clients": {"prefixes": [sprintf("10.%d.%d.0/24", [a, b])]}, "clusters": ["fra"]} if { some a in numbers.range(0, 1); some b in numbers.range(0, 200) }`, problem: "402 sets, at most 256"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, v := residing(t, tc.rule).Reside(t.Context(), places())
			var lines []string
			for _, s := range got.GetSets() {
				lines = append(lines, SetText(s))
			}
			want := strings.Split(tc.want, "; ")
			slices.Sort(lines)
			slices.Sort(want)
			if tc.want == "" {
				want = nil
			}
			if !slices.Equal(lines, want) || (v.Problem == "") != (tc.problem == "") || !strings.Contains(v.Problem, tc.problem) {
				t.Errorf("got %q, %q; want %q, %q", lines, v.Problem, tc.want, tc.problem)
			}
		})
	}
}

// TestResideAlike: the same sets come of a policy and a spec, in the same order, on every
// director and whatever else is asked of it, so that one can hold another's plan against
// them (S7); and a bundle without the rule says nothing.
func TestResideAlike(t *testing.T) {
	const rule = `sets contains {"service": name, "clients": {"countries": [c]}, "clusters": names} if {
	some name, _ in input.spec.GlobalService
	some c in ["DE", "FR", "AT", "PL"]
	names := {n | some n, _ in input.spec.Cluster; n != "nyc"}
}`
	first, v := residing(t, rule).Reside(t.Context(), places())
	if v.Problem != "" || len(first.GetSets()) != 4 {
		t.Fatalf("got %v, %q", first, v.Problem)
	}
	for range 20 {
		if next, _ := residing(t, rule).Reside(t.Context(), places()); !proto.Equal(first, next) {
			t.Fatalf("got %v, then %v", first, next)
		}
	}
	p, _ := Compile(bundleOf(both(`deny contains "never" if false`)), "")
	if got, v := p.Reside(t.Context(), places()); got != nil || v.Problem != "" || p.Resides() {
		t.Errorf("without the rule: %v, %q", got, v.Problem)
	}
	noClock := residing(t, `sets contains {"service": "shop", "clients": "everybody", "clusters": ["fra"]} if input.now > 0`)
	if got, v := noClock.Reside(t.Context(), places()); got != nil || v.Problem != "" {
		t.Errorf("it knows the time: %v, %q", got, v.Problem)
	}
}

// TestResideLate: a rule that does not end says nothing, and that it is late.
func TestResideLate(t *testing.T) {
	p := residing(t, strings.ReplaceAll(endless, `deny contains "never" if`, `sets contains {"service": "shop", "clients": "everybody", "clusters": ["fra"]} if`))
	begun := time.Now()
	got, v := p.reside(t.Context(), places(), 20*time.Millisecond)
	if got != nil || !v.Late || !strings.Contains(v.Problem, "did not answer within") || time.Since(begun) > 10*time.Second {
		t.Errorf("got %v, %+v after %s", got, v, time.Since(begun))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, v := p.Reside(ctx, places()); got != nil || v.Problem == "" {
		t.Errorf("of nobody: %v, %+v", got, v)
	}
}
