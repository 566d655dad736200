//go:build !linux

package local

import "syscall"

func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// loopbackHint says what is needed where loopback has only 127.0.0.1.
func loopbackHint() string {
	return "\nEach part of the fleet has a loopback address of its own, and this system has only 127.0.0.1.\n" +
		"Add those that are missing, for instance: sudo ifconfig lo0 alias 127.53.1.1"
}
