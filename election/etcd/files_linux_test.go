package etcd

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	sockets := func() (n int) {
		dir := fmt.Sprintf("/proc/%d/fd", cmd.Process.Pid)
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
	for deadline := time.Now().Add(20 * time.Second); sockets() < maxConnections; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d sockets are open, want the cap of %d reached", sockets(), maxConnections)
		}
	}
	if n := sockets(); n > maxConnections+20 { // its listener and what etcd itself has
		t.Errorf("%d sockets are open, at most %d may be", n, maxConnections)
	}
	if got, err := c.Get(t.Context(), "k"); err != nil || len(got.Kvs) != 1 {
		t.Errorf("who was there before got %v, %v", got, err)
	}
}
