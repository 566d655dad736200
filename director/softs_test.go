package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/probe"
)

const softSpec = `
kind: Cluster
metadata: {name: fra}
spec: {location: {country: DE}, controlPlane: {kubeconfig: {path: fra.kubeconfig}}}
---
kind: Cluster
metadata: {name: nyc}
spec: {location: {country: US}}
---
kind: Zone
metadata: {name: example.org}
spec: {nameservers: [ns1.example.net]}
---
kind: GlobalService
metadata: {name: shop, namespace: store}
spec:
  hosts: [shop.example.org]
  endpoints:
  - {cluster: fra, addresses: [192.0.2.10, 192.0.2.11]}
  - {cluster: nyc, addresses: [198.51.100.10]}
  probes:
  - tcp: {port: 443}
  - prometheus: {url: "https://prometheus.$cluster.example.org", query: "errors{cluster='$cluster'}", above: 0.05, for: 1m}
`

// softForce is a plan in force of some directors.
func softForce(t *testing.T, text string, directors ...string) *inForce {
	t.Helper()
	raws, problems := spec.Parse("soft.yaml", []byte(text))
	for _, p := range problems {
		if p.Warning {
			continue
		}
		t.Fatal(p)
	}
	set, _ := spec.Resolve(raws)
	p := &plan.Plan{Fleet: "f", Epoch: 1, Revision: 1}
	for _, name := range directors {
		p.Roster = append(p.Roster, &plan.Director{Name: name, Site: name, Standing: plan.Director_ACTIVE})
	}
	return &inForce{spec: set, sealed: &plan.Sealed{Plan: p}}
}

// softReport is what softs reported.
type softReport struct {
	at      time.Duration
	cluster string
	health.Report
}

// TestSoftNames: what a director says of a soft probe names the query as it is asked.
func TestSoftNames(t *testing.T) {
	for _, a := range softAsks(softForce(t, softSpec, "d1").spec, nil, "d1") {
		if want := "prometheus errors{cluster='" + a.cluster + "'}"; a.name != want {
			t.Errorf("got %s, want %s", a.name, want)
		}
	}
}

