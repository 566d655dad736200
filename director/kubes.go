package director

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health/kube"
)

// kubes watches the clusters' control planes. What it sees is the annotation
// *impaired*: it alerts and is shown, and never enters steering (S17).
type kubes struct {
	horizon *horizon
	changes *broadcast
	log     *slog.Logger
	files   spec.Kubeconfigs
	shown   *kubeMetrics

	mu   sync.Mutex
	last map[string]kube.Condition // by cluster
	via  map[string]string         // by cluster: what its control plane is reached through; "" = nothing
	said map[string]string         // by cluster, as last logged
}

type kubeMetrics struct {
	impaired, latency, nodes, ready, version *prometheus.GaugeVec
}

func newKubeMetrics(reg prometheus.Registerer) *kubeMetrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, append([]string{"cluster"}, labels...))
	}
	return &kubeMetrics{
		impaired: gauge("divert_control_plane_impaired", "1 while the cluster's control plane is impaired as this director sees it; it never steers."),
		latency:  gauge("divert_control_plane_latency_seconds", "How long the quickest API server of the cluster took for /livez; no series while none answers."),
		nodes:    gauge("divert_cluster_nodes", "Nodes of the cluster; no series while they cannot be counted."),
		ready:    gauge("divert_cluster_nodes_ready", "Nodes of the cluster that say that they are ready; no series while they cannot be counted."),
		version:  gauge("divert_control_plane_info", "Always 1; the version of Kubernetes, as an API server of the cluster last said, is the label.", "version"),
	}
}

// show puts what is seen of one control plane into the metrics.
func (m *kubeMetrics) show(c kube.Condition, impaired bool) {
	m.impaired.WithLabelValues(c.Cluster).Set(yes(impaired))
	latency, version := time.Duration(0), ""
	for _, e := range c.Endpoints {
		if e.Latency > 0 && (latency == 0 || e.Latency < latency) {
			latency = e.Latency
		}
		version = cmp.Or(e.Version, version)
	}
	set := func(g *prometheus.GaugeVec, known bool, value float64) {
		if known {
			g.WithLabelValues(c.Cluster).Set(value)
		} else {
			g.DeleteLabelValues(c.Cluster)
		}
	}
	set(m.latency, latency > 0, latency.Seconds())
	set(m.nodes, c.Nodes.All > 0, float64(c.Nodes.All))
	set(m.ready, c.Nodes.All > 0, float64(c.Nodes.Ready))
	m.version.DeletePartialMatch(prometheus.Labels{"cluster": c.Cluster})
	if version != "" {
		m.version.WithLabelValues(c.Cluster, version).Set(1)
	}
}

func (m *kubeMetrics) forget(cluster string) {
	for _, g := range []*prometheus.GaugeVec{m.impaired, m.latency, m.nodes, m.ready, m.version} {
		g.DeletePartialMatch(prometheus.Labels{"cluster": cluster})
	}
}

// watched is one control plane under watch.
type watched struct {
	spec   spec.ControlPlane
	cancel context.CancelFunc
	done   chan struct{}
}

