//go:build !linux

package local

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
)

func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// loopbackHint says what is needed where loopback has only 127.0.0.1.
func loopbackHint(needed []netip.Addr) string {
	var words strings.Builder
	for _, addr := range needed {
		fmt.Fprintf(&words, " %s", addr)
	}
	return "\nEach part of the fleet has a loopback address of its own, and this system has only 127.0.0.1. Until it restarts, this adds them:\n" +
		"  for a in" + words.String() + "; do sudo ifconfig lo0 alias $a; done"
}
