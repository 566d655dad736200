package director

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
)

// untrusted says why a plan in the store is not taken here, though it is of our fleet
// and not older than what is known; "" = it is.
func untrusted(cur *inForce, found *plan.Sealed) string {
	if cur == nil || found.Identity.Compare(cur.sealed.Identity) < 0 {
		return ""
	}
	if err := follows(cur.sealed, found); err != nil {
		return "the store holds a plan that is not to be trusted: " + err.Error() + "; if none of this fleet's directors wrote it, run `divert store recover --force`"
	}
	return ""
}

// specless says that the spec of the plan in the store is lost there; "" = it is not,
// or the store did not answer.
func specless(cur *inForce, found *plan.Sealed, err error) string {
	var missing *store.Missing
	if err == nil || !errors.As(err, &missing) && !errors.Is(err, store.ErrUnreadable) {
		return ""
	}
	out := fmt.Sprintf("the store holds plan %d.%d, and its spec is lost (%v): a director that holds it brings it back within a minute", found.Identity.Epoch, found.Identity.Revision, err)
	if cur != nil {
		out += fmt.Sprintf("; if none does, `divert store recover --force` goes on from plan %d.%d", cur.sealed.Identity.Epoch, cur.sealed.Identity.Revision)
	} else {
		out += "; if none does, `divert restore FILE` brings a backup back"
	}
	return out
}

// recover puts a store right: what needs no new plan is mended, and a store that was
// lost, restored, replaced or damaged gets the highest plan again, under the next
// epoch (F25). A zero Identity: the plan stays as it was.
func (c *commander) recover(ctx context.Context, author string, force bool) (id plan.Identity, did []string, err error) {
	cur := c.horizon.current()
	if cur == nil {
		return id, nil, &core.Refusal{Reason: errNoPlan.Error(), Remedy: "run it on a director that holds one, or bring a backup back with `divert restore FILE`"}
	}
	if err := c.maySign(ctx); err != nil {
		return id, nil, err
	}
	before := c.horizon.known()
	in, err := c.store.Inspect(ctx)
	if err != nil {
		return id, nil, unavailable(err)
	}
	var moved *store.Moved
	snap := in.Snapshot
	switch {
	case force || in.PlanErr == nil:
	case errors.As(in.PlanErr, &moved), errors.Is(in.PlanErr, plan.ErrNewer):
		return id, nil, &core.Refusal{Reason: unread(snap, in.PlanErr), Remedy: "`divert store recover --force` writes this director's plan over it all the same", Force: true}
	}
	if snap.Sealed == nil || snap.Sealed.Identity.Fleet == cur.sealed.Identity.Fleet { // else nothing there is ours
		if did, err = c.store.Mend(ctx, in, c.vault.with(cur, c.policies.with(cur))); err != nil {
			return id, did, unavailable(err)
		}
	}
	known := append(c.horizon.heard(), core.Known{Identity: c.horizon.known()})
	if snap.Sealed != nil {
		if c.inOrder(before, cur, in) {
			if len(did) == 0 {
				return id, nil, &core.Refusal{Reason: fmt.Sprintf("the store holds plan %d.%d and is in order: there is nothing to recover", snap.Sealed.Identity.Epoch, snap.Sealed.Identity.Revision)}
			}
			return id, did, nil
		}
		known = append(known, core.Known{Director: "the store", Store: true, Identity: snap.Sealed.Identity})
	}
	cmd := core.Command{ID: newID(), Verb: core.RecoverStore, Author: author, Reason: "the store was lost, restored or replaced", Force: force}
	cur = cur.stable()
	change, err := core.Recover(core.State{Plan: cur.sealed, Doc: cur.doc, Spec: cur.spec, Places: c.earth().placesFor, Now: c.now(), Me: c.name, CheckZone: c.horizon.texts.check}, cmd, in.Last, known...)
	if err != nil {
		return id, did, err
	}
	change.Bundle, change.Vault = c.policies.octets(change.Plan), c.vault.at(change.Plan)
	fresh := store.Snapshot{ModRevision: snap.ModRevision, StoreRevision: snap.StoreRevision, Sealed: cur.sealed}
	id, err = c.write(ctx, fresh, cur, change, cmd, nil)
	return id, append(did, change.Summary), err
}

// inOrder tells whether the plan in the store may stay as it is. Known is what was known
// before it was read.
func (c *commander) inOrder(known plan.Identity, cur *inForce, in store.Inspection) bool {
	found := in.Snapshot.Sealed
	switch {
	case core.Foreign(known, found.Identity) != "", untrusted(cur, found) != "", c.librarian.refusals.of(found.Identity) != "":
		return false
	case in.Last > found.Identity.Revision:
		return false // no command could be written past that record
	case cur.sealed.Identity == found.Identity:
		return true // what it lacked was at hand
	default:
		return len(in.Missing) == 0 && len(in.Damaged) == 0
	}
}

