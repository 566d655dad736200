package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// flooded is how many connections a stranger opens at each port, and says nothing by any.
const flooded = 5000

// TestIdleStrangers (C3): 10,000 connections that say nothing, 5,000 at the port for clients
// and 5,000 at that for members, neither end the store nor keep its clients out: those who
// were there are served all the while, who comes gets in, and the silent are let go.
func TestIdleStrangers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(n string) string { return filepath.Join(dir, n) }
	ca, caKey := issue(t, dir, "ca", nil, nil)
	issue(t, dir, "member", ca, caKey)
	clients, peers := freePort(t), freePort(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "--data", file("data"), "--listen", "https://"+clients, "--peers", "https://"+peers, "--tls", dir)
	cmd.Env = append(os.Environ(), "DIVERT_TEST_ROLE=etcd")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	pair, err := tls.LoadX509KeyPair(file("member.pem"), file("member.key"))
	if err != nil {
		t.Fatal(err)
	}
	dial := func() *clientv3.Client {
		c, err := clientv3.New(clientv3.Config{
			Endpoints: []string{"https://" + clients}, Logger: zap.NewNop(),
			TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	before := dial()
	eventually(t, "to write", func(ctx context.Context) error { _, err := before.Put(ctx, "k", "v"); return err })

	var silent []net.Conn
	t.Cleanup(func() {
		for _, c := range silent {
			_ = c.Close()
		}
	})
	for i := range 2 * flooded {
		// From other addresses than those that tests listen at: 10,000 ports of those may be meant for them.
		d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 99, byte(i%16), 1)}}
		conn, err := d.DialContext(t.Context(), "tcp", []string{clients, peers}[i%2])
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		silent = append(silent, conn)
		if i%1000 == 0 {
			eventually(t, "to read as one that was there", func(ctx context.Context) error { _, err := before.Get(ctx, "k"); return err })
		}
	}
	began := time.Now()
	late := dial()
	eventually(t, "to read as one that comes", func(ctx context.Context) error { _, err := late.Get(ctx, "k"); return err })
	t.Logf("a client that came behind %d silent ones was served after %s", flooded, time.Since(began).Round(time.Millisecond))
	until60(t, "the silent are let go", func() bool { return sockets(t, cmd.Process.Pid) < 100 })
	eventually(t, "to read as one that was there", func(ctx context.Context) error { _, err := before.Get(ctx, "k"); return err })
}

// sockets counts those of a process.
func sockets(t *testing.T, pid int) (n int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%s/fd", strconv.Itoa(pid))
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && strings.HasPrefix(target, "socket:") {
			n++
		}
	}
	return n
}

func until60(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long: %s", what)
		}
	}
}
