package etcd

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// A killed child comes back with what it held, and none is left at the end.
func TestChildIsRestarted(t *testing.T) {
	t.Parallel()
	var pid int
	t.Run("run", func(t *testing.T) {
		child, data := startChild(t)
		first := pidOf(t, data, 0)
		c := client(t, child.Endpoint())
		if _, err := c.Put(t.Context(), "k", "v"); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		pid = pidOf(t, data, first)
		until(t, "the key after the kill", func() bool {
			resp, err := c.Get(t.Context(), "k")
			return err == nil && len(resp.Kvs) == 1
		})
	})
	if !gone(pid) {
		t.Errorf("etcd %d outlived its supervisor", pid)
	}
}

// A director that is killed takes its etcd with it.
func TestChildDiesWithItsParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a parent-death signal")
	}
	t.Parallel()
	data := t.TempDir()
	director := exec.CommandContext(t.Context(), os.Args[0], data)
	director.Env = append(os.Environ(), "DIVERT_TEST_ROLE=director")
	director.Stderr = t.Output()
	if err := director.Start(); err != nil {
		t.Fatal(err)
	}
	pid := pidOf(t, data, 0)
	if err := director.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = director.Wait()
	until(t, "the child to die with its parent", func() bool { return gone(pid) })
}

// What keeps the socket's folder from being made passes, and the child comes.
func TestChildSocketFolder(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	c, err := NewChild(ChildOptions{Data: data, Command: os.Args[:1], Env: []string{"DIVERT_TEST_ROLE=etcd"}, Stderr: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(c.temp); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.temp, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tried := make(chan struct{}, 1)
	c.o.Log = slog.New(tells{tried})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	select {
	case <-tried:
	case err := <-done:
		t.Fatalf("gave up: %v", err)
	}
	if err := os.Remove(c.temp); err != nil {
		t.Fatal(err)
	}
	pidOf(t, data, 0)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.temp); err == nil {
		t.Errorf("%s is left", c.temp)
	}
}

// tells is a log that tells of its first line.
type tells struct{ line chan struct{} }

func (h tells) Enabled(context.Context, slog.Level) bool { return true }
func (h tells) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h tells) WithGroup(string) slog.Handler            { return h }
func (h tells) Handle(context.Context, slog.Record) error {
	wake(h.line)
	return nil
}

func TestChildSocketPath(t *testing.T) {
	tests := map[string]struct {
		data string
		temp bool
	}{
		"short": {data: "/var/lib/divert/etcd"},
		"long":  {data: "/var/lib/" + strings.Repeat("x", 120), temp: true},
		"odd":   {data: "/var/lib/100%", temp: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			c, err := NewChild(ChildOptions{Data: tc.data})
			if err != nil {
				t.Fatal(err)
			}
			if got := c.temp != ""; got != tc.temp {
				t.Errorf("temporary folder: %v, want %v (%s)", got, tc.temp, c.Endpoint())
			}
			if _, err := parseListen(c.Endpoint(), TLS{}); err != nil {
				t.Errorf("endpoint: %v", err)
			}
			if c.temp == "" {
				return
			}
			info, err := os.Stat(filepath.Dir(c.socket))
			if err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("folder: %v %v, want mode 0700", info.Mode(), err)
			}
			_ = os.RemoveAll(c.temp)
		})
	}
}
