package director

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"strings"
	"time"
)

// bootstrapper makes the fleet's first plan, when this director holds none, the
// store answers that it is empty, and every join address has answered that it
// holds none (SEMANTICS, Intent). Until then it says whom it waits for.
func (d *Director) bootstrapper(ctx context.Context) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if f := d.horizon.current(); f != nil {
			return nil
		}
		why := d.awaited()
		if d.opts.AwaitRestore {
			why = "`divert restore FILE`, as it was started with --await-restore"
		}
		if why == "" {
			if err := d.bootstrap(ctx); err != nil {
				why = "making the first plan: " + err.Error()
			} else {
				why = "the first plan is written"
			}
		}
		d.wait(why)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// awaited says whom or what the first plan waits for; "" = nothing.
func (d *Director) awaited() string {
	state := d.horizon.storeNow()
	switch {
	case !state.ok:
		if state.problem != "" {
			return state.problem
		}
		return "the store has not answered yet"
	case !state.plan.IsZero():
		return "the store holds a plan that cannot be used yet"
	case d.horizon.storeNow().problem != "":
		return state.problem
	}
	if d.damaged {
		return "this director's disk is damaged: bring its peers' store back, or say `divert store init`"
	}
	if absent := d.unanswered(); len(absent) > 0 {
		return "these join addresses have not answered yet: " + strings.Join(absent, ", ") + " (`divert store init` goes on without them)"
	}
	for _, m := range d.links.Members() {
		if m.Meta.HasPlan {
			return m.Name + " holds a plan: waiting for the store to show it"
		}
	}
	return ""
}

// unanswered lists the join addresses of which nobody has said yet whether he holds a plan.
func (d *Director) unanswered() (absent []string) {
	answered := d.links.Answered()
	for _, name := range sortedNames(answered) {
		if !answered[name] {
			absent = append(absent, name)
		}
	}
	return absent
}

func (d *Director) wait(why string) {
	if old := d.waiting.Load(); old != nil && *old == why {
		return
	}
	d.log.Info("no plan yet", slog.String("waiting", why))
	d.waiting.Store(&why)
	d.changes.tell()
}

// bootstrap writes the first plan from this director's spec files.
func (d *Director) bootstrap(ctx context.Context) error {
	d.folders.load()
	d.folders.mu.Lock()
	raws, problems := d.folders.raws, d.folders.problems
	d.folders.mu.Unlock()
	if err := problemsError(problems); err != nil {
		return err
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	return d.commander.bootstrap(ctx, raws, d.me(), hex.EncodeToString(id[:]))
}
