package director

import (
	"context"
	"crypto/ed25519"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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
	earth     func() *earth
	clock     func(context.Context) string // why this director's clock is not to be trusted; "" = it is (F15)
	log       *slog.Logger
	now       func() time.Time
	prepared  *atomic.Pointer[steer.Prepared] // the loop's; holds nil before its first decision

	turn     chan struct{} // capacity 1: a slot for a large command of a person, or this director's files
	deciding sync.Mutex
	memo     core.Memo // what decisions have in common
}

// attempts bounds the races lost to other commands before a person is told;
// after each the wait may be twice as long, so that a crowd thins out.
const (
	attempts  = 10
	raceFirst = 5 * time.Millisecond
)

// commit decides and writes one command. A Noop or a dry run writes nothing and
// has a zero Identity.
func (c *commander) commit(ctx context.Context, cmd core.Command, term *election.Term) (core.Change, plan.Identity, error) {
	for i := range attempts {
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
	known := c.horizon.known()
	snap, result, err := c.store.ReadFor(readCtx, cmd.ID)
	switch {
	case result != nil:
		// The same ID again is the same command: its outcome is what it was.
		return done(result, cmd)
	case err != nil && snap.ModRevision != 0:
		return core.Change{}, plan.Identity{}, &core.Refusal{Reason: unread(snap, err)}
	case err != nil:
		return core.Change{}, plan.Identity{}, unavailable(err)
	}
	base, err := c.base(ctx, known, snap)
	if err != nil {
		return core.Change{}, plan.Identity{}, err
	}
	states, observed, err := c.states(ctx)
	if err != nil {
		return core.Change{}, plan.Identity{}, err
	}
	change, err := c.decide(core.State{
		Plan: base.sealed, Doc: base.doc, Spec: base.spec, States: states, Observed: observed,
		Places: c.earth().placesFor, Now: c.now(), Me: c.name, CheckZone: c.horizon.texts.check, Prepared: c.prepared.Load(),
	}, cmd)
	if err != nil || change.Noop || cmd.DryRun {
		return change, plan.Identity{}, err
	}
	id, err := c.write(ctx, snap, base, change, cmd, term)
	return change, id, err
}

// decide decides one command at a time: those that come together are about one
// plan, and only one of them can be written.
func (c *commander) decide(s core.State, cmd core.Command) (core.Change, error) {
	c.deciding.Lock()
	defer c.deciding.Unlock()
	s.Memo = &c.memo
	change, err := core.Decide(s, cmd)
	if change.Doc != nil {
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

// base is the plan that the store holds, ready to decide upon: refused where the
// store is not the one known before it was read (F25), and never older than what
// is in force.
func (c *commander) base(ctx context.Context, known plan.Identity, snap store.Snapshot) (*inForce, error) {
	if snap.Sealed == nil {
		if known.IsZero() {
			return nil, &core.Refusal{Reason: errNoPlan.Error(), Remedy: "it bootstraps when all join addresses answer, or on `divert store init`"}
		}
		return nil, &core.Refusal{Reason: "the store is empty: it was lost or replaced", Remedy: "run `divert store recover`"}
	}
	if problem := foreign(known, snap.Sealed.Identity); problem != "" {
		return nil, &core.Refusal{Reason: problem}
	}
	cur := c.horizon.current()
	switch {
	case cur == nil:
	case cur.sealed.Identity == snap.Sealed.Identity:
		return cur, nil
	case cur.sealed.Identity.Fleet == snap.Sealed.Identity.Fleet && cur.sealed.Identity.Compare(snap.Sealed.Identity) > 0:
		return nil, store.ErrConflict // it came into force since the read
	default:
		if err := plan.Trusted(cur.sealed, snap.Sealed); err != nil {
			return nil, err
		}
	}
	doc, err := c.librarian.document(ctx, snap.Sealed)
	if err != nil {
		return nil, unavailable(err)
	}
	return c.horizon.texts.prepareAfter(c.horizon.newest(), snap.Sealed, doc)
}

// write signs and commits the next plan, then takes it into force here. Base is what
// it was decided on; nil for the first plan.
func (c *commander) write(ctx context.Context, snap store.Snapshot, base *inForce, change core.Change, cmd core.Command, term *election.Term) (plan.Identity, error) {
	// Always all chunks: a store that has lost one gets it back, and those that it
	// has are not sent again.
	held := change.Doc == nil
	var docBytes []byte
	var chunks [][]byte
	if held {
		docBytes, chunks = base.bytes, base.parts()
	} else {
		var err error
		if docBytes, err = (proto.MarshalOptions{Deterministic: true}).Marshal(change.Doc); err != nil {
			return plan.Identity{}, fmt.Errorf("encoding the spec: %w", err)
		}
		chunks, change.Plan.Spec = store.Split(docBytes)
	}
	sealed, err := plan.Sign(change.Plan, c.name, c.key)
	if err != nil {
		return plan.Identity{}, err
	}
	if err := plan.Trusted(snap.Sealed, sealed); err != nil {
		return plan.Identity{}, fmt.Errorf("the next plan would be refused: %w", err)
	}
	if err := plan.Trusted(nil, sealed); err != nil {
		return plan.Identity{}, &core.Refusal{
			Reason: "a director that begins without a plan could not tell who signed this one, since it takes its own writer's key out of the roster",
			Remedy: "give the command to another director with --server",
		}
	}
	next, err := c.horizon.texts.prepareAfter(c.horizon.newest(), sealed, docBytes)
	if err != nil {
		return plan.Identity{}, err
	}
	if err := c.trial(next); err != nil {
		return plan.Identity{}, &core.Refusal{Reason: "no table can be made of it: " + err.Error()}
	}
	learn(ctx, c.resolver, next)
	change.Audit.Plan = sealed.Identity.Hash[:]
	result := &plan.Result{
		Id: cmd.ID, Epoch: sealed.Identity.Epoch, Revision: sealed.Identity.Revision, Plan: sealed.Identity.Hash[:],
		Summary: change.Summary, At: change.Plan.GetWritten(), Command: fingerprint(cmd),
	}
	stored, err := c.store.Commit(ctx, store.Commit{
		Parent: snap.ModRevision, Next: sealed, Chunks: chunks, Held: held, Audit: change.Audit, Result: result, Leader: term,
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
	c.horizon.offer(next)
	c.librarian.offered.up()
	c.log.Info("plan written", slog.Uint64("epoch", sealed.Identity.Epoch), slog.Uint64("revision", sealed.Identity.Revision),
		slog.String("what", change.Summary), slog.String("who", change.Audit.GetWho()), slog.String("why", change.Audit.GetWhy()))
	return sealed.Identity, nil
}

// trial makes the table that the directors would answer from: what cannot be
// compiled must not be committed, or the whole fleet would stay behind.
func (c *commander) trial(f *inForce) error {
	if cur := c.horizon.current(); cur != nil && cur.holds(f.sealed.Plan.GetSpec()) {
		return nil // the same resources were compiled before
	}
	fit := c.earth().fit(f.spec)
	decision := steer.Decide(steer.Input{Spec: f.spec, Plan: f.sealed.Plan, Places: fit.places})
	_, err := fit.compile(answer.Options{Zones: new(describer).describe(f, decision), Plan: f.sealed.Identity.String()})
	return err
}

// done is the outcome of a command that was committed before under this ID.
func done(r *plan.Result, cmd core.Command) (core.Change, plan.Identity, error) {
	if string(r.GetCommand()) != string(fingerprint(cmd)) {
		return core.Change{}, plan.Identity{}, &core.Refusal{Reason: fmt.Sprintf("command ID %s was used for another command: %s", cmd.ID, r.GetSummary()), Remedy: "leave --id out"}
	}
	id := plan.Identity{Epoch: r.GetEpoch(), Revision: r.GetRevision()}
	copy(id.Hash[:], r.GetPlan())
	return core.Change{Summary: r.GetSummary()}, id, nil
}

// fingerprint tells two commands under one ID apart. What differs between two
// utterances of the same wish (author's label, dry run) takes no part.
func fingerprint(cmd core.Command) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%d\x00%t\x00%t\x00%s\x00%s\x00%t\x00", cmd.Verb, cmd.Scope, cmd.Reason, cmd.For, cmd.LastResort, cmd.Force, cmd.Source, cmd.Folder, cmd.Prune)
	for _, o := range cmd.Objects {
		fmt.Fprintf(h, "%s\x00%s\x00", o.Kind, o.Name)
		h.Write(o.JSON) // which may be large: not through a format
		h.Write([]byte{0})
	}
	if cmd.Director != nil {
		fmt.Fprintf(h, "%s\x00%x", cmd.Director.Name, cmd.Director.Key)
	}
	return h.Sum(nil)
}

// unavailable turns the store's silence into a clear "no": answers and failover
// go on without it (F10).
func unavailable(err error) error {
	return &core.Refusal{
		Reason: "the store does not answer, so nothing was changed (" + err.Error() + ")",
		Remedy: "answers and failover go on without it; bring etcd back and repeat the command (drains without etcd, `--emergency`, are not yet supported)",
	}
}

// notWritten tells the store's silence from what it does not take.
func notWritten(err error) error {
	if errors.Is(err, store.ErrUnavailable) {
		return unavailable(err)
	}
	return &core.Refusal{Reason: "the store does not take this, so nothing was changed: " + err.Error()}
}

// newID makes a command ID.
func newID() string {
	var b [16]byte
	crand.Read(b[:])
	return hex.EncodeToString(b[:])
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

// recover makes a store that was lost, restored or replaced hold the highest
// plan again, under the next epoch (F25).
func (c *commander) recover(ctx context.Context, author string) (plan.Identity, error) {
	cur := c.horizon.current()
	if cur == nil {
		return plan.Identity{}, &core.Refusal{Reason: errNoPlan.Error(), Remedy: "run it on a director that holds one"}
	}
	if err := c.maySign(ctx); err != nil {
		return plan.Identity{}, err
	}
	before := c.horizon.known()
	snap, err := c.store.Read(ctx)
	if err != nil && snap.ModRevision == 0 {
		return plan.Identity{}, unavailable(err)
	}
	known := c.horizon.heard()
	if snap.Sealed != nil {
		if foreign(before, snap.Sealed.Identity) == "" {
			return plan.Identity{}, &core.Refusal{Reason: fmt.Sprintf("the store holds plan %d.%d and is in order: there is nothing to recover", snap.Sealed.Identity.Epoch, snap.Sealed.Identity.Revision)}
		}
		// Whatever its order: another fleet's store is never written over.
		known = append(known, core.Known{Director: "the store", Identity: snap.Sealed.Identity})
	}
	known = append(known, core.Known{Identity: c.horizon.known()})
	cmd := core.Command{ID: newID(), Verb: "recover", Author: author, Reason: "the store was lost, restored or replaced"}
	change, err := core.Recover(core.State{Plan: cur.sealed, Doc: cur.doc, Spec: cur.spec, Places: c.earth().placesFor, Now: c.now(), Me: c.name, CheckZone: c.horizon.texts.check}, cmd, known...)
	if err != nil {
		return plan.Identity{}, err
	}
	fresh := store.Snapshot{ModRevision: snap.ModRevision, Sealed: cur.sealed}
	return c.write(ctx, fresh, cur, change, cmd, nil)
}

// refused makes an outcome of an error.
func refused(id string, err error) api.Outcome {
	out := api.Outcome{ID: id, Code: 1, Error: err.Error()}
	var r *core.Refusal
	var unknown *store.UnknownOutcome
	switch {
	case errors.As(err, &r):
		out.Error, out.Remedy, out.CanForce = r.Reason, r.Remedy, r.Force
	case errors.As(err, &unknown):
		out.Code = 3
		out.Remedy = "repeat it with --id " + id + ": it will not be done twice"
	}
	out.Summary = out.Error
	return out
}
