package kube

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// behaviour is how a fake API server answers: path and query to status, 0 for
// never.
type behaviour map[string]int

var (
	healthy    = behaviour{"/livez": 200, "/livez?exclude=etcd": 200, "/readyz?verbose": 200}
	storageOff = behaviour{"/livez": 500, "/livez?exclude=etcd": 200, "/readyz?verbose": 0}
	stopped    = behaviour{"/livez": 0, "/livez?exclude=etcd": 0, "/readyz?verbose": 0}
	draining   = behaviour{"/livez": 200, "/livez?exclude=etcd": 200, "/readyz?verbose": 500}
	denying    = behaviour{"/livez": 403, "/livez?exclude=etcd": 403, "/readyz?verbose": 403}
	moved      = behaviour{"/livez": 302, "/livez?exclude=etcd": 302, "/readyz?verbose": 302}
)

// apiServer is a fake one over TLS, whose behaviour can be changed.
type apiServer struct {
	*httptest.Server
	acts     atomic.Pointer[behaviour]
	strayed  atomic.Bool // asked for anything else, or without the token
	released chan struct{}
	lists    atomic.Pointer[map[string]string] // path to what it answers; others are forbidden
	asked    atomic.Pointer[string]            // the last list's query
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{released: make(chan struct{})}
	s.acts.Store(&healthy)
	s.Server = httptest.NewUnstartedServer(s)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(s.released) })
	return s
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/version" && r.Header.Get("Authorization") == "Bearer secret" {
		_, _ = fmt.Fprint(w, `{"major":"1","minor":"37","gitVersion":"v1.37.2"}`)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/api") && r.Method == http.MethodGet {
		s.list(w, r)
		return
	}
	status, ok := (*s.acts.Load())[r.URL.RequestURI()]
	if !ok || r.Header.Get("Authorization") != "Bearer secret" || r.Method != http.MethodGet {
		s.strayed.Store(true)
		http.NotFound(w, r)
		return
	}
	switch status {
	case 0:
		select {
		case <-r.Context().Done():
		case <-s.released:
		}
		return
	case 302:
		w.Header().Set("Location", "/stolen")
	case 500:
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, "[+]ping ok\n[-]etcd failed: reason withheld\n")
		return
	}
	w.WriteHeader(status)
}

// list answers a list, page after page: what is set for the path, the path and the
// continue token, or nothing.
func (s *apiServer) list(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	text := query.Encode()
	s.asked.Store(&text)
	if lists := s.lists.Load(); lists != nil {
		if body, ok := (*lists)[r.URL.Path+query.Get("continue")]; ok {
			_, _ = fmt.Fprint(w, body)
			return
		}
	}
	w.WriteHeader(http.StatusForbidden)
}

