package kube

import (
	"strings"
	"testing"
)

// TestJudge has a case for each row of KUBERNETES.md section 2 and for what
// lies between them (F9, S17).
func TestJudge(t *testing.T) {
	ok := answer{status: 200}
	failed := answer{status: 500, failed: []string{"etcd"}}
	timeout := answer{reason: "timeout"}
	tests := []struct {
		name                  string
		livez, noEtcd, readyz answer
		want                  State
		reason                string
	}{
		{"healthy", ok, ok, ok, Alive, ""},
		{"etcd dead, waited for", failed, ok, timeout, NoStorage, "etcd"},
		{"etcd dead, asked with little patience", timeout, ok, timeout, NoStorage, "etcd"},
		{"API server stopped (SIGSTOP)", timeout, timeout, timeout, Gone, "timeout"},
		{"API server killed", answer{reason: "connection refused"}, answer{reason: "connection refused"}, answer{reason: "connection refused"}, Gone, "connection refused"},
		{"SIGTERM with shutdown delay", ok, ok, answer{status: 500, failed: []string{"shutdown"}}, Restarting, "shutdown"},
		{"starting", ok, ok, timeout, Restarting, "timeout"},
		{"one slow answer", ok, timeout, ok, Alive, ""},
		{"not live besides storage", answer{status: 500, failed: []string{"poststarthook/x"}}, answer{status: 500, failed: []string{"poststarthook/x"}}, timeout, Gone, "poststarthook/x"},
		{"credentials refused", answer{status: 401}, answer{status: 401}, answer{status: 401}, Unknown, "credentials refused"},
		{"forbidden", answer{status: 403}, answer{status: 403}, answer{status: 403}, Unknown, "credentials refused"},
		{"one question that we could not ask", answer{reason: "too many open files", void: true}, ok, ok, Unknown, "too many open files"},
		{"credentials that end between two questions", answer{status: 401}, ok, ok, Unknown, "credentials refused"},
		{"our own network", answer{reason: "network is unreachable", void: true}, answer{reason: "network is unreachable", void: true}, answer{reason: "network is unreachable", void: true}, Unknown, "network is unreachable"},
		{"something else listens", answer{status: 404}, answer{status: 404}, answer{status: 404}, Gone, "status 404"},
		{"redirected", answer{status: 302}, answer{status: 302}, answer{status: 302}, Gone, "status 302"},
		{"nothing at all", answer{}, answer{}, answer{}, Gone, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, reason := judge(tc.livez, tc.noEtcd, tc.readyz)
			if got != tc.want || !strings.Contains(reason, tc.reason) || (got == Alive) != (reason == "") && tc.name != "nothing at all" {
				t.Errorf("got %v %q, want %v %q", got, reason, tc.want, tc.reason)
			}
		})
	}
}

func TestSum(t *testing.T) {
	endpoint := func(s State) Endpoint {
		e := Endpoint{URL: "https://192.0.2.1:6443", State: s}
		if s != Alive {
			e.Reason = "why"
		}
		return e
	}
	tests := []struct {
		name     string
		states   []State
		impaired bool
		reason   string
	}{
		{"one alive", []State{Alive}, false, ""},
		{"all alive", []State{Alive, Alive, Alive}, false, ""},
		{"rolling restart", []State{Alive, Restarting, Alive}, false, "rolling restart"},
		{"the only one restarts", []State{Restarting}, false, "rolling restart"},
		{"one of three gone", []State{Alive, Gone, Alive}, false, "2 of 3 API servers work"},
		{"one of three without storage", []State{Alive, NoStorage, Alive}, false, "2 of 3 API servers work"},
		{"the only one gone (F9)", []State{Gone}, true, "API server gone"},
		{"all gone", []State{Gone, Gone}, true, "API server gone"},
		{"storage gone (F9)", []State{NoStorage}, true, "storage (etcd) gone"},
		{"storage gone behind all", []State{NoStorage, NoStorage}, true, "storage (etcd) gone"},
		{"some gone, some without storage", []State{NoStorage, Gone}, true, "no API server with storage"},
		{"unknown alone (S17)", []State{Unknown}, false, "not observed"},
		{"all unknown (S17)", []State{Unknown, Unknown}, false, "not observed"},
		{"one unknown", []State{Alive, Unknown}, false, "1 of 2 API servers work"},
		{"many wrong", []State{Gone, Gone, Gone, Gone, Gone}, true, "and 2 more"},
		{"none", nil, false, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var endpoints []Endpoint
			for _, s := range tc.states {
				endpoints = append(endpoints, endpoint(s))
			}
			impaired, reason := sum(endpoints)
			if impaired != tc.impaired || !strings.Contains(reason, tc.reason) || (tc.reason == "") != (reason == "") {
				t.Errorf("got %t %q, want %t %q", impaired, reason, tc.impaired, tc.reason)
			}
		})
	}
}

func TestFailedChecks(t *testing.T) {
	tests := []struct{ body, want string }{
		{"[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\nlivez check failed\n", "etcd"},
		{"[-]a failed\n[-]poststarthook/b-c failed\n", "a,poststarthook/b-c"},
		{"[-]<script> failed\n[-] failed\n[-]nospace\n", ""},
		{"[-]" + strings.Repeat("x", 65) + " failed\n", ""},
		{strings.Repeat("[-]x failed\n", 9), "x,x,x,x"},
		{"", ""},
	}
	for _, tc := range tests {
		if got := strings.Join(failedChecks([]byte(tc.body)), ","); got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.body, got, tc.want)
		}
	}
}
