package core

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// Known is a plan that some director says it holds.
type Known struct {
	// Director that holds it; "": nobody says so any more, this director only
	// remembers.
	Director string
	Identity plan.Identity
	// Store says that it is what the store holds, which with Force may be written over:
	// another fleet's, or one whose spec is lost.
	Store bool
}

// Recover makes the plan that replaces a lost, restored or emptied store: what
// this director holds, with the epoch and the revision above all that are known
// (SEMANTICS, "Store lost"), those of audit records too. It refuses on a director that
// does not hold the highest plan that anybody holds, and says which does. One that is
// only remembered is given up, and said to be: else a fleet that lost it for good could
// never be recovered.
func Recover(s State, c Command, audited uint64, known ...Known) (Change, error) {
	if s.Plan == nil {
		return Change{}, &Refusal{Reason: "this director holds no plan to recover from", Remedy: "run `divert store recover` on one that does, or `divert restore FILE`"}
	}
	if s.Doc == nil && s.Plan.Plan.GetSpec() != nil {
		return Change{}, &Refusal{Reason: "this director holds the plan without its spec", Remedy: "run `divert store recover` on one that has both"}
	}
	if err := checkCommand(c); err != nil {
		return Change{}, err
	}
	w := begin(s, c)
	given, err := w.above(audited, known)
	if err != nil {
		return Change{}, err
	}
	w.doc = s.Doc // a new store has no chunk of it, nor of what was before or is tried
	mine := s.Plan.Identity
	w.what = fmt.Sprintf("recover the store from plan %d.%d: epoch %d", mine.Epoch, mine.Revision, w.next.GetEpoch()) + given +
		w.alone() + w.standStill("the store was lost, and what was seen before counts no more")
	w.done = w.what
	if given != "" {
		if err := w.anew("it gives up a plan that others may hold"); err != nil {
			return Change{}, err
		}
	}
	return w.finish()
}

// alone has the next plan name no document but the one that comes with it, and says
// what that ends.
func (w *work) alone() (said string) {
	w.next.Previous = nil
	if r := w.next.Soaking(); r != nil {
		said = fmt.Sprintf("; what %s tried since revision %d is taken back", list(r.GetOn()), r.GetRevision())
		w.endRollout()
	}
	return said
}

// stillFor is for how long at least a drain in steps waits, after a store came back, for
// who takes over to be seen well: directors that begin anew need a while.
const stillFor = 5 * time.Minute

// standStill has drains in steps go on only where who takes over is seen well again, and
// every registered director has acknowledged the plan that came back: what was seen and
// acknowledged before says nothing of it. Those that do not go on are rolled back. The IDs
// of their next writes, and of a turn-over of keys, are none that a store may know, from a plan that was given up.
func (w *work) standStill(why string) (said string) {
	if t := w.next.GetGossipKey().GetTurn(); t != nil {
		t.Revision = w.next.GetRevision() // the next phase's ID follows from it
	}
	var held []string
	for _, o := range w.next.GetOverrides() {
		p := o.GetPace()
		if p == nil {
			continue
		}
		p.Writes = max(p.GetWrites(), uint32(w.next.GetRevision())) // each write took a revision of its own
		wait := p.GetWait().AsDuration()
		switch p.GetState() {
		case plan.Pace_MOVING:
			p.State, p.Why = plan.Pace_HELD, why
			held = append(held, fmt.Sprintf("%s, %s moved", o.GetScope(), moved(o)))
			wait = max(wait, stillFor)
		case plan.Pace_HELD:
			wait = max(wait, stillFor)
		case plan.Pace_RETURNING, plan.Pace_ROLLING_BACK:
		default:
			continue
		}
		p.Since, p.Next, p.Revision = timestamppb.New(w.s.Now), timestamppb.New(w.s.Now.Add(wait)), w.next.GetRevision()
	}
	if len(held) == 0 {
		return ""
	}
	return "; held until who takes over is seen well: the drain of " + strings.Join(held, ", of ")
}

