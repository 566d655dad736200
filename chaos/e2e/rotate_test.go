package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What TestRotations asks for in the long suite, and what `make lab-rotate` does.
const (
	rotateRate = 2000             // queries a second, of all directors
	rotateFor  = 20 * time.Second // at least; each rotation is made once in any case
)

// rotation turns one kind of secret over while the fleet is asked. It ends when the new one is
// in force everywhere, and the old one nowhere. A fourth kind has its line in TestRotations.
type rotation struct {
	what string
	turn func(h *hosts, round int)
}

// TestRotations turns the gossip key, the API's tokens and all certificates (API, etcd as
// server and as peer, etcd's clients, DNS over TLS, people's) over, again and again, while
// an open-loop client asks three directors that `divert fleet init` laid out. Of all queries
// none fails, and of all votes none is lost (chaos/e2e/DESIGN.md says what that is).
// DIVERT_ROTATE=10000 and DIVERT_ROTATE_FOR=2m are `make lab-rotate`.
func TestRotations(t *testing.T) {
	rate, during := rotateRate, rotateFor
	if text := os.Getenv("DIVERT_ROTATE"); text != "" {
		var err error
		if rate, err = strconv.Atoi(text); err != nil || rate < 1 {
			t.Fatalf("DIVERT_ROTATE=%s is no number of queries a second", text)
		}
	} else {
		long(t)
	}
	if text := os.Getenv("DIVERT_ROTATE_FOR"); text != "" {
		var err error
		during, err = time.ParseDuration(text)
		must(t, err)
	}
	rotations := []rotation{
		{"gossip key", (*hosts).turnKey},
		{"API tokens", (*hosts).turnTokens},
		{"certificates", (*hosts).turnCertificates},
	}
	h := newHosts(t)
	want := h.rotatable()
	c := newConstant(t, h.net(), h.at(h.dns), want)
	votes := h.countVotes()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked sync.WaitGroup
	var secure outcome
	asked.Go(func() { secure = overTLS(ctx, h.at(rotateDoT), want) })
	asked.Go(func() { votes.watch(ctx) })
	c.start(rate)
	took := map[string]times{}
	for round, began := 1, time.Now(); round == 1 || time.Since(began) < during; round++ {
		for _, r := range rotations {
			at := time.Now()
			r.turn(h, round)
			took[r.what] = append(took[r.what], time.Since(at))
		}
	}
	cancel()
	asked.Wait()
	plain, lasted := c.stop()
	verdict := votes.judge()

	t.Logf("%d queries by UDP in %s, %.0f a second over 3 directors from %d addresses; the client was late by %s at most",
		plain.sent, lasted.Round(time.Second), float64(plain.sent)/lasted.Seconds(), len(c.sources), c.late.Round(time.Millisecond))
	t.Logf("  failed %d: unanswered %d, late %d, wrong %d; answered in %s", plain.failed(), plain.unanswered, plain.late, plain.wrong, plain.took)
	t.Logf("%d queries by TLS, each over a connection of its own: failed %d; answered in %s", secure.sent, secure.failed(), secure.took)
	for _, r := range rotations {
		t.Logf("%s: turned over %d times, each in %s", r.what, len(took[r.what]), took[r.what])
	}
	t.Logf("votes: %s", verdict)
	for _, o := range []outcome{plain, secure} {
		if o.failed() > 0 {
			t.Errorf("the bound is 0 failed queries: %d of %d failed, the first: %s", o.failed(), o.sent, o.first)
		}
	}
	if float64(plain.sent) < 0.98*float64(rate)*lasted.Seconds() {
		t.Errorf("only %d queries were asked, want %d a second: nothing is shown by them", plain.sent, rate)
	}
	for _, problem := range verdict.problems {
		t.Errorf("the bound is 0 lost votes: %s", problem)
	}
}

const rotateDoT = "8853" // port

// rotatable lays three hosts out, starts them with DNS over TLS too, and gives them three
// services, each at a cluster of its own. It gives the addresses that are right.
func (h *hosts) rotatable() (want map[string]string) {
	h.t.Helper()
	blocks := section(h.t, "Three sites from nothing")
	serves := map[string]string{}
	for _, line := range blocks[0] {
		line = h.here(line)
		if i := slices.IndexFunc(h.names(), func(s string) bool { return strings.Contains(line, s+"/director.yaml") }); i >= 0 {
			serves[h.names()[i]] = line
			continue
		}
		if out, code := h.run(line); code != 0 {
			h.t.Fatalf("%s: code %d\n%s", line, code, out)
		}
		if strings.Contains(line, "fleet init") {
			h.serveTLS()
		}
	}
	for site, line := range serves {
		h.serve(site, line)
	}
	for _, site := range h.names() {
		h.settled(site)
	}
	want = map[string]string{}
	var places []any
	for i, site := range h.names() {
		at := strings.Replace(h.sites[site], ".7.", ".10.", 1)
		backend(h.t, at)
		places = append(places, at)
		want[fmt.Sprintf("s%d.example.org", i+1)] = at
	}
	must(h.t, os.MkdirAll(filepath.Join(h.dir, "spec.d"), 0o700))
	must(h.t, os.WriteFile(filepath.Join(h.dir, "spec.d", "services.yaml"), []byte(rotateSpec(places)), 0o600))
	if out, code := h.run(h.here(blocks[1][1])); code != 0 {
		h.t.Fatalf("apply: code %d\n%s", code, out)
	}
	for host, at := range want {
		h.answers(host, at, h.names()...)
	}
	h.until(60*time.Second, "all is seen to be well", func() error {
		for _, site := range h.names() {
			m, err := h.metrics(site)
			if err != nil {
				return err
			}
			for _, svc := range []string{"s1", "s2", "s3"} {
				if n := m[`divert_endpoints{health="healthy",service="`+svc+`"}`]; n != 3 {
					return fmt.Errorf("%s sees %v endpoints of %s to be healthy, want 3", site, n, svc)
				}
			}
		}
		return nil
	})
	return want
}

