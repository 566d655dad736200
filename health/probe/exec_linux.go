package probe

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// programOOM is the least oom_score_adj that a program has: where memory runs out it is
// killed, and not the director, whose unit has one far below.
const programOOM = 500

// start starts a program that has no capability and can come by none, whatever this
// process has: for port 53 systemd gives it an ambient one, which children would have
// too. Rights are each thread's own on Linux, and a child's are those of the thread that
// starts it: one gives up its own, starts the program, and ends. Refused: to clear them in
// the whole process, which is not this package's, and to run ourselves in between, which
// costs more than the program.
func start(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			defer runtime.UnlockOSThread()
			started <- start(cmd) // by another: the main thread cannot end
			return
		}
		err := renounce() // and this thread is never unlocked, so it ends with us
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			expose(strconv.Itoa(cmd.Process.Pid), 3)
		}
		started <- err
	}()
	return <-started
}

// renounce gives up all capabilities of this thread, ambient and inheritable ones too
// (capabilities(7)), and whatever executing a file could bring.
func renounce() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("giving up capabilities: %w", err)
	}
	return nil
}

// expose raises the oom_score_adj of a program, which it has from this process, and of
// what it has started in the instant since; what it starts from now on has its own. To
// raise it needs no right; where it cannot be raised the program runs all the same.
func expose(pid string, depth int) {
	path := "/proc/" + pid + "/oom_score_adj"
	data, err := os.ReadFile(path)
	if err != nil {
		return // it has ended, or there is no /proc
	}
	if now, err := strconv.Atoi(string(bytes.TrimSpace(data))); err == nil && now < programOOM {
		_ = os.WriteFile(path, strconv.AppendInt(nil, programOOM, 10), 0)
	}
	children, _ := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children") // not every kernel tells
	for child := range bytes.FieldsSeq(children) {
		if depth > 0 {
			expose(string(child), depth-1)
		}
	}
}
