package kube

import (
	"errors"
	"fmt"
	"net/url"
	"time"
)

// access is how one control plane is reached: what a kubeconfig gives, and a client for
// each API server. It has one user at a time.
type access struct {
	open                opener
	kubeconfig, context string
	servers             []*url.URL
	material            *material
	clients             []*client
}

func newAccess(o Options) (access, error) {
	a := access{open: o.Open, kubeconfig: o.Kubeconfig, context: o.Context}
	if a.open == nil {
		a.open = anywhere
	}
	if a.kubeconfig == "" {
		return a, errors.New("control plane without a kubeconfig")
	}
	if len(o.Endpoints) > maxEndpoints {
		return a, fmt.Errorf("%d API server endpoints; at most %d are watched", len(o.Endpoints), maxEndpoints)
	}
	for _, endpoint := range o.Endpoints {
		u, err := url.Parse(endpoint)
		switch {
		case err != nil:
			return a, fmt.Errorf("API server endpoint: %w", err)
		case u.Scheme != "https" || u.Host == "" || u.User != nil:
			return a, fmt.Errorf("API server endpoint %q is not https://host:port", u.Redacted())
		}
		a.servers = append(a.servers, u)
	}
	return a, nil
}

// prepare reads the kubeconfig and makes the clients, if anything has changed. Each
// question then may take so long.
func (a *access) prepare(timeout time.Duration) error {
	m, err := a.open.load(a.kubeconfig, a.context)
	if err != nil {
		return err
	}
	return a.adopt(m, timeout)
}

// adopt is prepare where the kubeconfig has been read.
func (a *access) adopt(m *material, timeout time.Duration) error {
	if a.material != nil && m.equal(a.material) {
		return nil
	}
	clients, err := m.clients(a.servers, timeout)
	if err != nil {
		return err
	}
	a.drop()
	a.material, a.clients = m, clients
	return nil
}

func (a *access) drop() {
	for _, client := range a.clients {
		client.http.CloseIdleConnections()
	}
	a.material, a.clients = nil, nil
}
