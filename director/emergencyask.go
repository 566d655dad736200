package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
)

// storePatience is how long the store may take to answer before a drain without it is
// taken: no election of etcd's own lasts so long.
const storePatience = 3 * time.Second

// newEmergencies reads this director's own, before anything answers.
func (d *Director) newEmergencies() *emergencies {
	e := (&emergencies{
		name: d.settings.Name, horizon: d.horizon, links: d.links, file: store.NewEmergencies(filepath.Join(d.settings.DataDir, "state")),
		states: d.states, earth: d.loop.earth.Load, prepared: &d.loop.prepared, overlay: &d.loop.urgent, wakeup: d.loop.wakeup,
		changed: d.changes.tell, log: d.log, now: d.now, shown: newEmergencyMetrics(d.registry),
	}).prepare()
	d.loop.words = func(m gossip.Message) {
		if !e.deliver(m) {
			d.loop.shown.overflow.WithLabelValues("emergencies").Inc()
		}
	}
	return e
}

// Emergencies gives what an operator needs to say a word: the fleet, the plan and the
// counter that it names, who is listed, and what was said already.
func (d *Director) Emergencies() (api.Emergencies, error) {
	f := d.horizon.current()
	if f == nil {
		return api.Emergencies{}, errNoPlan
	}
	p := f.sealed.Plan
	out := api.Emergencies{Fleet: p.GetFleet(), Epoch: p.GetEpoch(), Revision: p.GetRevision(), Counter: p.Counted()}
	for _, o := range p.GetOperators() {
		out.Operators = append(out.Operators, api.Operator{
			Name: o.GetName(), Key: spec.FormatKey(o.GetKey()), Author: o.GetAuthor(), Reason: o.GetReason(), Since: o.GetSince().AsTime(), Revision: o.GetRevision(),
		})
	}
	if d.mute != nil {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), statusPatience)
	defer cancel()
	err := d.words.inspect(ctx, func(now time.Time) {
		out.Counter = max(out.Counter, d.words.held.Counted())
		out.Drains = d.words.views(f, now)
	})
	return out, err
}

// Emergency takes an operator's word while the store is away: journalled here first, then
// gone by and given to all others. It waits until every registered director goes by it, or
// ctx ends.
func (d *Director) Emergency(ctx context.Context, raw []byte, dryRun bool, progress func(api.Outcome)) (api.Outcome, error) {
	word, err := plan.OpenWord(raw)
	if err != nil {
		return refused("", &core.Refusal{Reason: err.Error()}), nil
	}
	out := api.Outcome{ID: word.GetId()}
	f := d.horizon.current()
	switch {
	case d.mute != nil:
		return refused(out.ID, &core.Refusal{Reason: "this director's data folder cannot be written, so it takes nothing", Remedy: "give it to another director with --server"}), nil
	case f == nil:
		return refused(out.ID, errNoPlan), nil
	}
	p := f.sealed.Plan
	if err := mayBring(ctx, f.spec, word); err != nil {
		return refused(out.ID, err), nil
	}
	if err := p.Heeds(word); err != nil {
		return refused(out.ID, &core.Refusal{Reason: err.Error(), Remedy: "`divert keys operator list` shows who is listed; one is added while the store is there: divert keys operator add"}), nil
	}
	if p.Settles(word) {
		out.Summary = "the plan holds it already, or it is over"
		return out, nil
	}
	if err := d.storeAway(ctx, word); err != nil {
		return refused(out.ID, err), nil
	}
	start := time.Now()
	judged, err := d.words.say(ctx, f, word, dryRun)
	if err != nil {
		return refused(out.ID, err), nil
	}
	var others []string
	if word.GetEnds() != "" {
		others = slices.DeleteFunc(d.urgentDrains(ctx, word.GetScope()), func(id string) bool { return id == word.GetEnds() })
	}
	out.Summary = emergencySummary(p, judged, others)
	if dryRun {
		return out, nil
	}
	d.log.Warn("emergency taken", slog.String("id", word.GetId()), slog.String("operator", word.GetOperator()), slog.String("scope", word.GetScope()), slog.String("who", api.User(ctx)))
	out = d.awaitWord(ctx, word, out, progress)
	out.Took = time.Since(start).Seconds()
	return out, nil
}

// mayBring refuses a word from whoever may not do by himself what it says.
func mayBring(ctx context.Context, set *spec.Set, word *plan.Word) error {
	by := access.From(ctx)
	c := core.Command{Verb: core.Drain, Scope: word.GetScope(), By: &by}
	if word.GetEnds() != "" {
		c.Verb = core.Undrain
	}
	return core.Authorise(set, nil, c)
}

