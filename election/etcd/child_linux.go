package etcd

import "syscall"

// childAttributes: the child dies with its parent, however that dies, and a
// Ctrl-C at the terminal reaches the parent alone, which ends it in order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
