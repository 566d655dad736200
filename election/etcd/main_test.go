package etcd

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// The test binary plays `divert etcd`, and a director that keeps one, where a
// test has to kill or stop a process.
func TestMain(m *testing.M) {
	var err error
	switch os.Getenv("DIVERT_TEST_ROLE") {
	case "":
		os.Exit(m.Run())
	case "etcd":
		err = playEtcd()
	case "director":
		err = playDirector()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func playEtcd() error {
	flags := flag.NewFlagSet("etcd", flag.ExitOnError)
	data, listen := flags.String("data", "", ""), flags.String("listen", "", "")
	peers, files := flags.String("peers", "", ""), flags.String("tls", "", "")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	o := ServerOptions{
		Data: *data, Listen: *listen, Alone: true, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Ready: func(string) { writePid(*data) },
	}
	if *peers != "" {
		o.Member = Member{Name: "a", Token: "t", Cluster: map[string]string{"a": *peers}}
		o.TLS = TLS{CA: filepath.Join(*files, "ca.pem"), Cert: filepath.Join(*files, "member.pem"), Key: filepath.Join(*files, "member.key")}
	}
	return Serve(ctx, o)
}

func playDirector() error {
	c, err := NewChild(ChildOptions{Data: os.Args[1], Command: os.Args[:1], Env: []string{"DIVERT_TEST_ROLE=etcd"}})
	if err != nil {
		return err
	}
	return c.Run(context.Background())
}

// writePid appears whole or not at all, as its readers poll for it.
func writePid(data string) {
	tmp := filepath.Join(data, "pid.tmp")
	_ = os.WriteFile(tmp, []byte(strconv.Itoa(os.Getpid())), 0o600)
	_ = os.Rename(tmp, filepath.Join(data, "pid"))
}

// until waits for a condition; the limit is only there so that a failure ends.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long: %s", what)
		}
	}
}

// pidOf waits for the pid that a server writes when ready, other than not.
func pidOf(t *testing.T, data string, not int) int {
	t.Helper()
	var pid int
	until(t, "pid of the etcd in "+data, func() bool {
		raw, _ := os.ReadFile(filepath.Join(data, "pid"))
		pid, _ = strconv.Atoi(string(raw))
		return pid != 0 && pid != not
	})
	return pid
}

func gone(pid int) bool { return syscall.Kill(pid, 0) != nil }

// serve runs a server in this process until the test's end, or until stop.
func serve(t *testing.T, o ServerOptions) (endpoint string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	o.Ready = func(e string) { ready <- e }
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	go func() { done <- Serve(ctx, o) }()
	var ended error
	var over bool
	stop = func() error {
		cancel()
		if !over {
			ended, over = <-done, true
		}
		return ended
	}
	t.Cleanup(func() { _ = stop() })
	select {
	case e := <-ready:
		return e, stop
	case err := <-done:
		cancel()
		t.Fatalf("serve: %v", err)
		return "", nil
	}
}

// startChild runs a server in a process of its own.
func startChild(t *testing.T) (c *Child, data string) {
	t.Helper()
	data = t.TempDir()
	c, err := NewChild(ChildOptions{
		Data: data, Command: []string{os.Args[0]}, Env: []string{"DIVERT_TEST_ROLE=etcd"},
		Stderr: t.Output(), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("child: %v", err)
		}
	})
	return c, data
}

func client(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func socket(t *testing.T) string {
	t.Helper()
	return "unix://" + filepath.Join(t.TempDir(), "s")
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
