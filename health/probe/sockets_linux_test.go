package probe

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/divertdns/divert/health"
)

// TestDialC12: the policy is asked again at the moment of dialling, whatever
// was let through before.
func TestDialC12(t *testing.T) {
	addr := closedPort(t)
	e := &entry{Target: &Target{Fast: true, Subject: health.Subject{Kind: health.KindSignal, Addr: addr}}, group: &group{}}
	var got outcome
	f := newFlights(netip.Addr{}, policy{})
	f.start(&probing{entry: e, req: &request{kind: kindFast, addr: addr}}, time.Second, func(_ *probing, o outcome) { got = o })
	if !got.void || f.count() != 0 {
		t.Errorf("by socket: got %+v and %d in flight, want void and none", got, f.count())
	}
	_, err := New(Options{}).dial(t.Context(), addr)
	if refused := (*refusedError)(nil); !errors.As(err, &refused) {
		t.Errorf("by dialer: got %v, want a refusal", err)
	}
}
