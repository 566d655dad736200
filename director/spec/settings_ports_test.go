package spec

import (
	"path/filepath"
	"strings"
	"testing"
)

// No two parts of a director are given one port, as far as that can be seen beforehand.
func TestPortsOnce(t *testing.T) {
	const good = `name: fra
dns: {listen: ["203.0.113.5:53", "[2001:db8::5]:53"], tls: {listen: ["203.0.113.5:853"], cert: c.pem, key: c.key}}
gossip: {listen: "203.0.113.5:7946", keyFile: gossip.key}
etcd:
  endpoints: ["https://203.0.113.5:2379"]
  tls: {ca: ca.pem, cert: c.pem, key: c.key}
  member:
    name: fra
    listen: "https://203.0.113.5:2379"
    cluster: ["fra=https://203.0.113.5:2380"]
    token: t
    tls: {ca: ca.pem, cert: m.pem, key: m.key}
api: {listen: "203.0.113.5:8053", tls: {cert: c.pem, key: c.key, clientCA: ca.pem}}
`
	tests := []struct{ what, old, changed, want string }{
		{"as it should be", "", "", ""},
		{"other addresses", "203.0.113.5:7946", "203.0.113.6:53", ""},
		{"another family", `"203.0.113.5:7946"`, `"[::]:8053"`, ""},
		{"DNS and gossip", "203.0.113.5:7946", "203.0.113.5:53", "gossip.listen: 203.0.113.5:53 is where DNS listens, too"},
		{"DNS and gossip everywhere", "203.0.113.5:7946", "0.0.0.0:53", "gossip.listen: 0.0.0.0:53 is where DNS listens, too"},
		{"DNS over TLS and the API", "203.0.113.5:8053", "203.0.113.5:853", "api.listen: 203.0.113.5:853 is where DNS over TLS listens, too"},
		{"gossip and the API", "203.0.113.5:8053", "203.0.113.5:7946", "api.listen: 203.0.113.5:7946 is where gossip listens, too"},
		{"DNS and etcd", `["203.0.113.5:53"`, `["203.0.113.5:2379"`, "etcd.member.listen: 203.0.113.5:2379 is where DNS listens, too"},
		{"etcd and its members", "fra=https://203.0.113.5:2380", "fra=https://203.0.113.5:2379", "203.0.113.5:2379 is where etcd, for directors listens, too"},
		{"members by name, and the API", "fra=https://203.0.113.5:2380", "fra=https://fra.example.net:8053", "0.0.0.0:8053 is where the API listens, too"},
	}
	for _, tc := range tests {
		path := filepath.Join(t.TempDir(), "director.yaml")
		write(t, path, strings.Replace(good, tc.old, tc.changed, 1))
		_, problems := LoadSettings(path)
		var got []string
		for _, p := range problems {
			if Failed([]Problem{p}) {
				got = append(got, p.String())
			}
		}
		if (tc.want == "") != (len(got) == 0) || tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)) {
			t.Errorf("%s: got %q, want %q", tc.what, got, tc.want)
		}
	}
}
