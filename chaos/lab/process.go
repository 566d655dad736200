//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// patience is what a process has between SIGTERM and SIGKILL.
const patience = 5 * time.Second

// process is one that the lab started, in a namespace; nothing else is ever signalled.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and been waited for
}

// processes are all that run; those that were ended are forgotten.
type processes struct {
	dir string // of their logs

	mu  sync.Mutex // guards the below
	all map[*process]struct{}
}

func (ps *processes) start(ctx context.Context, where *space, name string, argv ...string) (*process, error) {
	out, err := os.OpenFile(ps.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{name: name, done: make(chan struct{}), cmd: exec.Command(argv[0], argv[1:]...)}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// Out of the terminal's reach, so that Ctrl-C ends all in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := where.run(ctx, p.cmd.Start); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() { // waited for by end and by endAll
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.all[p] = struct{}{}
	return p, nil
}

func (ps *processes) log(name string) string { return ps.dir + "/" + name + ".log" }

// ended names a process that has ended by itself.
func (ps *processes) ended() string {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for p := range ps.all {
		select {
		case <-p.done:
			return p.name
		default:
		}
	}
	return ""
}

func (ps *processes) forget(p *process) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.all, p)
}

// kill ends a process at once. It returns when the kernel has closed its sockets.
func (ps *processes) kill(p *process) {
	ps.forget(p)
	_ = p.cmd.Process.Kill()
	<-p.done
}

// end ends a process gracefully, then not, and waits.
func (ps *processes) end(p *process) {
	ps.forget(p)
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func (ps *processes) endAll() {
	ps.mu.Lock()
	var all []*process
	for p := range ps.all {
		all = append(all, p)
	}
	ps.mu.Unlock()
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() { ps.end(p) })
	}
	wg.Wait()
}
