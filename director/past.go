package director

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/resolve"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/zone"
	"github.com/divertdns/divert/health"
)

// past is what a director's answers were decided by at an instant.
type past struct {
	sealed  *plan.Sealed
	doc     plan.Hash
	kept    bool // the document
	version string
	states  map[health.Subject]health.State // where they are told apart from image
	all     bool                            // states are those of all subjects
	book    *health.Book                    // as saved when the segment began
	proofs  map[health.Subject]health.Transition
	returns map[health.Subject]steer.Return
	earlier map[health.Subject][]steer.Return
	stale   bool
	urgent  []*plan.Override // emergency drains
	geo     string
	since   time.Time // of what was told last
	seen    time.Time // when this director was last there
	ended   bool      // it had ended by then
}

// replay follows a segment's entries, which may be of any version and of a flipped
// disk.
func replay(entries []store.Entry) (*past, error) {
	var p *past
	for _, raw := range entries {
		var e historyEntry
		if err := json.Unmarshal(raw.Body, &e); err != nil {
			return nil, fmt.Errorf("reading history: %w", err)
		}
		if e.Kind == historyBegins {
			p = &past{version: e.Version, book: health.NewBook("", nil, 0), states: map[health.Subject]health.State{}, proofs: map[health.Subject]health.Transition{}}
			if err := p.book.Restore(e.Image, raw.At); err != nil {
				return nil, fmt.Errorf("reading history: %w", err)
			}
		}
		if p == nil {
			return nil, errors.New("reading history: its beginning is missing")
		}
		p.seen, p.ended = raw.At, e.Kind == historyEnds
		if err := p.take(raw, e); err != nil {
			return nil, fmt.Errorf("reading history: %w", err)
		}
	}
	if p == nil || p.sealed == nil {
		return nil, store.ErrNotKept
	}
	return p, nil
}

// take brings a past up to an entry.
func (p *past) take(raw store.Entry, e historyEntry) (err error) {
	if e.Kind == historyBegins || e.Kind == historyTold {
		p.since = raw.At
	}
	if len(e.Plan) > 0 {
		if p.sealed, err = plan.Open(e.Plan); err != nil {
			return err
		}
	}
	if e.Doc != "" {
		p.kept = len(raw.Refs) > 0
		if p.kept {
			p.doc = raw.Refs[0]
		}
	}
	if e.All {
		clear(p.states)
		p.all = true
	}
	for text, state := range e.States {
		s, err := health.ParseSubject(text)
		if err != nil {
			return err
		}
		p.states[s] = stateOf(state)
	}
	if e.Returns != nil {
		p.returns = make(map[health.Subject]steer.Return, len(e.Returns))
		for text, r := range e.Returns {
			if text == "" {
				continue
			}
			s, err := health.ParseSubject(text)
			if err != nil {
				return err
			}
			p.returns[s] = steer.Return(r)
		}
	}
	if e.Earlier != nil {
		p.earlier = make(map[health.Subject][]steer.Return, len(e.Earlier))
		for text, list := range e.Earlier {
			if text == "" {
				continue
			}
			s, err := health.ParseSubject(text)
			if err != nil {
				return err
			}
			for _, r := range list {
				p.earlier[s] = append(p.earlier[s], steer.Return(r))
			}
		}
	}
	if e.Stale != nil {
		p.stale = *e.Stale
	}
	if e.Urgent != nil {
		if p.urgent, err = overridesOf(*e.Urgent); err != nil {
			return err
		}
	}
	if e.Geo != "" {
		p.geo = e.Geo
	}
	for _, message := range e.Certificates {
		certs, err := health.DecodeCertificates(message)
		if err != nil {
			return err
		}
		for _, c := range certs {
			p.proofs[c.Subject] = health.Transition{Certificate: c, Since: raw.At}
		}
	}
	return nil
}

func stateOf(text string) health.State {
	for _, s := range []health.State{health.Up, health.Down} {
		if s.String() == text {
			return s
		}
	}
	return health.Unknown
}

// state is what a subject was held to be.
func (p *past) state(s health.Subject) health.State {
	if st, ok := p.states[s]; ok {
		return st
	}
	if p.all {
		return health.Unknown
	}
	return p.book.Chain(s).State()
}

