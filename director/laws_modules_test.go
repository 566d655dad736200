package director_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestModulesLaw: no module is older than what its advisories were mended in. `make vuln`
// asks the database of vulnerabilities where that can be had; this holds also where it
// cannot, and for what it misses, and against a later `go get` of something that needs an
// older one.
func TestModulesLaw(t *testing.T) {
	rows := []struct {
		module, least, why string
		maybe              bool // no harm if it is not used
	}{
		{"github.com/hashicorp/memberlist", "v0.7.0", "lengths in headers of push/pull (HCSEC-2026-18) and what a message unpacks to had no bound", false},
		{"github.com/miekg/dns", "v1.1.25", "query IDs could be guessed (CVE-2019-19794); before, connections without a deadline (CVE-2017-15133)", false},
		{"go.etcd.io/etcd/server/v3", "v3.7.1", "what is built and tested against; calls of the gRPC API passed its authorization before 3.6.9 (CVE-2026-33413)", false},
		{"go.etcd.io/etcd/client/v3", "v3.7.1", "goes with the server", false},
		{"google.golang.org/grpc", "v1.79.3", "a path without its slash passed authorization (CVE-2026-33186); rapid resets of streams (CVE-2023-44487)", false},
		{"google.golang.org/protobuf", "v1.33.0", "JSON that never ends (CVE-2024-24786)", false},
		{"golang.org/x/net", "v0.38.0", "HTTP/2 floods (CVE-2023-44487, CVE-2023-45288), proxy rules passed by IPv6 zones (CVE-2025-22870)", false},
		{"golang.org/x/crypto", "v0.45.0", "SSH: authorization passed (CVE-2024-45337), memory without bound (CVE-2025-58181)", true},
		{"golang.org/x/text", "v0.3.8", "language tags that take minutes (CVE-2022-32149)", true},
		{"golang.org/x/oauth2", "v0.27.0", "tokens of many dots take memory (CVE-2025-22868)", true},
		{"github.com/golang-jwt/jwt/v5", "v5.2.2", "headers of many dots take memory (CVE-2025-30204)", true},
		{"github.com/go-jose/go-jose/v4", "v4.0.5", "tokens of many dots take memory (CVE-2025-27144)", true},
		{"github.com/open-policy-agent/opa", "v1.4.0", "paths of the data API could inject Rego (CVE-2025-46569)", true},
		{"filippo.io/age", "v1.2.1", "names of plugins were paths of programs (GHSA-32gq-x56h-299c)", false},
		{"github.com/prometheus/client_golang", "v1.11.1", "methods of requests became labels without bound (CVE-2022-21698)", false},
		{"go.yaml.in/yaml/v3", "v3.0.1", "a document that panics (CVE-2022-28948)", false},
		{"k8s.io/client-go", "v0.20.0", "tokens in logs (CVE-2020-8565)", false},
		{"github.com/sirupsen/logrus", "v1.9.3", "one long line stops the writer (CVE-2025-65637)", true},
		{"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc", "v0.46.0", "labels without bound (CVE-2023-47108)", true},
	}
	have := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(?:require\s+|\t)(\S+) (v\S+)`).FindAllStringSubmatch(read(t, "go.mod"), -1) {
		have[m[1]] = m[2]
	}
	if len(have) < 50 {
		t.Fatalf("found %d modules in go.mod only", len(have))
	}
	for _, row := range rows {
		switch got, used := have[row.module]; {
		case !used && !row.maybe:
			t.Errorf("go.mod has no %s any more: take its row out", row.module)
		case used && older(got, row.least):
			t.Errorf("%s is %s, and below %s: %s", row.module, got, row.least, row.why)
		}
	}
	for _, tc := range []struct {
		a, b string
		want bool
	}{{"v0.6.9", "v0.7.0", true}, {"v0.7.0", "v0.7.0", false}, {"v0.10.0", "v0.7.0", false}, {"v0.7.0-rc.1", "v0.7.0", true}, {"v1.5.4-0.20250319132907-e064f32e3674", "v1.5.3", false}} {
		if got := older(tc.a, tc.b); got != tc.want {
			t.Errorf("older(%s, %s): got %v", tc.a, tc.b, got)
		}
	}
}

// older compares versions of modules; one with a suffix comes before the one without.
func older(a, b string) bool {
	number, suffix, _ := strings.Cut(strings.TrimPrefix(a, "v"), "-")
	got, want := strings.Split(number, "."), strings.Split(strings.TrimPrefix(b, "v"), ".")
	for i := range want {
		if i >= len(got) {
			return true
		}
		x, errX := strconv.Atoi(strings.TrimSuffix(got[i], "+incompatible"))
		y, errY := strconv.Atoi(want[i])
		if errX != nil || errY != nil {
			return true // not understood is not known to be good
		}
		if x != y {
			return x < y
		}
	}
	return suffix != ""
}