// TestSoftProbes: each question is asked once for all addresses of its cluster, in its
// rhythm; good and bad are reported of each, and what is unknown, or not bad for long
// enough, as nothing (S17); what a new plan does not ask for is asked no more.
func TestSoftProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := softForce(t, softSpec, "d1")
		h := &horizon{texts: new(zoneTexts)}
		h.swap(f)
		clusters := map[netip.Addr]string{netip.MustParseAddr("192.0.2.10"): "fra", netip.MustParseAddr("192.0.2.11"): "fra", netip.MustParseAddr("198.51.100.10"): "nyc"}
		start := time.Now()
		var mu sync.Mutex // guards the two
		var reports []softReport
		var asked []time.Duration
		count := func() (int, int) {
			mu.Lock()
			defer mu.Unlock()
			return len(reports), len(asked)
		}
		var state atomic.Int32 // 0 good, 1 bad, 2 unknown
		s := &softs{
			horizon: h, changes: newBroadcast(), name: "d1", log: slog.New(slog.DiscardHandler), shown: newSoftMetrics(prometheus.NewRegistry()), now: time.Now,
			report: func(r health.Report) {
				mu.Lock()
				defer mu.Unlock()
				reports = append(reports, softReport{time.Since(start), clusters[r.Subject.Addr.Addr()], r})
			},
			ask: func(_ context.Context, a *softAsk) (bool, string, error) {
				time.Sleep(300 * time.Millisecond)
				if a.cluster != "fra" {
					return false, "", errors.New("no data")
				}
				mu.Lock()
				asked = append(asked, time.Since(start))
				mu.Unlock()
				switch state.Load() {
				case 1:
					return true, "0.07 is above 0.05", nil
				case 2:
					return false, "", errors.New("timeout")
				}
				return false, "0.01", nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = s.run(ctx) }()
		// of collects what was said of fra meanwhile.
		of := func(d time.Duration) (ok, bad, void int) {
			t.Helper()
			n, _ := count()
			time.Sleep(d)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			for _, r := range reports[n:] {
				switch {
				case r.cluster == "nyc" && !r.Void:
					t.Errorf("without data: %+v", r.Report)
				case r.cluster == "nyc":
				case r.Void:
					void++
				case r.OK:
					ok++
				default:
					bad++
				}
			}
			return ok, bad, void
		}
		if ok, bad, void := of(60 * time.Second); ok < 8 || ok%2 != 0 || bad != 0 || void != 0 {
			t.Errorf("good: %d, %d, %d, want an even number of good ones", ok, bad, void)
		}
		for i := range asked[1:] {
			if gap := asked[i+1] - asked[i]; gap < 7*time.Second || gap > 13*time.Second {
				t.Errorf("asked %v after the last, want 10 s ± 20 %%", gap)
			}
		}
		state.Store(1)
		if ok, bad, void := of(55 * time.Second); ok > 2 || bad != 0 || void == 0 {
			t.Errorf("bad for 55 s of 1m: %d, %d, %d, want nothing said", ok, bad, void)
		}
		if ok, bad, _ := of(60 * time.Second); ok != 0 || bad < 6 {
			t.Errorf("bad for longer: %d good, %d bad", ok, bad)
		}
		state.Store(2)
		fra := softAsks(f.spec, nil, "")
		latest := func(cluster string) health.Report {
			for def, a := range fra {
				if a.cluster == cluster {
					return s.latest(health.Subject{Kind: health.KindSoft, Def: def})
				}
			}
			return health.Report{}
		}
		if r := latest("fra"); r.OK || r.Void || !strings.HasPrefix(r.Reason, "asked ") || !strings.HasSuffix(r.Reason, "s ago: 0.07 is above 0.05") {
			t.Errorf("the latest of fra: %+v", r)
		}
		if r := latest("nyc"); !r.Void || !strings.HasSuffix(r.Reason, "s ago: no data") {
			t.Errorf("the latest of nyc: %+v", r)
		}
		if r := s.latest(health.Subject{Kind: health.KindSoft, Def: "0123456789abcdef"}); !r.Void || r.Reason != "asked by those assigned to it alone" {
			t.Errorf("the latest of another's: %+v", r)
		}
		of(15 * time.Second)
		if ok, bad, void := of(60 * time.Second); ok != 0 || bad != 0 || void < 8 {
			t.Errorf("unknown: %d, %d, %d, want nothing said", ok, bad, void)
		}
		var out api.Status
		s.describe(&out)
		if len(out.Alerts) != 2 || !strings.Contains(out.Alerts[0], "in fra is unknown to this director, so it says nothing: timeout") || !strings.Contains(out.Alerts[1], "in nyc") {
			t.Errorf("alerts: %q", out.Alerts)
		}
		state.Store(1) // the row of bad answers was broken
		of(15 * time.Second)
		if ok, bad, _ := of(40 * time.Second); ok != 0 || bad != 0 {
			t.Errorf("bad again, for 55 s: %d good, %d bad, want nothing said", ok, bad)
		}

		h.swap(softForce(t, strings.Replace(softSpec, "errors", "1 - errors", 1), "d1"))
		s.changes.tell()
		_, n := count()
		of(5 * time.Second)
		if _, now := count(); now == n {
			t.Error("the new question is not asked at once")
		}
		h.swap(softForce(t, softSpec[:strings.LastIndex(softSpec, "  - prometheus")], "d1"))
		s.changes.tell()
		of(time.Second)
		n, _ = count()
		of(time.Minute)
		if now, _ := count(); now != n {
			t.Error("what is no longer asked for is reported about")
		}
		if s.describe(&out); len(s.unknown) != 0 {
			t.Errorf("still unknown: %v", s.unknown)
		}
		cancel()
		<-ended
		if got := testutil.ToFloat64(s.shown.WithLabelValues("prometheus", "unknown")); got == 0 {
			t.Error("unknown answers are not counted")
		}
	})
}

