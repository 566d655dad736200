//go:build !linux

package dnsserver

import "net"

// Away from Linux, where only the demo runs, directors listen on addresses of
// their own, and the kernel picks the source of a socket bound to all.
const controlSize = 0

func askDestination(*net.UDPConn, bool) error { return nil }

func returnControl([]byte) []byte { return nil }
