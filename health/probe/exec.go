package probe

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/divertdns/divert/health"
)

// maxRunning is how many programs run at once: a process costs what a thousand packets
// do, and the machine answers DNS besides.
const maxRunning = 16

// program makes a program ready, if the director's settings allow it: a spec comes from
// people who need not have any right on this machine.
func (r *request) program(e *Exec, allowed []string) error {
	r.kind, r.exec = kindExec, e
	if !slices.Contains(allowed, e.Command) {
		return fmt.Errorf("program %q is not run: it is not among probe.exec in the director's settings", e.Command)
	}
	return nil
}

// run runs a program without a shell, with what it needs to know and nothing else of
// ours, and reads nothing of what it writes. It is killed with all that it has started.
func (s *Scheduler) run(ctx context.Context, r *request) outcome {
	if err := s.policy.check(r.addr.Addr()); err != nil { // C12: the address is what it is to go to
		return outcome{void: true, reason: err.Error()}
	}
	if r.opened != nil {
		r.opened() // it takes its time, and that is no reason to begin with another address
	}
	select {
	case s.running <- struct{}{}:
		defer func() { <-s.running }()
	case <-ctx.Done():
		return outcome{void: true, reason: fmt.Sprintf("our own side: %d programs run already", maxRunning)}
	}
	cmd := exec.CommandContext(ctx, r.exec.Command, r.exec.Args...) //nolint:gosec // the settings name it, see program
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DIVERT_ADDRESS=" + r.addr.Addr().String()}
	alone(cmd)
	err := start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	clean(cmd)
	var exited *exec.ExitError
	switch {
	case err == nil:
		return outcome{ok: true}
	case cmd.Process == nil:
		return outcome{void: true, reason: "our own side: the program does not start: " + errnoText(err)}
	case ctx.Err() != nil:
		return outcome{reason: "timeout of the program", timeout: true, sign: health.SignSilent}
	case errors.As(err, &exited) && exited.Exited():
		// Whether it met a wrong answer or a lost packet it does not say.
		return outcome{reason: fmt.Sprintf("exit status %d", exited.ExitCode()), sign: health.SignRefused}
	default:
		return outcome{void: true, reason: "our own side: the program was killed"}
	}
}

// runs are when programs were last started, so that a question to probe now starts none
// more often than its interval: a process is dear, and whoever may ask has no say in what
// this machine spends.
type runs struct {
	mu    sync.Mutex // guards what follows
	last  map[health.Subject]lastRun
	swept time.Time
}

type lastRun struct {
	began    time.Time
	interval time.Duration
	out      *outcome // nil while it runs
}

// claim notes a start, unless there was one less than an interval ago: then it gives what
// that came to.
func (r *runs) claim(subject health.Subject, interval time.Duration, now time.Time) (known outcome, free bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.last[subject]
	age := now.Sub(last.began)
	switch {
	case !ok || age >= interval:
		r.note(subject, interval, now)
		return outcome{}, true
	case last.out == nil:
		return outcome{void: true, reason: fmt.Sprintf("runs already, since %s", age.Round(time.Millisecond))}, false
	}
	known = *last.out
	ran := fmt.Sprintf("ran %s ago", age.Round(time.Millisecond))
	if known.reason != "" {
		ran += ": " + known.reason
	}
	known.reason = ran
	return known, false
}

// begin notes a start, whenever the last was.
func (r *runs) begin(subject health.Subject, interval time.Duration, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(subject, interval, now)
}

func (r *runs) note(subject health.Subject, interval time.Duration, now time.Time) {
	if r.last == nil {
		r.last = make(map[health.Subject]lastRun)
	}
	if now.Sub(r.swept) >= time.Minute { // no question is held up by them any more
		r.swept = now
		for of, last := range r.last {
			if now.Sub(last.began) >= last.interval {
				delete(r.last, of)
			}
		}
	}
	r.last[subject] = lastRun{began: now, interval: interval}
}

// end notes what a start came to, or that it came to none.
func (r *runs) end(subject health.Subject, o outcome, started bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.last[subject]
	switch {
	case !started:
		delete(r.last, subject)
	case ok:
		last.out = &o
		r.last[subject] = last
	}
}
