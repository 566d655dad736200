package director

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// statusPatience bounds a question to the loop: a director too busy to say how
// it is still answers DNS.
const statusPatience = 2 * time.Second

// statusGap is the least time between two looks at the loop on behalf of those
// who watch: however many they are, they cost as much as one.
const statusGap = 50 * time.Millisecond

// Status says what this director knows and does. Those who ask at once share
// one look, which begins after the last of them has asked.
func (d *Director) Status() api.Status {
	v, _, _ := d.looks.Do("status", func() (any, error) {
		if wait := statusGap - time.Since(time.Unix(0, d.looked.Load())); wait > 0 {
			time.Sleep(min(wait, statusGap))
		}
		d.looks.Forget("status") // who asks from here on gets a later look
		d.looked.Store(time.Now().UnixNano())
		return d.status(), nil
	})
	return v.(api.Status)
}

func (d *Director) status() api.Status {
	ctx, cancel := context.WithTimeout(context.Background(), statusPatience)
	defer cancel()
	out := api.Status{Director: d.settings.Name, Version: d.opts.Version, Now: d.now()}
	word, alert := storeWord(d.horizon.storeNow(), d.horizon.spaceNow())
	if out.Store = word; alert != "" {
		out.Alerts = append(out.Alerts, alert)
	}
	out.Alerts = append(out.Alerts, d.own.alerts()...)
	if d.mute != nil {
		out.Store = "not asked: this director's data folder cannot be written"
		out.Alerts = append(out.Alerts, "the data folder cannot be written: this director answers DNS from its last good state and does nothing else: "+d.mute.Error())
	}
	if why := d.saver.trouble.Load(); why != nil {
		out.Alerts = append(out.Alerts, "state cannot be written: answers go on, but this director acknowledges no new plan: "+*why)
	}
	d.describeSecrets(&out)
	d.describeGeo(&out)
	problems, pending, note := d.folders.standing()
	for _, p := range problems {
		out.Problems = append(out.Problems, p.String())
	}
	if note != "" {
		out.Problems = append(out.Problems, "the spec files wait for a person: "+note)
	}
	out.Pending = pending
	out.Leader = d.campaign.Status().Leader
	f := d.horizon.current()
	if f == nil {
		if w := d.waiting.Load(); w != nil {
			out.Waiting = *w
		}
		return out
	}
	id := f.sealed.Identity
	out.Plan = &api.Plan{
		Fleet: id.Fleet, Epoch: id.Epoch, Revision: id.Revision, Hash: id.Hash.String(),
		Writer: f.sealed.Plan.GetWriter(), Written: f.sealed.Plan.GetWritten().AsTime(), Age: d.planAge().Seconds(),
	}
	out.Behind = d.horizon.behind()
	for _, o := range f.sealed.Plan.GetOverrides() {
		v := overrideView(o, out.Now)
		out.Overrides = append(out.Overrides, v)
		if o.GetKind() == plan.Override_OBSERVE && o.GetScope() == "fleet" {
			out.Frozen = &v
		}
	}
	if err := d.loop.inspect(ctx, func(now time.Time) { d.loop.describe(&out, now) }); err != nil {
		out.Alerts = append(out.Alerts, "the loop does not answer: "+err.Error())
	}
	if why := d.clock(ctx); why != "" {
		out.Alerts = append(out.Alerts, "this director neither leads nor signs: "+why)
	}
	d.loads.describe(&out, f)
	d.describeOverdue(ctx, &out, f)
	d.describeInterlocks(ctx, &out, f)
	d.policies.describe(&out, f)
	d.vault.describe(&out, f.sealed.Plan)
	d.describePaces(ctx, &out, f)
	d.describeEmergencies(ctx, &out, f)
	d.describeRollout(ctx, &out, f)
	d.keys.describe(&out, f.sealed.Plan)
	describeEnrol(&out, f.sealed.Plan)
	d.describePersons(&out, f)
	d.describeDirectors(ctx, &out, f)
	d.kubes.describe(&out)
	d.softs.describe(&out)
	d.sealer.describe(&out)
	if alert := d.history.alert(); alert != "" {
		out.Alerts = append(out.Alerts, alert)
	}
	return out
}

