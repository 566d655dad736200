package director

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// describeDirectors fills in the roster, and who else is there.
func (d *Director) describeDirectors(ctx context.Context, out *api.Status, f *inForce) {
	views := map[string]peerView{}
	for _, p := range d.peers(ctx) {
		views[p.name] = p
	}
	if alert := d.disunity(); alert != "" {
		out.Alerts = append(out.Alerts, alert)
	}
	seen := d.mirror.seen()
	alarms := d.links.Alarms()
	for _, e := range f.sealed.Plan.GetRoster() {
		s := api.DirectorState{
			Name: e.GetName(), Site: e.GetSite(), Standing: strings.ToLower(e.GetStanding().String()), Alarm: alarms[e.GetName()],
			Address: e.GetGossip(),
		}
		if len(e.GetKey()) > 0 {
			s.Key = spec.FormatKey(e.GetKey())
		} else if e.GetStanding() == plan.Director_ACTIVE {
			s.Alarm = cmp.Or(s.Alarm, "never joined: no key yet")
		}
		if e.GetStanding() == plan.Director_REMOVED {
			asClaimed(&s, d.claimed(e.GetName()))
		}
		if p, ok := views[e.GetName()]; ok {
			s.Heard, s.Silent = p.heard && p.silent <= time.Second, p.silent.Seconds()
			if !p.acked.IsZero() {
				s.Plan = fmt.Sprintf("%d.%d", p.acked.Epoch, p.acked.Revision)
			}
			s.DNS = dnsWord(p, seen)
			if s.DNS != "" && s.DNS != "ok" && s.DNS != "witness" && !p.self {
				out.Alerts = append(out.Alerts, fmt.Sprintf("DNS of %s: %s", p.name, s.DNS))
			}
		}
		if s.Alarm == "" && s.Standing == "active" && !s.Heard && e.GetName() != d.settings.Name {
			out.Alerts = append(out.Alerts, silentAlert(s))
		}
		if d.mute == nil && e.GetName() == d.settings.Name && !bytes.Equal(e.GetKey(), d.identity.Public()) && len(e.GetKey()) > 0 {
			s.Alarm = "this director's key is not the roster's: it answers and counts for nothing; on another director, `divert director remove` it and `approve` it anew"
		}
		if s.Alarm != "" {
			out.Alerts = append(out.Alerts, fmt.Sprintf("director %s: %s", s.Name, s.Alarm))
		}
		out.Directors = append(out.Directors, s)
	}
	if d.mute == nil && f.sealed.Plan.Director(d.settings.Name) == nil {
		s := api.DirectorState{
			Name: d.settings.Name, Site: d.settings.Site, Standing: "pending", Key: spec.FormatKey(d.identity.Public()), Heard: true, DNS: "ok",
			Alarm: "not in the roster, so that it answers, counts for nothing and takes no command: `divert director approve " + d.settings.Name + "` on another director",
		}
		out.Alerts = append(out.Alerts, "director "+s.Name+": "+s.Alarm)
		out.Directors = append(out.Directors, s)
	}
	for _, m := range d.links.Members() {
		if e := f.sealed.Plan.Director(m.Name); e != nil || m.Name == d.settings.Name {
			continue
		}
		out.Directors = append(out.Directors, api.DirectorState{
			Name: m.Name, Site: m.Meta.Site, Standing: "pending", Key: spec.FormatKey(m.Meta.Key), Address: m.Addr,
			Heard: true, // gossips, or would be no member
			Alarm: "not in the roster: `divert director approve " + m.Name + "`",
		})
	}
}

// silentAlert names a director that is not heard, and what to look for.
func silentAlert(s api.DirectorState) string {
	if s.Silent == 0 {
		return fmt.Sprintf("director %s has not been heard since this one started: is it up, and has it the same gossip key?", s.Name)
	}
	return fmt.Sprintf("director %s is silent for %s", s.Name, spec.FormatDuration(core.Seconds(s.Silent).Round(time.Second)))
}

// asClaimed shows of a removed director what approving it would pin: the key that
// speaks for its name now, never the tombstone's, which may be a dead disk's.
func asClaimed(s *api.DirectorState, shown core.Director) {
	s.Key, s.Address = "", ""
	if len(shown.Key) > 0 {
		s.Key, s.Site, s.Address = spec.FormatKey(shown.Key), cmp.Or(shown.Site, s.Site), shown.Gossip
	}
}

func dnsWord(p peerView, seen map[string]sighting) string {
	s, ok := seen[p.name]
	switch {
	case p.self:
		return "ok"
	case p.dns == "" && p.member && p.heard && p.silent <= time.Second:
		return "witness"
	case !ok:
		return ""
	case s.fault != "":
		return "mute: " + s.fault
	default:
		return "ok"
	}
}
