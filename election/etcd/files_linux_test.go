package etcd

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// C3: however many connect, the store holds its cap of them and no more, and serves
// those who were there before.
func TestConnectionCap(t *testing.T) {
	t.Parallel()
	addr, data := freePort(t), t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "--data", data, "--listen", "http://"+addr)
	cmd.Env = append(os.Environ(), "DIVERT_TEST_ROLE=etcd")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	c := client(t, "http://"+addr)
	if _, err := c.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	for i := range maxConnections + 200 {
		conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer conn.Close()
	}
	for deadline := time.Now().Add(20 * time.Second); sockets(t, cmd.Process.Pid) < maxConnections; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d sockets are open, want the cap of %d reached", sockets(t, cmd.Process.Pid), maxConnections)
		}
	}
	if n := sockets(t, cmd.Process.Pid); n > maxConnections+20 { // its listener and what etcd itself has
		t.Errorf("%d sockets are open, at most %d may be", n, maxConnections)
	}
	if got, err := c.Get(t.Context(), "k"); err != nil || len(got.Kvs) != 1 {
		t.Errorf("who was there before got %v, %v", got, err)
	}
}
