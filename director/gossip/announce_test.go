package gossip

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// refusals counts the announcements that memberlist was kept from taking in.
type refusals struct{ atomic.Int64 }

func (*refusals) Enabled(context.Context, slog.Level) bool { return true }
func (r *refusals) WithAttrs([]slog.Attr) slog.Handler     { return r }
func (r *refusals) WithGroup(string) slog.Handler          { return r }

func (r *refusals) Handle(_ context.Context, rec slog.Record) error {
	rec.Attrs(func(a slog.Attr) bool {
		if strings.Contains(a.Value.String(), "ignoring alive message") {
			r.Add(1)
		}
		return true
	})
	return nil
}

// TestAnnouncedAgain (F5): an announcement that nobody takes in, as when memberlist's queue
// loses it (hashicorp/memberlist #263), is made again, without waiting for a push/pull.
func TestAnnouncedAgain(t *testing.T) {
	f := newFleet("f")
	quiet := func(o *Options) { // nothing but announcements says what d2 is
		o.tune = func(tu *tuning) {
			fast(tu)
			tu.list.PushPullInterval, tu.list.ProbeInterval, tu.redial = time.Hour, time.Hour, time.Hour
		}
	}
	d2 := start(t, f, identity("d2", "", 1), quiet)
	var deaf atomic.Bool
	refused := new(refusals)
	other := identity("d3", "", 1).Public()
	d1 := start(t, f, identity("d1", "", 1), func(o *Options) {
		quiet(o)
		join(d2)(o)
		o.Log = slog.New(refused)
		o.Keys = func(name string) ed25519.PublicKey {
			if name == "d2" && deaf.Load() {
				return other
			}
			return f.key(name)
		}
	})
	site := func() string {
		for _, m := range d1.Members() {
			if m.Name == "d2" {
				return m.Meta.Site
			}
		}
		return ""
	}
	eventually(t, "d1 to know d2", func() bool { return site() == "site-d2" })

	before := refused.Load()
	deaf.Store(true)
	d2.mu.Lock()
	d2.meta.Site = "moved"
	d2.mu.Unlock()
	// Each is sent four times at most in a fleet of two: that with which d2 joined, and
	// that of its move.
	eventually(t, "an announcement more to be refused", func() bool { return refused.Load() > before+2*4 })
	deaf.Store(false)
	eventually(t, "d1 to hear it again", func() bool { return site() == "moved" })
}
