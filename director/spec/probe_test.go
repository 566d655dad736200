package spec

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// probesOf reads the probes of a service, written in YAML's flow style.
func probesOf(t *testing.T, probes ...string) []Probe {
	t.Helper()
	text := "kind: Cluster\nmetadata: {name: fra}\nspec: {location: {country: DE}}\n---\nkind: Zone\nmetadata: {name: example.org}\nspec: {nameservers: [ns1.example.net]}\n" +
		"---\nkind: GlobalService\nmetadata: {name: shop}\nspec:\n  hosts: [shop.example.org]\n  endpoints: [{cluster: fra, addresses: [192.0.2.10]}]\n  probes:\n"
	for _, p := range probes {
		text += "  - " + p + "\n"
	}
	raws, problems := Parse("probes.yaml", []byte(text))
	if Failed(problems) {
		t.Fatalf("%s: got %v", strings.Join(probes, "; "), problems)
	}
	set, problems := Resolve(raws)
	if set == nil || Failed(problems) {
		t.Fatalf("got %v", problems)
	}
	return set.Services[0].Probes
}

// TestDefinitionsStay: a probe that an older version read has the definition that it
// had, since votes, certificates and the waits of S10 go by it. These texts never change.
func TestDefinitionsStay(t *testing.T) {
	tests := []struct{ probe, want string }{
		{`http: {port: 80}`, `http port=80 method=GET host="shop.example.org" path="/" statuses=200 body=""`},
		{
			`{http: {scheme: https, port: 443, method: HEAD, path: /healthz, host: a.example.org, statuses: [204, 200]}, interval: 5s}`,
			`https port=443 method=HEAD host="a.example.org" path="/healthz" statuses=200,204 body=""`,
		},
		{`http: {port: 8080, body: "o\"k"}`, `http port=8080 method=GET host="shop.example.org" path="/" statuses=200 body="o\"k"`},
		{`tcp: {port: 443}`, `tcp port=443`},
	}
	for _, tc := range tests {
		if got := probesOf(t, tc.probe)[0].Definition(); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.probe, got, tc.want)
		}
	}
}

// TestDefinitionCoversOptions: probes that differ in any option are two checks, but for
// how often they ask.
func TestDefinitionCoversOptions(t *testing.T) {
	secure := []string{``, `sni: a.example.org`, `insecure: true`, `certificate: {warn: 7d}`, `certificate: {warn: 0}`, `certificate: {fail: 1d}`, `certificate: {fail: 20d}`, `certificate: {fail: 20d, warn: 30d}`}
	options := map[string][]string{
		"http: {port: 1, ": append([]string{
			`method: HEAD`, `method: POST`, `method: POST, requestBody: a`, `method: PUT, requestBody: a`, `path: /a`, `host: a.example.org`, `headers: {A: b}`, `headers: {A: c}`,
			`headers: {A: b, B: c}`, `statuses: [200-201]`, `body: a`, `bodyRegexp: a`, `version: 2`, `port: 2`, `scheme: https, version: 2`, `scheme: https, version: auto`,
		}, with("scheme: https", secure)...),
		"tcp: {port: 1, ":  {``, `port: 2`, `expect: a`, `expectRegexp: a`, `expect: a, send: a`, `expect: a, sendHex: "0a"`},
		"tls: {port: 1, ":  append([]string{`port: 2`, `alpn: [h2]`, `alpn: [h2, imap]`, `alpn: [imap, h2]`}, secure...),
		"grpc: {port: 1, ": append([]string{`port: 2`, `service: a`, `plaintext: true`, `host: b.example.org`}, secure...),
		"dns: {port: 1, ": append([]string{
			`name: a, port: 2`, `name: a`, `name: b`, `name: a, type: NS`, `name: a, transport: tcp`, `name: a, rcodes: [REFUSED]`, `name: a, rcodes: [REFUSED, NOERROR]`,
			`name: a, answers: [192.0.2.1]`, `name: a, answers: [192.0.2.1, 192.0.2.2]`,
		}, with("name: a, transport: tls", secure)...),
		"icmp: {":             {``},
		"exec: {command: /a,": {``, `args: [a]`, `args: [a, b]`, `args: [a b]`},
	}
	seen := map[string]string{}
	for kind, list := range options {
		for _, o := range list {
			text := kind + o + "}"
			if strings.Contains(o, "port: 2") {
				text = strings.Replace(text, "port: 1, ", "", 1)
			}
			text = strings.NewReplacer(", }", "}", ",}", "}").Replace(text)
			p := probesOf(t, text)[0]
			if other, found := seen[p.Definition()]; found {
				t.Errorf("%s is the same check as %s: %s", text, other, p.Definition())
			}
			seen[p.Definition()] = text
			if slow := probesOf(t, "{"+text+", interval: 9m}")[0]; slow.Definition() != p.Definition() || slow.Interval != 9*time.Minute {
				t.Errorf("%s: how often is asked changes what is asked", text)
			}
			// What an older version can read says the same there.
			known := slices.Contains([]string{`method: HEAD`, `path: /a`, `host: a.example.org`, `statuses: [200-201]`, `body: a`, `port: 2`, `scheme: https`}, o) && kind[0] == 'h' ||
				kind[:3] == "tcp" && (o == "" || o == `port: 2`)
			if set := (&Set{Services: []*GlobalService{{Probes: []Probe{p}, Steering: Steering{Ramp: defaultRamp}}}}); set.NeedsProbes() == known {
				t.Errorf("%s: an older director is told to read it, or a newer one is needed for nothing", text)
			}
			if p.String() == unknown || p.String() == "" {
				t.Errorf("%s has no name for people", text)
			}
		}
	}
}

