package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/divertdns/divert/director/api"
)

// shown is the certificate that a site shows at a port.
func (h *hosts) shown(site, port string) (*x509.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(h.dir, "fleet/fra/etcd-client.crt"), filepath.Join(h.dir, "fleet/fra/etcd-client.key"))
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 2 * time.Second}, Config: &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		InsecureSkipVerify: true, //nolint:gosec // which certificate is shown is what is looked at
	}}
	c, err := d.DialContext(h.t.Context(), "tcp", net.JoinHostPort(h.sites[site], port))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// renewed makes all certificates anew and copies them as it says: API and etcd show the new
// ones without a restart, and the fleet goes on.
func (h *hosts) renewed() {
	h.t.Helper()
	before := map[string]string{}
	for _, site := range []string{"nyc", "sin"} {
		for _, port := range []string{"8053", "2379", "2380"} {
			c, err := h.shown(site, port)
			must(h.t, err)
			before[site+port] = c.SerialNumber.String()
		}
	}
	out, code := h.run("./divert fleet renew --from fleet")
	if code != 0 {
		h.t.Fatalf("renew: code %d\n%s", code, out)
	}
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "scp ") && !strings.Contains(line, " "+h.sites["fra"]+":") {
			if out, code := h.run(line); code != 0 {
				h.t.Fatalf("%s: code %d\n%s", line, code, out)
			}
		}
	}
	h.until(40*time.Second, "the new certificates are shown", func() error {
		for at, was := range before {
			c, err := h.shown(at[:3], at[3:])
			if err != nil {
				return err
			}
			if c.SerialNumber.String() == was {
				return fmt.Errorf("%s shows the old one at %s", at[:3], at[3:])
			}
		}
		return nil
	})
	h.settled("sin")
}

// joined lays out a fourth site, and takes it in.
func (h *hosts) joined() {
	h.t.Helper()
	h.sites["lon"] = strings.TrimSuffix(h.sites["fra"], ".1") + ".4"
	defer delete(h.sites, "lon")
	out, code := h.run("./divert fleet join --from fleet --site lon=" + h.sites["lon"] + " -o json")
	var laid struct {
		Next []string `json:"next"`
	}
	if err := json.Unmarshal([]byte(out), &laid); err != nil || code != 0 || len(laid.Next) != 3 {
		h.t.Fatalf("join: code %d\n%s", code, out)
	}
	if out, code := h.divert("sin", strings.TrimPrefix(laid.Next[0], "./divert "), "--timeout", "3s"); code != 3 || !strings.Contains(out, "lon") {
		h.t.Errorf("approve, before it runs: code %d\n%s", code, out)
	}
	if out, code := h.run(laid.Next[1]); code != 0 {
		h.t.Fatalf("%s: code %d\n%s", laid.Next[1], code, out)
	}
	h.serve("lon", laid.Next[2])
	h.until(60*time.Second, "a fourth director", func() error {
		out, code := h.divert("lon", "director", "list", "-o", "json")
		var list []api.DirectorState
		if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 || len(list) != 4 {
			return fmt.Errorf("code %d: %s", code, out)
		}
		for _, d := range list {
			if d.Standing != "active" || !d.Heard || d.DNS != "ok" || d.Plan != list[0].Plan {
				return fmt.Errorf("%+v", d)
			}
		}
		return nil
	})
	if _, err := os.Stat(filepath.Join(h.dir, "fleet/lon/etcd.key")); err == nil {
		h.t.Error("a site that is no member of etcd has a member's key")
	}
	h.answers("shop.example.org", h.twoAt(), "lon")
	h.kill("lon")
	if out, code := h.divert("fra", "director", "remove", "lon", "--reason", "INC-4", "--timeout", "20s"); code != 0 {
		h.t.Errorf("remove: code %d\n%s", code, out)
	}
}

// twoAt is where the second place of the service is.
func (h *hosts) twoAt() string { return strings.Replace(h.sites["nyc"], ".7.", ".10.", 1) }
