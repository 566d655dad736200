package kube

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Counter counts what is ready in one cluster, through its control plane. It may be
// asked by many at once.
type Counter struct {
	open                opener
	kubeconfig, context string
	timeout             time.Duration

	mu     sync.Mutex // guards what follows; not held while anybody is asked
	access access
	first  int // of the clients to be asked
}

// NewCounter makes a counter that reads the kubeconfig at each question. The options'
// Report, Interval and Log are not used.
func NewCounter(o Options) (*Counter, error) {
	a, err := newAccess(o)
	return &Counter{open: a.open, kubeconfig: o.Kubeconfig, context: o.Context, access: a, timeout: askTimeout}, err
}

// Nodes counts the nodes that a label selector names, "" = all. An error says why they
// could not be counted: then nothing is known.
func (c *Counter) Nodes(ctx context.Context, selector string) (Fraction, error) {
	return c.ask(ctx, func(client *client) (Fraction, error) { return client.nodes(ctx, selector) })
}

// Ready counts the addresses behind a Service, "*" = all of the namespace's.
func (c *Counter) Ready(ctx context.Context, namespace, service string) (Fraction, error) {
	return c.ask(ctx, func(client *client) (Fraction, error) { return client.ready(ctx, namespace, service) })
}

// ask asks one API server after the other until one knows, first the one that knew last.
func (c *Counter) ask(ctx context.Context, question func(*client) (Fraction, error)) (Fraction, error) {
	clients, first, err := c.clients()
	if err != nil {
		return Fraction{}, err
	}
	err = errors.New("no API server")
	for i := range clients {
		at := (first + i) % len(clients)
		var f Fraction
		if f, err = question(clients[at]); err == nil {
			if i > 0 {
				c.mu.Lock()
				c.first = at
				c.mu.Unlock()
			}
			return f, nil
		}
		clients[at].http.CloseIdleConnections() // the next must not hang on a connection that has died
		if ctx.Err() != nil {
			break
		}
	}
	return Fraction{}, err
}

func (c *Counter) clients() ([]*client, int, error) {
	m, err := c.open.load(c.kubeconfig, c.context)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		err = c.access.adopt(m, c.timeout)
	}
	if err != nil {
		c.access.drop()
		return nil, 0, err
	}
	return c.access.clients, c.first, nil
}

// Close lets go of idle connections.
func (c *Counter) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.access.drop()
}
