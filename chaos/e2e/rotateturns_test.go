package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/divertdns/divert/director/api"
)

// turnKey turns the gossip key over, and waits until all files hold the same new one.
func (h *hosts) turnKey(round int) {
	h.t.Helper()
	before, err := os.ReadFile(filepath.Join(h.folder("fra"), "gossip.key"))
	must(h.t, err)
	asked := h.names()[round%3]
	out, code := h.divert(asked, "keys", "rotate", "--reason", "rotation", "--timeout", "60s")
	if code != 0 || !strings.Contains(out, "complete: all gossip under") {
		h.t.Fatalf("keys rotate at %s: code %d\n%s", asked, code, out)
	}
	h.until(30*time.Second, "one new gossip key", func() error {
		for _, site := range h.names() {
			key, err := os.ReadFile(filepath.Join(h.folder(site), "gossip.key"))
			var first []byte
			if err == nil {
				first, err = os.ReadFile(filepath.Join(h.folder("fra"), "gossip.key"))
			}
			if err != nil {
				return err
			}
			if string(key) == string(before) || string(key) != string(first) {
				return fmt.Errorf("%s has the old key, or another", site)
			}
		}
		return nil
	})
}

// turnTokens makes a new token, has all directors take it, and revokes the one before: then
// none takes that any more.
func (h *hosts) turnTokens(round int) {
	h.t.Helper()
	file := func(n int) string { return fmt.Sprintf("rotate-%d.token", n) }
	must := func(site string, args ...string) {
		h.t.Helper()
		if out, code := h.divert(site, args...); code != 0 {
			h.t.Fatalf("%s at %s: code %d\n%s", strings.Join(args, " "), site, code, out)
		}
	}
	by := func(n int, site string) (string, int) {
		return h.run("./divert whoami --server https://" + h.sites[site] + ":8053 --ca fleet/operator/api-ca.crt --token-file " + file(n))
	}
	sites := h.names()
	create := func(n int) {
		h.t.Helper()
		must(sites[n%3], "token", "create", fmt.Sprintf("rotate-%d", n), "--role", "viewer", "--scope", "fleet", "--for", "1h", "--reason", "rotation", "--file", file(n))
		for _, site := range sites {
			if out, code := by(n, site); code != 0 {
				h.t.Fatalf("%s does not take the new token: code %d\n%s", site, code, out)
			}
		}
	}
	if round == 1 {
		create(0)
	}
	create(round)
	must(sites[(round+1)%3], "token", "revoke", fmt.Sprintf("rotate-%d", round-1), "--reason", "rotation")
	for _, site := range sites {
		if out, code := by(round-1, site); code != 1 {
			h.t.Fatalf("%s takes the token that was revoked: code %d\n%s", site, code, out)
		}
	}
}

// turnCertificates makes every certificate anew, copies them as a person is told to, and
// waits until each port shows the new one; then the fleet takes a command by the person's
// new one.
func (h *hosts) turnCertificates(int) {
	h.t.Helper()
	ports := []string{"8053", rotateDoT, "2379", "2380"}
	before := map[[2]string]string{}
	for _, site := range h.names() {
		for _, port := range ports {
			c, err := h.shown(site, port)
			must(h.t, err)
			before[[2]string{site, port}] = c.SerialNumber.String()
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
	h.until(60*time.Second, "the new certificates are shown", func() error {
		for at, was := range before {
			c, err := h.shown(at[0], at[1])
			if err != nil {
				return err
			}
			if c.SerialNumber.String() == was {
				return fmt.Errorf("%s shows the old one at %s", at[0], at[1])
			}
		}
		return nil
	})
	for _, site := range h.names() {
		var s api.Status
		must(h.t, h.ask(&s, site, "status"))
		if len(s.Alerts) > 0 {
			h.t.Errorf("%s alerts after the certificates were renewed: %q", site, s.Alerts)
		}
	}
}