// transition is the certificate that was in force. False: none was, or it is not the
// one that the state was by.
func (p *past) transition(s health.Subject) (health.Transition, bool) {
	t, ok := p.proofs[s]
	if !ok {
		t, ok = p.book.InForce(s)
	}
	return t, ok && t.To() == p.state(s)
}

// explained is a past with what it comes to.
type explained struct {
	*past
	set      *spec.Set
	decision steer.Decision
	table    *answer.Table
	names    map[netip.Addr]string // of the addresses that stand for hostnames
}

// decide decides as it was decided then, by the code and the geo table of now.
func (p *past) decide(set *spec.Set, on *earth) (*explained, error) {
	out := &explained{past: p, set: set, names: map[netip.Addr]string{}}
	f := &inForce{sealed: p.sealed, spec: set, standbys: steer.StandbysOf(set, p.sealed.Plan)}
	for _, z := range set.Zones {
		bare, err := bareZone(z.Name)
		if err != nil {
			return nil, err
		}
		f.zones = append(f.zones, bare)
	}
	states := map[health.Subject]health.State{}
	for _, s := range subjects(set) {
		states[s] = p.state(s)
	}
	// Not the fit that the loop keeps: this one is for a moment.
	fit := newEarth(on.table).fit(set)
	out.decision = steer.Decide(steer.Input{Spec: set, Plan: withOverrides(p.sealed.Plan, p.urgent), States: states, Returns: p.returns, Earlier: p.earlier, Places: fit.places})
	var err error
	out.table, err = fit.compile(answer.Options{
		Zones: (&describer{resolved: out.stand}).describe(f, out.decision), Plan: p.sealed.Identity.String(), Stale: p.stale,
	})
	return out, err
}

// stand gives addresses that stand for a hostname in an answer: what it resolved to
// is not kept.
func (e *explained) stand(hostname string) *resolve.Records {
	v6 := spec.StandIn(hostname)
	n := len(e.names)
	v4 := netip.AddrFrom4([4]byte{240, byte(n >> 16), byte(n >> 8), byte(n)}) // class E: nobody's (RFC 1112 section 4)
	for addr, name := range e.names {
		if name == hostname && addr.Is4() {
			v4 = addr
		}
	}
	e.names[v4], e.names[v6] = hostname, hostname
	return &resolve.Records{Addrs: [2][]netip.Addr{{v4}, {v6}}, Known: [2]bool{true, true}, TTL: 24 * time.Hour}
}

// bareZone is a zone with what every zone has: static records move no client.
func bareZone(name string) (answer.Zone, error) {
	records, _ := zone.Parse(zone.Source{Origin: name, Nameservers: []string{"ns.invalid"}, Hostmaster: "hostmaster.invalid"})
	static, err := answer.Pack(name+".", records.List)
	return answer.Zone{Origin: name + ".", Static: static}, err
}

// explain says what a client was told for a host.
func (e *explained) explain(host, client string, asker netip.Prefix, on *earth, at time.Time) (api.Explanation, error) {
	id := e.sealed.Identity
	svc, site := find(e.set, e.decision, host)
	if svc == nil {
		return api.Explanation{}, &core.Refusal{
			Reason: fmt.Sprintf("%s was not the host of any service at %s, by plan %d.%d", host, instant(at), id.Epoch, id.Revision),
		}
	}
	out := api.Explanation{
		Host: host, Client: client, Service: svc.Name, Plan: fmt.Sprintf("%d.%d", id.Epoch, id.Revision), At: &at, ToldSince: &e.since,
		Geo: e.geo, Evidence: e.evidence(svc),
	}
	place, _ := on.table.Lookup(asker.Addr())
	out.Place = placeName(on.table.Places()[place])
	out.Answers = answersOf(e.set, e.table, svc, site, host, asker, at, func(*steer.Set, bool, []string) []string {
		return []string{"what the hostname resolved to then is not kept, nor whether it did; a lower TTL of its own counted"}
	})
	for i := range out.Answers {
		for j, text := range out.Answers[i].Addresses {
			if addr, err := netip.ParseAddr(text); err == nil && e.names[addr] != "" {
				out.Answers[i].Addresses[j] = e.names[addr]
			}
		}
	}
	if e.stale {
		out.Notes = append(out.Notes, "this director was isolated or behind a known plan: it said that its answers may be stale (EDE 3)")
	}
	if now := on.table.Origin().String(); e.geo != now {
		out.Notes = append(out.Notes, fmt.Sprintf("clients were placed by %s then; this goes by %s, which places some elsewhere", e.geo, now))
	}
	if len(out.Answers) == 0 {
		return api.Explanation{}, fmt.Errorf("%s had no address at %s", host, instant(at))
	}
	return out, nil
}

