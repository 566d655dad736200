package core

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/spec"
)

func granted(t *testing.T, who, text string) *access.Identity {
	t.Helper()
	word, scopes, _ := strings.Cut(text, " ")
	role, err := access.ParseRole(word)
	if err != nil {
		t.Fatal(err)
	}
	g := access.Grant{Role: role}
	for s := range strings.FieldsSeq(scopes) {
		scope, err := access.ParseScope(s)
		if err != nil {
			t.Fatal(err)
		}
		g.Scopes = append(g.Scopes, scope)
	}
	return &access.Identity{Who: who, Method: access.Certificate, Grants: []access.Grant{g}}
}

// verbs reads the constants of type Verb from the source: those that are added, too.
func verbs(t *testing.T) []Verb {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "core.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var out []Verb
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Verb" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, Verb(text))
		}
		return true
	})
	if len(out) < 20 {
		t.Fatalf("found %v only", out)
	}
	return out
}

// TestEveryVerb is the table of every verb × scope × grant. A verb that is added without a
// row fails, and until it has one in director/access nobody may say it.
func TestEveryVerb(t *testing.T) {
	w := newWorld(t)
	who := map[string]*access.Identity{
		"nobody":  {Who: "cert:nobody", Method: access.Certificate},
		"viewer":  granted(t, "cert:viewer", "viewer fleet"),
		"fra":     granted(t, "cert:fra", "operator cluster/fra"),
		"shop":    granted(t, "cert:shop", "operator service/shop"),
		"ops":     granted(t, "cert:ops", "operator fleet"),
		"clu":     granted(t, "cert:clu", "admin cluster/*"),
		"tenant":  granted(t, "cert:tenant", "admin service/shop"),
		"host":    granted(t, "cert:host", "admin service/shop zone/example.org"),
		"parts":   granted(t, "cert:parts", "admin cluster/* service/* zone/* namespace/*"),
		"root":    {Who: "unix:root", Method: access.Unix, Grants: []access.Grant{access.Whole("unix:root")}},
		"browser": {Who: "loopback", Method: access.Loopback},
	}
	raw := func(kind, name, change string) spec.Raw {
		for _, r := range Raws(w.s.Doc) {
			if r.Kind == kind && r.Name == name {
				var tree map[string]any
				if err := json.Unmarshal(r.JSON, &tree); err != nil {
					t.Fatal(err)
				}
				var more map[string]any
				if err := json.Unmarshal([]byte(change), &more); err != nil {
					t.Fatal(err)
				}
				maps.Copy(tree["spec"].(map[string]any), more)
				text, err := json.Marshal(tree)
				if err != nil {
					t.Fatal(err)
				}
				return spec.Raw{Kind: kind, Name: name, JSON: text}
			}
		}
		t.Fatalf("there is no %s %s", kind, name)
		return spec.Raw{}
	}
	const fleetAdmins, fleetOps = "root", "ops root"
	tests := []struct {
		c    Command
		want string // who may
	}{
		{Command{Verb: Drain, Scope: "cluster/fra"}, "clu fra ops parts root"},
		{Command{Verb: Drain, Scope: "cluster/nyc"}, "clu ops parts root"},
		{Command{Verb: Drain, Scope: "service/shop@fra"}, "clu fra host ops parts root shop tenant"},
		{Command{Verb: Drain, Scope: "service/shop@nyc"}, "clu host ops parts root shop tenant"},
		{Command{Verb: Drain, Scope: "service/pay@nyc"}, "clu ops parts root"},
		{Command{Verb: Drain, Scope: "domain/fra-dc1"}, "clu fra ops parts root"},
		{Command{Verb: Drain, Scope: "domain/none"}, fleetOps},
		{Command{Verb: Drain, Scope: "selector/jurisdiction=eu"}, "clu fra ops parts root"},
		{Command{Verb: Drain, Scope: "selector/jurisdiction=us"}, "clu ops parts root"},
		{Command{Verb: Drain, Scope: "nonsense"}, fleetOps},
		{Command{Verb: Drain, Scope: "fleet"}, fleetOps},
		{Command{Verb: Drain}, fleetOps},
		{Command{Verb: Undrain, Scope: "cluster/fra"}, "clu fra ops parts root"},
		{Command{Verb: Freeze, Scope: "service/shop"}, "host ops parts root shop tenant"},
		{Command{Verb: Freeze}, fleetOps},
		{Command{Verb: Thaw}, fleetOps},
		{Command{Verb: Thaw, Scope: "service/shop"}, "host ops parts root shop tenant"},
		{Command{Verb: Readmit, Scope: "cluster/fra"}, "clu fra ops parts root"},
		{Command{Verb: InterlockOn, Scope: "cluster/fra"}, fleetOps},
		{Command{Verb: InterlockOff, Scope: "service/shop"}, fleetOps},
		{Command{Verb: Revert}, fleetOps},
		{Command{Verb: GoOn}, fleetOps},
		{Command{Verb: Abort}, fleetOps},
		{Command{Verb: Apply, Objects: []spec.Raw{raw("Cluster", "fra", `{"capacity": 7}`)}}, "clu parts root"},
		{Command{Verb: Apply, Objects: []spec.Raw{raw("GlobalService", "shop", `{"ttl": "9s"}`)}}, "host parts root tenant"},
		{Command{Verb: Apply, Objects: []spec.Raw{raw("GlobalService", "shop", `{"hosts": ["Shop.example.org."]}`)}}, "host parts root tenant"},
		{Command{Verb: Apply, Objects: []spec.Raw{raw("GlobalService", "shop", `{"hosts": ["shop.example.org", "login.example.org"]}`)}}, "host parts root"},
		{Command{Verb: Apply, Objects: []spec.Raw{raw("GlobalService", "shop", `{"hosts": ["shop.example.org", "*.example.net"]}`)}}, "parts root"},
		{Command{Verb: Apply, Objects: []spec.Raw{raw("GlobalService", "shop", `{"hosts": ["evil.example.com"]}`)}}, "root"},
		{Command{Verb: Apply, Objects: []spec.Raw{raw("GlobalService", "shop", `{"hosts": "shop.example.org"}`)}}, "root"},
		{Command{Verb: Apply, Objects: []spec.Raw{raw("GlobalService", "shop", `{"ttl": "9s"}`), raw("Cluster", "fra", `{"capacity": 7}`)}}, "parts root"},
		{Command{Verb: Apply, Objects: []spec.Raw{raw("GlobalService", "shop", `{"ttl": "9s"}`), raw("Cluster", "fra", `{}`)}}, "host parts root tenant"},
		{Command{Verb: Apply, Objects: []spec.Raw{raw("GlobalService", "shop", `{"ttl": "9s"}`)}, Prune: true}, fleetAdmins},
		{Command{Verb: Apply, Objects: []spec.Raw{raw("Fleet", "default", `{"automation": "observe"}`)}}, fleetAdmins},
		{Command{Verb: Apply, Objects: []spec.Raw{raw("Fleet", "default", `{}`)}}, fleetAdmins},
		{Command{Verb: Apply, Objects: []spec.Raw{{Kind: "Interlock", Name: "x", JSON: []byte(`{}`)}}}, fleetAdmins},
		{Command{Verb: Apply}, fleetAdmins},
		{Command{Verb: DirectorAdd, Director: &Director{Name: "d4"}}, fleetAdmins},
		{Command{Verb: DirectorRemove, Director: &Director{Name: "d3"}}, fleetAdmins},
		{Command{Verb: OperatorAdd, Operator: &Operator{Name: "x"}}, fleetAdmins},
		{Command{Verb: OperatorRemove, Operator: &Operator{Name: "x"}}, fleetAdmins},
		{Command{Verb: KeyRotate}, fleetAdmins},
		{Command{Verb: KeyBack}, fleetAdmins},
		{Command{Verb: SecretSet}, fleetAdmins},
		{Command{Verb: SecretRemove}, fleetAdmins},
		{Command{Verb: EnrolTokenAdd}, fleetAdmins},
		{Command{Verb: EnrolTokenRemove}, fleetAdmins},
		{Command{Verb: TokenCreate, Token: &Token{Name: "x"}}, fleetAdmins},
		{Command{Verb: TokenRevoke, Token: &Token{Name: "x"}}, fleetAdmins},
		{Command{Verb: PolicyAdopt}, fleetAdmins},
		{Command{Verb: PolicyDrop}, fleetAdmins},
		// And what is approved or denied besides: see TestApproverMayDoIt.
		{Command{Verb: Approve, Scope: "r"}, "clu fra host ops parts root shop tenant"},
		{Command{Verb: Deny, Scope: "r"}, "clu fra host ops parts root shop tenant"},
		{Command{Verb: Acknowledge, Scope: "r"}, "clu fra host ops parts root shop tenant"},
		// The directors' own, which come in by no door: not even root may say them.
		{Command{Verb: DirectorJoin}, ""},
		{Command{Verb: Expire}, ""},
		{Command{Verb: Step}, ""},
		{Command{Verb: Spill}, ""},
		{Command{Verb: Settle}, ""},
		{Command{Verb: KeyStep}, ""},
		{Command{Verb: SecretAdvance}, ""},
		{Command{Verb: DirectorEnrol}, ""},
		{Command{Verb: RecoverStore}, ""},
		{Command{Verb: Restore}, ""},
	}
	rows := map[Verb]bool{}
	for _, tc := range tests {
		rows[tc.c.Verb] = true
		var may []string
		for name, id := range who {
			c := tc.c
			c.By = id
			c.Reason, c.For = "INC-1", time.Hour
			if Authorise(w.s.Spec, w.s.Doc, c) == nil {
				may = append(may, name)
				continue
			}
			said := id.Who
			if tc.want == "" {
				said = "nobody may"
			}
			r := w.refused(c, said) // Decide asks first of all
			if r.Force || r.Remedy != MayRemedy {
				t.Errorf("%s %s by %s: %+v", c.Verb, c.Scope, name, r)
			}
		}
		slices.Sort(may)
		if got := strings.Join(may, " "); got != tc.want {
			t.Errorf("%s %s %v: may %s, want %s", tc.c.Verb, tc.c.Scope, tc.c.Objects, got, tc.want)
		}
	}
	for _, v := range verbs(t) {
		if !rows[v] {
			t.Errorf("verb %s has no row in this table", v)
		}
	}
}