func (s *apiServer) kubeconfig(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	return write(t, dir, "kubeconfig", fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: it
clusters: [{name: it, cluster: {server: %q, certificate-authority: ca.pem}}]
contexts: [{name: it, context: {cluster: it, user: observer}}]
users: [{name: observer, user: {token: secret}}]
`, s.URL))
}

// observe starts an observer and gives the conditions as they come.
func observe(t *testing.T, o Options) <-chan Condition {
	t.Helper()
	return observeIn(t, o, 500*time.Millisecond, time.Millisecond)
}

// observeReal starts one with the time-outs of the product.
func observeReal(t *testing.T, o Options) <-chan Condition {
	t.Helper()
	return observeIn(t, o, askTimeout, confirmAfter)
}

func observeIn(t *testing.T, o Options, timeout, confirm time.Duration) <-chan Condition {
	t.Helper()
	conditions := make(chan Condition)
	ctx, cancel := context.WithCancel(t.Context())
	o.Cluster = "fra"
	if o.Interval == 0 {
		o.Interval = 20 * time.Millisecond
	}
	o.Report = func(c Condition) {
		select {
		case conditions <- c:
		case <-ctx.Done():
		}
	}
	observer, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	observer.timeout, observer.confirm = timeout, confirm
	ended := make(chan error, 1)
	go func() { ended <- observer.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	})
	return conditions
}

// until waits for a condition that is as wanted.
func until(t *testing.T, conditions <-chan Condition, impaired bool, reason string) Condition {
	t.Helper()
	return untilWithin(t, conditions, 30*time.Second, impaired, reason)
}

func untilWithin(t *testing.T, conditions <-chan Condition, patience time.Duration, impaired bool, reason string) Condition {
	t.Helper()
	var c Condition
	for deadline := time.After(patience); ; {
		select {
		case c = <-conditions:
			if c.Impaired == impaired && strings.Contains(c.Reason, reason) && (reason != "" || c.Reason == "") {
				if c.Cluster != "fra" || c.At.IsZero() {
					t.Errorf("got %+v, want its cluster and time", c)
				}
				return c
			}
		case <-deadline:
			t.Fatalf("last got %+v, want impaired %t, %q", c, impaired, reason)
		}
	}
}

// TestFaultsF9 goes through the rows of KUBERNETES.md section 2, each between
// two healthy spells, against a fake API server over TLS.
func TestFaultsF9(t *testing.T) {
	tests := []struct {
		name     string
		acts     behaviour
		impaired bool
		reason   string
	}{
		{"etcd gone", storageOff, true, "storage (etcd) gone"},
		{"API server stopped", stopped, true, "API server gone"},
		{"SIGTERM with shutdown delay", draining, false, "rolling restart"},
		{"what has failed is named", draining, false, "(etcd)"},
		{"credentials refused (S17)", denying, false, "not observed"},
		{"redirected", moved, true, "status 302"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := newAPIServer(t)
			conditions := observe(t, Options{Kubeconfig: server.kubeconfig(t)})
			if c := until(t, conditions, false, ""); len(c.Endpoints) != 1 || c.Endpoints[0].State != Alive || c.Endpoints[0].Latency <= 0 || c.Endpoints[0].Version != "v1.37.2" ||
				c.Nodes != (Fraction{}) || !strings.Contains(c.NodesWhy, "credentials refused") {
				t.Errorf("healthy, and nodes forbidden: got %+v", c)
			}
			server.acts.Store(&tc.acts)
			until(t, conditions, tc.impaired, tc.reason)
			server.acts.Store(&healthy)
			until(t, conditions, false, "")
			if server.strayed.Load() {
				t.Error("it was asked for something else, or without its token")
			}
		})
	}
}

// TestKilledF9: nobody listens any more, and then somebody does again.
func TestKilledF9(t *testing.T) {
	server := newAPIServer(t)
	conditions := observe(t, Options{Kubeconfig: server.kubeconfig(t)})
	until(t, conditions, false, "")
	server.CloseClientConnections()
	_ = server.Listener.Close()
	until(t, conditions, true, "connection refused")
}

// TestEndpoints: each API server by itself, under the name of the kubeconfig's.
func TestEndpoints(t *testing.T) {
	first, second := newAPIServer(t), newAPIServer(t)
	path := first.kubeconfig(t) // httptest's certificate is the same for both
	endpoints := []string{first.URL, second.URL}
	conditions := observe(t, Options{Kubeconfig: path, Endpoints: endpoints})
	until(t, conditions, false, "")
	second.acts.Store(&storageOff)
	c := until(t, conditions, false, "1 of 2 API servers work")
	if c.Endpoints[0].State != Alive || c.Endpoints[1].State != NoStorage || c.Endpoints[1].URL != second.URL {
		t.Errorf("got %+v, want the first alive and the second without storage", c.Endpoints)
	}
	first.acts.Store(&storageOff)
	until(t, conditions, true, "storage (etcd) gone")
	second.acts.Store(&draining)
	until(t, conditions, false, "1 of 2 API servers work")
}

// TestUntrusted: an API server that the kubeconfig does not trust is unknown,
// and is not given the token (S17).
func TestUntrusted(t *testing.T) {
	server := newAPIServer(t)
	other := write(t, t.TempDir(), "kubeconfig", fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: it
clusters: [{name: it, cluster: {server: %q}}]
contexts: [{name: it, context: {cluster: it, user: observer}}]
users: [{name: observer, user: {token: secret}}]
`, server.URL))
	until(t, observe(t, Options{Kubeconfig: other}), false, "not observed")
}

// TestKubeconfigComesLate: an unreadable kubeconfig is told, not fatal, and
// not *impaired*; the observer goes on once there is one, and follows it.
func TestKubeconfigComesLate(t *testing.T) {
	server := newAPIServer(t)
	good := server.kubeconfig(t)
	data, err := opener(anywhere).read(good)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := opener(anywhere).read(strings.TrimSuffix(good, "kubeconfig") + "ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conditions := observe(t, Options{Kubeconfig: dir + "/kubeconfig"})
	until(t, conditions, false, "not observed")
	write(t, dir, "ca.pem", string(ca))
	write(t, dir, "kubeconfig", string(data))
	until(t, conditions, false, "")
	write(t, dir, "kubeconfig", strings.Replace(string(data), "token: secret", "token: wrong", 1))
	until(t, conditions, true, "status 404") // the fake's word for it
}
