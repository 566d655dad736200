package quorum

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/election"
	campaign "github.com/divertdns/divert/election/etcd"
)

// tries and raceFirst are those of director's commander.
const (
	tries     = 10
	raceFirst = 5 * time.Millisecond
)

// writer is a director as far as it writes: core decides, store commits, in the way of
// director's commander and steward, without what answers DNS.
type writer struct {
	name     string
	store    *store.Store
	campaign *campaign.Campaign
	signed   func(*plan.Sealed, core.Command) // before anything is sent; may be nil

	mu    sync.Mutex
	known plan.Identity // the highest that it has read
	specs map[plan.Hash]*document
}

// document is a spec, read.
type document struct {
	doc    *plan.SpecDoc
	set    *spec.Set
	chunks [][]byte
}

func newWriter(name string, endpoints []string, prefix string, ttl time.Duration, at func(store.Step)) (*writer, error) {
	s, err := store.New(store.Options{Endpoints: endpoints, Prefix: prefix, At: at})
	if err != nil {
		return nil, err
	}
	c, err := campaign.New(campaign.Options{Client: s.Client(), Prefix: s.Prefix() + "election/", Name: name, TTL: ttl})
	if err != nil {
		return nil, err
	}
	return &writer{name: name, store: s, campaign: c, specs: map[plan.Hash]*document{}}, nil
}

// outcome is what a command came to, as told to whoever gave it.
type outcome int

const (
	refused outcome = iota // nothing was written
	done
	noop
	unknown
)

func (o outcome) String() string { return [...]string{"refused", "done", "noop", "unknown"}[o] }

// verdict is an outcome, with the plan that it is about.
type verdict struct {
	outcome  outcome
	revision uint64
	hash     plan.Hash // of done
	err      error     // of the others
}

func (v verdict) String() string {
	return fmt.Sprintf("%s at %d (%v)", v.outcome, v.revision, v.err)
}

// errBroken is what a correct store never shows.
var errBroken = errors.New("the store broke its word")

// commit is one command; term is the leader's.
func (w *writer) commit(ctx context.Context, cmd core.Command, term *election.Term) verdict {
	for i := range tries {
		v := w.attempt(ctx, cmd, term)
		if !errors.Is(v.err, store.ErrConflict) {
			return v
		}
		pause(ctx, rand.N(raceFirst<<i))
	}
	return verdict{err: errors.New("other commands kept coming between")}
}

func (w *writer) attempt(ctx context.Context, cmd core.Command, term *election.Term) verdict {
	snap, result, err := w.read(ctx, cmd.ID)
	switch {
	case err != nil:
		return verdict{err: err}
	case result != nil:
		return repeated(result, cmd)
	}
	base, err := w.document(ctx, snap.Sealed)
	if err != nil {
		return verdict{err: err}
	}
	change, err := core.Decide(w.state(snap, base), cmd)
	switch {
	case err != nil:
		return verdict{err: err}
	case change.Noop:
		return verdict{outcome: noop, revision: snap.Sealed.Identity.Revision}
	}
	return w.write(ctx, snap, base, change, cmd, term)
}

// repeated is the outcome of a command that was done before, by this ID.
func repeated(r *plan.Result, cmd core.Command) verdict {
	if !bytes.Equal(r.GetCommand(), cmd.Fingerprint()) {
		return verdict{err: fmt.Errorf("%w: command %s has the result of another", errBroken, cmd.ID)}
	}
	return verdict{outcome: done, revision: r.GetRevision(), hash: plan.Hash(r.GetPlan())}
}

