//go:build !linux

package dnsserver

import "errors"

func workersPerAddress() int { return 1 }

func sharePort(uintptr) error { return nil }

func overflows(uintptr) (uint64, error) { return 0, errors.ErrUnsupported }
