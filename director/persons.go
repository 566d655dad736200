package director

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
)

// lacksPerson says what takes two persons in a plan over the one before, and is approved by
// no second one (S16, S7); nil: nothing. Base may be nil.
func lacksPerson(base, next *inForce, vouched bool) error {
	if base == nil {
		return nil
	}
	was, is := base.stable(), next.stable()
	s := core.Succession{Cur: was.sealed, Spec: was.spec, Next: is.sealed, NextSpec: is.spec, Vouched: vouched}
	if t := is.tried(); t != nil {
		s.Tries = t.spec
	}
	if err := core.CheckPersons(s); err != nil {
		return fmt.Errorf("plan %d.%d of %s: %w", is.sealed.Identity.Epoch, is.sealed.Identity.Revision, is.sealed.Signer, err)
	}
	return nil
}

// vouched tells whether a registered director besides a plan's writer and this one has
// acknowledged it, or a later one.
func (h *horizon) vouched(me string, s *plan.Sealed) bool {
	cur := h.current()
	return cur != nil && slices.ContainsFunc(h.holders(s.Identity), func(name string) bool {
		return name != me && name != s.Signer && cur.sealed.Plan.Director(name).GetStanding() == plan.Director_ACTIVE
	})
}

// before is the plan that another is held against: its parent, where that is here, though
// perhaps not in force yet.
func (h *horizon) before(s *plan.Sealed) *inForce {
	if n := h.newest(); n != nil && string(n.sealed.Identity.Hash[:]) == string(s.Plan.GetParent()) {
		return n
	}
	return h.current()
}

// refusals remembers the last plan that was well signed and not taken: whoever wrote it
// is named until a later one is in force (S7).
type refusals struct {
	log   *slog.Logger
	total *prometheus.CounterVec

	now func() time.Time

	mu    sync.Mutex
	last  refusedPlan
	lacks plan.Identity // refused over revisions that were missed …
	since time.Time     // … with no step taken since then …
	begun time.Time     // … and first then
}

type refusedPlan struct {
	plan   plan.Identity
	writer string
	why    string
}

func newRefusals(reg prometheus.Registerer, log *slog.Logger, h *horizon, now func() time.Time) *refusals {
	countPersons(reg, h, now)
	return &refusals{log: log, now: now, total: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "divert_plans_refused_total", Help: "Plans that were signed by a director and not taken into force, by who signed them.",
	}, []string{"director"})}
}

// countPersons exports what waits for a second person, and what was done without one.
func countPersons(reg prometheus.Registerer, h *horizon, now func() time.Time) {
	count := func(of func(*plan.Plan, time.Time) int) func() float64 {
		return func() float64 {
			if f := h.current(); f != nil {
				return float64(of(f.sealed.Plan, now()))
			}
			return 0
		}
	}
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "divert_requests_waiting", Help: "Commands that wait for a second person.",
	}, count(func(p *plan.Plan, at time.Time) (n int) {
		for _, r := range p.GetRequests() {
			if r.Waits(at) {
				n++
			}
		}
		return n
	}))
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "divert_break_glass", Help: "Commands of the last day that took two persons, were done at the word of one, and that nobody has acknowledged.",
	}, count(func(p *plan.Plan, at time.Time) int { return len(core.Alarming(p, at)) }))
}

// note takes one up: a line for each change.
func (r *refusals) note(s *plan.Sealed, cur *inForce, err error) {
	now := refusedPlan{plan: s.Identity, writer: s.Signer, why: err.Error()}
	r.mu.Lock()
	known := r.last == now
	r.last = now
	r.mu.Unlock()
	if known {
		return
	}
	writer := "unknown" // whose key nobody knows, gets no label of its own
	if cur != nil {
		if d := cur.sealed.Plan.Holder(s.Key); d != nil {
			writer = d.GetName()
		}
	}
	r.total.WithLabelValues(writer).Inc()
	r.log.Error("plan refused, the old one stays in force", slog.Any("err", err), slog.String("writer", s.Signer))
}

// catchUp is how long who was away looks for what lies between, before he names the writer
// of a plan that looks dangerous without it: since the last step, and in all.
const catchUp, catchUpAll = 15 * time.Second, 5 * time.Minute

// missed takes up that a plan is refused over revisions that this director has missed; true
// while they may yet be had, one by one.
func (r *refusals) missed(id plan.Identity) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if r.lacks.IsZero() {
		r.since, r.begun = now, now
	}
	r.lacks = id
	return now.Sub(r.since) < catchUp && now.Sub(r.begun) < catchUpAll
}

// lacking tells whether a plan is one of those.
func (r *refusals) lacking(id plan.Identity) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lacks == id && !id.IsZero()
}

// taken forgets it: the plan is in use after all.
func (r *refusals) taken(id plan.Identity) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last.plan == id {
		r.last = refusedPlan{}
	}
	if r.since = r.now(); r.lacks.Compare(id) <= 0 { // else it is a step on the way there
		r.lacks = plan.Identity{}
	}
}

// of says why a plan is not taken, for who would commit on it; "": it was not refused.
func (r *refusals) of(id plan.Identity) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last.plan != id || id.IsZero() {
		return ""
	}
	return "the store holds a plan that is not to be trusted: " + r.last.why + "; if it is not what people want, run `divert store recover --force`, and remove director " + r.last.writer + " if it goes on"
}

// alert names who wrote it, for as long as no later plan is in force; "" for none.
func (r *refusals) alert(force plan.Identity) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last.plan.IsZero() || force.Compare(r.last.plan) >= 0 && force.Fleet == r.last.plan.Fleet {
		return ""
	}
	return fmt.Sprintf("director %s wrote a plan that is refused: %s; this director goes on with plan %d.%d", r.last.writer, r.last.why, force.Epoch, force.Revision)
}