// Recover is `divert store recover`.
func (d *Director) Recover(ctx context.Context, force bool) (api.Outcome, error) {
	id, did, err := d.commander.recover(ctx, api.User(ctx), force)
	if err != nil {
		return refused("", err), nil
	}
	out := api.Outcome{Summary: strings.Join(did, "; ")}
	if id.IsZero() {
		return out, nil
	}
	out.Summary, out.Revision = fmt.Sprintf("the store holds plan %d.%d: %s", id.Epoch, id.Revision, out.Summary), id.Revision
	return d.awaitBack(ctx, id, out), nil
}

// backWait is for how long a plan that comes back waits for the others to have it: some
// of them may be what was lost.
const backWait = 10 * time.Second

func (d *Director) awaitBack(ctx context.Context, id plan.Identity, out api.Outcome) api.Outcome {
	ctx, cancel := context.WithTimeout(ctx, backWait)
	defer cancel()
	return d.await(ctx, id, out, nil)
}

// CheckStore is `divert store check`.
func (d *Director) CheckStore(ctx context.Context) (api.StoreReport, error) {
	known, cur := d.horizon.known(), d.horizon.current()
	in, err := d.store.Inspect(ctx)
	if err != nil {
		return api.StoreReport{}, unseen(err)
	}
	var odd []audit.Finding
	collected, err := d.alteredInStore(ctx, func(f audit.Finding) {
		if !slices.Contains(in.BadAudits, f.Revision) && len(odd) < maxFindings {
			odd = append(odd, f)
		}
	})
	if err != nil {
		return api.StoreReport{}, unseen(err)
	}
	out := reportOf(in.Without(collected), known, cur)
	for _, f := range odd {
		out.Findings = append(out.Findings, api.Finding{What: "the audit log: " + f.String(), Remedy: "nothing reads it there any more: `divert audit` shows what was sealed; find out who can write to etcd"})
	}
	return out, nil
}

// reportOf says what an inspection means to a director.
func reportOf(in store.Inspection, known plan.Identity, cur *inForce) api.StoreReport {
	out := api.StoreReport{Blobs: in.Blobs, Audits: in.Audits, LastAudit: in.Last, Findings: []api.Finding{}}
	find := func(what, remedy string) {
		out.Findings = append(out.Findings, api.Finding{What: what, Remedy: remedy})
	}
	found := in.Snapshot.Sealed
	const again = "divert store recover"
	switch {
	case in.PlanErr != nil:
		find(unread(in.Snapshot, in.PlanErr), "")
	case found == nil && known.IsZero():
		find("the store is empty, and no plan is known here", "divert store init, or divert restore FILE")
	case found == nil:
		find(fmt.Sprintf("the store is empty, but plan %d.%d is known: it was lost or replaced", known.Epoch, known.Revision), again)
	default:
		out.Plan = fmt.Sprintf("%d.%d", found.Identity.Epoch, found.Identity.Revision)
		problem := core.Foreign(known, found.Identity)
		if problem == "" {
			problem = untrusted(cur, found)
		}
		if problem != "" {
			find(problem, "")
		}
	}
	if n := len(in.Missing); n > 0 {
		find(fmt.Sprintf("%d of the %d pieces of the spec are missing", n, in.Blobs), again+" on a director that holds the plan (it writes them by itself within a minute)")
	}
	if n := len(in.Damaged); n > 0 {
		find(fmt.Sprintf("%d of the %d pieces of the spec are damaged", n, in.Blobs), again+" on a director that holds the plan")
	}
	if len(in.NoPolicy) > 0 {
		find("the policy's bundle is missing or damaged: people's commands are refused", again+" on a director that has it (it writes it by itself within a minute), or divert policy adopt DIR")
	}
	if len(in.NoVault) > 0 {
		find("the ciphertexts of the fleet's secrets are missing or damaged: directors go on with those on their disks", again+" on a director that has them (it writes them by itself within a minute); if none does, divert secrets remove NAME --force takes out all that are lost, to be set anew")
	}
	if found != nil && in.Last > found.Identity.Revision {
		find(fmt.Sprintf("the audit log has a record of revision %d, past the plan's %d: no command can be committed there", in.Last, found.Identity.Revision), again)
	}
	const audit = "divert restore FILE --audit puts back what a backup has; else it stays lost"
	for _, g := range in.Gaps {
		text := fmt.Sprintf("the audit log has no record of revision %d", g[0])
		if g[1] > g[0] {
			text = fmt.Sprintf("the audit log has no records of revisions %d to %d", g[0], g[1])
		}
		find(text+": deleted, or lost with a store that was recovered since", audit)
	}
	for _, r := range in.BadAudits {
		find(fmt.Sprintf("the audit record of revision %d cannot be read: it was damaged or edited", r), audit)
	}
	if in.OtherAudit {
		find(fmt.Sprintf("the audit record of revision %d is of another plan than the one in the store: one of the two was edited", found.Identity.Revision), "compare it with a backup")
	}
	for _, id := range in.BadResults {
		find(fmt.Sprintf("the stored result of command %q cannot be read: the command cannot be repeated under that ID", id), again)
	}
	for _, key := range in.StrayVotes {
		find(fmt.Sprintf("the candidate's key %q has no lease, so that it keeps others from leading for ever", key), again)
	}
	return out
}