// TestWho: the plan and the audit log name who was authenticated, and the label only
// beside.
func TestWho(t *testing.T) {
	w := newWorld(t)
	by := granted(t, "cert:ann", "operator fleet")
	for label, want := range map[string]string{"": "cert:ann", "ann": "cert:ann", "INC desk": "cert:ann (INC desk)", "spec": "cert:ann (spec)"} {
		c := w.drain("cluster/fra")
		c.Author, c.Label, c.By = by.Who, label, by
		change := w.do(c)
		if got := change.Audit.GetWho(); got != want {
			t.Errorf("label %q: the audit says %q, want %q", label, got, want)
		}
		if o := w.override("cluster/fra"); o == nil || o.GetAuthor() != want {
			t.Errorf("label %q: the plan says %q, want %q", label, o.GetAuthor(), want)
		}
		w.do(Command{Verb: Undrain, Scope: "cluster/fra", Now: true})
	}
}

// TestMay: what somebody is told that he may do is what he may do.
func TestMay(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		grant, action, scope string
		want                 bool
	}{
		{"operator cluster/fra", "drain", "cluster/fra", true},
		{"operator cluster/fra", "drain", "domain/fra-dc1", true},
		{"operator cluster/fra", "drain", "selector/jurisdiction=us", false},
		{"operator cluster/fra", "drain", "", false},
		{"operator cluster/fra", "drain", "zone/example.org", false},
		{"operator cluster/fra", "revert", "cluster/fra", false},
		{"operator fleet", "revert", "", true},
		{"admin zone/example.org", "apply", "zone/example.org", true},
		{"admin zone/example.org", "apply", "zone/example.net", false},
		{"admin zone/example.org", "apply", "zone/", false},
		{"admin zone/example.org", "apply", "", false},
		{"admin service/shop", "apply", "service/shop", true},
		{"admin cluster/*", "apply", "cluster/new", true},
		{"viewer cluster/fra", "see", "", true},
		{"admin cluster/*", "backup", "", false},
		{"admin fleet", "token-create", "", true},
		{"admin fleet", "expire", "", false},
	} {
		by := granted(t, "cert:ann", tc.grant)
		if err := May(w.s.Spec, *by, access.Action(tc.action), tc.scope); (err == nil) != tc.want {
			t.Errorf("%s: %s %s: got %v, want %v", tc.grant, tc.action, tc.scope, err, tc.want)
		}
	}
	if May(nil, *granted(t, "cert:ann", "operator cluster/fra"), "drain", "domain/fra-dc1") == nil {
		t.Error("a fault domain of which nothing is known is one's own")
	}
}
