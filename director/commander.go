package director

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/resolve"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/election"
	"github.com/divertdns/divert/health"
)

// commander commits changes of intent: a person's from whichever director
// receives them, and the leader's own under its fence (S4). It holds no state but a
// memo: every attempt begins with a linearizable read.
type commander struct {
	name      string
	key       ed25519.PrivateKey
	store     *store.Store
	librarian *librarian
	horizon   *horizon
	resolver  *resolve.Resolver
	states    func(context.Context) (certified, observed map[health.Subject]health.State, err error)
	// gates gives what drains in steps wait for: those of a plan, and one of a further scope.
	gates    func(ctx context.Context, set *spec.Set, p *plan.Plan, scope string) (acks map[string]plan.Identity, fresh map[health.Subject]bool)
	seen     func(context.Context) map[string]core.Seen // what is known of the others: for the end of a rollout
	earth    func() *earth
	clock    func(context.Context) string // why this director's clock is not to be trusted; "" = it is (F15)
	log      *slog.Logger
	now      func() time.Time
	loads    func() *core.Loads
	rings    func() map[string]core.KeyRing  // what directors that are heard say of their gossip keys
	readers  func() map[string]uint32        // what directors that gossip can read of plans
	prepared *atomic.Pointer[steer.Prepared] // the loop's; holds nil before its first decision
	policies *policies
	vault    *coffer

	turn     chan struct{} // capacity 1: a slot for a large command of a person, or this director's files
	deciding sync.Mutex
	memo     core.Memo // what decisions have in common
}

// attempts bounds the races lost to other commands before a person is told;
// after each the wait may be twice as long, so that a crowd thins out.
const (
	attempts  = 10
	raceFirst = 5 * time.Millisecond
	hastyTick = 50 * time.Millisecond // how often who must not write yet looks whether it may
)

// commit decides and writes one command. A Noop or a dry run writes nothing and
// has a zero Identity.
func (c *commander) commit(ctx context.Context, cmd core.Command, term *election.Term) (core.Change, plan.Identity, error) {
	for i := range attempts {
		for c.horizon.hasty() && !cmd.DryRun {
			if !pause(ctx, hastyTick) {
				break
			}
		}
		change, id, err := c.attempt(ctx, cmd, term)
		if !errors.Is(err, store.ErrConflict) {
			return change, id, err
		}
		// Somebody else's plan came between: read and decide again.
		if !pause(ctx, rand.N(raceFirst<<i)) {
			break
		}
	}
	return core.Change{}, plan.Identity{}, &core.Refusal{Reason: "other commands kept coming between", Remedy: "try again"}
}

func (c *commander) attempt(ctx context.Context, cmd core.Command, term *election.Term) (core.Change, plan.Identity, error) {
	if err := c.maySign(ctx); err != nil {
		return core.Change{}, plan.Identity{}, err
	}
	readCtx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	unsure, known := c.horizon.unsure() && !cmd.DryRun, c.horizon.known()
	snap, result, err := c.store.ReadFor(readCtx, cmd.Settles())
	switch {
	case result != nil && answers(result, cmd):
		// The same ID again is the same command: its outcome is what it was.
		return done(result, cmd)
	case err != nil && (snap.ModRevision != 0 || errors.Is(err, store.ErrUnreadable)):
		return core.Change{}, plan.Identity{}, &core.Refusal{Reason: unread(snap, err)}
	case err != nil:
		return core.Change{}, plan.Identity{}, unavailable(err)
	}
	base, err := c.base(ctx, known, snap)
	if err == nil && unsure {
		err = c.unlistened()
	}
	if err != nil {
		return core.Change{}, plan.Identity{}, err
	}
	states, observed, err := c.states(ctx)
	if err != nil {
		return core.Change{}, plan.Identity{}, err
	}
	wish, err := c.policies.requested(ctx, base.sealed.Plan, cmd)
	if err != nil {
		return core.Change{}, plan.Identity{}, err
	}
	on := c.earth()
	s := core.State{
		Bundle: wish.Bundle, Plan: base.sealed, Doc: base.doc, Spec: base.spec, States: states, Observed: observed,
		Trial: trialOf(base), Previous: c.previous(ctx, base, wish),
		Places: on.placesFor, Census: on.censusFor, Now: c.now(), Me: c.name, CheckZone: c.horizon.texts.check, Prepared: c.prepared.Load(), Loads: c.loads(),
	}
	if term == nil || cmd.Verb == core.Spill { // what else the leader has to do follows from what people did
		s.Readers = c.readers()
	}
	if wish.Paced || cmd.Verb == core.Step {
		s.Acks, s.Fresh = c.gates(ctx, base.spec, base.sealed.Plan, wish.Scope)
	}
	switch wish.Verb {
	case core.KeyRotate, core.KeyBack, core.KeyStep:
		s.Rings = c.rings()
	}
	if err := c.vault.inform(ctx, wish, &s); err != nil {
		return core.Change{}, plan.Identity{}, err
	}
	if wish.Verb == core.GoOn {
		s.Seen = c.seen(ctx)
	}
	if cmd.Verb == core.Approve {
		s.Resided = c.residedBy(ctx, base, s, cmd, wish)
	}
	change, err := c.decide(s, cmd)
	if err == nil && term == nil {
		wish.DryRun = cmd.DryRun // what is approved is judged as it is carried out
		change, err = c.policies.both(ctx, judged{base: base, change: change, cmd: wish, state: s}.by(cmd), func(s core.State) (core.Change, error) { return c.decide(s, cmd) })
	}
	if err != nil || change.Noop || cmd.DryRun {
		return change, plan.Identity{}, err
	}
	if err := c.vault.compose(ctx, base.sealed.Plan, &change); err != nil {
		return change, plan.Identity{}, err
	}
	id, err := c.write(ctx, snap, base, change, cmd, term)
	return change, id, err
}