// emergencySummary says what a word has done. Others are the emergency drains of its scope
// that go on beside the one that it ends.
func emergencySummary(p *plan.Plan, e core.Emergency, others []string) string {
	if e.Word.GetEnds() != "" {
		out := fmt.Sprintf("%s undrained by operator %s in an emergency (%s)", e.Word.GetScope(), e.Word.GetOperator(), e.Word.GetReason())
		if len(others) > 0 { // it is not undrained yet
			out = fmt.Sprintf("emergency drain %s of %s ended by operator %s (%s); not ended yet: %s",
				e.Word.GetEnds(), e.Word.GetScope(), e.Word.GetOperator(), e.Word.GetReason(), join(others))
		}
		if slices.ContainsFunc(p.GetOverrides(), func(o *plan.Override) bool {
			return o.GetKind() == plan.Override_DRAIN && o.GetScope() == e.Word.GetScope() && !o.GivesBack()
		}) {
			out += "; the plan drains it too, which goes on: `divert undrain` ends that when etcd is back"
		}
		return out
	}
	return steer.DrainWhy(e.Word.GetScope(), e.Override(p))
}

// storeAway refuses what an ordinary command can do. The end of a drain that the store does
// not hold is none.
func (d *Director) storeAway(ctx context.Context, word *plan.Word) error {
	if d.horizon.storeNow().problem != "" && d.horizon.storeNow().ok || d.horizon.spaceNow().refuses != "" {
		return nil // it answers, and takes no commands
	}
	if word.GetEnds() != "" {
		return nil
	}
	readCtx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	if _, err := d.store.Read(readCtx); ctx.Err() != nil {
		return &core.Refusal{
			Reason: "whether the store is away could not be told in time, so nothing was said",
			Remedy: fmt.Sprintf("repeat it with a --timeout of more than %s", storePatience),
		}
	} else if err != nil {
		return nil //nolint:nilerr // that is the emergency
	}
	return &core.Refusal{Reason: "the store is there, so this is no emergency", Remedy: "use `divert drain` without --emergency: all directors have it just as soon, and it is audited"}
}

// urgentDrains lists a scope's emergency drains that no plan holds, by their IDs.
func (d *Director) urgentDrains(ctx context.Context, scope string) (ids []string) {
	f := d.horizon.current()
	if f == nil || d.mute != nil || len(f.sealed.Plan.GetOperators()) == 0 {
		return nil
	}
	_ = d.words.inspect(ctx, func(time.Time) { ids = d.words.drains(d.horizon.current().sealed.Plan, scope) })
	return ids
}

// drains lists those that are gone by, or would be.
func (e *emergencies) drains(p *plan.Plan, scope string) (ids []string) {
	for _, j := range e.judged {
		if j.Word.GetScope() == scope && (j.State == core.EmergencyInForce || j.State == core.EmergencySkipped) && !p.Settles(j.Word) {
			ids = append(ids, j.Word.GetId())
		}
	}
	return ids
}

// say judges a word and, unless it is a dry run, journals it, goes by it and gives it to
// the others.
func (e *emergencies) say(ctx context.Context, f *inForce, word *plan.Word, dryRun bool) (judged core.Emergency, err error) {
	asked := e.inspect(ctx, func(now time.Time) {
		known := e.held.Word(word.Sum) != nil
		list := e.held.Told(now)
		if !known {
			if err = e.held.Room(f.sealed.Plan, word, now, now); err != nil {
				return
			}
			list = append(list, core.Told{Word: word, Left: min(word.GetLasts().AsDuration(), plan.MaxEmergency)})
		}
		var all []core.Emergency
		if all, err = e.verdict(ctx, f, list); err != nil {
			return
		}
		i := slices.IndexFunc(all, func(j core.Emergency) bool { return j.Word.Sum == word.Sum })
		if i < 0 {
			err = errors.New("the word does not count by the plan in force")
			return
		}
		judged = all[i]
		switch judged.State {
		case core.EmergencyInForce, core.EmergencyEnds:
		default:
			err = &core.Refusal{Reason: fmt.Sprintf("draining %s is refused: %s", word.GetScope(), judged.Why), Remedy: "`divert status` shows what is drained and what has failed"}
			return
		}
		if known || dryRun {
			return
		}
		e.held.Add(word, now)
		if err = e.file.Save(e.held.Encode(append(slices.Clone(e.judged), judged), now)); err != nil {
			e.held.Drop(word.Sum)
			err = &core.Refusal{Reason: "it could not be journalled, so it was not said to anybody: " + err.Error(), Remedy: "give it to another director with --server"}
			return
		}
		e.touch()
		e.broadcast(kindEmergency, encodeWord(word.Raw, 0))
	})
	if asked != nil { // it was not asked at all, and never will be
		return judged, &core.Refusal{Reason: "this director did not come to it in time, so nothing was said", Remedy: "repeat it, or give it to another director with --server"}
	}
	return judged, err
}

