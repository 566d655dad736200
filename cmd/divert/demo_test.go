package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
)

// shortDir is a folder whose sockets have short paths.
func shortDir(t *testing.T, pattern string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", pattern) //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func door(t *testing.T, dir string) (string, net.Listener) {
	t.Helper()
	path := filepath.Join(dir, doorName)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as if killed
	t.Cleanup(func() { _ = l.Close() })
	return path, l
}

// TestDemoIsFound: by a terminal whose XDG_RUNTIME_DIR is another than that of
// the one that runs the demo, or is closed to this user.
func TestDemoIsFound(t *testing.T) {
	tmp, xdg := shortDir(t, "t"), shortDir(t, "x")
	tests := []struct{ name, runs, asks string }{
		{"neither has one", "", ""},
		{"both have it", xdg, xdg},
		{"only the demo's terminal has one", xdg, ""},
		{"only the other terminal has one", "", xdg},
		{"the demo's is no folder", filepath.Join(xdg, "absent"), ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("TMPDIR", tmp)
			t.Setenv("XDG_RUNTIME_DIR", tc.runs)
			if _, err := demoSocket(doorName); !errors.Is(err, errNoDemo) {
				t.Fatalf("before: got %v", err)
			}
			path, _ := door(t, shortDir(t, demoDir))
			unlink, err := linkDemo(map[string]string{doorName: path, api.SocketName: path})
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("XDG_RUNTIME_DIR", tc.asks)
			for _, name := range []string{doorName, api.SocketName} {
				if _, err := demoSocket(name); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			t.Setenv("XDG_RUNTIME_DIR", tc.runs)
			unlink()
			for _, folder := range api.DemoFolders() {
				if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is left behind", folder)
				}
			}
		})
	}
}

// TestDemoSweeps: what a killed demo left goes with the next one, and what a
// running one has stays.
func TestDemoSweeps(t *testing.T) {
	t.Setenv("TMPDIR", shortDir(t, "t"))
	t.Setenv("XDG_RUNTIME_DIR", "")
	killed, alive, other := shortDir(t, demoDir), shortDir(t, demoDir), shortDir(t, "other")
	killedDoor, l := door(t, killed)
	_ = l.Close()
	aliveDoor, _ := door(t, alive)
	otherDoor, l := door(t, other)
	_ = l.Close()
	for _, path := range []string{killedDoor, otherDoor, aliveDoor, aliveDoor} {
		if _, err := linkDemo(map[string]string{doorName: path}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(killed); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the killed demo's folder: got %v, want it gone", err)
	}
	for _, dir := range []string{alive, other} {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// TestNoDemo: cut and heal say so, and how to start one as this binary is called.
func TestNoDemo(t *testing.T) {
	t.Setenv("TMPDIR", shortDir(t, "t"))
	t.Setenv("XDG_RUNTIME_DIR", "")
	term := newTerminal("")
	term.self = "/opt/divert"
	code := term.run(t.Context(), []string{"demo", "cut", "fra"})
	if got := term.stderr.String(); code != exitRefused || !strings.Contains(got, "no demo of yours") || !strings.Contains(got, "`/opt/divert demo`") {
		t.Errorf("got exit %d: %s", code, got)
	}
}

// C3: whoever knocks at the demo's door and says nothing is let go, and those who wait
// get in.
func TestDemoDoorIsBounded(t *testing.T) {
	t.Parallel()
	path, l := door(t, shortDir(t, demoDir))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- (&demoDoor{listener: l, unlink: func() {}}).run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for range doorConnections + 2 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST /ping HTTP/1.1\r\nHost: demo\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(answer, "200") {
		t.Errorf("got %q, %v", answer, err)
	}
}
