package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

// demoDoor is the running demo's own socket, beside the link to its first
// director: `divert demo cut` knocks there.
type demoDoor struct {
	listener net.Listener
	fleet    *local.Fleet
	unlink   func()
}

func demoDoorPath() string { return filepath.Join(filepath.Dir(api.DemoSocket()), "demo.sock") }

func demoControl(fleet *local.Fleet) (*demoDoor, error) {
	unlink, err := linkDemo(fleet)
	if err != nil {
		return nil, err
	}
	path := demoDoorPath()
	_ = os.Remove(path) // nobody answered there
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", path)
	if err != nil {
		unlink()
		return nil, fmt.Errorf("the demo's own socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		unlink()
		return nil, err
	}
	return &demoDoor{listener: l, fleet: fleet, unlink: unlink}, nil
}

func (d *demoDoor) run(ctx context.Context) error {
	defer d.unlink()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /ping", func(http.ResponseWriter, *http.Request) {})
	for verb, do := range map[string]func(context.Context, string, string) error{"cut": d.fleet.Cut, "heal": d.fleet.Heal} {
		mux.HandleFunc("POST /"+verb, func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if err := do(r.Context(), q.Get("from"), q.Get("to")); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		})
	}
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := s.Serve(d.listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return s.Close()
	})
	return group.Wait()
}

// askDemo tells the running demo something.
func askDemo(ctx context.Context, verb, from, to string) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", demoDoorPath())
		},
	}}
	q := url.Values{"from": {from}, "to": {to}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://demo/"+verb+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return &exit{code: exitRefused, err: errors.New("no demo of yours runs on this machine"), remedy: "start one with `./divert demo` in another terminal"}
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return &exit{code: exitRefused, err: errors.New(strings.TrimSpace(string(text)))}
}
