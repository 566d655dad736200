package local

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/chaos/relay"
)

// Ports of a stand-in cluster, each on the cluster's own address.
const (
	ServicePort = 8080 // the service: GET / and /healthz
	ServerPort  = 6443 // the API server: /livez, /readyz, /version
	rulePort    = 8079 // what is cut off; not of the cluster, so never cut itself
)

// Parts of a cluster that can be cut off by themselves: "fra/api", "fra/service".
const (
	PartServer  = "api"
	PartService = "service"
)

// Cluster is a stand-in for a Kubernetes cluster: a real HTTP service, and
// beside it just so much of an API server as the control-plane probe asks. It
// is one process, so that it can be killed, stopped and started again; what is
// cut off from it finds silence, as over a dead link.
type Cluster struct {
	Name    string
	Address netip.Addr
	Cert    string // PEM files of the API server
	Key     string
}

// Run serves until ctx ends.
func (c *Cluster) Run(ctx context.Context) error {
	service := http.NewServeMux()
	service.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	service.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "hello from %s\n", c.Name) })
	server := http.NewServeMux()
	for _, path := range []string{"GET /livez", "GET /readyz"} {
		server.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	}
	server.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"major":"1","minor":"37","gitVersion":"v1.37.2"}`)
	})
	group, ctx := errgroup.WithContext(ctx)
	var links []relay.Link
	for _, part := range []struct {
		name    string
		port    uint16
		handler http.Handler
	}{{PartService, ServicePort, service}, {PartServer, ServerPort, server}} {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("cluster %s: %w", c.Name, err)
		}
		if part.name == PartServer {
			cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
			if err != nil {
				return fmt.Errorf("cluster %s: %w", c.Name, err)
			}
			l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
		}
		c.serve(ctx, group, l, part.handler)
		links = append(links, relay.Link{
			To: part.name, Network: relay.TCP, Listen: netip.AddrPortFrom(c.Address, part.port).String(), Target: l.Addr().String(),
		})
	}
	wire, err := relay.New(relay.Options{Links: links})
	if err != nil {
		return fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	group.Go(func() error { return wire.Run(ctx) })
	// A rule is for one part, or for all that the cluster is.
	rules := http.NewServeMux()
	for path, set := range map[string]func(from, to string){
		"POST /cut": wire.Cut, "POST /heal": func(from, to string) { wire.Heal(from, to) },
	} {
		rules.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			switch part := r.URL.Query().Get("part"); part {
			case PartService, PartServer:
				set(r.URL.Query().Get("from"), part)
			case "":
				set(r.URL.Query().Get("from"), PartService)
				set(r.URL.Query().Get("from"), PartServer)
			default:
				http.Error(w, "no such part", http.StatusNotFound)
			}
		})
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", netip.AddrPortFrom(c.Address, rulePort).String())
	if err != nil {
		return fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	c.serve(ctx, group, l, rules)
	return group.Wait()
}

func (c *Cluster) serve(ctx context.Context, group *errgroup.Group, l net.Listener, handler http.Handler) {
	s := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 16 << 10,
	}
	group.Go(func() error {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("cluster %s: %w", c.Name, err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return s.Close()
	})
}
