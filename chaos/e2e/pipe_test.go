package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLogReaderGone: a director whose log nobody reads any more goes on, and stops
// when it is told to (`serve 2>&1 | tee log`, with tee gone).
func TestLogReaderGone(t *testing.T) {
	dir := t.TempDir()
	settings := filepath.Join(dir, "director.yaml")
	text := fmt.Sprintf("name: d1\ndataDir: %s\ndns: {listen: [\"127.0.0.1:0\"]}\ngossip: {listen: \"127.0.0.1:0\"}\napi: {listen: \"127.0.0.1:0\"}\n", dir)
	if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "serve", "-c", settings)
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		if strings.Contains(lines.Text(), "director started") {
			break
		}
	}
	if err := pipe.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil { // which it logs
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("got %v, want it to stop by itself", err)
	}
}
