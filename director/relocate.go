package director

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/dnsserver/geo"
)

// relocate places clients by what the survey has found, once a table is made by it.
// Where none can be, they are placed as before.
func (l *loop) relocate() {
	next := l.surveyed.Load()
	if next == nil || next == l.earth.Load() || next == l.unfit {
		return
	}
	if f := l.horizon.current(); f == nil {
		l.earth.Store(next)
	} else if !l.decideOn(f, next) {
		l.unfit = next
		return
	}
	l.unfit = nil
	l.shown.placed(next.table.Origin())
	l.log.Info("clients are placed anew", slog.String("by", next.table.Origin().String()))
	l.outbox.Refresh()
	l.changed()
}

// place makes ahead what the loop needs to place clients for a plan. What is wrong
// with it, the loop tells.
func (d *Director) place(f *inForce) { _, _ = d.loop.earth.Load().fit(f.spec).table() }

// resurveyed passes what the survey has found on to the loop, with the places merged
// that the spec in force does not tell apart: that takes longer than the loop should
// stand still.
func (d *Director) resurveyed() {
	d.tellSurvey()
	found := d.survey.latest.Load()
	if f := d.horizon.newest(); f != nil {
		_, _ = found.fit(f.spec).table()
	}
	d.loop.surveyed.Store(found)
	d.loop.wakeup.up()
	d.changes.tell()
}

// tellSurvey logs a change of the geo database's state. It is called by New, then by
// the survey.
func (d *Director) tellSurvey() {
	problem := d.survey.problem()
	switch {
	case problem == d.unsurveyed:
	case problem != "":
		d.log.Error("the geo database cannot be used", slog.String("path", d.survey.path), slog.String("err", problem))
	default:
		d.log.Info("the geo database is read", slog.String("path", d.survey.path))
	}
	d.unsurveyed = problem
}

// describeGeo shows by what clients are placed.
func (d *Director) describeGeo(out *api.Status) {
	o := d.loop.earth.Load().table.Origin()
	out.Geo = &api.Geo{Name: o.Name, Hash: o.Hash, Degrees: o.Step, Found: o.Found, Database: d.survey.path}
	if !o.Built.IsZero() {
		out.Geo.Built = &o.Built
	}
	if why := d.survey.problem(); why != "" {
		out.Alerts = append(out.Alerts, fmt.Sprintf("the geo database %s cannot be used: %s; until it can, clients are placed by %s", d.survey.path, why, o))
	}
}

// geoHash is what this director tells the others of its geo table; "" where it
// answers nobody.
func (d *Director) geoHash() string {
	if d.dns == nil || len(d.dns.Addrs()) == 0 {
		return ""
	}
	return d.loop.earth.Load().table.Origin().Hash
}

// placings groups the registered directors that are there by the geo table that
// they say they place clients by. Those of an earlier version, and witnesses, say
// nothing.
func (d *Director) placings() map[string][]string {
	out := map[string][]string{}
	f := d.horizon.current()
	if f == nil {
		return out
	}
	says := map[string]string{}
	for _, m := range d.links.Members() {
		says[m.Name] = m.Meta.Geo
	}
	says[d.settings.Name] = d.geoHash()
	for _, e := range f.sealed.Plan.Active() {
		if hash := says[e.GetName()]; hash != "" {
			out[hash] = append(out[hash], e.GetName())
		}
	}
	return out
}

// disunity says that directors place clients differently, and which; "" = all that
// say it place them alike.
func (d *Director) disunity() string {
	by := d.placings()
	if len(by) < 2 {
		return ""
	}
	own, shipped := d.loop.earth.Load().table.Origin(), geo.DefaultHash()
	var parts []string
	for hash, names := range by {
		what := "another (" + hash + ")"
		switch hash {
		case own.Hash:
			what = own.String()
		case shipped:
			what = "the country table (" + hash + ")"
		}
		slices.Sort(names)
		parts = append(parts, join(names)+" by "+what)
	}
	slices.Sort(parts)
	return "directors place clients by different geo tables, so a client may be sent elsewhere by each: " + strings.Join(parts, "; ")
}
