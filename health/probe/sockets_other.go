//go:build !linux

package probe

import (
	"net/netip"
	"time"
)

// haveSockets: elsewhere each probe is a goroutine with a net.Conn, which
// costs some three times as much and differs in nothing else.
const haveSockets = false

type flights struct{}

func newFlights(netip.Addr, policy) *flights { return &flights{} }

func (*flights) start(*entry, *request, time.Duration, func(*entry, outcome)) {}
func (*flights) poll(time.Time, func(*entry, outcome))                        {}
func (*flights) urgent() bool                                                 { return false }
func (*flights) count() int                                                   { return 0 }
func (*flights) close()                                                       {}

func lateBind(uintptr) {}
