//go:build !linux && !darwin

package api

import "errors"

// peerUID refuses: a command whose author the system cannot name is not taken.
func peerUID(int) (uint32, error) {
	return 0, errors.New("this system cannot tell who is at the other end of a unix socket")
}
