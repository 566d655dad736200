//go:build !linux

package probe

import "os/exec"

// start starts a program: what this process may do it may, too.
func start(cmd *exec.Cmd) error { return cmd.Start() }
