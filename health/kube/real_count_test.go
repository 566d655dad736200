package kube

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// call sends one object, or nothing, with the administrator's token.
func (k *realCluster) call(method, path, body string) (int, string) {
	k.t.Helper()
	ca, err := os.ReadFile(filepath.Join(k.dir, "certs", "apiserver.crt"))
	if err != nil {
		return 0, err.Error()
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(k.t.Context(), method, k.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		k.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer secret")
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(text)
}

func (k *realCluster) must(method, path, body string) {
	k.t.Helper()
	if status, text := k.call(method, path, body); status != http.StatusOK && status != http.StatusCreated {
		k.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
}

// wait until the API server serves writes.
func (k *realCluster) ready() {
	k.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if status, _ := k.call(http.MethodGet, "/readyz", ""); status == http.StatusOK {
			return
		}
	}
	k.t.Fatal("the API server does not become ready")
}

func (k *realCluster) node(name, ready, labels string, unschedulable bool) {
	k.t.Helper()
	k.must(http.MethodPost, "/api/v1/nodes", fmt.Sprintf(`{"apiVersion":"v1","kind":"Node","metadata":{"name":%q,"labels":{%s}},"spec":{"unschedulable":%t}}`, name, labels, unschedulable))
	k.must(http.MethodPut, "/api/v1/nodes/"+name+"/status", fmt.Sprintf(`{"apiVersion":"v1","kind":"Node","metadata":{"name":%q,"labels":{%s}},"spec":{"unschedulable":%t},"status":{"conditions":[{"type":"Ready","status":%q}]}}`, name, labels, unschedulable, ready))
}

func (k *realCluster) slice(name, service string, endpoints ...string) {
	k.t.Helper()
	k.must(http.MethodPost, "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", fmt.Sprintf(
		`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":%q,"labels":{"kubernetes.io/service-name":%q}},"addressType":"IPv4","endpoints":[%s]}`,
		name, service, strings.Join(endpoints, ",")))
}

// roles applies the RBAC objects that deploy ships.
func (k *realCluster) roles() {
	k.t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "deploy", "kubernetes", "observer.yaml"))
	if err != nil {
		k.t.Fatal(err)
	}
	for doc := range strings.SplitSeq(string(data), "\n---\n") {
		object, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			k.t.Fatal(err)
		}
		switch {
		case strings.Contains(doc, "kind: ClusterRoleBinding"):
			k.must(http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", strings.ReplaceAll(string(object),
				`{"kind":"ServiceAccount","name":"divert-observer","namespace":"divert"}`, `{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"observer"}`))
		case strings.Contains(doc, "kind: ClusterRole"):
			k.must(http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/clusterroles", string(object))
		}
	}
}

// TestRealKubeCounts counts nodes and addresses in a real API server with the rights
// that deploy ships and no others; without them, and with the storage dead, nothing is
// known (S17), though the API server goes on to tell from its cache what was.
func TestRealKubeCounts(t *testing.T) {
	k := newRealCluster(t)
	k.ready()
	k.roles()
	k.node("a", "True", `"pool":"edge"`, false)
	k.node("b", "True", `"pool":"edge"`, true)
	k.node("c", "False", `"pool":"edge"`, false)
	k.node("d", "Unknown", ``, false)
	k.slice("web-1", "web", `{"addresses":["10.1.0.1"],"conditions":{"ready":true}}`, `{"addresses":["10.1.0.2"],"conditions":{"ready":false}}`,
		`{"addresses":["10.1.0.3"],"conditions":{"ready":false,"serving":true,"terminating":true}}`)
	k.slice("web-2", "web", `{"addresses":["10.1.0.4"],"conditions":{}}`)
	k.slice("api-1", "api", `{"addresses":["10.1.0.5"],"conditions":{"ready":true}}`)

	counter, err := NewCounter(Options{Kubeconfig: k.kubeconfig("looks"), Endpoints: []string{k.url}})
	if err != nil {
		t.Fatal(err)
	}
	defer counter.Close()
	count := func(counter *Counter) (out [4]Fraction, errs [4]error) {
		out[0], errs[0] = counter.Nodes(t.Context(), "")
		out[1], errs[1] = counter.Nodes(t.Context(), "pool=edge")
		out[2], errs[2] = counter.Ready(t.Context(), "default", "web")
		out[3], errs[3] = counter.Ready(t.Context(), "default", "*")
		return out, errs
	}
	want := [4]Fraction{{2, 4}, {2, 3}, {2, 3}, {3, 4}}
	if got, errs := count(counter); got != want || errors.Join(errs[:]...) != nil {
		t.Errorf("got %v, %v, want %v", got, errs, want)
	}

	c := untilWithin(t, observeReal(t, Options{Kubeconfig: k.kubeconfig("looks"), Endpoints: []string{k.url}, Interval: 500 * time.Millisecond}), time.Minute, false, "")
	if c.Nodes != (Fraction{2, 4}) || c.NodesWhy != "" || !strings.HasPrefix(c.Endpoints[0].Version, "v1.") {
		t.Errorf("observed %+v", c)
	}

	nobody, err := NewCounter(Options{Kubeconfig: k.kubeconfig("nobody")})
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	got, errs := count(nobody)
	for i, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "credentials refused: status 403") || got[i] != (Fraction{}) {
			t.Errorf("without rights: got %v, %v", got[i], err)
		}
	}

	k.etcd.signal(syscall.SIGSTOP)
	defer k.etcd.signal(syscall.SIGCONT)
	got, errs = count(counter)
	for i, err := range errs {
		if err == nil || got[i] != (Fraction{}) {
			t.Errorf("with the storage dead: got %v, %v, want nothing", got[i], err)
		}
	}
	t.Logf("with the storage dead: %v", errs[0])
}