// residedBy asks the policy of residency before what waits for a second person is decided:
// what it says is a part of what was asked for. What goes wrong here does so when it is
// decided, too, and is told then.
func (c *commander) residedBy(ctx context.Context, base *inForce, s core.State, cmd, wish core.Command) *core.Resided {
	cmd.DryRun, wish.DryRun = true, true
	change, err := c.decide(s, cmd)
	if err != nil {
		return nil
	}
	resided, _, err := c.policies.reside(ctx, judged{base: base, change: change, cmd: wish, state: s}.by(cmd))
	if err != nil {
		return nil
	}
	return resided
}

// decide decides one command at a time: those that come together are about one
// plan, and only one of them can be written.
func (c *commander) decide(s core.State, cmd core.Command) (core.Change, error) {
	c.deciding.Lock()
	defer c.deciding.Unlock()
	s.Memo = &c.memo
	change, err := core.Decide(s, cmd)
	if change.Doc != nil || change.Trial != nil {
		c.memo = core.Memo{} // of a spec that goes, and may be large
	}
	return change, err
}

// maySign refuses on a director whose clock is off (F15).
func (c *commander) maySign(ctx context.Context) error {
	if why := c.clock(ctx); why != "" {
		return &core.Refusal{Reason: "this director may not sign: " + why, Remedy: "set its clock, or give the command to another director with --server"}
	}
	return nil
}

// outside refuses where this director's key is not in the roster of the plan in the store,
// as before it was approved; nil where it is.
func (c *commander) outside(cur *plan.Sealed) *core.Refusal {
	if cur == nil || cur.Plan.Holder(c.key.Public().(ed25519.PublicKey)) != nil {
		return nil
	}
	if e := cur.Plan.Director(c.name); e != nil && e.GetStanding() == plan.Director_ACTIVE {
		return &core.Refusal{
			Reason: "this director has another key than the roster says of " + c.name + ": no other takes what it writes",
			Remedy: "give the command to another director with --server; there, `divert director remove " + c.name + "` and `approve` take this one in",
		}
	}
	return &core.Refusal{
		Reason: "this director, " + c.name + ", is not in the roster: no other takes what it writes",
		Remedy: "give the command to another director with --server; there, `divert director approve " + c.name + "` takes this one in",
	}
}

