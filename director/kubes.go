package director

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
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
	folder  string // relative kubeconfig paths begin here
	shown   *kubeMetrics

	mu   sync.Mutex
	last map[string]kube.Condition // by cluster
}

type kubeMetrics struct{ impaired *prometheus.GaugeVec }

func newKubeMetrics(reg prometheus.Registerer) *kubeMetrics {
	return &kubeMetrics{impaired: promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{
		Name: "divert_control_plane_impaired", Help: "1 while the cluster's control plane is impaired as this director sees it; it never steers.",
	}, []string{"cluster"})}
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
			want := map[string]spec.ControlPlane{}
			for _, c := range f.spec.Clusters {
				if c.ControlPlane != nil {
					want[c.Name] = *c.ControlPlane
				}
			}
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
		path := cp.Kubeconfig
		if path != "" && !filepath.IsAbs(path) {
			path = filepath.Join(k.folder, path)
		}
		o, err := kube.New(kube.Options{
			Cluster: cluster, Kubeconfig: path, Context: cp.Context, Endpoints: cp.Endpoints, Report: k.report, Log: k.log,
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
		k.last = map[string]kube.Condition{}
	}
	old, known := k.last[c.Cluster]
	k.last[c.Cluster] = c
	k.mu.Unlock()
	k.shown.impaired.WithLabelValues(c.Cluster).Set(yes(c.Impaired))
	if !known && !c.Impaired || known && old.Impaired == c.Impaired && old.Reason == c.Reason {
		return
	}
	if c.Impaired {
		k.log.Warn("control plane impaired, no traffic moves for it", slog.String("cluster", c.Cluster), slog.String("why", c.Reason))
	} else {
		k.log.Info("control plane", slog.String("cluster", c.Cluster), slog.String("why", c.Reason))
	}
	k.changes.tell()
}

func (k *kubes) forget(cluster string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.last, cluster)
	k.shown.impaired.DeleteLabelValues(cluster)
}

// describe writes the annotation beside each cluster.
func (k *kubes) describe(out *api.Status) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range out.Clusters {
		c, ok := k.last[out.Clusters[i].Name]
		switch {
		case !ok:
		case c.Impaired:
			out.Clusters[i].ControlPlane = "impaired: " + c.Reason
			out.Alerts = append(out.Alerts, fmt.Sprintf("control plane of %s impaired: %s (no traffic moves for it)", c.Cluster, c.Reason))
		case c.Reason != "":
			out.Clusters[i].ControlPlane = c.Reason
		default:
			out.Clusters[i].ControlPlane = "ok"
		}
	}
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
