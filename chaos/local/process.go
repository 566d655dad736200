package local

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Process is one process of a fleet; it may be started again after its end.
type Process struct {
	name string
	args []string
	log  string // file that its output is appended to

	mu   sync.Mutex
	cmd  *exec.Cmd     // nil: never started
	done chan struct{} // closed when the process has ended and been waited for
	told bool          // to end, by us
}

// stopPatience is what a process has between SIGTERM and SIGKILL.
const stopPatience = 10 * time.Second

func (p *Process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		select {
		case <-p.done:
		default:
			return nil
		}
	}
	cmd, done, err := p.spawn()
	if err != nil {
		return err
	}
	p.cmd, p.done, p.told = cmd, done, false
	return nil
}

func (p *Process) spawn(more ...string) (*exec.Cmd, chan struct{}, error) {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("log of %s: %w", p.name, err)
	}
	defer out.Close()
	cmd := exec.Command(p.args[0], append(slices.Clone(p.args[1:]), more...)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = attributes()
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	done := make(chan struct{})
	go func() { // waited for by end
		defer close(done)
		_ = cmd.Wait()
	}()
	return cmd, done, nil
}

// succession is a process and the one that is to take over from it.
type succession struct {
	old, next chan struct{} // closed at the end of each
	cmd       *exec.Cmd     // the next one
}

// succeed starts another process that is to take over.
func (p *Process) succeed(more ...string) (s succession, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return s, fmt.Errorf("%s does not run", p.name)
	}
	s.old = p.done
	s.cmd, s.next, err = p.spawn(more...)
	return s, err
}

// await waits until the old process has ended and the next one stands for it; an
// error: the next one ended first.
func (p *Process) await(s succession) error {
	select {
	case <-s.next:
		return fmt.Errorf("the successor of %s ended: see its log", p.name)
	case <-s.old:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd, p.done = s.cmd, s.next
	return nil
}

// running gives the process and its end; false: it does not run.
func (p *Process) running() (*os.Process, chan struct{}, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil, nil, false
	}
	select {
	case <-p.done:
		return nil, nil, false
	default:
		return p.cmd.Process, p.done, true
	}
}

// ended tells whether the process ran and has ended by itself.
func (p *Process) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.told {
		return false
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// tell notes that the process is about to be ended.
func (p *Process) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = true
}

func (p *Process) kill() error {
	p.tell()
	proc, done, ok := p.running()
	if !ok {
		return nil
	}
	if err := proc.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing %s: %w", p.name, err)
	}
	<-done
	return nil
}

func (p *Process) pause() error  { return p.send(syscall.SIGSTOP) }
func (p *Process) resume() error { return p.send(syscall.SIGCONT) }

func (p *Process) send(s syscall.Signal) error {
	proc, _, ok := p.running()
	if !ok {
		return fmt.Errorf("%s does not run", p.name)
	}
	return proc.Signal(s)
}

// end stops the process gracefully, then not, and waits.
func (p *Process) end() {
	p.tell()
	proc, done, ok := p.running()
	if !ok {
		return
	}
	_ = proc.Signal(syscall.SIGCONT)
	_ = proc.Signal(syscall.SIGTERM)
	select {
	case <-done:
	case <-time.After(stopPatience):
		_ = proc.Kill()
		<-done
	}
}
