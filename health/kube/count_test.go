package kube

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// nodesTable is a page of nodes as an API server prints them.
func nodesTable(next string, statuses ...string) string {
	var rows []string
	for i, s := range statuses {
		rows = append(rows, fmt.Sprintf(`{"cells":["n%d",%q,"<none>","5d","v1.37.2"],"object":null}`, i, s))
	}
	return `{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"continue":"` + next + `"},"columnDefinitions":[{"name":"Name"},{"name":"Status"},{"name":"Roles"},{"name":"Age"},{"name":"Version"}],"rows":[` +
		strings.Join(rows, ",") + `]}`
}

func endpointSlices(items ...string) string {
	return `{"kind":"EndpointSliceList","metadata":{},"items":[` + strings.Join(items, ",") + `]}`
}

func endpointSlice(endpoints ...string) string {
	return `{"addressType":"IPv4","endpoints":[` + strings.Join(endpoints, ",") + `]}`
}

func endpoint(address, conditions string) string {
	return fmt.Sprintf(`{"addresses":[%q],"conditions":{%s}}`, address, conditions)
}

// TestCount: fractions of what is ready, and nothing where they cannot be had (S17).
func TestCount(t *testing.T) {
	const nodes, web = "/api/v1/nodes", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
	tests := []struct {
		name  string
		lists map[string]string
		nodes bool
		want  Fraction
		err   string
	}{
		{"nodes", map[string]string{nodes: nodesTable("", "Ready", "NotReady", "Ready,SchedulingDisabled", "Unknown")}, true, Fraction{2, 4}, ""},
		{"nodes on two pages", map[string]string{nodes: nodesTable("more", "Ready"), nodes + "more": nodesTable("", "NotReady")}, true, Fraction{1, 2}, ""},
		{"the second page fails", map[string]string{nodes: nodesTable("more", "Ready")}, true, Fraction{}, "credentials refused: status 403"},
		{"pages without end", map[string]string{nodes: nodesTable("more", "Ready"), nodes + "more": nodesTable("more", "Ready")}, true, Fraction{}, "more than 40 pages"},
		{"nodes forbidden", nil, true, Fraction{}, "credentials refused: status 403"},
		{"no nodes", map[string]string{nodes: nodesTable("")}, true, Fraction{}, "no node of that kind"},
		{"nodes not as a table", map[string]string{nodes: `{"kind":"NodeList","items":[{}]}`}, true, Fraction{}, "not in the form"},
		{"a table without a status", map[string]string{nodes: `{"kind":"Table","columnDefinitions":[{"name":"Name"}],"rows":[{"cells":["n1"]}]}`}, true, Fraction{}, "not in the form"},
		{"not JSON", map[string]string{nodes: `<html>`}, true, Fraction{}, "not what was asked for"},

		{"addresses", map[string]string{web: endpointSlices(
			endpointSlice(endpoint("10.0.0.1", `"ready":true`), endpoint("10.0.0.2", `"ready":false`)),
			endpointSlice(endpoint("10.0.0.3", ``)))}, false, Fraction{2, 3}, ""},
		{"those on their way out are not counted", map[string]string{web: endpointSlices(
			endpointSlice(endpoint("10.0.0.1", `"ready":true`), endpoint("10.0.0.2", `"ready":false,"serving":true,"terminating":true`)))}, false, Fraction{1, 1}, ""},
		{"an address in two slices is one", map[string]string{web: endpointSlices(
			endpointSlice(endpoint("10.0.0.1", `"ready":false`)), endpointSlice(endpoint("10.0.0.1", `"ready":true`)))}, false, Fraction{1, 1}, ""},
		{"a Service without Pods", map[string]string{web: endpointSlices(`{"addressType":"IPv4","endpoints":null}`)}, false, Fraction{0, 0}, ""},
		{"no such Service", map[string]string{web: endpointSlices()}, false, Fraction{}, "is there such a Service?"},
		{"slices forbidden", nil, false, Fraction{}, "credentials refused: status 403"},
		{"something else", map[string]string{web: `{"kind":"Status"}`}, false, Fraction{}, "not in the form"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			server := newAPIServer(t)
			server.lists.Store(&tc.lists)
			counter, err := NewCounter(Options{Kubeconfig: server.kubeconfig(t)})
			if err != nil {
				t.Fatal(err)
			}
			defer counter.Close()
			var got Fraction
			if tc.nodes {
				got, err = counter.Nodes(t.Context(), "pool=edge")
			} else {
				got, err = counter.Ready(t.Context(), "shop", "web")
			}
			if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %v, %v, want %v, %q", got, err, tc.want, tc.err)
			}
			query := *server.asked.Load()
			if strings.Contains(query, "resourceVersion") || !strings.Contains(query, "limit=500") || !strings.Contains(query, "labelSelector=") {
				t.Errorf("asked with %q: wanted the present, in pages, of the label", query)
			}
		})
	}
}

// TestCountBelow: a fraction is below a bound when its exact share is; of nothing,
// nothing is ready (cilium #46633).
func TestCountBelow(t *testing.T) {
	for _, tc := range []struct {
		f       Fraction
		percent int
		want    bool
	}{
		{Fraction{1, 2}, 50, false}, {Fraction{1, 3}, 34, true}, {Fraction{1, 3}, 33, false}, {Fraction{0, 0}, 1, true}, {Fraction{3, 3}, 100, false}, {Fraction{2, 3}, 100, true},
	} {
		if got := tc.f.Below(tc.percent); got != tc.want {
			t.Errorf("%v below %d %%: %t, want %t", tc.f, tc.percent, got, tc.want)
		}
	}
}

// TestCounterAsksTheNext: with one API server dead another is asked, and first the next
// time; C11 holds for what counts as for what observes.
func TestCounterAsksTheNext(t *testing.T) {
	first, second := newAPIServer(t), newAPIServer(t)
	lists := map[string]string{"/api/v1/nodes": nodesTable("", "Ready")}
	second.lists.Store(&lists)
	path := first.kubeconfig(t)
	counter, err := NewCounter(Options{Kubeconfig: path, Endpoints: []string{first.URL, second.URL}})
	if err != nil {
		t.Fatal(err)
	}
	defer counter.Close()
	counter.timeout = 5 * time.Second
	for i := range 2 {
		if got, err := counter.Nodes(t.Context(), ""); err != nil || got != (Fraction{1, 1}) {
			t.Errorf("got %v, %v", got, err)
		}
		if asked := first.asked.Swap(nil) != nil; asked != (i == 0) {
			t.Errorf("question %d: the one that does not know was asked: %t", i, asked)
		}
	}

	dir := t.TempDir()
	exec := write(t, dir, "exec", `apiVersion: v1
kind: Config
current-context: it
clusters: [{name: it, cluster: {server: "https://192.0.2.1:6443"}}]
contexts: [{name: it, context: {cluster: it, user: it}}]
users: [{name: it, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: [/tmp/owned], interactiveMode: Never}}}]
`)
	counter, err = NewCounter(Options{Kubeconfig: exec})
	if err != nil {
		t.Fatal(err)
	}
	defer counter.Close()
	if _, err := counter.Ready(t.Context(), "shop", "web"); err == nil || !strings.Contains(err.Error(), "runs a program") {
		t.Errorf("C11: got %v, want a refusal", err)
	}
}
