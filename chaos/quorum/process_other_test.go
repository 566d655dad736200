//go:build !linux

package quorum

import "syscall"

func diesWithUs() *syscall.SysProcAttr { return nil }