// storeWord says how the store is, and what a person should be told of it.
func storeWord(s storeState, space storeSpace) (word, alert string) {
	switch {
	case s.problem != "":
		return s.problem, ""
	case !s.ok:
		return "not read yet", ""
	case space.refuses != "":
		return space.refuses, "commands are refused: " + space.refuses
	default:
		return "ok", space.fills
	}
}

// describeOverdue says which overrides stay past their deadline, and for what
// they wait (S18).
func (d *Director) describeOverdue(ctx context.Context, out *api.Status, f *inForce) {
	if !slices.ContainsFunc(out.Overrides, func(o api.Override) bool { return o.Overdue }) {
		return
	}
	states, observed, err := d.states(ctx)
	if err != nil {
		return
	}
	for _, late := range core.Overdue(core.State{
		Plan: f.sealed, Doc: f.stable().doc, Spec: f.stable().spec, States: states, Observed: observed, Now: out.Now, Me: d.settings.Name,
	}) {
		waits := strings.Join(late.Waits, "; ")
		if waits == "" && out.Leader == "" {
			waits = "nobody leads, and only a leader ends it"
		}
		out.Alerts = append(out.Alerts, strings.TrimSuffix(fmt.Sprintf("%s of %s is overdue since %s: %s", strings.ToLower(late.Override.GetKind().String()),
			late.Override.GetScope(), late.Override.GetEnd().AsTime().Format(time.RFC3339), waits), ": "))
	}
}

// describeInterlocks says how the interlocks stand, and alerts of those that do not
// hold.
func (d *Director) describeInterlocks(ctx context.Context, out *api.Status, f *inForce) {
	if len(f.stable().spec.Interlocks) == 0 {
		return
	}
	var states map[health.Subject]health.State
	if err := d.loop.inspect(ctx, func(time.Time) { states = d.loop.book.States() }); err != nil {
		return // said already
	}
	out.Interlocks = core.Interlocks(core.State{Plan: f.sealed, Spec: f.stable().spec, States: states})
	for _, s := range out.Interlocks {
		if s.State == core.StandingBroken {
			out.Alerts = append(out.Alerts, fmt.Sprintf("interlock %s is broken: %s", s.Name, s.Why))
		}
	}
}

// describe fills in what only the loop may look at. It goes by the plan in force
// now: the one that its asker saw may lack a service of the decision.
func (l *loop) describe(out *api.Status, now time.Time) {
	f := l.horizon.current()
	if f == nil {
		return
	}
	q := l.book.Quorum()
	out.Quorum = api.Quorum{Directors: q.Directors, Observers: q.Observers, Needed: q.Votes, Domains: q.Domains, Hears: l.book.Hears(now)}
	switch q.Directors {
	case 1:
		out.Quorum.Note = "one director: there is no quorum, its view alone decides"
	case 2:
		out.Quorum.Note = "two directors: the loss of either stops automatic failover; add a witness (dns: {listen: []})"
	}
	out.Isolated = l.book.Isolated(now)
	if out.Isolated {
		out.Alerts = append(out.Alerts, fmt.Sprintf("isolated: hears %d of %d directors, so it changes nothing and answers what it last knew", out.Quorum.Hears, q.Directors))
	}
	if alert := l.unsaid.alert(); alert != "" {
		out.Alerts = append(out.Alerts, alert)
	}
	out.Abstaining = l.abstains()
	for _, s := range l.observer.Suspects() {
		out.Alerts = append(out.Alerts, l.suspect(f, s))
	}
	for _, d := range l.observer.Dependencies() {
		out.Alerts = append(out.Alerts, fmt.Sprintf("shared dependency %s: %s fail at once behind it, so what is reached through it is unknown to this director, and it votes for none of it to fall", d.Via, join(d.Groups)))
	}
	out.Alerts = append(out.Alerts, expiring(f.spec, l.prober.Expiring(), now)...)
	sites := map[string][]api.Site{}
	var instead map[int][2][]string
	if l.describer.spec == f.spec {
		instead = l.describer.instead(l.decision)
	}
	for i := range l.decision.Services {
		s := &l.decision.Services[i]
		view := l.service(f, s, now)
		cname := f.spec.Service(s.Name).CNAME
		if !cname {
			markAbsent(&view)
		}
		out.Alerts = append(out.Alerts, markInstead(&view, instead[i])...)
		out.Alerts = append(out.Alerts, staleNames(view, cname, now)...)
		out.Services = append(out.Services, view)
		for _, alert := range s.Alerts {
			out.Alerts = append(out.Alerts, s.Name+": "+alert)
		}
		for _, site := range view.Sites {
			sites[site.Cluster] = append(sites[site.Cluster], site)
		}
	}
	for _, c := range f.spec.Clusters {
		out.Clusters = append(out.Clusters, cluster(c, sites[c.Name]))
	}
}