// run keeps one watcher for each cluster that names its control plane.
func (k *kubes) run(ctx context.Context) error {
	running := map[string]*watched{}
	stop := func(name string) {
		running[name].cancel()
		<-running[name].done
		delete(running, name)
		k.forget(name)
	}
	defer func() {
		for name := range running {
			stop(name)
		}
	}()
	for {
		changed := k.changes.changed()
		if f := k.horizon.current(); f != nil {
			want, via := map[string]spec.ControlPlane{}, map[string]string{}
			for _, c := range f.spec.Clusters {
				if c.ControlPlane != nil {
					want[c.Name], via[c.Name] = *c.ControlPlane, c.ControlPlane.Via
				}
			}
			k.mu.Lock()
			k.via = via
			k.mu.Unlock()
			for name, w := range running {
				if next, ok := want[name]; !ok || !sameControlPlane(next, w.spec) {
					stop(name)
				}
			}
			for name, cp := range want {
				if running[name] == nil {
					running[name] = k.watch(ctx, name, cp)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			if !pause(ctx, time.Second) { // changes come in bursts
				return nil
			}
		}
	}
}

func sameControlPlane(a, b spec.ControlPlane) bool {
	return a.Kubeconfig == b.Kubeconfig && a.Context == b.Context && strings.Join(a.Endpoints, " ") == strings.Join(b.Endpoints, " ")
}

// watch starts one watcher. What it cannot read is a condition like another.
func (k *kubes) watch(ctx context.Context, cluster string, cp spec.ControlPlane) *watched {
	ctx, cancel := context.WithCancel(ctx)
	w := &watched{spec: cp, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		o, err := kube.New(kube.Options{
			Cluster: cluster, Kubeconfig: k.files.Path(cp.Kubeconfig), Open: k.files.Open, Context: cp.Context, Endpoints: cp.Endpoints, Report: k.report, Log: k.log,
		})
		if err != nil {
			k.log.Warn("control plane is not watched", slog.String("cluster", cluster), slog.Any("err", err))
			k.report(kube.Condition{Cluster: cluster, Reason: "not watched: " + err.Error()})
			return
		}
		if err := o.Run(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("control plane is no longer watched", slog.String("cluster", cluster), slog.Any("err", err))
		}
	}()
	return w
}

func (k *kubes) report(c kube.Condition) {
	k.mu.Lock()
	if k.last == nil {
		k.last, k.said = map[string]kube.Condition{}, map[string]string{}
	}
	k.last[c.Cluster] = c
	changed := false
	for _, cluster := range sortedNames(k.last) {
		// What one shows says something of the others behind the same dependency.
		if cluster != c.Cluster && (k.via[cluster] == "" || k.via[cluster] != k.via[c.Cluster]) {
			continue
		}
		word, impaired := k.word(cluster)
		k.shown.show(k.last[cluster], impaired)
		old, known := k.said[cluster]
		k.said[cluster] = word
		switch {
		case word == old || !known && word == "ok":
			continue
		case impaired:
			k.log.Warn("control plane impaired, no traffic moves for it", slog.String("cluster", cluster), slog.String("why", word))
		default:
			k.log.Info("control plane", slog.String("cluster", cluster), slog.String("why", word))
		}
		changed = true
	}
	k.mu.Unlock()
	if changed {
		k.changes.tell()
	}
}

// word says how a control plane is, and whether it is impaired. Where several that are
// reached through the same are not seen to work at once, that is the likelier cause, and
// of them nothing is known (S17). With mu held.
func (k *kubes) word(cluster string) (word string, impaired bool) {
	c := k.last[cluster]
	switch shared := k.impairedBehind(k.via[cluster]); {
	case c.Impaired && len(shared) > 1:
		return fmt.Sprintf("unknown: shared dependency %s (%s do not work at once): %s", k.via[cluster], join(shared), c.Reason), false
	case c.Impaired:
		return "impaired: " + c.Reason, true
	default:
		return cmp.Or(c.Reason, "ok"), false
	}
}

// impairedBehind lists the control planes that look impaired of those that are reached
// through one thing. With mu held.
func (k *kubes) impairedBehind(via string) (out []string) {
	if via == "" {
		return nil
	}
	for _, cluster := range sortedNames(k.last) {
		if k.via[cluster] == via && k.last[cluster].Impaired {
			out = append(out, cluster)
		}
	}
	return out
}

func (k *kubes) forget(cluster string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.last, cluster)
	delete(k.said, cluster)
	k.shown.forget(cluster)
}

// describe writes the annotation beside each cluster.
func (k *kubes) describe(out *api.Status) {
	k.mu.Lock()
	defer k.mu.Unlock()
	told := map[string]bool{}
	for i := range out.Clusters {
		view := &out.Clusters[i]
		c, ok := k.last[view.Name]
		if !ok {
			continue
		}
		word, impaired := k.word(view.Name)
		view.ControlPlane = word
		view.Nodes, view.Servers = nodesView(c), serversView(c)
		via := k.via[view.Name]
		switch {
		case impaired:
			out.Alerts = append(out.Alerts, fmt.Sprintf("control plane of %s impaired: %s (no traffic moves for it)", c.Cluster, c.Reason))
		case c.Impaired && !told[via]:
			told[via] = true
			out.Alerts = append(out.Alerts, fmt.Sprintf("shared dependency %s: the control planes of %s do not work at once behind it, so they are unknown, not impaired", via, join(k.impairedBehind(via))))
		}
	}
}

func nodesView(c kube.Condition) string {
	switch {
	case c.Nodes.All > 0:
		return c.Nodes.String() + " ready"
	case c.NodesWhy != "":
		return "unknown: " + c.NodesWhy
	default:
		return ""
	}
}

func serversView(c kube.Condition) (out []api.KubeServer) {
	for _, e := range c.Endpoints {
		out = append(out, api.KubeServer{URL: e.URL, State: e.State.String(), Why: e.Reason, Version: e.Version, Latency: e.Latency.Seconds()})
	}
	return out
}

// pause waits; false: ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
