package quorum

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is this test's binary in another role.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser // it ends when this does
	ended chan struct{}
}

// spawn starts a role, which finds its options in its environment.
func spawn(name string, options any, stdout, stderr io.Writer) (*process, error) {
	raw, err := json.Marshal(options)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(os.Args[0]), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), role+"="+name, "DIVERT_QUORUM_OPTIONS="+string(raw),
		"NO_PROXY=*", "no_proxy=*") // members find each other by names
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	p.cmd.SysProcAttr = diesWithUs()
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	started := make(chan error)
	go func() {
		defer close(p.ended)
		// It is told to die with the thread that started it (golang/go#27505).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // killed, most likely
		}
	}()
	return p, <-started
}

// options reads what spawn was given.
func options(v any) error {
	return json.Unmarshal([]byte(os.Getenv("DIVERT_QUORUM_OPTIONS")), v)
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// standsStill tells whether all threads are stopped: the signal is only taken when one of
// them runs next.
func (p *process) standsStill() bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
	for _, path := range threads {
		raw, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		if _, rest, _ := strings.Cut(string(raw), ") "); !strings.HasPrefix(rest, "T") {
			return false
		}
	}
	return len(threads) > 0
}

// until waits for a condition; the limit is only there so that a failure ends.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long: %s", what)
		}
	}
}
