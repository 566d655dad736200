package local

import (
	"net/netip"
	"syscall"
)

// attributes puts a child out of the terminal's reach, so that Ctrl-C ends the
// fleet in order, and lets it not outlive a parent that was killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func loopbackHint([]netip.Addr) string { return "" }
