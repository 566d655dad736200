package director

import (
	"errors"
	"log/slog"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/dnsserver/answer"
)

// lastGood takes the newest generation of the disk into force (S12). What
// cannot be read is told and kept; it never stops the start.
func (d *Director) lastGood() error {
	g, note, err := d.disk.Load()
	switch {
	case err != nil:
		return d.unusable(err)
	case len(g.Plan) == 0:
		d.horizon.blank()
		return d.notReady("no plan yet")
	}
	d.horizon.raise(g.Highest) // also where the plan itself cannot be used: nothing older may come after it (S3)
	sealed, err := plan.Open(g.Plan)
	if err != nil {
		return d.unusable(err)
	}
	f, err := d.horizon.texts.prepare(sealed, g.Docs()...)
	if err != nil {
		return d.unusable(err)
	}
	f = f.on(d.settings.Name)
	d.policies.put(g.Policy)
	restoreNames(d.resolver, g.Resolved, d.log)
	now := d.now()
	d.loop.book.SetSubjects(subjects(f.specs()...), now)
	if err := d.loop.book.Restore(g.Health, now); err != nil {
		d.log.Warn("certificates of the last good state are not used", slog.Any("err", err))
	}
	if !d.loop.takeForce(f, now) {
		return d.unusable(errors.New("no table can be made of the last good plan"))
	}
	if note != "" || g.Lost {
		d.horizon.lose()
	}
	if g.Blank {
		d.horizon.blank()
	}
	d.horizon.savedNow(sealed.Identity)
	d.log.Info("answering from the last good plan", slog.Uint64("epoch", sealed.Identity.Epoch), slog.Uint64("revision", sealed.Identity.Revision),
		slog.Time("saved", g.Saved), slog.String("note", note))
	return nil
}

// unusable starts without what the disk holds. This is not a new director: it
// must not bootstrap over what it has forgotten.
func (d *Director) unusable(err error) error {
	d.damaged = true
	d.horizon.blank()
	d.log.Error("the last good state on this disk cannot be used: waiting for the plan in the store", slog.Any("err", err))
	return d.notReady("this director's disk is damaged; it waits for the plan in the store")
}

// notReady answers REFUSED with EDE 14 until there is a plan.
func (d *Director) notReady(why string) error {
	table, err := answer.Compile(answer.Options{Geo: d.loop.earth.Load().table, NotReady: true, NSID: []byte(d.loop.identity), ID: d.loop.identity, Version: d.loop.version})
	if err != nil {
		return err
	}
	if d.table.Load() == nil { // what a front answers already is better than nothing
		d.table.Store(table)
	}
	d.waiting.Store(&why)
	return nil
}
