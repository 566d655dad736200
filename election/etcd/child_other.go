//go:build !linux

package etcd

import "syscall"

// childAttributes has no parent-death signal to ask for here. A child that
// outlives a killed director keeps serving its socket, and the director's next
// start finds it there: its own child waits with "another process uses it".
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