// above takes the epoch and the revision above all that are known, or refuses; given
// says what is given up.
func (w *work) above(audited uint64, known []Known) (given string, err error) {
	mine := w.s.Plan.Identity
	best := Known{Identity: mine}
	epoch, revision := mine.Epoch, max(mine.Revision, audited)
	for _, k := range known {
		switch {
		case k.Identity.IsZero():
			continue
		case k.Identity.Fleet != mine.Fleet && k.Store && w.c.Force:
			w.forced = true
			given += fmt.Sprintf("; the store held plan %d.%d of fleet %s, which is written over", k.Identity.Epoch, k.Identity.Revision, k.Identity.Fleet)
			continue // its counters are not ours
		case k.Identity.Fleet != mine.Fleet:
			return "", &Refusal{
				Reason: fmt.Sprintf("%s holds a plan of fleet %s, this director one of %s", holder(k), k.Identity.Fleet, mine.Fleet),
				Remedy: "one of the two is connected to the wrong fleet: correct that first", Force: k.Store,
			}
		case k.Store && k.Identity.Compare(mine) > 0 && w.c.Force:
			w.forced = true
			given += fmt.Sprintf("; plan %d.%d, which the store held, is given up", k.Identity.Epoch, k.Identity.Revision)
		case k.Director == "" && !k.Store:
			if k.Identity.Compare(mine) > 0 {
				given += fmt.Sprintf("; plan %d.%d, known here once and held by nobody who answers, is given up", k.Identity.Epoch, k.Identity.Revision)
			}
		case k.Identity.Compare(best.Identity) > 0:
			best = k
		}
		epoch, revision = max(epoch, k.Identity.Epoch), max(revision, k.Identity.Revision)
	}
	if best.Identity.Compare(mine) > 0 {
		r := &Refusal{Reason: fmt.Sprintf("%s holds plan %d.%d, this director only %d.%d", holder(best), best.Identity.Epoch, best.Identity.Revision, mine.Epoch, mine.Revision)}
		if r.Remedy = "run `divert store recover` on " + best.Director; w.c.Verb == Restore {
			r.Remedy = "run `divert restore` on " + best.Director
		}
		if best.Store {
			r.Remedy, r.Force = "wait until a director that holds it is back, or until this one has it", true
		}
		return "", r
	}
	w.next.Epoch, w.next.Revision = epoch+1, revision+1
	return given, nil
}

func holder(k Known) string {
	switch {
	case k.Store:
		return "the store"
	case k.Director == "":
		return "this director's disk"
	default:
		return k.Director
	}
}

// Saved is what a backup holds of intent.
type Saved struct {
	Plan    *plan.Sealed
	Doc     *plan.SpecDoc
	Audited uint64 // highest revision of an audit record of its
	Vault   bool   // it has the ciphertexts of the secrets that its plan names
}

// Restored makes the plan that brings a backup back, one epoch on.
//
// A fleet that holds a plan gets the backup's spec, by the rules of `apply --prune`: who
// is registered is a matter of now (S6), and a drain of today ends by its own end (S18);
// neither is taken from an old file. A director without a plan, in a fleet that has lost
// everything, takes all of it: roster, drains that are not over, and spec. It must be in
// that roster with its key; with Force it takes the place of its name there.
func Restored(s State, c Command, b Saved, me Director, audited uint64, known ...Known) (Change, error) {
	if err := checkCommand(c); err != nil {
		return Change{}, err
	}
	if s.Plan == nil {
		return restoreAll(s, c, b, me, audited, known)
	}
	from := b.Plan.Identity
	w := begin(s, c)
	if mine := s.Plan.Identity; from.Fleet != mine.Fleet {
		if !c.Force {
			return Change{}, &Refusal{
				Reason: fmt.Sprintf("the backup is of fleet %s, this director is of fleet %s", from.Fleet, mine.Fleet),
				Remedy: "if this fleet is to have that one's spec, repeat it with --force, which is recorded", Force: true,
			}
		}
		w.forced = true
	} else if from.Compare(mine) > 0 {
		known = append(known, Known{Identity: from}) // of an epoch that was lost
	}
	w.c.Source, w.c.Prune = SourceFiles, true
	for _, o := range b.Doc.GetObjects() {
		if now := objectOf(s.Doc, o.GetKind(), o.GetName()); !o.GetRemoved() && o.GetSource() == SourceFiles && (now == nil || now.GetSource() == SourceFiles) {
			w.c.Objects = append(w.c.Objects, spec.Raw{Kind: o.GetKind(), Name: o.GetName(), JSON: o.GetJson()})
		}
	}
	forced := w.forced
	if err := w.apply(); err != nil {
		return Change{}, err
	}
	if err := w.stranded(); err != nil {
		return Change{}, err
	}
	if err := w.interlocked(); err != nil {
		return Change{}, err
	}
	w.forced = w.forced || forced
	if w.noop {
		w.done = fmt.Sprintf("nothing to restore: the spec of the backup, plan %d.%d, is in force", from.Epoch, from.Revision)
		return w.finish()
	}
	given, err := w.above(max(audited, b.Audited), known)
	if err != nil {
		return Change{}, err
	}
	w.what = fmt.Sprintf("restore the spec of plan %d.%d from a backup, epoch %d: %s", from.Epoch, from.Revision, w.next.GetEpoch(), w.what) + given
	w.done = w.what
	if err := w.broughtBack(); err != nil {
		return Change{}, err
	}
	return w.finish()
}

// anew has a new epoch say that it broke the glass (S16): the directors that hold a plan
// from before would else refuse what changes by it, and nobody could vouch for it, since a
// request in the plan that is left behind proves nothing.
func (w *work) anew(why ...string) error {
	if !fleetOf(w.s.Spec).TwoPersons {
		return nil
	}
	w.prev.TwoPersons = why
	return w.breakGlass(why)
}

