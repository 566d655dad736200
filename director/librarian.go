package director

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/resolve"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
)

// librarian keeps this director at the highest plan there is: from the store,
// watched and read each five seconds, and from any peer whose heartbeat names a
// newer one. It fetches the document's chunks by hash and offers what is whole
// and verified to the loop. It alone writes the store's state.
type librarian struct {
	name     string // this director's
	store    *store.Store
	horizon  *horizon
	courier  *courier
	resolver *resolve.Resolver
	offered  wake // the loop's
	log      *slog.Logger
	mail     chan gossip.Message // plan traffic of peers, bounded
	ask      wake                // a heartbeat named a newer plan

	wanted   *plan.Sealed // a peer's newer plan whose document is not whole yet
	chunks   map[plan.Hash][]byte
	sought   plan.Identity // asked for last …
	asked    time.Time     // … then
	without  *lackingSpec  // by who reads the store
	policies *policies
	vault    *coffer
	missed   *missed // what others may have missed
	said     string  // why the last plan of a peer was refused: a line per change

	refusals  *refusals
	places    func(...*spec.Set) []steer.Place
	place     func(*inForce) // makes what the loop needs to place clients for it
	confirmed func()         // the store holds the plan in force
	changed   func()         // status changed
}

const (
	storeTick    = 5 * time.Second
	fetchTick    = time.Second
	storeTimeout = 4 * time.Second
	// replenishLooks is after how many looks at the store its pieces of the spec are
	// counted: once a minute.
	replenishLooks = 12
	// A document may have 60 MiB: that takes its time over a thin line. A store that
	// falls silent meanwhile is found out by the chunk at hand.
	documentTimeout = time.Minute
)

// run reads the store and serves peers until ctx ends, each at its own pace: a
// store that hangs must not hold up what peers have.
func (l *librarian) run(ctx context.Context) error {
	changed := newWake()
	var group errgroup.Group
	group.Go(func() error {
		// Watch comes back by itself after a loss; it ends with ctx.
		return l.store.Watch(ctx, changed)
	})
	group.Go(func() error {
		tick := time.NewTicker(storeTick)
		defer tick.Stop()
		looks := 0
		for {
			l.readStore(ctx)
			l.policies.follow(ctx, l.horizon.newest())
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			case <-tick.C:
				l.readSpace(ctx)
				if looks++; looks%replenishLooks == 0 {
					l.replenish(ctx)
				}
			}
		}
	})
	group.Go(func() error { return l.serve(ctx) })
	group.Go(func() error { return l.missed.run(ctx) })
	return group.Wait()
}

// serve asks peers for what is newer, and gives them what they want. It alone
// touches wanted, chunks, sought, asked and said.
func (l *librarian) serve(ctx context.Context) error {
	fetch := time.NewTicker(fetchTick)
	defer fetch.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-fetch.C:
			l.fetch()
		case <-l.ask:
			l.fetch()
		case m := <-l.mail:
			l.message(ctx, m)
		}
	}
}

// readStore takes what the store holds, and says whether commands can be.
func (l *librarian) readStore(ctx context.Context) {
	readCtx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	known := l.horizon.known()
	snap, err := l.store.Read(readCtx)
	if err != nil {
		if ctx.Err() == nil {
			l.state(storeState{problem: unread(snap, err), newer: errors.Is(err, plan.ErrNewer)})
		}
		return
	}
	documentCtx, cancelDocument := context.WithTimeout(ctx, documentTimeout)
	defer cancelDocument()
	l.learn(documentCtx, known, snap)
}

// readSpace asks the store for its room: one that is full is read as ever, and
// would be found out by the first command that it refuses. A store that does not
// say is silent, which readStore tells.
func (l *librarian) readSpace(ctx context.Context) {
	refuses, fills, err := l.store.Space(ctx)
	if err != nil {
		return
	}
	old := l.horizon.spaceNow()
	if !l.horizon.setSpace(storeSpace{refuses: refuses, fills: fills}) {
		return
	}
	switch {
	case refuses != "" && old.refuses == "":
		l.log.Error("commands are refused", slog.String("why", refuses))
	case refuses == "" && old.refuses != "":
		l.log.Info("the store takes writes again")
	case fills != "" && old.fills == "":
		l.log.Warn("the store fills", slog.String("why", fills))
	}
	l.changed()
}

