package spec

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// base is two clusters and a zone, for tests that add a service.
const base = `
kind: Cluster
metadata: {name: fra, labels: {jurisdiction: eu}}
spec: {location: {country: DE}, capacity: 200}
---
kind: Cluster
metadata: {name: nyc, labels: {jurisdiction: us}}
spec: {location: {country: US}}
---
kind: Zone
metadata: {name: example.org}
spec: {nameservers: [ns1.example.net]}
---
`

func parsed(t *testing.T, text string) []Raw {
	t.Helper()
	raws, problems := Parse("test.yaml", []byte(text))
	if Failed(problems) {
		t.Fatalf("parsing: %v", problems)
	}
	return raws
}

func resolved(t *testing.T, text string) *Set {
	t.Helper()
	set, problems := Resolve(parsed(t, text))
	if Failed(problems) {
		t.Fatalf("resolving: %v", problems)
	}
	return set
}

// TestDefaults pins what checks outside the repository are written against.
func TestDefaults(t *testing.T) {
	set := resolved(t, base+`
kind: GlobalService
metadata: {name: shop}
spec:
  hosts: [shop.example.org]
  endpoints:
  - {cluster: nyc, addresses: [198.51.100.10]}
  - {cluster: fra, addresses: [192.0.2.10]}
  probes: [{http: {port: 80}}]
`)
	want := &GlobalService{
		Name: "shop", Hosts: []string{"shop.example.org"}, Environment: "prod", TTL: 20 * time.Second,
		Endpoints: []Endpoint{
			{Cluster: "nyc", Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.10")}, Weight: 100, Capacity: 100},
			{Cluster: "fra", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.10")}, Weight: 100, Capacity: 200},
		},
		Probes: []Probe{{
			HTTP:     &HTTPProbe{Scheme: "http", Port: 80, Method: "GET", Path: "/", Host: "shop.example.org", Statuses: []int{200}},
			Interval: time.Second, Timeout: time.Second, Fast: 100 * time.Millisecond,
		}},
		Steering:         Steering{Policy: PolicyGeo, Order: []string{"fra", "nyc"}, Answers: 1, Ramp: 30 * time.Second},
		ResidencyUnknown: ResidencyUnknownIntersect, MinHealthy: 1, AllDown: AllDownAlive, Automation: AutomationAct,
	}
	if diff := cmp.Diff(want, set.Service("shop"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("service (-want +got):\n%s", diff)
	}
	fleet := Fleet{Name: "default", DegradedEjected: 50, TargetUtilised: 75, MaxDrain: 72 * time.Hour, Automation: AutomationAct}
	if diff := cmp.Diff(fleet, set.Fleet); diff != "" {
		t.Errorf("fleet (-want +got):\n%s", diff)
	}
	zone := &Zone{
		Name: "example.org", Nameservers: []string{"ns1.example.net"}, Hostmaster: "hostmaster@example.org",
		SOA: SOA{Refresh: time.Hour, Retry: 10 * time.Minute, Expire: 24 * time.Hour, Minimum: 5 * time.Second}, Steered: []string{"shop.example.org"},
	}
	if diff := cmp.Diff(zone, set.Zone("example.org")); diff != "" {
		t.Errorf("zone (-want +got):\n%s", diff)
	}
	if set.Cluster("ams") != nil || set.Zone("example.com") != nil || set.Service("pay") != nil || set.Service("shop").Endpoint("ams") != nil {
		t.Error("a lookup finds what is not there")
	}
}

// TestStoredIsTolerant: unknown fields of a newer version pass, and are kept.
func TestStoredIsTolerant(t *testing.T) {
	raws := parsed(t, base+`
kind: GlobalService
metadata: {name: shop}
spec: {hosts: [shop.example.org], endpoints: [{cluster: fra, addresses: [192.0.2.10]}]}
`)
	for i := range raws {
		raws[i].JSON = json.RawMessage(strings.Replace(string(raws[i].JSON), `"spec":{`, `"novel":null,"spec":{"novel":{"x":[1,null]},`, 1))
	}
	set, problems := Resolve(raws)
	if set == nil || Failed(problems) {
		t.Fatalf("got %v", problems)
	}
	if set.Service("shop") == nil || len(set.Clusters) != 2 {
		t.Errorf("got %+v", set)
	}
}

// TestStoredRefused: what would be understood wrongly gives no Set at all.
func TestStoredRefused(t *testing.T) {
	tests := []struct{ name, kind, object, json, want string }{
		{"not JSON", KindCluster, "fra", `{`, "is not JSON"},
		{"two values", KindCluster, "fra", `{"kind":"Cluster","metadata":{"name":"fra"},"spec":{}}{}`, "more than one"},
		{"other name", KindCluster, "ams", `{"kind":"Cluster","metadata":{"name":"fra"},"spec":{}}`, "under another name"},
		{"wrong type", KindCluster, "fra", `{"kind":"Cluster","metadata":{"name":"fra"},"spec":{"capacity":"1"}}`, "wants a whole number"},
		{"later policy", KindGlobalService, "shop", `{"kind":"GlobalService","metadata":{"name":"shop"},"spec":{"hosts":["shop.example.org"],"endpoints":[{"cluster":"fra","addresses":["192.0.2.1"]}],"steering":{"policy":"weather"}}}`, "is none of"},
		// S11: a fence whose clients are unknown here would fence nobody.
		{"later fence", KindGlobalService, "shop", `{"kind":"GlobalService","metadata":{"name":"shop"},"spec":{"hosts":["shop.example.org"],"endpoints":[{"cluster":"fra","addresses":["192.0.2.1"]}],"residency":[{"clients":{"planets":["mars"]},"clusters":{"a":"b"}}]}}`, "no clients that this Divert knows"},
		{"deep", KindCluster, "fra", strings.Repeat("[", 100) + strings.Repeat("]", 100), "nested more than"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			set, problems := Resolve([]Raw{{Kind: tc.kind, Name: tc.object, JSON: json.RawMessage(tc.json)}})
			if set != nil {
				t.Error("there is a Set")
			}
			if !slices.ContainsFunc(problems, func(p Problem) bool { return strings.Contains(p.Message, tc.want) && !p.Warning }) {
				t.Errorf("got %v, want one with %q", problems, tc.want)
			}
		})
	}
}

// TestStoredWithErrors: a spec that no longer passes every check still gives a
// Set that refers to nothing it does not hold (S12 over an upgrade).
func TestStoredWithErrors(t *testing.T) {
	set, problems := Resolve(parsed(t, base+`
kind: GlobalService
metadata: {name: shop}
spec:
  hosts: [shop.example.org, shop.example.com]
  endpoints:
  - {cluster: fra, addresses: [192.0.2.10]}
  - {cluster: ams, addresses: [192.0.2.20]}
  steering: {order: [ams, fra], regions: [{clients: {continents: [EU]}, order: [ams, fra]}]}
  pins: [{prefix: 203.0.113.0/24, cluster: ams}]
---
kind: GlobalService
metadata: {name: tail}
spec: {hosts: [shop.example.org, tail.example.org], endpoints: [{cluster: fra, addresses: [192.0.2.10]}]}
`))
	if set == nil || !Failed(problems) {
		t.Fatalf("got %v, %v", set, problems)
	}
	shop := set.Service("shop")
	if len(shop.Endpoints) != 1 || len(shop.Pins) != 0 || !slices.Equal(shop.Steering.Order, []string{"fra"}) || !slices.Equal(shop.Steering.Regions[0].Order, []string{"fra"}) {
		t.Errorf("got %+v", shop)
	}
	if got := set.Service("tail").Hosts; !slices.Equal(got, []string{"tail.example.org"}) {
		t.Errorf("the second owner of a host has %v", got)
	}
	if got := set.Zone("example.org").Steered; !slices.Equal(got, []string{"shop.example.org", "tail.example.org"}) {
		t.Errorf("steered: %v", got)
	}
}

// TestDesignExample reads the page that this schema is from: nothing is wrong
// with it but what is named as not yet supported.
func TestDesignExample(t *testing.T) {
	text := base + `
kind: GlobalService
metadata: {name: shop}
spec:
  hosts: [shop.example.org]
  endpoints:
  - cluster: fra
    addresses: [192.0.2.10, "2001:db8::10"]
    load: {prometheus: {url: "https://prometheus.example.net", query: "…"}}
  - cluster: ams
    hostname: lb-1.ams.example.net
  - cluster: nyc
    from: {gateway: {namespace: shop, name: edge}}
    override: {addresses: [203.0.113.9]}
  steering: {policy: latency}
`
	_, problems := Parse("design.yaml", []byte(text))
	if len(problems) != 2 {
		t.Errorf("got %d problems: %v", len(problems), problems)
	}
	for _, p := range problems {
		if !strings.Contains(p.Message, "not yet supported") || p.Line == 0 || p.Path == "" {
			t.Errorf("got %v", p)
		}
	}
}

func TestZoneChecker(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), "# a comment\nkind: Zone\nmetadata: {name: example.org}\nspec:\n  nameservers: [ns1.example.net]\n  records: |\n    @ CNAME www\n    www A 192.0.2.1\n    bad BAD bad\n")
	write(t, filepath.Join(dir, "b.yaml"), "kind: Zone\nmetadata: {name: example.net}\nspec: {nameservers: [ns1.example.org], file: b.zone}\n")
	write(t, filepath.Join(dir, "b.zone"), "a A 192.0.2.1\nb BAD bad\n")
	check := func(z *Zone) []Problem {
		if z.Name == "example.org" {
			return []Problem{{Line: 1, Message: "the checker's word"}, {Line: 3, Message: "bad"}}
		}
		return []Problem{{Line: 2, Message: "bad", Remedy: "mend it"}}
	}
	_, _, problems := LoadWith([]string{dir}, check)
	var got []string
	for _, p := range problems {
		if !p.Warning {
			got = append(got, strings.ReplaceAll(p.String(), dir+"/", ""))
		}
	}
	want := []string{
		"a.yaml:7: error: Zone/example.org spec.records: the checker's word (write A and AAAA records, or a GlobalService with the host example.org)", // and not once more from here
		"a.yaml:9: error: Zone/example.org spec.records: bad (correct this record: its name, TTL if any, type and data; names without a last dot end in .example.org)",
		"b.zone:2: error: Zone/example.net spec.records: bad (mend it)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLoadFolders(t *testing.T) {
	dir := t.TempDir()
	cluster := func(name string) string { return "kind: Cluster\nmetadata: {name: " + name + "}\nspec: {}\n" }
	write(t, filepath.Join(dir, "data", "c.yaml"), cluster("c"))
	write(t, filepath.Join(dir, "b", "b.yml"), cluster("b"))
	write(t, filepath.Join(dir, "a.json"), `{"kind": "Cluster", "metadata": {"name": "a"}, "spec": {}}`)
	write(t, filepath.Join(dir, ".hidden.yaml"), "{")
	write(t, filepath.Join(dir, "notes.txt"), "{")
	for link, to := range map[string]string{"c.yaml": "data/c.yaml", "circle": "."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	// The same file by two names is two definitions; the same name twice is one.
	set, raws, problems := Load([]string{dir, filepath.Join(dir, "a.json")})
	if raws != nil || len(set.Clusters) != 3 {
		t.Errorf("got %d resources, %d clusters", len(raws), len(set.Clusters))
	}
	var got []string
	for _, p := range problems {
		got = append(got, strings.ReplaceAll(p.String(), dir, "DIR"))
	}
	want := []string{
		"DIR/circle: warning: is a link to a folder, which is not followed (name that folder itself)",
		"DIR/data/c.yaml:1: error: Cluster/c: is defined already at DIR/c.yaml:1 (keep one of the two)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, _, problems = Load([]string{filepath.Join(dir, "nowhere"), t.TempDir()})
	if len(problems) != 2 || !Failed(problems) || !strings.Contains(problems[0].Message+problems[1].Message, "is not there") {
		t.Errorf("got %v", problems)
	}
}

func TestJSONFile(t *testing.T) {
	_, problems := Parse("fleet.json", []byte("{\"kind\": \"Cluster\",\n\t\"metadata\": {\"name\": \"fra\"},\n\t\"spec\": {\"capacity\": \"100\"}}\n"))
	if len(problems) != 1 || problems[0].Line != 3 || problems[0].Path != "Cluster/fra spec.capacity" {
		t.Errorf("got %v", problems)
	}
}

// TestLoadOver: a part of a spec is checked together with what is stored, and what is
// wrong with it has its file and line, in a zone's own file, too.
func TestLoadOver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "shop.yaml")
	_, stored, problems := Load([]string{filepath.Join("testdata", "good", "small")})
	if Failed(problems) {
		t.Fatal(problems)
	}
	cluster, zone := stored[0].Name, stored[slices.IndexFunc(stored, func(r Raw) bool { return r.Kind == KindZone })].Name
	service := "kind: GlobalService\nmetadata: {name: a-part}\nspec:\n  hosts: [a-part." + zone + "]\n  endpoints:\n  - {cluster: " + cluster + ", addresses: [192.0.2.10]}\n"
	write(t, path, service)
	if _, raws, problems := Load([]string{path}); raws != nil || !Failed(problems) {
		t.Errorf("whole: got %v, %v", raws, problems)
	}
	if raws, problems := LoadOver([]string{path}, stored, nil); len(raws) != 1 || raws[0].Name != "a-part" || Failed(problems) {
		t.Errorf("got %v, %v", raws, problems)
	}
	write(t, path, service+"  - {cluster: nowhere, addresses: [192.0.2.11]}\n---\nkind: Zone\nmetadata: {name: part.example}\nspec:\n  nameservers: [ns1.part.example]\n  hostmaster: ops@part.example\n  file: part.zone\n")
	write(t, filepath.Join(dir, "part.zone"), "ns1 A 192.0.2.53\nwww A 1.2.3\n")
	check := func(z *Zone) []Problem {
		if z.Name != "part.example" {
			return nil
		}
		return []Problem{{Line: 2, Message: "no address"}}
	}
	raws, problems := LoadOver([]string{path}, stored, check)
	problems = slices.DeleteFunc(problems, func(p Problem) bool { return p.Warning })
	if raws != nil || len(problems) != 2 || problems[0].File != filepath.Join(dir, "part.zone") || problems[0].Line != 2 || problems[1].File != path || problems[1].Line != 7 {
		t.Errorf("got %v, %v", raws, problems)
	}
}

func TestDefinition(t *testing.T) {
	probe := Probe{HTTP: &HTTPProbe{Scheme: "https", Port: 443, Method: "GET", Path: "/healthz", Host: "shop.example.org", Statuses: []int{204, 200}, Body: "o\"k", Secure: Secure{Warn: defaultWarn}}, Interval: time.Second}
	if got, want := probe.Definition(), `https port=443 method=GET host="shop.example.org" path="/healthz" statuses=200,204 body="o\"k"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	other := probe
	other.Interval, other.Fast, other.Timeout = time.Minute, 1, 2
	if other.Definition() != probe.Definition() {
		t.Error("how often is asked changes what is asked")
	}
	tcp := Probe{TCP: &TCPProbe{Port: 25}}
	if tcp.Definition() != "tcp port=25" || tcp.Port() != 25 || probe.Port() != 443 {
		t.Errorf("got %s, %d, %d", tcp.Definition(), tcp.Port(), probe.Port())
	}
	if (&Probe{}).Port() != 0 || (&Probe{}).Definition() != "unknown" {
		t.Error("the zero probe asks something")
	}
}

func TestStrings(t *testing.T) {
	for _, tc := range []struct{ got, want string }{
		{PolicyGeo.String() + PolicyFailover.String() + PolicyWeighted.String() + PolicyUnknown.String(), "geofailoverweightedunknown"},
		{AllDownAlive.String() + AllDownAll.String() + AllDownFallback.String() + AllDownUnknown.String(), "aliveallfallbackunknown"},
		{ResidencyUnknownAllow.String() + ResidencyUnknownIntersect.String() + ResidencyUnknownUnset.String(), "allowintersectunknown"},
		{AutomationAct.String() + AutomationObserve.String() + AutomationUnknown.String(), "actobserveunknown"},
		{Clients{Continents: []string{"EU"}, Countries: []string{"TR", "US"}, Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}.String(), "continents EU or countries TR US or prefixes 198.51.100.0/24"},
		{Clients{}.String(), "no clients"},
		{FormatKey(make([]byte, 32)), "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
		{FormatKey(nil), ""},
		{Problem{Message: "m"}.String(), "error: m"},
		{Problem{File: "f", Message: "m", Warning: true}.String(), "f: warning: m"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
}

func TestDurations(t *testing.T) {
	for _, tc := range []struct {
		text string
		want time.Duration
	}{{"1d", 24 * time.Hour}, {"1d12h", 36 * time.Hour}, {"1h", time.Hour}, {"20s", 20 * time.Second}, {"100ms", 100 * time.Millisecond}, {"1h30m", 90 * time.Minute}} {
		if got, err := parseDuration(tc.text); err != nil || got != tc.want {
			t.Errorf("%s: got %v, %v", tc.text, got, err)
		}
		if got, err := parseDuration(FormatDuration(tc.want)); err != nil || got != tc.want {
			t.Errorf("%s: there and back gives %v, %v", tc.text, got, err)
		}
	}
	for _, bad := range []string{"", "d", "-1s", "+1s", "1", "1.5d", "1dd", "99999999d", "1y", "1 s"} {
		if got, err := parseDuration(bad); err == nil {
			t.Errorf("%q: got %v", bad, got)
		}
	}
}

func TestSiteHosts(t *testing.T) {
	g := &GlobalService{SiteNames: true, Hosts: []string{"*.shop.example.org", "shop.example.org"}}
	if got := g.SiteHosts("fra"); !slices.Equal(got, []string{"fra.shop.example.org"}) {
		t.Errorf("got %v", got)
	}
	g.SiteNames = false
	if got := g.SiteHosts("fra"); got != nil {
		t.Errorf("without siteNames: got %v", got)
	}
}
