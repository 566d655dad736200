package director

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/resolve"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/health"
)

// saver keeps the last good generation on disk: plan, spec and certificates.
// Only after the fsync does this director acknowledge a plan (S6), to its peers
// by heartbeat and to the store.
type saver struct {
	name     string
	disk     *store.Disk
	store    *store.Store
	horizon  *horizon
	loop     *loop
	resolver *resolve.Resolver
	wanted   wake
	renamed  wake // hostnames have other addresses, which may wait for saveNames
	stepped  wake // returns took a step, and so may this
	log      *slog.Logger
	shown    *metrics
	policies *policies

	trouble atomic.Pointer[string] // why the last write failed; nil: it did not
	saved   plan.Identity          // the last one written; by run alone
	told    wake                   // something new is on disk
	acked   plan.Identity          // what the store was told; by tellStore alone
}

const (
	saveRetry = time.Second
	saveAges  = time.Minute // between writes of ages …
	saveYoung = time.Hour   // … for so long after the last change
	// saveNames is the least time between two writes for the sake of hostnames, of which
	// some change with each answer: and a hundred times what a write takes.
	saveNames = 10 * time.Second
	// saveRest times what the last write took is between two of certificates: they are all
	// written anew for each, and where thousands are down each has others after it. One that
	// a disk held up for long puts off the next by saveNames at most.
	saveRest = 2
)

// run writes whenever there is something new, again while it fails, and now and
// then while there are young transitions, whose ages must survive a crash (S10).
func (s *saver) run(ctx context.Context) error {
	var group errgroup.Group
	group.Go(func() error { return s.tellStore(ctx) })
	retry := time.NewTicker(saveRetry)
	defer retry.Stop()
	pending, soon := false, false
	var changed, saved time.Time
	var took time.Duration // the last write
	for {
		select {
		case <-ctx.Done():
			return group.Wait()
		case <-s.wanted:
			pending, changed = true, time.Now()
		case <-s.renamed:
			soon = true
		case <-s.stepped:
			soon = true
		case now := <-retry.C:
			pending = pending || now.Sub(changed) < saveYoung && now.Sub(saved) >= saveAges ||
				soon && now.Sub(saved) >= max(saveNames, 100*took)
		}
		begun := time.Now()
		if pending && (begun.Sub(saved) >= min(saveRest*took, saveNames) || s.unsaved()) && s.save(ctx) {
			pending, soon, saved = false, false, time.Now()
			took = saved.Sub(begun)
			s.told.up()
		}
	}
}

// unsaved reports whether the plan in force is still to be written, which is waited for.
func (s *saver) unsaved() bool {
	f := s.horizon.current()
	return f != nil && f.sealed.Identity != s.saved
}

// resolved is told that a hostname has other addresses. The first that a name has are
// written at once, others within saveNames.
func (s *saver) resolved(first bool) {
	if first {
		s.wanted.up()
	} else {
		s.renamed.up()
	}
}

// tellStore acknowledges at its own pace, at once but not twice in saveRetry: a store
// that hangs must not hold up the disk, and nobody waits for the store's word.
func (s *saver) tellStore(ctx context.Context) error {
	retry := time.NewTicker(saveRetry)
	defer retry.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.told:
			if time.Since(last) < saveRetry {
				continue // retry is not far
			}
		case <-retry.C:
		}
		if s.acknowledge(ctx) {
			last = time.Now()
		}
	}
}

// save writes what is in force; false: it is to be tried again.
func (s *saver) save(ctx context.Context) bool {
	var image *health.Image
	if err := s.loop.inspect(ctx, func(now time.Time) { image = s.loop.book.Image(now) }); err != nil {
		return false
	}
	f := s.horizon.current()
	if f == nil {
		return true
	}
	if !s.wrote(s.write(f, image.Bytes())) {
		return false
	}
	if f.sealed.Identity != s.saved {
		s.saved = f.sealed.Identity
		giveBack(len(f.bytes))
	}
	s.horizon.savedNow(f.sealed.Identity)
	s.loop.wakeup.up()
	return true
}

// wrote notes, logs and counts what became of a write; false: it failed.
func (s *saver) wrote(err error) bool {
	if err == nil {
		if s.trouble.Swap(nil) != nil {
			s.log.Info("state is written again")
		}
		return true
	}
	why := err.Error()
	if s.trouble.Swap(&why) == nil {
		s.log.Error("state cannot be written: answers go on, but this director acknowledges no new plan", slog.Any("err", err))
	}
	s.shown.saveErrors.Inc()
	return false
}

func (s *saver) write(f *inForce, image []byte) error {
	var canary []byte
	if t := f.tried(); t != nil {
		canary = t.bytes
	}
	lost, blank := s.horizon.forgotten()
	return s.disk.Save(store.Generation{
		Lost: lost, Blank: blank,
		Plan: f.sealed.Raw, Doc: f.stable().bytes, Canary: canary, Policy: s.policies.octets(f.sealed.Plan), Health: image, Resolved: s.resolver.Save(), Highest: s.horizon.known(), Saved: s.loop.now(),
	})
}

// last writes once more when the loop has ended, so that the ages of
// certificates survive a graceful stop.
func (s *saver) last() {
	if f := s.horizon.current(); f != nil {
		if err := s.write(f, s.loop.book.Save(s.loop.now())); err != nil {
			s.log.Warn("last state not written", slog.Any("err", err))
		}
	}
}

// acknowledge tells the store which plan this director holds (S6); false: there is
// nothing new to tell, or it could not.
func (s *saver) acknowledge(ctx context.Context) bool {
	id := s.horizon.acked()
	if id.IsZero() || id == s.acked || s.horizon.storeNow().problem != "" {
		return false
	}
	ackCtx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := s.store.Ack(ackCtx, &plan.Ack{
		Director: s.name, Fleet: id.Fleet, Epoch: id.Epoch, Revision: id.Revision, Plan: id.Hash[:], At: timestamppb.New(s.loop.now()),
	})
	if err == nil {
		s.acked = id
	}
	return err == nil
}
