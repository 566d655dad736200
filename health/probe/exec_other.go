//go:build !unix

package probe

import "os/exec"

// alone has no process groups to use here: the program alone is killed.
func alone(*exec.Cmd) {}

func clean(*exec.Cmd) {}
