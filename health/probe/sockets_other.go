//go:build !linux

package probe

import (
	"net/netip"
	"time"
)

// haveSockets: elsewhere each probe is a goroutine with a net.Conn, which
// costs some three times as much and differs in nothing else.
const haveSockets = false

type flights struct{ standing, mostStanding int }

func newFlights(netip.Addr, policy) *flights { return &flights{} }

func (*flights) start(*probing, time.Duration, func(*probing, outcome)) {}
func (*flights) poll(time.Time, func(*probing, outcome))                {}
func (*flights) urgent() bool                                           { return false }
func (*flights) count() int                                             { return 0 }
func (*flights) stand(netip.AddrPort) int                               { return -1 }
func (*flights) look(int, time.Duration) stands                         { return standsUnknown }
func (*flights) leave(int)                                              {}
func (*flights) close()                                                 {}

func lateBind(uintptr) {}
