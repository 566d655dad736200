package spec

import (
	"strings"
	"testing"
)

// TestMemberSettings: a member of the store that a director runs beside itself.
func TestMemberSettings(t *testing.T) {
	const good = `name: fra
etcd:
  endpoints: ["https://203.0.113.5:2379", "https://nyc.example.net:2379"]
  tls: {ca: ca.pem, cert: c.pem, key: c.key}
  member:
    name: fra
    listen: "https://203.0.113.5:2379"
    cluster: ["fra=https://203.0.113.5:2380", "nyc=https://nyc.example.net:2380"]
    token: t0
    tls: {ca: ca.pem, cert: m.pem, key: m.key}
`
	s, problems := ParseSettings("/etc/divert/director.yaml", []byte(good))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	m := s.Etcd.Member
	if m.Name != "fra" || m.Listen != "https://203.0.113.5:2379" || len(m.Cluster) != 2 || m.Token != "t0" || m.TLS.Key != "/etc/divert/m.key" || s.Etcd.Embedded {
		t.Errorf("got %+v", m)
	}
	for _, tc := range []struct{ from, to, want string }{
		{"    name: fra", "    name: sin", "none of cluster"},
		{"    tls: {ca: ca.pem, cert: m.pem, key: m.key}\n", "", "needs mutual TLS"},
		{"    token: t0\n", "", "token"},
		{"    listen: \"https://203.0.113.5:2379\"", "    listen: \"http://203.0.113.5:2379\"", "not loopback"},
		{"fra=https://203.0.113.5:2380", "https://203.0.113.5:2380", "no member"},
		{"  endpoints: [\"https://203.0.113.5:2379\", \"https://nyc.example.net:2379\"]\n  tls: {ca: ca.pem, cert: c.pem, key: c.key}\n", "  embedded: true\n", "without endpoints"},
	} {
		text := strings.Replace(good, tc.from, tc.to, 1)
		if text == good {
			t.Fatalf("nothing to replace: %s", tc.from)
		}
		_, problems := ParseSettings("d.yaml", []byte(text))
		found := false
		for _, p := range problems {
			found = found || strings.Contains(p.String(), tc.want)
		}
		if !found {
			t.Errorf("%q: got %v, want %q", tc.to, problems, tc.want)
		}
	}
}