// evidence lists what the sites of a service were judged by: the certificates in
// force. What each director thought is not kept.
func (e *explained) evidence(svc *steer.Service) []api.Evidence {
	def, verify := e.set.Service(svc.Name), verifyBy(e.sealed)
	healths := slices.Collect(svc.Healths(func(health.Subject) bool { return true }))
	var out []api.Evidence
	for i, site := range svc.Sites() {
		v := api.Evidence{Cluster: site.Cluster, Health: healths[i].String(), Why: site.Why, Subjects: []api.SubjectEvidence{}}
		add := func(s health.Subject, probe string) {
			one := api.SubjectEvidence{
				Subject: steer.SubjectText(e.set, s), Address: e.set.NameOf(s.Addr.Addr()), Probe: probe, State: e.state(s).String(), Words: []api.Word{},
			}
			if t, ok := e.transition(s); ok {
				one.Transition, one.Reason = t.N, t.Reason
				if !t.Since.IsZero() {
					one.Since = &t.Since
				}
				for _, raw := range t.Proof {
					if b, err := verify(raw); err == nil {
						one.Voters = append(one.Voters, b.Director)
					}
				}
			}
			v.Subjects = append(v.Subjects, one)
		}
		for _, addr := range site.All {
			for _, of := range steer.Subjects(def, addr) {
				add(of.Subject, of.String())
				if gray := health.Gray(of.Subject.Addr); of.Fast && e.set.Hostname(addr) == "" {
					add(gray, fmt.Sprintf("gray :%d", gray.Addr.Port()))
				}
			}
		}
		out = append(out, v)
	}
	return out
}

// instant writes an instant as `--at` takes it.
func instant(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// ExplainAt is Explain for an instant that is past, by what this director has kept.
func (d *Director) ExplainAt(ctx context.Context, host, client string, at time.Time) (api.Explanation, error) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	asker, err := parseClient(client)
	if err != nil {
		return api.Explanation{}, &core.Refusal{Reason: fmt.Sprintf("client %q is neither an address nor a prefix", client), Remedy: "give one like 81.2.69.142 or 2001:db8::/48"}
	}
	h := d.history
	if h == nil {
		return api.Explanation{}, &core.Refusal{Reason: "this director keeps no history", Remedy: "set history: {for: 7d} in its settings, and ask another director with --server meanwhile"}
	}
	if now := d.now(); at.After(now) {
		return api.Explanation{}, &core.Refusal{Reason: fmt.Sprintf("%s is not past yet: it is %s here", instant(at), instant(now))}
	}
	// One at a time: to decide again for a large fleet takes a while, and memory.
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return api.Explanation{}, ctx.Err()
	}
	p, notes, err := h.at(at)
	if err != nil {
		return api.Explanation{}, err
	}
	f, on := d.horizon.current(), d.loop.earth.Load()
	set, size, err := h.spec(p, f)
	if err != nil {
		return api.Explanation{}, err
	}
	defer giveBack(size)
	e, err := p.decide(set, on)
	if err != nil {
		return api.Explanation{}, fmt.Errorf("deciding as at %s: %w", instant(at), err)
	}
	out, err := e.explain(host, client, asker, on, at)
	if p.version != d.opts.Version {
		notes = append(notes, fmt.Sprintf("divert %s decided then; this is how %s decides upon the same", p.version, d.opts.Version))
	}
	out.Notes = append(notes, out.Notes...)
	return out, err
}

