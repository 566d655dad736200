//go:build unix

package probe

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// alone gives a program a process group of its own, which is killed as a whole: what it
// has started and left behind would else run on.
func alone(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		} else if err != nil {
			return err
		}
		return nil
	}
	cmd.WaitDelay = time.Second
}

// clean ends what a program has left behind it in its group.
func clean(cmd *exec.Cmd) {
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
}
