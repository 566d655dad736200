package director

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/director/spec"
)

// What the settings say reaches the DNS server, with the secrets of their files.
func TestTransferOptions(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	settings := spec.TransferSettings{
		Allow:  []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
		Keys:   []spec.TransferKey{{Name: "one", Algorithm: "hmac-sha256", SecretFile: put("good", " MDEyMzQ1Njc4OWFiY2RlZg==\n")}},
		Notify: []spec.Secondary{{Addr: netip.MustParseAddrPort("198.51.100.7:53"), Key: "one"}},
	}
	got, err := transferOptions(settings)
	if err != nil || string(got.Keys[0].Secret) != "0123456789abcdef" || got.Keys[0].Name != "one" || got.Notify[0].Key != "one" ||
		got.Notify[0].Addr != settings.Notify[0].Addr || got.Allow[0] != settings.Allow[0] {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, path := range []string{put("short", "MDEyMw=="), put("text", "not base64!"), put("empty", ""), filepath.Join(dir, "nowhere")} {
		settings.Keys[0].SecretFile = path
		if _, err := transferOptions(settings); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "one") {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

// S12: without a secret's file DNS is answered, and nobody gets a zone.
func TestSecretGone(t *testing.T) {
	s := newStage(t)
	s.settings.DNS.Transfers.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	s.settings.DNS.Transfers.Keys = []spec.TransferKey{{Name: "standby", Algorithm: "hmac-sha256", SecretFile: filepath.Join(t.TempDir(), "none")}}
	_, ready := s.serve(nil)
	within(t, ready, "the process")
	m := new(dns.Msg)
	m.SetQuestion("pay.example.org.", dns.TypeA)
	if reply, _, err := (&dns.Client{}).Exchange(m, s.settings.DNS.Listen[0]); err != nil || len(reply.Answer) != 1 {
		t.Errorf("%v\n%v", err, reply)
	}
	m.SetAxfr("example.org.")
	if reply, _, err := (&dns.Client{Net: "tcp"}).Exchange(m, s.settings.DNS.Listen[0]); err != nil || reply.Rcode != dns.RcodeRefused {
		t.Errorf("%v\n%v, want it refused", err, reply)
	}
}