// awaitWord watches the directors go by a word.
func (d *Director) awaitWord(ctx context.Context, word *plan.Word, out api.Outcome, progress func(api.Outcome)) api.Outcome {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		changed := d.changes.changed()
		before := len(out.Applied)
		settled := false
		var f *inForce
		err := d.words.inspect(ctx, func(now time.Time) {
			f = d.horizon.current()
			settled = f.sealed.Plan.Settles(word)
			out.Applied, out.Missing = d.words.standing(f, word.Sum, out.Applied, now)
		})
		switch {
		case settled:
			// Who went by the word need not have the plan that has taken it over (S6).
			out.Summary, out.Applied, out.Missing = out.Summary+"; the store is back, and its plan says so now", nil, nil
			out.Revision = f.sealed.Identity.Revision
			return d.await(ctx, f.sealed.Identity, out, progress)
		case err == nil && len(out.Applied) > before && progress != nil:
			progress(out)
		}
		if err == nil && len(out.Missing) == 0 {
			return out
		}
		select {
		case <-ctx.Done():
			names := make([]string, 0, len(out.Missing))
			for _, m := range out.Missing {
				names = append(names, m.Director+" ("+m.Why+")")
			}
			out.Code, out.Error = 3, "said and journalled, but not complete in time: all but "+join(names)
			if len(names) == 0 {
				out.Error = "said and journalled, but who has it could not be told in time"
			}
			out.Remedy = "it stays in force where it is, and reaches them when they are back; `divert status` shows when"
			return out
		case <-changed:
		case <-tick.C:
		}
	}
}

// standing sorts the registered directors into those that go by a word, in the order in
// which they came to, and those that do not.
func (e *emergencies) standing(f *inForce, sum plan.Hash, applied []string, now time.Time) (_ []string, missing []api.Missing) {
	mine := e.holdings(now)
	for _, r := range f.sealed.Plan.Active() {
		name := r.GetName()
		h, ok := e.spread.Of(name, sum)
		if name == e.name {
			if i := slices.IndexFunc(mine, func(h core.Holding) bool { return h.ID == core.IDOf(sum) }); i >= 0 {
				h, ok = mine[i], true
			}
		}
		why := lacks(h, ok)
		switch {
		case why == "" && !slices.Contains(applied, name):
			applied = append(applied, name)
		case why != "" && !slices.Contains(applied, name):
			missing = append(missing, api.Missing{Director: name, Why: why})
		}
	}
	return applied, missing
}

// lacks says why a director is not known to go by a word; "" when it does.
func lacks(t core.Holding, holds bool) string {
	switch {
	case !holds:
		return "has not said that it has it, may still answer"
	case t.State == core.EmergencySkipped || t.State == core.EmergencyOver || t.State == core.EmergencyUndrained:
		return "has it, and it is " + t.State.String() + " there"
	case t.State == core.EmergencyUnknown:
		return "has it, and has not judged it yet"
	case !t.Answered:
		return "has it, but not in its answers and on its disk yet"
	default:
		return ""
	}
}

// views shows the words for people. By the emergencies' own goroutine.
func (e *emergencies) views(f *inForce, now time.Time) []api.Override {
	var out []api.Override
	for _, j := range e.judged {
		if f.sealed.Plan.Settles(j.Word) || j.Word.GetEnds() != "" {
			continue
		}
		v := overrideView(j.Override(f.sealed.Plan), now)
		has, missing := e.standing(f, j.Word.Sum, nil, now)
		v.Revision, v.Overdue = 0, false
		v.Emergency = &api.EmergencyState{
			Operator: j.Word.GetOperator(), Counter: j.Word.GetCounter(), State: j.State.String(), Why: j.Why, Has: has, Missing: missing,
		}
		out = append(out, v)
	}
	return out
}

// describeEmergencies shows them beside the plan's overrides.
func (d *Director) describeEmergencies(ctx context.Context, out *api.Status, f *inForce) {
	if d.mute != nil {
		return
	}
	var unsaved string
	var views []api.Override
	if err := d.words.inspect(ctx, func(now time.Time) {
		views, unsaved = d.words.views(f, now), d.words.unsaved
	}); err != nil {
		return
	}
	if unsaved != "" {
		out.Alerts = append(out.Alerts, "emergency drains are not on this director's disk: "+unsaved)
	}
	for _, v := range views {
		out.Overrides = append(out.Overrides, v)
		switch e := v.Emergency; e.State {
		case core.EmergencyInForce.String():
			if len(e.Missing) > 0 {
				out.Alerts = append(out.Alerts, fmt.Sprintf("emergency drain of %s: not in force on all directors: %s", v.Scope, missingText(e.Missing)))
			}
		case core.EmergencySkipped.String():
			out.Alerts = append(out.Alerts, fmt.Sprintf("emergency drain of %s is skipped: %s", v.Scope, e.Why))
		}
	}
}

func missingText(list []api.Missing) string {
	parts := make([]string, len(list))
	for i, m := range list {
		parts[i] = m.Director + " " + m.Why
	}
	return strings.Join(parts, "; ")
}