// describePersons shows what waits for a second person, and what was done without one.
func (d *Director) describePersons(out *api.Status, f *inForce) {
	p := f.sealed.Plan
	for _, r := range p.GetRequests() {
		v := requestView(r, out.Now)
		out.Requests = append(out.Requests, v)
		if v.State == api.RequestWaits {
			out.Alerts = append(out.Alerts, fmt.Sprintf("%s asks for a second person: %s: divert approve %s", v.Author, v.What, v.ID))
		}
	}
	for _, g := range p.GetGlass() {
		out.Glass = append(out.Glass, glassView(g))
	}
	for _, g := range core.Alarming(p, out.Now) {
		out.Alerts = append(out.Alerts, fmt.Sprintf("%s broke the glass (%s): %s; another person looks at it: divert approvals acknowledge %s", g.GetAuthor(), g.GetReason(), g.GetWhat(), g.GetId()))
	}
	if alert := d.librarian.refusals.alert(f.sealed.Identity); alert != "" {
		out.Alerts = append(out.Alerts, alert)
	}
}

func requestView(r *plan.Request, now time.Time) api.Request {
	v := api.Request{
		ID: r.GetId(), What: r.GetWhat(), Author: r.GetAuthor(), Via: r.GetVia(), Reason: r.GetReason(), Why: r.GetDangers(),
		Asked: r.GetAsked().AsTime(), Expires: r.GetExpires().AsTime(), By: r.GetBy(), Revision: r.GetDone(),
	}
	switch {
	case r.GetState() == plan.Request_DONE:
		v.State = api.RequestDone
	case r.GetState() == plan.Request_DENIED:
		v.State = api.RequestDenied
	case r.Waits(now):
		v.State = api.RequestWaits
	default:
		v.State = api.RequestExpired
	}
	if r.GetAt() != nil {
		at := r.GetAt().AsTime()
		v.At = &at
	}
	return v
}

func glassView(g *plan.BreakGlass) api.Glass {
	v := api.Glass{
		ID: g.GetId(), What: g.GetWhat(), Author: g.GetAuthor(), Reason: g.GetReason(), Via: g.GetVia(), Why: g.GetDangers(),
		At: g.GetAt().AsTime(), Revision: g.GetRevision(), AcknowledgedBy: g.GetAcknowledgedBy(),
	}
	return v
}

// second waits until another person has said yes or no to a command, or ctx ends. The
// identity is that of the plan in force once it is done; zero: it is not.
func (d *Director) second(ctx context.Context, cmd core.Command, out api.Outcome, progress func(api.Outcome)) (api.Outcome, plan.Identity) {
	r := out.Request
	if progress != nil {
		progress(out)
	}
	tick := time.NewTicker(time.Second) // it may expire, which changes no plan
	defer tick.Stop()
	var seen plan.Identity // of the last plan that holds it; the newest goes back for a moment while it comes into force
	for {
		changed := d.changes.changed()
		if f := d.horizon.newest(); f != nil {
			now := f.sealed.Plan.Request(cmd.ID)
			if now == nil && !seen.IsZero() && f.sealed.Identity.Compare(seen) > 0 {
				out.Code, out.Error, out.Remedy = 1, "it waits no longer: it gave way to what others asked for, or is over; `divert audit` tells", "say it anew, without --id, if it is wanted all the same"
				return out, plan.Identity{}
			}
			if now != nil {
				seen = f.sealed.Identity
				v := requestView(now, d.now())
				out.Request = &v
				switch v.State {
				case api.RequestDone:
					out.Summary = fmt.Sprintf("%s, approved by %s", v.What, v.By)
					return out, f.sealed.Identity
				case api.RequestDenied:
					out.Code, out.Error, out.Remedy = 1, fmt.Sprintf("denied by %s (%s): %s", v.By, v.Reason, v.What), "say it anew if it is wanted all the same"
					return out, plan.Identity{}
				case api.RequestExpired:
					out.Code, out.Error, out.Remedy = 1, fmt.Sprintf("nobody approved this until %s: %s", v.Expires.UTC().Format("15:04:05 UTC"), v.What), "say it anew"
					return out, plan.Identity{}
				}
			}
		}
		select {
		case <-ctx.Done():
			out.Code, out.Error = 3, "it waits for a second person, until "+r.Expires.UTC().Format("15:04:05 UTC")
			out.Remedy = "another person says, at another director: divert approve " + cmd.ID + "; it is done then, whoever waits"
			return out, plan.Identity{}
		case <-changed:
		case <-tick.C:
		}
	}
}

// resultOf is what the store keeps of a command, under its ID or that of the one it settles.
func resultOf(change core.Change, cmd core.Command, sealed *plan.Sealed) *plan.Result {
	r := &plan.Result{
		Id: cmp.Or(change.Kept, cmd.ID), Epoch: sealed.Identity.Epoch, Revision: sealed.Identity.Revision, Plan: sealed.Identity.Hash[:],
		Summary: change.Summary, At: change.Plan.GetWritten(), Command: change.Of, Approver: change.Audit.GetApprover(), Refused: change.Refused,
	}
	if change.Of == nil {
		r.Command = cmd.Fingerprint()
	}
	return r
}

// answers tells whether a stored outcome is one of a command: to a second person's word only
// what came of a request is.
func answers(r *plan.Result, cmd core.Command) bool {
	return !settles(cmd) || r.GetApprover() != "" || r.GetRefused() != ""
}

func settles(cmd core.Command) bool { return cmd.Verb == core.Approve || cmd.Verb == core.Deny }
