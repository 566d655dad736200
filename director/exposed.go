package director

import (
	"fmt"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
)

// HasServed tells whether a director with these settings has answered from a plan before:
// clients go by it, and it starts again whatever else is to be said of it (S12).
func HasServed(s spec.Settings) bool {
	return store.HasGenerations(filepath.Join(s.DataDir, "state"))
}

// watchSecrets shows secret files that are open to others, for as long as they are.
func (d *Director) watchSecrets() {
	if !d.opts.WatchSecrets {
		return
	}
	d.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "divert_secret_files_exposed", Help: "Files of keys and secrets that others than this director's user could read or change; more than 0 is an alert.",
	}, func() float64 { return float64(len(d.settings.Exposures())) }))
}

// describeSecrets says which secret files are open to others.
func (d *Director) describeSecrets(out *api.Status) {
	if !d.opts.WatchSecrets {
		return
	}
	for _, e := range d.settings.Exposures() {
		out.Alerts = append(out.Alerts, fmt.Sprintf("%s (%s)", e.Message, e.Remedy))
	}
}
