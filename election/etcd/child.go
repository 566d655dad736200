package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"
)

const (
	restartFirst = 200 * time.Millisecond
	restartMost  = 10 * time.Second
	// A child that lived this long had started well: its end is news, and the
	// wait begins small again.
	livedWell = 30 * time.Second
	// stopPatience is what a child has between SIGTERM and SIGKILL. etcd loses
	// nothing by the latter.
	stopPatience = 5 * time.Second
)

// ChildOptions say how a director keeps an etcd beside itself.
type ChildOptions struct {
	Data    string    // data directory
	Args    []string  // what is appended instead of `--listen URL`: of a member of several; none: a socket of its own
	Command []string  // what `--data DIR --listen URL` is appended to; default: this executable, "etcd"
	Env     []string  // added to this process's environment
	Stderr  io.Writer // the child's log; default os.Stderr
	Log     *slog.Logger
}

// Child is `divert etcd` as a supervised process of the same binary on a
// private unix socket. It is a process because etcd exits its own when it
// cannot write its log, and a full disk must not stop DNS (F16).
type Child struct {
	o      ChildOptions
	socket string
	temp   string // directory made for the socket, "" for none
}

// NewChild settles where the child will listen. Nothing runs yet.
func NewChild(o ChildOptions) (*Child, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	if len(o.Command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("finding this executable: %w", err)
		}
		o.Command = []string{self, "etcd"}
	}
	data, err := filepath.Abs(o.Data)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	o.Data = data
	c := &Child{o: o, socket: filepath.Join(data, "etcd.sock")}
	if len(o.Args) > 0 {
		return c, nil
	}
	if _, err := parseSocket(c.socket, TLS{}); err == nil {
		return c, nil
	}
	// The path is too long (or odd) for a socket: a private folder elsewhere.
	for _, base := range []string{os.TempDir(), "/tmp"} {
		dir, err := os.MkdirTemp(base, "divert-etcd-")
		if err != nil {
			continue
		}
		c.socket, c.temp = filepath.Join(dir, "etcd.sock"), dir
		if _, err := parseSocket(c.socket, TLS{}); err == nil {
			return c, nil
		}
		_ = os.Remove(dir)
	}
	return nil, fmt.Errorf("no folder with a path short enough for a unix socket (%d octets): set a shorter dataDir or TMPDIR", maxSocketPath)
}

// Endpoint is where the child listens, as etcd's client takes it; not of one with Args.
func (c *Child) Endpoint() string { return "unix://" + c.socket }

// Run keeps the child alive until ctx ends, for ever, with back-off, and
// returns nil when the last one is gone.
func (c *Child) Run(ctx context.Context) error {
	// Linux sends the parent-death signal when the *thread* that started the
	// child ends (golang/go#27505), so this goroutine keeps its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if c.temp != "" {
		defer os.RemoveAll(c.temp)
	}
	wait := restartFirst
	for {
		start := time.Now()
		err := c.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(start) > livedWell {
			wait = restartFirst
		}
		c.o.Log.Error("embedded etcd ended, answers go on without it", slog.Any("error", err), slog.Duration("restart", wait))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, restartMost)
	}
}

// once runs one child to its end.
func (c *Child) once(ctx context.Context) error {
	if err := os.MkdirAll(c.o.Data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if c.temp != "" {
		if err := os.MkdirAll(c.temp, 0o700); err != nil {
			return fmt.Errorf("folder for etcd's socket: %w", err)
		}
	}
	args := slices.Concat(c.o.Command[1:], []string{"--data", c.o.Data})
	if args = append(args, c.o.Args...); len(c.o.Args) == 0 {
		args = append(args, "--listen", c.Endpoint())
	}
	cmd := exec.CommandContext(ctx, c.o.Command[0], args...)
	cmd.Env = append(os.Environ(), c.o.Env...)
	cmd.Stderr = c.o.Stderr
	cmd.SysProcAttr = childAttributes()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopPatience
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("divert etcd: %w", err)
	}
	return errors.New("divert etcd: ended without an error")
}
