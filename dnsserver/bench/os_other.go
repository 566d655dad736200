//go:build !linux

package main

import (
	"errors"
	"net/netip"
	"os/exec"
	"time"
)

// Away from Linux there is nothing to measure: no batches, and other kernels.

const (
	burst = 1
	tick  = 10 * time.Millisecond
)

type socket struct{}

var errNotLinux = errors.New("this measures on Linux only")

func dial(netip.AddrPort) (*socket, error) { return nil, errNotLinux }
func (*socket) close()                     {}
func (*socket) receive() (int, error)      { return 0, errNotLinux }
func (*socket) packet(int) []byte          { return nil }
func (*socket) room(int) []byte            { return nil }
func (*socket) put(int, int)               {}
func (*socket) send(int) (int, error)      { return 0, errNotLinux }
func dialOne(netip.AddrPort) (int, error)  { return -1, errNotLinux }
func closeOne(int)                         {}
func readOne(int, []byte) ([]byte, error)  { return nil, errNotLinux }
func writeOne(int, []byte) (bool, error)   { return false, errNotLinux }
func nap()                                 {}
func prepareThread(int) error              { return errNotLinux }
func enter([]string) error                 { return errNotLinux }
func dieWithUs(*exec.Cmd)                  {}
func cores() []int                         { return nil }