func with(first string, options []string) []string {
	out := make([]string, len(options))
	for i, o := range options {
		out[i] = strings.TrimSuffix(first+", "+o, ", ")
	}
	return out
}

// TestStatusesAsRanges: a range is its numbers, so that both are one check.
func TestStatusesAsRanges(t *testing.T) {
	p := probesOf(t, `http: {port: 80, statuses: ["201-203", 200, 202]}`, `http: {port: 81, statuses: [200, 201, 202, 203]}`)
	if got, want := fmt.Sprint(p[0].HTTP.Statuses), fmt.Sprint(p[1].HTTP.Statuses); got != want || want != "[200 201 202 203]" {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestSignalsOfKinds: a fast signal stands beside what is reached by TCP, and nothing
// else; ICMP and programs have no port.
func TestSignalsOfKinds(t *testing.T) {
	tests := []struct {
		probe string
		fast  time.Duration
		port  uint16
	}{
		{`http: {port: 80}`, defaultFast, 80},
		{`tcp: {port: 25}`, defaultFast, 25},
		{`tls: {port: 993}`, defaultFast, 993},
		{`grpc: {port: 9090}`, defaultFast, 9090},
		{`{grpc: {port: 9090}, fast: 0}`, 0, 9090},
		{`dns: {port: 53, name: a}`, 0, 53},
		{`{dns: {port: 53, name: a}, fast: 0}`, 0, 53},
		{`dns: {port: 53, name: a, transport: tcp}`, defaultFast, 53},
		{`dns: {port: 853, name: a, transport: tls}`, defaultFast, 853},
		{`icmp: {}`, 0, 0},
		{`exec: {command: /a}`, 0, 0},
	}
	for _, tc := range tests {
		if p := probesOf(t, tc.probe)[0]; p.Fast != tc.fast || p.Port() != tc.port {
			t.Errorf("%s: got signal %v and port %d, want %v and %d", tc.probe, p.Fast, p.Port(), tc.fast, tc.port)
		}
	}
}

// TestNameOfSites: what is asked for the name that the sites answer to has the service's
// first host, where it says none.
func TestNameOfSites(t *testing.T) {
	for _, p := range probesOf(t, `http: {port: 1}`, `tls: {port: 2}`, `grpc: {port: 3}`, `dns: {port: 4, name: a, transport: tls}`) {
		if _, _, name := p.host(); name == nil || *name != "shop.example.org" {
			t.Errorf("%s: got %v, want shop.example.org", p.String(), name)
		}
	}
}

// TestProgramsAllowed: `check` says which programs of a spec this director does not run.
func TestProgramsAllowed(t *testing.T) {
	set := &Set{Services: []*GlobalService{{Name: "shop", Probes: probesOf(t, `exec: {command: /usr/lib/divert/checks/a}`, `exec: {command: /usr/lib/divert/checks/b}`)}}}
	s := DefaultSettings()
	s.Probe.Exec = []string{"/usr/lib/divert/checks/b"}
	problems := CheckTogether(s, set)
	if len(problems) != 1 || !problems[0].Warning || problems[0].Path != "probe.exec" || !strings.Contains(problems[0].Message, "/usr/lib/divert/checks/a") {
		t.Errorf("got %v, want a warning of the one that is not allowed", problems)
	}
}