// suspect names a probe that has never passed anywhere.
func (l *loop) suspect(f *inForce, s health.Suspect) string {
	name, services := l.prepared.Load().Name(s.Subjects[0]), []string{}
	for _, set := range f.specs() {
		eachService(set, func(svc *spec.GlobalService, _ string, of steer.SubjectOf) {
			if of.Subject.Def == s.Def && !slices.Contains(services, svc.Name) {
				services = append(services, svc.Name)
			}
		})
	}
	if len(services) > 0 {
		name += " of " + some(services, 1)
	}
	return fmt.Sprintf("probe %s has passed on no endpoint since this director started (%s): it moves nothing until it does; is it mistyped?", name, s.Reason)
}

// cluster rolls a cluster's endpoints up, for display.
func cluster(c *spec.Cluster, sites []api.Site) api.Cluster {
	out := api.Cluster{
		Name: c.Name, FaultDomain: c.FaultDomain, Location: strings.Trim(c.Location.Country+" "+c.Location.Region, " "),
		Endpoints: len(sites), Health: steer.HealthUnknown.String(),
	}
	counts := map[string]int{}
	for _, s := range sites {
		counts[s.Health]++
		if s.Drained != "" {
			out.Drained = s.Drained
		}
		if s.Paced != "" {
			out.Paced = s.Paced
		}
		if s.Serving {
			out.Serving++
		}
	}
	bad := counts[steer.Failed.String()] + counts[steer.Degraded.String()]
	switch {
	case len(sites) == 0:
	case counts[steer.Failed.String()] == len(sites):
		out.Health = steer.Failed.String()
	case bad > 0:
		out.Health = steer.Degraded.String()
		out.Why = fmt.Sprintf("%d of %d endpoints not healthy", bad, len(sites))
	case counts[steer.Healthy.String()] > 0:
		out.Health = steer.Healthy.String()
	}
	if len(sites) == 1 {
		out.Why = sites[0].Why
	}
	return out
}

// service describes one service, observed health and drain side by side.
func (l *loop) service(f *inForce, s *steer.Service, now time.Time) api.Service {
	def := f.spec.Service(s.Name)
	out := api.Service{Name: s.Name, Hosts: s.Hosts, Policy: def.Steering.Policy.String(), Observing: s.Observing, Alerts: s.Alerts}
	healths := slices.Collect(s.Healths(func(sub health.Subject) bool { return l.book.VotedUp(sub, now) }))
	for i, site := range s.Sites() {
		v := api.Site{
			Cluster: site.Cluster, Health: healths[i].String(), Serving: site.Serving, Drained: site.Drained, Paced: site.Paced, Why: site.Why,
			Addresses: []api.Address{},
		}
		if site.Share < 100 {
			v.Share = site.Share
		}
		if site.Kept < 100 {
			v.Kept = site.Kept
		}
		var returns []string
		var within bound
		for _, addr := range site.All {
			a := api.Address{Address: f.spec.NameOf(addr), Live: slices.Contains(site.Live, addr)}
			subjects := steer.Subjects(def, addr)
			within.address(l, subjects, now)
			for _, of := range subjects {
				a.Subjects = append(a.Subjects, l.subject(f.spec, of, now))
				if w, ok := l.observer.Waits(of.Subject, l.book.Chain(of.Subject), now); ok {
					returns = append(returns, of.String()+": "+waits(w))
				}
			}
			if name := f.spec.Hostname(addr); name != "" {
				a.Resolved = hostnameView(l.resolver, name)
			}
			v.Addresses = append(v.Addresses, a)
		}
		v.Returns = strings.Join(returns, "; ")
		v.Detection = within.view()
		out.Sites = append(out.Sites, v)
	}
	return out
}

