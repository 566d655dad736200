package access

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"
)

func scope(t *testing.T, text string) Scope {
	t.Helper()
	s, err := ParseScope(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCovers: what is about the fleet lies in no smaller scope, and a star stands for no
// slash.
func TestCovers(t *testing.T) {
	targets := map[string]Target{
		"fleet": {}, "fra": {Cluster: "fra"}, "frankfurt": {Cluster: "frankfurt"}, "zone": {Zone: "example.org"},
		"shop": {Service: "shop"}, "team/shop": {Service: "team/shop"}, "shop@fra": {Service: "shop", Cluster: "fra"}, "team/shop@nyc": {Service: "team/shop", Cluster: "nyc"},
	}
	tests := map[string]string{
		"fleet":                 "fleet fra frankfurt shop shop@fra team/shop team/shop@nyc zone",
		"cluster/fra":           "fra shop@fra",
		"cluster/fra*":          "fra frankfurt shop@fra",
		"cluster/*":             "fra frankfurt shop@fra team/shop@nyc",
		"service/shop":          "shop shop@fra",
		"service/*":             "shop shop@fra",
		"service/team/*":        "team/shop team/shop@nyc",
		"service/*/shop":        "team/shop team/shop@nyc",
		"namespace/team":        "team/shop team/shop@nyc",
		"namespace/*":           "team/shop team/shop@nyc",
		"zone/example.org":      "zone",
		"zone/*.org":            "zone",
		"zone/ample.org":        "",
		"namespace/shop":        "",
		"cluster/FRA":           "",
		"service/shop.fra":      "",
		"namespace/t":           "",
		"cluster/fra.fra":       "",
		"zone/example.org.evil": "",
	}
	for text, want := range tests {
		s := scope(t, text)
		var got []string
		for name, target := range targets {
			if s.Covers(target) {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s covers %q, want %q", text, got, want)
		}
		if s.String() != text {
			t.Errorf("%s is written %s", text, s)
		}
	}
	for name, target := range targets {
		if (Scope{}).Covers(target) {
			t.Errorf("no scope at all covers %s", name)
		}
	}
}

func TestParseScope(t *testing.T) {
	for _, bad := range []string{
		"", "fleet/", "fleet/x", "cluster", "cluster/", "cluster/a/b", "namespace/a/b", "zone/a/b", "host/a", "service/a/b/c", "service//a", "service/a/",
		"cluster/[a]", `cluster/\*`, "cluster/a b", "cluster/é", "Cluster/a", "cluster/" + strings.Repeat("a", maxScope), "selector/a=b", "domain/a",
	} {
		if s, err := ParseScope(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, s)
		}
	}
}

func FuzzParseScope(f *testing.F) {
	for _, s := range []string{"fleet", "cluster/fra*", "service/a/b", "zone/*.example.org", "namespace/x"} {
		f.Add(s, "fra")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		s, err := ParseScope(text)
		if err != nil {
			if s != (Scope{}) {
				t.Errorf("%q: %v, and yet %+v", text, err, s)
			}
			return
		}
		if s.String() != text {
			t.Errorf("%q comes back as %q", text, s)
		}
		if s.Kind != Fleet && s.Covers(Target{}) {
			t.Errorf("%q covers the fleet", text)
		}
		if !strings.Contains(s.Glob, "*") && s.Kind == Cluster && s.Covers(Target{Cluster: name}) != (s.Glob == name && name != "") {
			t.Errorf("%q and cluster %q", text, name)
		}
	})
}

// TestAllow: what nothing allows is denied, and each no says what it would take.
func TestAllow(t *testing.T) {
	grant := func(r Role, scopes ...string) Grant {
		g := Grant{Role: r}
		for _, s := range scopes {
			g.Scopes = append(g.Scopes, scope(t, s))
		}
		return g
	}
	ann := func(grants ...Grant) Identity { return Identity{Who: "cert:ann", Method: Certificate, Grants: grants} }
	fra, nyc := Target{Cluster: "fra"}, Target{Cluster: "nyc"}
	tests := []struct {
		name    string
		id      Identity
		action  Action
		targets []Target
		want    bool
		why     string
	}{
		{"nobody", Identity{}, See, nil, false, "nobody has said"},
		{"nobody, with grants all the same", Identity{Grants: []Grant{Whole("")}}, "drain", nil, false, "nobody has said"},
		{"nobody, what is open", Identity{}, Open, nil, true, "anybody"},
		{"no grant", ann(), See, nil, false, "cert:ann was granted nothing, and this takes viewer"},
		{"no grant, oneself", ann(), Self, nil, true, ""},
		{"a grant without a scope", ann(Grant{Role: Admin}), See, nil, false, ""},
		{"a grant without a role", ann(grant(Nobody, "fleet")), See, nil, false, ""},
		{"viewer sees", ann(grant(Viewer, "cluster/fra")), See, nil, true, "cert:ann is viewer of cluster/fra"},
		{"viewer drains", ann(grant(Viewer, "fleet")), "drain", []Target{fra}, false, "drain takes operator of cluster/fra"},
		{"operator drains", ann(grant(Operator, "cluster/fra")), "drain", []Target{fra}, true, ""},
		{"elsewhere", ann(grant(Operator, "cluster/fra")), "drain", []Target{nyc}, false, "cert:ann is operator of cluster/fra, and drain takes operator of cluster/nyc"},
		{"here and elsewhere", ann(grant(Operator, "cluster/fra")), "drain", []Target{fra, nyc}, false, "cluster/nyc"},
		{"by two grants", ann(grant(Operator, "cluster/fra"), grant(Admin, "cluster/nyc")), "drain", []Target{fra, nyc}, true, ""},
		{"roles do not add up", ann(grant(Viewer, "fleet"), grant(Operator, "cluster/fra")), "drain", []Target{nyc}, false, ""},
		{"the fleet", ann(grant(Operator, "cluster/*", "service/*", "zone/*", "namespace/*")), "freeze", nil, false, "operator of the fleet"},
		{"operator applies", ann(grant(Operator, "fleet")), "apply", []Target{fra}, false, "admin"},
		{"admin of a part applies there", ann(grant(Admin, "cluster/fra")), "apply", []Target{fra}, true, ""},
		{"admin of a part makes tokens", ann(grant(Admin, "cluster/fra")), "token-create", nil, false, ""},
		{"admin of a part takes a backup", ann(grant(Admin, "cluster/*")), Backup, nil, false, ""},
		{"what has no row", ann(Whole("cert:ann")), "explode", nil, false, "nobody may"},
		{"a director's own verb", ann(Whole("cert:ann")), "director-join", nil, false, "nobody may"},
		{"loopback reads", Identity{Who: "loopback", Method: Loopback}, Backup, nil, true, ""},
		{"but no backup where grants are set", Identity{Who: "loopback", Method: Loopback, Guarded: true}, Backup, nil, false, "may only see where grants are set"},
		{"nor the whole store", Identity{Who: "loopback", Method: Loopback, Guarded: true}, Check, nil, false, "admin"},
		{"it sees there", Identity{Who: "loopback", Method: Loopback, Guarded: true}, See, nil, true, ""},
		{"and probes", Identity{Who: "loopback", Method: Loopback, Guarded: true}, Probe, nil, true, ""},
		{"loopback drains", Identity{Who: "loopback", Method: Loopback, Grants: []Grant{Whole("loopback")}}, "drain", []Target{fra}, false, "only read"},
		{"loopback sends a command", Identity{Who: "loopback", Method: Loopback}, Command, nil, false, "only read"},
	}
	for _, tc := range tests {
		if got, why := Allow(tc.id, tc.action, tc.targets...); got != tc.want || !strings.Contains(why, tc.why) || why == "" {
			t.Errorf("%s: got %v, %q; want %v, %q", tc.name, got, why, tc.want, tc.why)
		}
	}
}

// TestNames: a name begins with how it was found out, so that no certificate is a user of
// the system, and nothing in it can draw on a terminal.
func TestNames(t *testing.T) {
	for _, bad := range []string{"", "a\nb", "a\x1b[2J", "\xff", strings.Repeat("a", maxWho), "a\u202eb", "alice (bob", "alice (bob)"} {
		if who, err := Name(Certificate, bad); err == nil {
			t.Errorf("%q names %q", bad, who)
		}
	}
	if who, err := Name(Certificate, "unix:root"); err != nil || who != "cert:unix:root" {
		t.Errorf("got %q, %v", who, err)
	}
	for _, good := range []string{"unix:alice", "cert:Ann Lee", "group:unix:ops", "group:cert:sre", "kube:fra/system:serviceaccount:ops:drills", "group:kube:fra/system:serviceaccounts:ops"} {
		if err := CheckWho(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "alice", "token:ci", "loopback", "group:ops", "unix:", "group:cert:", "group:token:x", "cert:a\nb", "cert:a (b)", "kube:fra", "kube:/a", "kube:fra/", "group:kube:ops", "kube:fra/a\nb"} {
		if CheckWho(bad) == nil {
			t.Errorf("%q passes for a name", bad)
		}
	}
	for who, want := range map[string]string{"kube:fra/a": "fra", "group:kube:nyc/b": "nyc", "cert:kube:fra/a": "", "group:cert:fra/a": "", "unix:fra": ""} {
		if got := KubeCluster(who); got != want {
			t.Errorf("%s goes by %q", who, got)
		}
	}
	grants := []Grant{{Who: "unix:ann"}, {Who: "group:unix:ops"}, {Who: ""}, {Who: "group:cert:ops"}}
	if got := Granted(grants, "unix:ann", []string{"group:unix:ops"}); len(got) != 2 {
		t.Errorf("granted %v", got)
	}
	if got := Granted(grants, "", nil); len(got) != 0 {
		t.Errorf("nobody was granted %v", got)
	}
}

// TestMisnamedToken: whoever wrote a token into the plan under a name that would read as
// another's, with a label, is nobody.
func TestMisnamedToken(t *testing.T) {
	now, sum := time.Now(), [32]byte{1}
	for name, want := range map[string]bool{"ci": true, "": false, "ci (bob)": false, "ci\nx": false} {
		if _, ok := Find([]Bearer{{Name: name, Sum: sum, Expires: now.Add(time.Hour)}}, sum, now); ok != want {
			t.Errorf("%q: %t, want %t", name, ok, want)
		}
	}
}

// TestSecrets: a secret is 256 bits behind a known prefix; only its own sum finds it, and
// no longer than it lasts.
func TestSecrets(t *testing.T) {
	secret := [SecretBytes]byte{1, 2, 3}
	text := FormatSecret(secret)
	if !strings.HasPrefix(text, "divert_") {
		t.Errorf("%s has no prefix that a scanner knows", text)
	}
	sum, ok := SumSecret(text)
	if !ok {
		t.Fatal("a secret is none")
	}
	last := text[:len(text)-1]
	for _, bad := range []string{"", "divert_", text[:20], text + "A", strings.ToUpper(text), "divert_" + base64.RawURLEncoding.EncodeToString(make([]byte, 31)), last + "B", text + "\n", "Divert_" + text[7:]} {
		if _, ok := SumSecret(bad); ok && bad != text {
			t.Errorf("%q passes for a secret", bad)
		}
	}
	now := time.Now()
	tokens := []Bearer{{Name: "old", Expires: now}, {Name: "ci", Sum: sum, Expires: now.Add(time.Hour)}, {Name: "zero", Expires: now.Add(time.Hour)}}
	if b, ok := Find(tokens, sum, now); !ok || b.Name != "ci" || b.Identity().Who != "token:ci" {
		t.Errorf("got %+v, %v", b, ok)
	}
	if _, ok := Find(tokens, sum, now.Add(time.Hour)); ok {
		t.Error("it outlives its end")
	}
	other, _ := SumSecret(FormatSecret([SecretBytes]byte{9}))
	if _, ok := Find(tokens, other, now); ok {
		t.Error("another secret finds a token")
	}
}