// serveTLS has the directors serve DNS over TLS, under the certificate of their API, as
// `fleet init` laid them out.
func (h *hosts) serveTLS() {
	h.t.Helper()
	for _, site := range h.names() {
		path := filepath.Join(h.dir, "fleet", site, "director.yaml")
		raw, err := os.ReadFile(path)
		must(h.t, err)
		plain := fmt.Sprintf("dns: {listen: [%q]}\n", net.JoinHostPort(h.sites[site], h.dns))
		if !strings.Contains(string(raw), plain) {
			h.t.Fatalf("%s has no line %s:\n%s", path, plain, raw)
		}
		more := fmt.Sprintf("dns: {listen: [%q], tls: {listen: [%q], cert: api.crt, key: api.key}}\n",
			net.JoinHostPort(h.sites[site], h.dns), net.JoinHostPort(h.sites[site], rotateDoT))
		must(h.t, os.WriteFile(path, []byte(strings.Replace(string(raw), plain, more, 1)), 0o600))
	}
}

// names are the sites in order.
func (h *hosts) names() []string { return slices.Sorted(maps.Keys(h.sites)) }

// at gives a port of each site.
func (h *hosts) at(port string) (out []string) {
	for _, site := range h.names() {
		out = append(out, net.JoinHostPort(h.sites[site], port))
	}
	return out
}

// net is the part of loopback that these hosts have.
func (h *hosts) net() byte { return net.ParseIP(h.sites["fra"]).To4()[1] }

// folder is where a site's director runs.
func (h *hosts) folder(site string) string {
	if site == "fra" {
		return filepath.Join(h.dir, "fleet", site)
	}
	return filepath.Join(filepath.Dir(h.dir), "away", h.sites[site], site)
}

// metrics reads what a site's director counts.
func (h *hosts) metrics(site string) (map[string]float64, error) {
	client := overSocket(filepath.Join(h.folder(site), "data", "control.sock"))
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://divert/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the metrics of %s: %s", site, resp.Status)
	}
	out := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if i := strings.LastIndexByte(lines.Text(), ' '); i > 0 && !strings.HasPrefix(lines.Text(), "#") {
			if v, err := strconv.ParseFloat(lines.Text()[i+1:], 64); err == nil {
				out[lines.Text()[:i]] = v
			}
		}
	}
	return out, lines.Err()
}

// ask gives what a command says as JSON.
func (h *hosts) ask(into any, site string, args ...string) error {
	out, code := h.divert(site, append(args, "-o", "json")...)
	if code != 0 {
		return fmt.Errorf("%s at %s: code %d: %s", strings.Join(args, " "), site, code, out)
	}
	return json.Unmarshal([]byte(out), into)
}

// rotateSpec has three clusters, and three services that are each at another of them.
func rotateSpec(places []any) string {
	var b strings.Builder
	for _, name := range []string{"one", "two", "three"} {
		fmt.Fprintf(&b, "apiVersion: divert.dev/v1alpha1\nkind: Cluster\nmetadata: {name: %s}\nspec: {location: {country: DE}}\n---\n", name)
	}
	b.WriteString("apiVersion: divert.dev/v1alpha1\nkind: Zone\nmetadata: {name: example.org}\nspec:\n  nameservers: [ns1.example.org]\n  hostmaster: dns-admin@example.org\n  records: |\n    ns1 A 192.0.2.53\n")
	for i, order := range []string{"one, two, three", "two, three, one", "three, one, two"} {
		fmt.Fprintf(&b, "---\napiVersion: divert.dev/v1alpha1\nkind: GlobalService\nmetadata: {name: s%d}\nspec:\n", i+1)
		fmt.Fprintf(&b, "  hosts: [s%d.example.org]\n  ttl: 5s\n", i+1)
		fmt.Fprintf(&b, "  endpoints:\n  - {cluster: one, addresses: [%s]}\n  - {cluster: two, addresses: [%s]}\n  - {cluster: three, addresses: [%s]}\n", places...)
		fmt.Fprintf(&b, "  probes: [{http: {scheme: http, port: 8080, path: /, body: ok}}]\n  steering: {policy: failover, order: [%s]}\n", order)
	}
	return b.String()
}