// read reads, and sees that nothing is older than what was read before (S3).
func (w *writer) read(ctx context.Context, id string) (store.Snapshot, *plan.Result, error) {
	w.mu.Lock()
	before := w.known
	w.mu.Unlock()
	snap, r, err := w.store.ReadFor(ctx, id)
	if err != nil {
		return snap, nil, err
	}
	if snap.Sealed == nil {
		return snap, nil, fmt.Errorf("%w: no plan", errBroken)
	}
	if why := core.Foreign(before, snap.Sealed.Identity); why != "" {
		return snap, nil, fmt.Errorf("%w: %s", errBroken, why)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if snap.Sealed.Identity.Compare(w.known) > 0 {
		w.known = snap.Sealed.Identity
	}
	return snap, r, nil
}

func (w *writer) state(snap store.Snapshot, base *document) core.State {
	observed := allUp(base.set)
	fresh := core.Watched(base.set, snap.Sealed.Plan, "")
	for s := range observed {
		fresh[s] = true
	}
	return core.State{
		Plan: snap.Sealed, Doc: base.doc, Spec: base.set, Observed: observed,
		Acks: answering(snap.Sealed), Fresh: fresh, Now: time.Now(), Me: w.name,
	}
}

// document gets the spec of a plan.
func (w *writer) document(ctx context.Context, sealed *plan.Sealed) (*document, error) {
	ref := sealed.Plan.GetSpec()
	key := plan.Hash(ref.GetHash())
	w.mu.Lock()
	d := w.specs[key]
	w.mu.Unlock()
	if d != nil {
		return d, nil
	}
	have, err := w.store.Chunks(ctx, ref.GetChunks())
	if err != nil {
		return nil, err
	}
	octets, err := store.Join(ref, have)
	if err != nil {
		return nil, fmt.Errorf("%w: the spec of plan %s: %w", errBroken, sealed.Identity, err)
	}
	doc, err := plan.ReadDoc(octets)
	if err != nil {
		return nil, err
	}
	return w.hold(ref, doc, octets)
}

func (w *writer) hold(ref *plan.SpecRef, doc *plan.SpecDoc, octets []byte) (*document, error) {
	set, problems := spec.Resolve(core.Raws(doc))
	if spec.Failed(problems) {
		return nil, fmt.Errorf("%w: a committed spec: %v", errBroken, problems)
	}
	d := &document{doc: doc, set: set}
	d.chunks, _ = store.Split(octets)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.specs[plan.Hash(ref.GetHash())] = d
	return d, nil
}

// write signs and commits; base is nil for the first plan.
func (w *writer) write(ctx context.Context, snap store.Snapshot, base *document, change core.Change, cmd core.Command, term *election.Term) verdict {
	var chunks [][]byte
	if change.Doc == nil {
		chunks = base.chunks
	} else {
		octets, err := (proto.MarshalOptions{Deterministic: true}).Marshal(change.Doc)
		if err != nil {
			return verdict{err: err}
		}
		chunks, change.Plan.Spec = store.Split(octets)
		if change.Plan.Previous != nil {
			change.Plan.Previous.ReplacedBy = change.Plan.Spec.GetHash()
		}
		if _, err := w.hold(change.Plan.Spec, change.Doc, octets); err != nil {
			return verdict{err: err}
		}
	}
	sealed, err := plan.Sign(change.Plan, w.name, keyOf(w.name))
	if err != nil {
		return verdict{err: err}
	}
	if err := errors.Join(plan.Trusted(snap.Sealed, sealed), core.Check(snap.Sealed, sealed)); err != nil {
		return verdict{err: err}
	}
	if w.signed != nil {
		w.signed(sealed, cmd)
	}
	change.Audit.Plan = sealed.Identity.Hash[:]
	stored, err := w.store.Commit(ctx, store.Commit{
		Parent: snap.ModRevision, Next: sealed, Chunks: chunks, Held: change.Doc == nil, Audit: change.Audit, Leader: term, Read: snap.StoreRevision,
		Result: &plan.Result{Id: cmd.ID, Summary: change.Summary, At: change.Plan.GetWritten(), Command: cmd.Fingerprint()},
	})
	var open *store.UnknownOutcome
	switch {
	case err == nil:
		return verdict{outcome: done, revision: stored.GetRevision(), hash: plan.Hash(stored.GetPlan())}
	case errors.Is(err, store.ErrDone) && bytes.Equal(stored.GetPlan(), sealed.Identity.Hash[:]):
		return repeated(stored, cmd)
	case errors.Is(err, store.ErrDone):
		return verdict{err: store.ErrConflict} // by way of another director; the next read tells
	case errors.As(err, &open):
		return verdict{outcome: unknown, err: err}
	default:
		return verdict{err: err}
	}
}

// bootstrap writes the first plan.
func (w *writer) bootstrap(ctx context.Context) error {
	me := core.Director{Name: w.name, Site: "dc1", Key: keyOf(w.name).Public().(ed25519.PublicKey)}
	change, err := core.Bootstrap(core.State{Now: time.Now(), Me: w.name}, specOf(0, ""), me, "quorum")
	if err != nil {
		return err
	}
	v := w.write(ctx, store.Snapshot{}, nil, change, core.Command{ID: "bootstrap", Verb: "bootstrap"}, nil)
	return v.err
}

// duties are what the leader writes (S4), as director's steward does.
func (w *writer) duties(ctx context.Context, term election.Term) []verdict {
	snap, _, err := w.read(ctx, "")
	if err != nil {
		return []verdict{{err: err}}
	}
	base, err := w.document(ctx, snap.Sealed)
	if err != nil {
		return []verdict{{err: err}}
	}
	var out []verdict
	for _, cmd := range core.Due(w.state(snap, base)) {
		if cmd.Author == "" {
			cmd.Author = "director " + w.name
		}
		out = append(out, w.commit(ctx, cmd, &term))
	}
	return out
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