// write signs and commits the next plan, then takes it into force here. Base is what
// it was decided on; nil for the first plan.
func (c *commander) write(ctx context.Context, snap store.Snapshot, base *inForce, change core.Change, cmd core.Command, term *election.Term) (plan.Identity, error) {
	docs, chunks, held, err := written(base, &change)
	if err != nil {
		return plan.Identity{}, err
	}
	var bundle [][]byte
	if change.Bundle != nil {
		bundle = change.Split(store.Split)
	}
	if change.Vault != nil {
		var vault [][]byte
		vault, change.Plan.Vault = store.Split(change.Vault)
		bundle = append(bundle, vault...)
	}
	change.Vouch(c.key)
	sealed, err := plan.Sign(change.Plan, c.name, c.key)
	if err != nil {
		return plan.Identity{}, err
	}
	if err := follows(snap.Sealed, sealed); err != nil {
		if r := c.outside(snap.Sealed); r != nil {
			return plan.Identity{}, r
		}
		return plan.Identity{}, fmt.Errorf("the next plan would be refused: %w", err)
	}
	if err := plan.Trusted(nil, sealed); err != nil {
		return plan.Identity{}, &core.Refusal{
			Reason: "a director that begins without a plan could not tell who signed this one, since it takes its own writer's key out of the roster",
			Remedy: "give the command to another director with --server",
		}
	}
	next, err := c.horizon.texts.prepareAfter(c.horizon.newest(), sealed, docs...)
	if err != nil {
		return plan.Identity{}, err
	}
	if err := lacksPerson(base, next, true); err != nil {
		return plan.Identity{}, fmt.Errorf("the next plan would be refused: %w", err)
	}
	if err := c.trial(next); err != nil {
		return plan.Identity{}, &core.Refusal{Reason: "no table can be made of it: " + err.Error()}
	}
	mine := next.on(c.name)
	learn(ctx, c.resolver, mine)
	change.Audit.Plan = sealed.Identity.Hash[:]
	result := resultOf(change, cmd, sealed)
	stored, err := c.store.Commit(ctx, store.Commit{
		Parent: snap.ModRevision, Next: sealed, Chunks: chunks, Held: held, Policy: bundle, Audit: change.Audit, Result: result, Leader: term,
		Read: snap.StoreRevision, Interlocks: interlockKeys(base, change, cmd),
	})
	var unknown *store.UnknownOutcome
	switch {
	case errors.Is(err, store.ErrDone) && string(stored.GetPlan()) == string(sealed.Identity.Hash[:]):
		// Our own earlier try went through after all.
	case errors.Is(err, store.ErrDone):
		// Done by way of another director: that one's plan is in force, not this.
		return plan.Identity{}, store.ErrConflict
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrNotLeader), errors.As(err, &unknown):
		return plan.Identity{}, err
	case err != nil:
		return plan.Identity{}, notWritten(err)
	}
	if base == nil {
		c.horizon.begun()
	}
	c.librarian.found(mine)
	c.log.Info("plan written", slog.Uint64("epoch", sealed.Identity.Epoch), slog.Uint64("revision", sealed.Identity.Revision),
		slog.String("what", change.Summary), slog.String("who", change.Audit.GetWho()), slog.String("why", change.Audit.GetWhy()))
	return sealed.Identity, nil
}

// interlockKeys gives the keys of interlocks that a change moves; all there are, of the
// first plan and of one for a store that may have none of them.
func interlockKeys(base *inForce, change core.Change, cmd core.Command) map[string][]byte {
	switch {
	case base == nil:
		return core.InterlockChanges(change, nil, nil)
	case cmd.Verb == core.RecoverStore:
		return core.InterlockChanges(change, nil, base.doc)
	default:
		return core.InterlockChanges(change, base.sealed.Plan, base.doc)
	}
}

// trial makes the table that the directors would answer from: what cannot be
// compiled must not be committed, or the whole fleet would stay behind.
func (c *commander) trial(f *inForce) error {
	cur := c.horizon.current()
	for _, side := range []*inForce{f, f.trial} {
		if side == nil || cur.knows(side) {
			continue // the same resources were compiled before
		}
		fit := c.earth().fit(side.spec)
		decision := steer.Decide(steer.Input{Spec: side.spec, Plan: side.sealed.Plan, Places: fit.places})
		if err := core.CheckAnswers(side.spec, side.sealed.Plan, fit.places); err != nil {
			return err
		}
		if _, err := fit.compile(answer.Options{Zones: new(describer).describe(side, decision), Plan: side.sealed.Identity.String()}); err != nil {
			return err
		}
	}
	return nil
}

// written gives the documents of the next plan, in the order of plan.Specs, and their
// chunks: always all of them, for a store that has lost one gets it back, and those that
// it has are not sent again. It puts their references into the plan. Held: they are those
// of the plan that was read.
func written(base *inForce, change *core.Change) (docs, chunks [][]byte, held bool, err error) {
	add := func(doc *plan.SpecDoc) (*plan.SpecRef, error) {
		octets, err := (proto.MarshalOptions{Deterministic: true}).Marshal(doc)
		if err != nil {
			return nil, fmt.Errorf("encoding the spec: %w", err)
		}
		parts, ref := store.Split(octets)
		docs, chunks = append(docs, octets), append(chunks, parts...)
		return ref, nil
	}
	next := change.Plan
	if change.Doc == nil {
		docs, chunks = append(docs, base.bytes), append(chunks, base.parts()...)
	} else {
		if next.Spec, err = add(change.Doc); err != nil {
			return nil, nil, false, err
		}
		if next.Previous != nil { // see core, keepPrevious
			next.Previous.ReplacedBy = next.Spec.GetHash()
		}
	}
	switch {
	case change.Trial != nil:
		if next.Rollout.Canary, err = add(change.Trial); err != nil {
			return nil, nil, false, err
		}
	case next.Soaking() != nil:
		t := base.tried()
		docs, chunks = append(docs, t.bytes), append(chunks, t.parts()...)
	}
	if len(docs) == 1 {
		return docs, chunks, change.Doc == nil, nil
	}
	seen := map[plan.Hash]bool{} // two specs have most chunks in common
	chunks = slices.DeleteFunc(chunks, func(c []byte) bool {
		sum := plan.Sum(c)
		defer func() { seen[sum] = true }()
		return seen[sum]
	})
	return docs, chunks, change.Doc == nil && change.Trial == nil, nil
}

