package director

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/kube"
)

// TestControlPlanesShareADependency: two control planes that do not work at once behind
// one proxy are unknown, and the proxy is named; one alone is impaired, and so are two
// that share nothing (S17, F9).
func TestControlPlanesShareADependency(t *testing.T) {
	k := &kubes{
		changes: newBroadcast(), log: slog.New(slog.DiscardHandler), shown: newKubeMetrics(prometheus.NewRegistry()),
		via: map[string]string{"fra": "rancher", "ams": "rancher", "nyc": "", "sin": ""},
	}
	see := func(cluster string, impaired bool) {
		c := kube.Condition{
			Cluster: cluster, Impaired: impaired, Nodes: kube.Fraction{Ready: 3, All: 4},
			Endpoints: []kube.Endpoint{{URL: "https://192.0.2.1:6443", State: kube.Alive, Version: "v1.37.2", Latency: 20 * time.Millisecond}},
		}
		if impaired {
			c.Reason, c.Nodes, c.NodesWhy = "API server gone: timeout", kube.Fraction{}, "no API server is alive to be asked"
			c.Endpoints[0].State, c.Endpoints[0].Reason, c.Endpoints[0].Latency = kube.Gone, "timeout", 0
		}
		k.report(c)
	}
	status := func() (map[string]api.Cluster, string) {
		out := api.Status{Clusters: []api.Cluster{{Name: "fra"}, {Name: "ams"}, {Name: "nyc"}, {Name: "sin"}, {Name: "new"}}}
		k.describe(&out)
		by := map[string]api.Cluster{}
		for _, c := range out.Clusters {
			by[c.Name] = c
		}
		return by, strings.Join(out.Alerts, "\n")
	}
	impaired := func() (n float64) {
		for cluster := range k.via {
			n += testutil.ToFloat64(k.shown.impaired.WithLabelValues(cluster))
		}
		return n
	}
	for cluster := range k.via {
		see(cluster, false)
	}
	by, alerts := status()
	if c := by["fra"]; c.ControlPlane != "ok" || c.Nodes != "3 of 4 ready" || len(c.Servers) != 1 || c.Servers[0].Version != "v1.37.2" || c.Servers[0].State != "alive" || alerts != "" {
		t.Errorf("all well: %+v, %q", c, alerts)
	}
	if c := by["new"]; c.ControlPlane != "" || c.Nodes != "" {
		t.Errorf("not seen yet: %+v", c)
	}
	if got := testutil.ToFloat64(k.shown.ready.WithLabelValues("fra")); got != 3 {
		t.Errorf("%v nodes ready, want 3", got)
	}

	changed := k.changes.changed()
	see("fra", true)
	by, alerts = status()
	if c := by["fra"]; c.ControlPlane != "impaired: API server gone: timeout" || c.Nodes != "unknown: no API server is alive to be asked" || !strings.Contains(alerts, "control plane of fra impaired") || impaired() != 1 {
		t.Errorf("one: %+v, %q, %v impaired", c, alerts, impaired())
	}
	select {
	case <-changed:
	default:
		t.Error("nobody is told")
	}
	if n := testutil.CollectAndCount(k.shown.nodes); n != 3 {
		t.Errorf("%d clusters have nodes that are counted, want 3", n)
	}

	see("ams", true)
	by, alerts = status()
	for _, cluster := range []string{"fra", "ams"} {
		if got := by[cluster].ControlPlane; got != "unknown: shared dependency rancher (ams and fra do not work at once): API server gone: timeout" {
			t.Errorf("%s: %q", cluster, got)
		}
	}
	if strings.Contains(alerts, "impaired:") || strings.Count(alerts, "shared dependency rancher: the control planes of ams and fra") != 1 || impaired() != 0 {
		t.Errorf("both: %q, %v impaired", alerts, impaired())
	}

	see("nyc", true)
	see("sin", true)
	if by, _ = status(); by["nyc"].ControlPlane != "impaired: API server gone: timeout" || by["sin"].ControlPlane != by["nyc"].ControlPlane || impaired() != 2 {
		t.Errorf("two that share nothing: %+v, %v impaired", by, impaired())
	}

	see("ams", false)
	if by, _ = status(); by["fra"].ControlPlane != "impaired: API server gone: timeout" || impaired() != 3 {
		t.Errorf("one again: %+v, %v impaired", by["fra"], impaired())
	}
	k.forget("fra")
	if n := testutil.CollectAndCount(k.shown.version); n != 3 {
		t.Errorf("%d clusters have a version, want 3", n)
	}
}

// TestViaIsWatched: what clusters are reached through goes with each signal and check
// of their addresses, and not with what is asked elsewhere.
func TestViaIsWatched(t *testing.T) {
	text := strings.Replace(softSpec, "spec: {location: {country: DE},", "spec: {location: {country: DE}, via: tunnel,", 1)
	f := softForce(t, text, "d1")
	_, watched := targets(f.spec, core.Voters(f.sealed.Plan), "d1")
	via := map[string]int{}
	for _, w := range watched {
		if w.Subject.Kind != health.KindSoft {
			via[w.Via+"/"+w.Group]++
		} else if w.Via != "" {
			t.Errorf("%s is behind %s", w.Subject, w.Via)
		}
	}
	if len(via) != 2 || via["tunnel/fra"] != 4 || via["/"] != 2 {
		t.Errorf("watched: %v, want signal and check of two addresses behind the tunnel, and of one behind nothing", via)
	}
}

// TestKubeconfigElsewhere: whoever may write a spec has neither the control plane watched
// nor a probe asked with a file that lies in no folder for it (C11).
func TestKubeconfigElsewhere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "admin.conf")
	if err := os.WriteFile(path, []byte("apiVersion: v1\nkind: Config\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := spec.Settings{File: filepath.Join(dir, "director.yaml")}
	s.Probe.Kubeconfigs = filepath.Join(dir, "kube")
	const want = "admin.conf is not read: it lies outside the folders of kubeconfigs"

	k := &kubes{changes: newBroadcast(), log: slog.New(slog.DiscardHandler), files: s.Kubeconfigs(), shown: newKubeMetrics(prometheus.NewRegistry())}
	changed := k.changes.changed()
	w := k.watch(t.Context(), "fra", spec.ControlPlane{Kubeconfig: path})
	<-changed
	w.cancel()
	<-w.done
	out := api.Status{Clusters: []api.Cluster{{Name: "fra"}}}
	k.describe(&out)
	if got := out.Clusters[0].ControlPlane; !strings.HasPrefix(got, "not observed: ") || !strings.Contains(got, want) {
		t.Errorf("watched: %q", got)
	}

	sources := softSources{files: s.Kubeconfigs()}
	have := map[string]*watchedCounter{}
	sources.counters(&spec.Set{Clusters: []*spec.Cluster{{Name: "fra", ControlPlane: &spec.ControlPlane{Kubeconfig: path}}}}, have, k.log)
	_, err := have["fra"].counter.Nodes(t.Context(), "")
	have["fra"].counter.Close()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("asked: %v", err)
	}
}