// replenish writes what the store has lost of the spec in force. It is named by its
// content, so that no plan, no fence and no person is needed.
func (l *librarian) replenish(ctx context.Context) {
	cur, state := l.horizon.current(), l.horizon.storeNow()
	if cur == nil || state.problem != "" || state.plan != cur.sealed.Identity {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	lacked, err := l.store.Replenish(ctx, slices.Collect(maps.Values(l.vault.with(cur, l.policies.with(cur)))))
	if err != nil {
		return // a store that is silent is told of elsewhere
	}
	if lacked > 0 {
		l.log.Warn("the store had lost pieces of the spec in force, and has them again", slog.Int("pieces", lacked))
	}
}

// unread says why a store cannot be used: silent, or holding what this version
// cannot read.
func unread(snap store.Snapshot, err error) string {
	var moved *store.Moved
	switch {
	case errors.As(err, &moved):
		return moved.Error() + ": name it in this director's settings (etcd: {endpoints: [...]}) and start it anew with --replace"
	case errors.Is(err, plan.ErrNewer):
		return "the store holds a plan that is too new for this director: " + err.Error()
	case snap.ModRevision != 0:
		return "the store holds a plan that cannot be read: " + err.Error() + "; run `divert store recover`"
	case errors.Is(err, store.ErrUnreadable):
		return err.Error() + "; give the command another --id, or run `divert store recover`, which removes it"
	}
	if errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return "the store does not answer; commands are refused until it does (" + err.Error() + ")"
	}
	return "the store cannot be read: " + err.Error()
}

// learn judges what was read against what was known before that (F25), and
// offers it when it is newer than what is in force.
func (l *librarian) learn(ctx context.Context, known plan.Identity, snap store.Snapshot) {
	if snap.Sealed == nil {
		l.state(storeState{ok: true, problem: core.Foreign(known, plan.Identity{})})
		return
	}
	if problem := core.Foreign(known, snap.Sealed.Identity); problem != "" {
		l.state(storeState{ok: true, plan: snap.Sealed.Identity, problem: problem})
		return
	}
	cur := l.horizon.current()
	if problem := untrusted(cur, snap.Sealed); problem != "" {
		l.refusals.note(snap.Sealed, cur, follows(cur.sealed, snap.Sealed))
		l.state(storeState{ok: true, plan: snap.Sealed.Identity, problem: problem})
		return
	}
	l.state(storeState{ok: true, plan: snap.Sealed.Identity, problem: cmp.Or(l.specless(snap.Sealed), l.refusals.of(snap.Sealed.Identity))})
	if cur != nil && cur.sealed.Identity == snap.Sealed.Identity {
		l.confirmed()
		return
	}
	if cur != nil && cur.sealed.Identity.Compare(snap.Sealed.Identity) > 0 {
		return // it came into force since the read
	}
	docs, err := l.documents(ctx, snap.Sealed)
	if problem := specless(cur, snap.Sealed, err); problem != "" {
		l.without = &lackingSpec{snap.Sealed.Identity, problem}
		l.state(storeState{ok: true, plan: snap.Sealed.Identity, problem: problem})
		return
	}
	if err != nil {
		l.log.Warn("the plan's document cannot be had yet", slog.Any("err", err))
		return
	}
	l.offer(ctx, snap.Sealed, docs...)
	if problem := l.refusals.of(snap.Sealed.Identity); problem != "" {
		l.state(storeState{ok: true, plan: snap.Sealed.Identity, problem: problem})
	}
}

// lackingSpec is a plan whose document the store lacks.
type lackingSpec struct {
	id  plan.Identity
	why string
}

// specless says again what was found to be missing of a plan that is still not in
// force: what is said of the store must not come and go with each look.
func (l *librarian) specless(found *plan.Sealed) string {
	cur := l.horizon.current()
	if l.without == nil || l.without.id != found.Identity || cur != nil && cur.sealed.Identity.Compare(found.Identity) >= 0 {
		l.without = nil
		return ""
	}
	return l.without.why
}