// TestSoftAsksAreShared: each address has the observers of section Quorum, and a
// director asks once for all of a cluster that are its own.
func TestSoftAsksAreShared(t *testing.T) {
	names := []string{"d1", "d2", "d3", "d4", "d5", "d6", "d7"}
	f := softForce(t, softSpec, names...)
	roster := core.Voters(f.sealed.Plan)
	observers := map[health.Subject]int{}
	for _, me := range names {
		for def, a := range softAsks(f.spec, roster, me) {
			for _, s := range a.subjects {
				observers[s]++
				if s.Def != def || f.spec.Service("store/shop").Endpoint(a.cluster) == nil {
					t.Errorf("%s of %s is asked as %s", s, a.cluster, def)
				}
			}
		}
		_, watched := targets(f.spec, roster, me)
		for _, w := range watched {
			if softAsked(w.Subject) {
				observers[w.Subject] += 100
			}
		}
	}
	if len(observers) != 3 {
		t.Errorf("%d soft subjects, want one for each address", len(observers))
	}
	for s, n := range observers {
		if n != 505 {
			t.Errorf("%s is asked about by %d and watched by %d, want 5", s, n%100, n/100)
		}
	}
}

// TestSoftSources: what is asked of a Prometheus, with what secrets, and what is made
// of its number; no file but those of the folder of secrets is ever sent.
func TestSoftSources(t *testing.T) {
	var seen atomic.Pointer[string]
	value := "0.07"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := r.Header.Get("Authorization") + " " + r.URL.Path + " " + r.URL.Query().Get("query")
		seen.Store(&text)
		_, _ = fmt.Fprintf(w, `{"status":"success","data":{"resultType":"scalar","result":[1,%q]}}`, value)
	}))
	defer server.Close()
	dir := t.TempDir()
	outer := filepath.Join(dir, "outside")
	if err := os.WriteFile(outer, []byte("shadow"), 0o600); err != nil {
		t.Fatal(err)
	}
	secrets := filepath.Join(dir, "secrets")
	if err := os.Mkdir(secrets, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outer, filepath.Join(secrets, "link")); err != nil {
		t.Fatal(err)
	}
	sources := &softSources{secrets: secrets, prober: probe.New(probe.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})}
	above := 0.05
	ask := func(bearer string) (bool, string, error) {
		a := &softAsk{cluster: "fra", probe: &spec.Probe{Prometheus: &spec.PrometheusProbe{URL: server.URL + "/$cluster", Query: "up{c='$cluster'}", Above: &above, Bearer: bearer}}}
		defer func() { a.number.close() }()
		return sources.ask(t.Context(), a)
	}
	if _, _, err := ask("token"); err == nil || !strings.Contains(err.Error(), "not a file") {
		t.Errorf("a secret that is not there: %v", err)
	}
	if err := os.WriteFile(filepath.Join(secrets, "token"), []byte("word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad, why, err := ask("token")
	if !bad || why != "0.07 is above 0.05" || err != nil || *seen.Load() != "Bearer word /fra/api/v1/query up{c='fra'}" {
		t.Errorf("got %t, %q, %v, asked %q", bad, why, err, *seen.Load())
	}
	value = "0.05"
	if bad, why, err := ask(""); bad || why != "0.05" || err != nil || !strings.HasPrefix(*seen.Load(), " /fra") {
		t.Errorf("got %t, %q, %v, asked %q", bad, why, err, *seen.Load())
	}
	seen.Store(nil)
	for _, name := range []string{"link", "../outside", outer, ".", "..", ""} {
		if data, err := sources.secret(name); err == nil {
			t.Errorf("%q is sent: %q", name, data)
		}
	}
	if seen.Load() != nil {
		t.Error("asked")
	}
	if _, err := (&softSources{}).secret("token"); err == nil || !strings.Contains(err.Error(), "probe.secrets") {
		t.Errorf("without a folder: %v", err)
	}
	if _, _, err := sources.ask(t.Context(), &softAsk{cluster: "nyc", probe: &spec.Probe{Kube: &spec.KubeProbe{MinNodesReady: 50}}}); err == nil || !strings.Contains(err.Error(), "names no control plane") {
		t.Errorf("without a control plane: %v", err)
	}
}
