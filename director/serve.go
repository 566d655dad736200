package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/director/store/fsys"
	"github.com/divertdns/divert/dnsserver"
	"github.com/divertdns/divert/dnsserver/answer"
)

// ServeOptions is how a process directs.
type ServeOptions struct {
	Options
	// Sockets are a service manager's (socket activation): they are answered on,
	// whatever the settings' dns.listen says.
	Sockets []dnsserver.Socket
	// Replace takes over from the director that runs on the same data folder,
	// without a query lost; if this one cannot, that one stays.
	Replace bool
	// Ready is called once this process answers DNS and all else has begun.
	Ready func()
}

// againTick is between two tries to stand behind the front again.
const againTick = time.Second

// Serve directs until ctx ends, or until another process has taken over. Behind one
// front, which answers all the while, there may be several directors, one after the
// other: after one that could not write its disk, and after one whose successor
// failed.
func Serve(ctx context.Context, o ServeOptions) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	var h *heir
	f, err := o.openFront(ctx, &h)
	if err != nil {
		dnsserver.Discard(o.Sockets)
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	answer := sync.OnceFunc(func() {
		group.Go(func() error {
			if err := f.run(ctx); err != nil {
				return fmt.Errorf("dns: %w", err)
			}
			return nil
		})
	})
	group.Go(func() error { return o.direct(ctx, f, h, answer) })
	if err := group.Wait(); !errors.Is(err, errServed) {
		return err
	}
	return nil
}

// errServed ends what runs beside a director that has ended.
var errServed = errors.New("served")

// openFront binds the DNS sockets, or takes over those of who runs.
func (o *ServeOptions) openFront(ctx context.Context, h **heir) (f *front, err error) {
	if o.Replace {
		dnsserver.Discard(o.Sockets)
		o.Sockets = nil
		*h, f, err = takeOver(ctx, o.Settings, o.Log)
		return f, err
	}
	// Two directors on one folder are told apart here, before they meet at a port.
	if err := fsys.MkdirAll(fsys.OS{}, o.Settings.DataDir, 0o700); err == nil {
		unlock, err := store.LockDir(o.Settings.DataDir)
		if err == nil {
			unlock()
		} else if !unwritable(err) {
			return nil, err
		}
	}
	return newFront(o.Settings, new(atomic.Pointer[answer.Table]), newSurvey(o.Settings.Geo.Database), new(zoneTexts), o.Sockets, len(o.Sockets) > 0, o.Log)
}

// direct runs directors behind a front, which answers from the first moment at
// which there is something to answer: what comes before waits in the sockets.
func (o *ServeOptions) direct(ctx context.Context, f *front, h *heir, answer func()) error {
	if h != nil {
		answer()
		if err := h.ready(ctx); err != nil {
			return err
		}
		o.Log.Info("answering DNS on the sockets of the director before")
	}
	// Once it has served, or nobody else does, this process never gives up, but for
	// another that has the data folder.
	patient := h != nil && h.gone
	late := time.Now().Add(donePatience)
	for {
		if h != nil && ctx.Err() != nil {
			return nil // nothing is taken, so the one before stays
		}
		options := o.Options
		options.front = f
		d, err := New(options)
		switch {
		case err != nil && (!patient || h != nil && errors.Is(err, store.ErrInUse) && time.Now().After(late)):
			return err
		case err != nil:
			o.Log.Error("still answering DNS, and nothing else", slog.Any("err", err))
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(againTick):
			}
			continue
		}
		answer()
		if h != nil && d.mute != nil {
			d.close() // the one before is whole, and stays
			return fmt.Errorf("taking over: %w", d.mute)
		}
		directing, resign := context.WithCancel(ctx)
		var refused error
		d.begun = func() {
			if h != nil {
				if ctx.Err() != nil {
					return
				}
				if refused = h.done(ctx); refused != nil {
					resign()
					return
				}
				h = nil
			}
			if o.Ready != nil {
				o.Ready()
			}
		}
		err = d.Run(directing)
		resign()
		patient = true
		switch {
		case refused != nil:
			return refused
		case errors.Is(err, ErrWritable): // one that could only answer is made anew
		case errors.Is(err, errHandedOver):
			err := release(ctx, d.handover.conn, donePatience)
			if err == nil {
				o.Log.Info("another process has taken over")
				f.dns.Retire()
				return nil
			}
			if ctx.Err() != nil { // the other goes on, and needs the data folder
				return errServed
			}
			o.Log.Error("the process that was to take over did not; this one goes on", slog.Any("err", err))
		case err == nil:
			return errServed
		default:
			return err
		}
	}
}