// restoreAll begins a fleet again from a backup.
func restoreAll(s State, c Command, b Saved, me Director, audited uint64, known []Known) (Change, error) {
	if err := plan.Trusted(nil, b.Plan); err != nil {
		return Change{}, &Refusal{Reason: "the backup's plan is not to be trusted: " + err.Error()}
	}
	set, problems := spec.ResolveWith(Raws(b.Doc), nil) // it was checked when it was committed (S12)
	if set == nil {
		return Change{}, &Refusal{Reason: "the backup's spec cannot be read", Problems: problems}
	}
	s.Plan, s.Doc, s.Spec = b.Plan, b.Doc, steer.Narrow(set, b.Plan.Plan, false)
	w := begin(s, c)
	given, err := w.above(max(audited, b.Audited), known)
	if err != nil {
		return Change{}, err
	}
	if err := w.seat(me); err != nil {
		return Change{}, err
	}
	w.doc = b.Doc                            // the backup has no other that its plan names
	if n := len(w.next.GetTokens()); n > 0 { // some may have been revoked since
		w.next.Tokens = nil
		w.prev.Warnings = append(w.prev.Warnings, fmt.Sprintf("does not come back: %s of access, since one may have been revoked after the backup; make them anew", count(n, "token")))
	}
	// Which gossip keys there were then says nothing of those that the files have now, and a
	// turn-over to one that nobody has any more would wait for ever.
	w.next.GossipKey = nil
	if n := len(w.next.GetSecrets()); n > 0 && !b.Vault {
		w.next.Secrets = nil
		w.prev.Warnings = append(w.prev.Warnings, fmt.Sprintf("does not come back: %s of the fleet, whose ciphertexts the backup has not; set them anew", count(n, "secret")))
	}
	w.what = fmt.Sprintf("restore fleet %s from a backup, plan %d.%d: epoch %d, with %s and %s", b.Plan.Identity.Fleet, b.Plan.Identity.Epoch, b.Plan.Identity.Revision,
		w.next.GetEpoch(), count(len(w.next.Active()), "director"), count(len(w.next.GetOverrides()), "override")) + given +
		w.alone() + w.standStill("it came back from a backup, and what was seen before counts no more")
	w.done = w.what
	w.tellBack()
	if err := w.anew("it begins the fleet again from a backup"); err != nil {
		return Change{}, err
	}
	return w.finish()
}

// tellBack names what of people's intent comes back with a backup: it may be long over. A
// drain past its end is ended by the leader, and only onto a site that is seen well (S18).
func (w *work) tellBack() {
	for _, o := range w.next.GetOverrides() {
		if o.GetAuthor() == SpecAuthor {
			continue
		}
		end, until := o.GetEnd().AsTime(), "until "
		if !w.s.Now.Before(end) {
			until = "past its end, which the leader ends once it may: it was "
		}
		w.prev.Warnings = append(w.prev.Warnings, fmt.Sprintf("comes back: %s of %s by %s (%s), %s%s",
			strings.ToLower(o.GetKind().String()), o.GetScope(), o.GetAuthor(), o.GetReason(), until, end.UTC().Format(time.RFC3339)))
	}
	if p := w.next.GetPolicy(); p != nil {
		w.prev.Warnings = append(w.prev.Warnings, fmt.Sprintf("comes back: policy %s, adopted by %s (%s)", shortHash(p.GetBundle()), p.GetAuthor(), p.GetReason()))
	}
	for _, s := range w.next.GetSwitches() {
		if s.GetOn() {
			w.prev.Warnings = append(w.prev.Warnings, fmt.Sprintf("comes back: switch %s is on, by %s (%s)", s.GetName(), s.GetAuthor(), s.GetReason()))
		}
	}
}

// seat finds the restoring director in the roster of a backup.
func (w *work) seat(me Director) error {
	entry := w.next.Director(me.Name)
	if entry != nil && entry.GetStanding() == plan.Director_ACTIVE && slices.Equal(entry.GetKey(), me.Key) {
		return nil
	}
	if other := w.next.Holder(me.Key); other != nil {
		return &Refusal{Reason: fmt.Sprintf("the backup's roster gives this director's key to %s", other.GetName()), Remedy: "set name: in its settings to that"}
	}
	if !w.c.Force {
		reason := fmt.Sprintf("the backup's roster has no director %s", me.Name)
		if entry != nil {
			reason = fmt.Sprintf("the backup's roster has another key for %s than this director, whose old one may be lost with its disk", me.Name)
		}
		return &Refusal{Reason: reason, Remedy: "bring its key back (identity.json in its data folder), or repeat it with --force: this director then takes that place, which is recorded", Force: true}
	}
	w.forced = true
	w.prev.Warnings = append(w.prev.Warnings, me.Name+" takes its place in the roster with the key of now")
	if entry == nil {
		entry = &plan.Director{Name: me.Name}
		w.next.Roster = append(w.next.Roster, entry)
	}
	entry.Key, entry.Gossip, entry.Site, entry.Standing = slices.Clone(me.Key), me.Gossip, siteOr(me.Site, me.Name), plan.Director_ACTIVE
	return nil
}
