package director

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/divertdns/divert/director/spec"
)

// bounded are the labels that a metric may have, and what bounds each (house
// rule 12). Nothing that a packet or a peer can invent is among them.
var bounded = map[string]string{
	"built":      "one at a time",
	"action":     "a list in the code",
	"cluster":    "the clusters of the spec",
	"code":       "status codes that the API gives",
	"continent":  "seven, and unknown",
	"direction":  "two",
	"director":   "the roster",
	"epoch":      "one at a time",
	"fault":      "a list in the code",
	"fleet":      "one at a time",
	"hash":       "one at a time",
	"health":     "four",
	"how":        "three",
	"kind":       "a list in the code",
	"use":        "a list in the code",
	"limit":      "a list in the code",
	"operation":  "a list in the code",
	"origin":     "one at a time",
	"outcome":    "a list in the code",
	"outlet":     "two",
	"pool":       "1,000 of the capacities of the spec",
	"path":       "the API's own routes, and other",
	"queue":      "a list in the code",
	"rcode":      "those that exist",
	"reason":     "a list in the code",
	"result":     "a list in the code",
	"revision":   "one at a time",
	"scope":      "the drains in steps that people have in force",
	"service":    "1,000, and other",
	"share":      "two steps",
	"state":      "a list in the code",
	"to":         "three",
	"transport":  "a list in the code",
	"version":    "one, and one for each cluster",
	"via":        "two listeners",
	"vote":       "three",
	"zone":       "the zones of the spec",
	"dependency": "what the spec names (via)",
}

// described is what a registered metric says of itself, touched or not.
var described = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)", (?:unit: "[^"]*", )?constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

// TestMetricsLaw lints every metric of a whole director.
func TestMetricsLaw(t *testing.T) {
	s := spec.DefaultSettings()
	s.Name, s.Site, s.DataDir = "d1", "d1", t.TempDir()
	s.DNS.Listen = []string{"127.0.0.1:0"}
	s.Gossip.Listen, s.API.Listen = "127.0.0.1:0", "127.0.0.1:0"
	s.Etcd.Embedded, s.Etcd.Endpoints = false, []string{"http://127.0.0.1:1"} // never dialled: nothing runs
	s.API.Kubernetes = []spec.APICluster{{Name: "fra", Kubeconfig: "nowhere", Audiences: []string{"divert"}}}
	d, err := New(Options{Settings: s, Version: "v1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()

	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		d.registry.Describe(descs)
	}()
	used, own := map[string]bool{}, 0
	for desc := range descs {
		m := described.FindStringSubmatch(desc.String())
		if m == nil {
			t.Errorf("this test does not understand %s", desc)
			continue
		}
		name, help := m[1], m[2]
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		own++
		if !strings.HasPrefix(name, "divert_") {
			t.Errorf("%s does not begin with divert_", name)
		}
		if !strings.HasSuffix(help, ".") {
			t.Errorf("%s: its help is no sentence: %q", name, help)
		}
		for _, label := range labels(m[3] + "," + m[4]) {
			used[label] = true
			if bounded[label] == "" {
				t.Errorf("%s has the label %q: what bounds it?", name, label)
			}
		}
	}
	if own < 40 {
		t.Errorf("found %d metrics of divert only", own)
	}
	for _, label := range slices.Sorted(maps.Keys(bounded)) {
		if !used[label] {
			t.Errorf("no metric has the label %q", label)
		}
	}

	families, err := d.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// labels takes the names out of `a="1",b` and the like.
func labels(text string) []string {
	var names []string
	for part := range strings.SplitSeq(text, ",") {
		if name, _, _ := strings.Cut(part, "="); name != "" {
			names = append(names, name)
		}
	}
	return names
}
