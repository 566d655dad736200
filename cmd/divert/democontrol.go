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
	"syscall"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

// doorName is the running demo's own socket: `divert demo cut` knocks there.
const doorName = "demo.sock"

// demoDir is how the folder of a demo's fleet begins.
const demoDir = "divert-demo-"

// doorConnections is how many may knock at once (C3); others wait.
const doorConnections = 16

// demoDoor answers at the door, which lies in the fleet's folder. Links to it
// and to the first director's socket lie where the CLI looks.
type demoDoor struct {
	listener net.Listener
	fleet    *local.Fleet
	unlink   func()
}

func demoControl(fleet *local.Fleet, dir string) (*demoDoor, error) {
	path := filepath.Join(dir, doorName) // in a folder that is closed to others
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("the demo's own socket: %w", err)
	}
	unlink, err := linkDemo(map[string]string{doorName: path, api.SocketName: fleet.Socket(1)})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &demoDoor{listener: l, fleet: fleet, unlink: unlink}, nil
}

// linkDemo leaves links in each folder that the CLI looks into and that can be
// had; one is enough.
func linkDemo(targets map[string]string) (unlink func(), err error) {
	var had []string
	unlink = func() {
		for _, folder := range had {
			for name := range targets {
				_ = os.Remove(filepath.Join(folder, name))
			}
			_ = os.Remove(folder)
		}
	}
	var errs error
	for _, folder := range api.DemoFolders() {
		if err := linkIn(folder, targets); err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		had = append(had, folder)
	}
	if len(had) == 0 {
		return nil, fmt.Errorf("leaving the demo's sockets where the CLI looks: %w", errs)
	}
	return unlink, nil
}

func linkIn(folder string, targets map[string]string) error {
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := api.Trusted(folder); err != nil {
		return fmt.Errorf("%s: %w", folder, err)
	}
	sweep(folder)
	for name, target := range targets {
		path := filepath.Join(folder, name)
		_ = os.Remove(path) // nobody answered there
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes the fleet's folder of a demo that was killed, which its link
// still names.
func sweep(folder string) {
	target, err := os.Readlink(filepath.Join(folder, doorName))
	if err != nil {
		return
	}
	dir := filepath.Dir(target)
	conn, err := net.DialTimeout("unix", target, time.Second)
	if err == nil {
		conn.Close()
		return
	}
	if errors.Is(err, syscall.ECONNREFUSED) && filepath.Base(target) == doorName && strings.HasPrefix(filepath.Base(dir), demoDir) {
		_ = os.RemoveAll(dir)
	}
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
	s := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: 10 * time.Second,
		MaxHeaderBytes: 16 << 10,
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := s.Serve(netutil.LimitListener(d.listener, doorConnections)); !errors.Is(err, http.ErrServerClosed) {
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

// errNoDemo: nobody is behind any door.
var errNoDemo = errors.New("no demo of yours runs on this machine")

// demoSocket gives the first place where one of the demo's sockets answers.
func demoSocket(name string) (string, error) {
	for _, folder := range api.DemoFolders() {
		path := filepath.Join(folder, name)
		if api.Trusted(folder) != nil {
			continue
		}
		if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
			return path, conn.Close()
		}
	}
	return "", errNoDemo
}

// askDemo tells the running demo something.
func (a *app) askDemo(ctx context.Context, verb, from, to string) error {
	path, err := demoSocket(doorName)
	if err != nil {
		return &exit{code: exitRefused, err: err, remedy: fmt.Sprintf("start one with `%s demo` in another terminal", a.self)}
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
	q := url.Values{"from": {from}, "to": {to}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://demo/"+verb+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("asking the demo: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return &exit{code: exitRefused, err: errors.New(strings.TrimSpace(string(text)))}
}