// done is the outcome of a command that was committed before under this ID.
func done(r *plan.Result, cmd core.Command) (core.Change, plan.Identity, error) {
	if !settles(cmd) && string(r.GetCommand()) != string(cmd.Fingerprint()) {
		return core.Change{}, plan.Identity{}, &core.Refusal{Reason: fmt.Sprintf("command ID %s was used for another command: %s", cmd.ID, r.GetSummary()), Remedy: "leave --id out"}
	}
	switch {
	case r.GetRefused() != "" && cmd.Verb != core.Deny:
		return core.Change{}, plan.Identity{}, &core.Refusal{Reason: r.GetRefused(), Remedy: "it is said anew, without --id, if it is wanted all the same"}
	case r.GetRefused() == "" && cmd.Verb == core.Deny:
		return core.Change{}, plan.Identity{}, &core.Refusal{Reason: "it is done: " + r.GetSummary(), Remedy: "undo it, as with `divert undrain`"}
	}
	id := plan.Identity{Epoch: r.GetEpoch(), Revision: r.GetRevision()}
	copy(id.Hash[:], r.GetPlan())
	return core.Change{Summary: r.GetSummary()}, id, nil
}

// unavailable turns the store's silence into a clear "no": answers and failover
// go on without it (F10).
func unavailable(err error) error {
	return &core.Refusal{
		Reason: "the store does not answer, so nothing was changed (" + err.Error() + ")",
		Remedy: "answers and failover go on without it; bring etcd back and repeat the command; what cannot wait is drained without it: `divert drain --emergency`",
	}
}

// unseen is unavailable for who only looked.
func unseen(err error) error {
	return &core.Refusal{
		Reason: "the store does not answer, so it cannot be looked at (" + err.Error() + ")",
		Remedy: "answers and failover go on without it; bring etcd back and ask again",
	}
}

// notWritten tells the store's silence from what it does not take.
func notWritten(err error) error {
	if errors.Is(err, store.ErrUnavailable) {
		return unavailable(err)
	}
	return &core.Refusal{Reason: "the store does not take this, so nothing was changed: " + err.Error()}
}

// bootstrap writes the first plan, create-if-absent.
func (c *commander) bootstrap(ctx context.Context, raws []spec.Raw, me core.Director, fleet string) error {
	known := c.horizon.known()
	snap, err := c.store.Read(ctx)
	if err != nil {
		return unavailable(err)
	}
	if snap.Sealed != nil {
		c.librarian.learn(ctx, known, snap)
		return nil
	}
	change, err := core.Bootstrap(core.State{Places: c.earth().placesFor, Now: c.now(), Me: c.name, CheckZone: c.horizon.texts.check}, raws, me, fleet)
	if err != nil {
		return err
	}
	_, err = c.write(ctx, snap, nil, change, core.Command{ID: newID(), Verb: "bootstrap"}, nil)
	if errors.Is(err, store.ErrConflict) {
		return nil // another director was first; its plan comes by the watch
	}
	return err
}

// refused makes an outcome of an error.
func refused(id string, err error) api.Outcome {
	out := api.Outcome{ID: id, Code: 1, Error: err.Error()}
	var r *core.Refusal
	var unknown *store.UnknownOutcome
	switch {
	case errors.As(err, &r):
		out.Error, out.Remedy, out.CanForce = r.Reason, r.Remedy, r.Force
	case errors.As(err, &unknown) && id == "":
		out.Code = 3
		out.Remedy = "`divert status` shows whether the plan of the next epoch is there; if not, repeat it"
	case errors.As(err, &unknown):
		out.Code = 3
		out.Remedy = "repeat it with --id " + id + ": it will not be done twice"
	case errors.Is(err, store.ErrConflict):
		out.Error, out.Remedy = "another director wrote to the store meanwhile, so nothing was changed here", "look at `divert status`, and repeat it if that is not what is wanted"
	}
	out.Summary = out.Error
	return out
}