// at finds what held at an instant, or says that it is not known.
func (h *history) at(at time.Time) (p *past, notes []string, err error) {
	j := h.journal.Load()
	if j == nil {
		return nil, nil, &core.Refusal{Reason: "this director's history is not read yet", Remedy: "ask again in a moment"}
	}
	unknown := func(format string, args ...any) error {
		r := &core.Refusal{Reason: "nothing is kept here from " + instant(at) + ": " + fmt.Sprintf(format, args...), Remedy: "another director may know (--server)"}
		if s := j.Span(); !s.First.IsZero() {
			r.Remedy = fmt.Sprintf("what is kept here begins at %s; ", instant(s.First)) + r.Remedy
		}
		return r
	}
	stretch, err := j.Find(at)
	if errors.Is(err, store.ErrNotKept) {
		return nil, nil, unknown("it is before what this director keeps (history: for and size in its settings)")
	} else if err != nil {
		return nil, nil, err
	}
	p, err = replay(stretch.Entries)
	if err != nil {
		return nil, nil, unknown("%v", err)
	}
	next, killed := h.now(), false
	if stretch.After != nil {
		next, killed = stretch.After.At, !p.ended && starts(*stretch.After)
	}
	gap, since := next.Sub(p.seen), at.Sub(p.seen)
	switch {
	case since <= 0: // it was there at that very time
	case stretch.Torn && gap > 2*historyTick:
		return nil, nil, unknown("between %s and %s it cannot be read, as a file is damaged", instant(p.seen), instant(next))
	case p.ended && gap > 2*historyTick:
		return nil, nil, unknown("this director ended at %s, and what is kept goes on at %s", instant(p.seen), instant(next))
	case p.ended:
		notes = append(notes, fmt.Sprintf("this director ended at %s and began again by %s: if it was replaced meanwhile it went on answering this", instant(p.seen), instant(next)))
	case killed && since > historyTick+historyTick/2: // it notes each historyTick that it is there
		return nil, nil, unknown("between %s and %s it did not run", instant(p.seen), instant(next))
	case killed:
		notes = append(notes, fmt.Sprintf("this director ended without a word after %s and began again by %s: it may have told nobody anything at that time", instant(p.seen), instant(next)))
	case gap > 4*historyTick && since <= historyTick:
		notes = append(notes, fmt.Sprintf("this director's last sign of life before %s was at %s", instant(next), instant(p.seen)))
	case gap > 4*historyTick:
		return nil, nil, unknown("between %s and %s it did not run, or could not write", instant(p.seen), instant(next))
	}
	if stretch.Twice {
		notes = append(notes, "this director's clock went back over that time: this is of the later time that it came")
	}
	return p, notes, nil
}

// starts tells whether an entry is the first of a process.
func starts(e store.Entry) bool {
	var first struct {
		Kind   string `json:"kind"`
		Starts bool   `json:"starts"`
	}
	return json.Unmarshal(e.Body, &first) == nil && first.Kind == historyBegins && first.Starts
}

// spec gives the resources of a past: those in force, or those that are kept.
func (h *history) spec(p *past, f *inForce) (set *spec.Set, octets int, err error) {
	if !p.kept {
		return nil, 0, &core.Refusal{
			Reason: fmt.Sprintf("the spec of plan %d.%d was too large to be kept", p.sealed.Identity.Epoch, p.sealed.Identity.Revision),
			Remedy: "raise history.size in this director's settings",
		}
	}
	if f != nil && plan.Sum(f.bytes) == p.doc {
		return f.spec, 0, nil
	}
	raw, err := h.journal.Load().Kept(p.doc)
	if err != nil {
		return nil, 0, &core.Refusal{Reason: fmt.Sprintf("the spec of plan %d.%d: %v", p.sealed.Identity.Epoch, p.sealed.Identity.Revision, err), Remedy: "another director may know (--server)"}
	}
	doc, err := plan.ReadDoc(raw)
	if err != nil {
		return nil, 0, err
	}
	set, problems := spec.ResolveWith(core.Raws(doc), nil)
	if set == nil {
		return nil, 0, problemsError(problems)
	}
	for _, z := range set.Zones {
		z.Forget()
	}
	return set, len(raw), nil
}