func (l *librarian) state(s storeState) {
	old := l.horizon.storeNow()
	if !l.horizon.setStore(s) {
		return
	}
	switch {
	case s.problem != "" && old.problem != s.problem:
		l.log.Warn("commands are refused", slog.String("why", s.problem))
	case s.problem == "" && old.problem != "":
		l.log.Info("commands are accepted again")
	}
	l.changed()
	l.offered.up()
}

// documents gets the spec documents that a plan needs.
func (l *librarian) documents(ctx context.Context, s *plan.Sealed) ([][]byte, error) {
	var out [][]byte
	for _, ref := range s.Plan.Specs() {
		doc, err := l.document(ctx, ref)
		if err != nil {
			return nil, fmt.Errorf("reading the chunks of plan %d.%d: %w", s.Identity.Epoch, s.Identity.Revision, err)
		}
		out = append(out, doc)
	}
	return out, nil
}

// document gets a spec document: what is at hand when it is the same, else chunk by
// chunk from the store.
func (l *librarian) document(ctx context.Context, ref *plan.SpecRef) ([]byte, error) {
	chunks := map[plan.Hash][]byte{}
	if cur := l.horizon.current(); cur != nil {
		if has := cur.holding(ref); has != nil {
			return has.bytes, nil
		}
		maps.Copy(chunks, cur.all())
	}
	read, err := l.store.Chunks(ctx, lacking(ref.GetChunks(), chunks))
	if err != nil {
		return nil, err
	}
	maps.Copy(chunks, read)
	return store.Join(ref, chunks)
}

// offer prepares a plan and leaves it to the loop. What cannot be used leaves
// the old plan in force (S7).
func (l *librarian) offer(ctx context.Context, s *plan.Sealed, docs ...[]byte) {
	var cur *plan.Sealed
	if f := l.horizon.current(); f != nil {
		cur = f.sealed
	}
	if err := follows(cur, s); err != nil {
		if cur == nil || s.Identity.Compare(cur.Identity) <= 0 { // an old one is nobody's fault
			l.log.Warn("plan refused", slog.Any("err", err))
			return
		}
		l.refusals.note(s, l.horizon.current(), err)
		l.changed()
		return
	}
	f, err := l.horizon.texts.prepareAfter(l.horizon.newest(), s, docs...)
	if err == nil {
		err = l.proved(f)
	}
	if err == nil {
		base := l.horizon.before(s)
		if err = lacksPerson(base, f, l.horizon.vouched(l.name, s)); err != nil && skips(base.sealed, s) && l.refusals.missed(s.Identity) {
			l.ask.up() // what lies between may be had
			return
		}
	}
	if err == nil {
		err = l.policies.confirm(ctx, l.horizon.before(s), f, l.horizon.vouched(l.name, s))
	}
	if err != nil {
		l.refusals.note(s, l.horizon.current(), err)
		l.changed()
		return
	}
	l.refusals.taken(s.Identity)
	f = f.on(l.name)
	learn(ctx, l.resolver, f)
	l.place(f)
	l.found(f)
}

// found leaves a plan that was found good to the loop, and to who may have missed it.
func (l *librarian) found(f *inForce) {
	l.missed.note(f)
	l.horizon.offer(f)
	l.offered.up()
}

// skips tells whether a plan does not follow another directly.
func skips(cur, next *plan.Sealed) bool {
	return cur.Identity.Epoch != next.Identity.Epoch || cur.Identity.Revision+1 != next.Identity.Revision
}

// follows says why a plan must not replace the one in force: it is not trusted, or is no
// successor of it (S3, S7). Cur may be nil.
func follows(cur, next *plan.Sealed) error {
	if err := plan.Trusted(cur, next); err != nil {
		return err
	}
	if err := core.Check(cur, next); err != nil {
		return fmt.Errorf("plan %d.%d of %s: %w", next.Identity.Epoch, next.Identity.Revision, next.Signer, err)
	}
	return nil
}

var errNoPlan = errors.New("this director has no plan yet")
