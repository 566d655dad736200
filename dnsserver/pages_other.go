//go:build !linux

package dnsserver

import "github.com/divertdns/divert/dnsserver/answer"

// LargePages does nothing elsewhere than on Linux.
func LargePages(*answer.Static) {}