// waits says for people why a return waits.
func waits(w health.Waiting) string {
	if w.For > 0 {
		return fmt.Sprintf("%s (in %s at the earliest)", w.Why, spec.FormatDuration(max(w.For.Round(time.Second), time.Second)))
	}
	return w.Why
}

// subject describes one thing that is voted on.
func (l *loop) subject(set *spec.Set, of steer.SubjectOf, now time.Time) api.Subject {
	out := api.Subject{
		Subject: steer.SubjectText(set, of.Subject), Probe: of.String(), State: l.book.Chain(of.Subject).State().String(), Votes: map[string]string{},
	}
	if t, ok := l.book.InForce(of.Subject); ok {
		out.Transition, out.Reason = t.N, t.Reason
		if !t.Since.IsZero() {
			out.Since = &t.Since
		}
	}
	for _, o := range l.book.Opinions(of.Subject, now) {
		word := o.State.String()
		if o.Leans {
			word = fmt.Sprintf("suspects it (%.1f of %.1f)", float64(o.Weight)/100, float64(l.book.Quorum().Theta())/100)
		}
		if !o.Counted && o.State != health.Unknown {
			word += " (stale)"
		}
		if o.Why != "" {
			word += ": " + o.Why
		}
		out.Votes[o.Director] = word
	}
	return out
}

// peers gives what is known of each registered director; nil: ctx ended before
// the loop could say.
func (d *Director) peers(ctx context.Context) []peerView {
	var out []peerView
	err := d.loop.inspect(ctx, func(now time.Time) {
		f := d.horizon.current()
		if f == nil {
			return
		}
		for _, e := range f.sealed.Plan.Active() {
			p := peerView{name: e.GetName()}
			if p.name == d.settings.Name {
				p.self, p.heard, p.acked = true, true, d.horizon.acked()
			} else if h, at, ok := d.loop.book.Peer(p.name); ok {
				p.heard, p.silent = true, now.Sub(at)
				if id, err := plan.ParseIdentity(h.Plan); err == nil {
					p.acked = id
				}
			}
			out = append(out, p)
		}
	})
	if err != nil {
		return nil
	}
	members := map[string]gossip.Meta{}
	for _, m := range d.links.Members() {
		members[m.Name] = m.Meta
	}
	for i := range out {
		meta, ok := members[out[i].name]
		out[i].dns, out[i].member = meta.DNS, ok
	}
	return out
}

func overrideView(o *plan.Override, now time.Time) api.Override {
	v := api.Override{
		ID: o.GetId(), Kind: strings.ToLower(o.GetKind().String()), Scope: o.GetScope(), Author: o.GetAuthor(), Reason: o.GetReason(),
		Start: o.GetStart().AsTime(), LastResort: o.GetLastResort(), Forced: o.GetForced(), Glass: o.GetGlass(), Revision: o.GetRevision(),
	}
	if o.GetEnd() != nil {
		end := o.GetEnd().AsTime()
		v.End, v.Overdue = &end, now.After(end) && !o.Ends()
	}
	v.Pace = paceView(o)
	return v
}

// Spec gives the resources of the plan in force.
func (d *Director) Spec() []spec.Raw {
	if f := d.horizon.current(); f != nil {
		return core.Raws(f.stable().doc)
	}
	return nil
}

// Changed is closed at the next change of Status.
func (d *Director) Changed() <-chan struct{} { return d.changes.changed() }

// Ready is nil once this director answers from a plan. It never fails for
// isolation (S8).
func (d *Director) Ready() error {
	if d.horizon.current() == nil {
		return errNoPlan
	}
	return nil
}

// eachService visits every address of every service with what watches it.
func eachService(set *spec.Set, yield func(svc *spec.GlobalService, cluster string, of steer.SubjectOf)) {
	for _, svc := range set.Services {
		for _, e := range svc.Endpoints {
			for _, addr := range e.Watched() {
				for _, of := range steer.Subjects(svc, addr) {
					yield(svc, e.Cluster, of)
				}
			}
		}
	}
}

// join lists names for people: "a, b and c".
func join(names []string) string {
	switch len(names) {
	case 0:
		return ""
	case 1:
		return names[0]
	default:
		return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
	}
}

// some lists the first names for people and counts the others: "a, b and 3 more".
func some(names []string, most int) string {
	text := strings.Join(names[:min(len(names), most)], ", ")
	if more := len(names) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }
