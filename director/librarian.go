package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/resolve"
	"github.com/divertdns/divert/director/store"
)

// librarian keeps this director at the highest plan there is: from the store,
// watched and read each five seconds, and from any peer whose heartbeat names a
// newer one. It fetches the document's chunks by hash and offers what is whole
// and verified to the loop. It alone writes the store's state.
type librarian struct {
	store    *store.Store
	horizon  *horizon
	courier  *courier
	resolver *resolve.Resolver
	offered  wake // the loop's
	log      *slog.Logger
	mail     chan gossip.Message // plan traffic of peers, bounded
	ask      wake                // a heartbeat named a newer plan

	wanted *plan.Sealed // a peer's newer plan whose document is not whole yet
	chunks map[plan.Hash][]byte
	sought plan.Identity // asked for last …
	asked  time.Time     // … then
	said   string        // why the last plan of a peer was refused: a line per change

	place     func(*inForce) // makes what the loop needs to place clients for it
	confirmed func()         // the store holds the plan in force
	changed   func()         // status changed
}

const (
	storeTick    = 5 * time.Second
	fetchTick    = time.Second
	storeTimeout = 4 * time.Second
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
		for {
			l.readStore(ctx)
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			case <-tick.C:
				l.readSpace(ctx)
			}
		}
	})
	group.Go(func() error { return l.serve(ctx) })
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
			l.state(storeState{problem: unread(snap, err)})
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

// unread says why a store cannot be used: silent, or holding what this version
// cannot read.
func unread(snap store.Snapshot, err error) string {
	if snap.ModRevision != 0 {
		return "the store holds a plan that cannot be read here: " + err.Error() + "; upgrade this director, or run `divert store recover` if the store is damaged"
	}
	if errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return "the store does not answer; answers and failover go on, commands are refused until it does (" + err.Error() + ")"
	}
	return "the store cannot be read: " + err.Error()
}

// learn judges what was read against what was known before that (F25), and
// offers it when it is newer than what is in force.
func (l *librarian) learn(ctx context.Context, known plan.Identity, snap store.Snapshot) {
	if snap.Sealed == nil {
		if known.IsZero() {
			l.state(storeState{ok: true})
		} else {
			l.state(storeState{ok: true, problem: fmt.Sprintf("the store is empty, but plan %d.%d is known: it was lost or replaced; run `divert store recover`", known.Epoch, known.Revision)})
		}
		return
	}
	if problem := foreign(known, snap.Sealed.Identity); problem != "" {
		l.state(storeState{ok: true, plan: snap.Sealed.Identity, problem: problem})
		return
	}
	l.state(storeState{ok: true, plan: snap.Sealed.Identity})
	cur := l.horizon.current()
	if cur != nil && cur.sealed.Identity == snap.Sealed.Identity {
		l.horizon.confirm()
		l.confirmed()
		return
	}
	if cur != nil && cur.sealed.Identity.Compare(snap.Sealed.Identity) > 0 {
		return // it came into force since the read
	}
	doc, err := l.document(ctx, snap.Sealed)
	if err != nil {
		l.log.Warn("the plan's document cannot be had yet", slog.Any("err", err))
		return
	}
	l.offer(ctx, snap.Sealed, doc)
}

// foreign says why a store that holds this plan is not to be written to; "" =
// it may be. S3, F25. Known is what was known before the store was read: a plan
// that was committed since says nothing of what the read had to find.
func foreign(known, found plan.Identity) string {
	switch {
	case known.IsZero():
		return ""
	case found.Fleet != known.Fleet:
		return fmt.Sprintf("the store belongs to fleet %s, this director to %s: point it at its own store", found.Fleet, known.Fleet)
	case found.Compare(known) < 0:
		return fmt.Sprintf("the store holds plan %d.%d, older than %d.%d which is known: it was restored or replaced; run `divert store recover`", found.Epoch, found.Revision, known.Epoch, known.Revision)
	case found.Compare(known) == 0 && found.Hash != known.Hash:
		return fmt.Sprintf("the store holds another plan %d.%d (%s) than the one known (%s): it was replaced; run `divert store recover`", found.Epoch, found.Revision, found.Hash.Short(), known.Hash.Short())
	}
	return ""
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

// document gets a plan's spec document: what is at hand when it is the same,
// else chunk by chunk from the store.
func (l *librarian) document(ctx context.Context, s *plan.Sealed) ([]byte, error) {
	ref := s.Plan.GetSpec()
	chunks := map[plan.Hash][]byte{}
	if cur := l.horizon.current(); cur != nil {
		if cur.holds(ref) {
			return cur.bytes, nil
		}
		maps.Copy(chunks, cur.chunks())
	}
	read, err := l.store.Chunks(ctx, lacking(ref.GetChunks(), chunks))
	if err != nil {
		return nil, fmt.Errorf("reading the chunks of plan %d.%d: %w", s.Identity.Epoch, s.Identity.Revision, err)
	}
	maps.Copy(chunks, read)
	return store.Join(ref, chunks)
}

// offer prepares a plan and leaves it to the loop. What cannot be used leaves
// the old plan in force (S7).
func (l *librarian) offer(ctx context.Context, s *plan.Sealed, doc []byte) {
	var cur *plan.Sealed
	if f := l.horizon.current(); f != nil {
		cur = f.sealed
	}
	if err := plan.Trusted(cur, s); err != nil {
		l.log.Warn("plan refused", slog.Any("err", err))
		return
	}
	f, err := l.horizon.texts.prepareAfter(l.horizon.newest(), s, doc)
	if err != nil {
		l.log.Error("plan refused, the old one stays in force", slog.Any("err", err))
		return
	}
	learn(ctx, l.resolver, f)
	l.place(f)
	l.horizon.offer(f)
	l.offered.up()
}

// fetch asks one peer for the newest plan that any live peer names, while it is
// newer than ours.
func (l *librarian) fetch() {
	cur := l.horizon.current()
	if cur == nil {
		return
	}
	top, _ := l.horizon.named()
	if cur.sealed.Identity.Compare(top) >= 0 {
		l.wanted, l.chunks = nil, nil
		return
	}
	whole := l.wanted == nil || l.wanted.Identity.Compare(top) < 0
	if whole && l.sought == top && time.Since(l.asked) < fetchTick*9/10 {
		return // heartbeats go on naming it; it is under way, or of no use here
	}
	for _, name := range l.horizon.holders(top) {
		if whole {
			if l.courier.post(name, kindPlanWant, nil) {
				l.sought, l.asked = top, time.Now()
				return
			}
			continue
		}
		for _, h := range l.missing() {
			l.courier.post(name, kindChunkWant, h)
		}
		return
	}
}

func (l *librarian) missing() [][]byte {
	return lacking(l.wanted.Plan.GetSpec().GetChunks(), l.chunks)
}

// lacking gives the hashes that none of the chunks at hand has.
func lacking(hashes [][]byte, chunks map[plan.Hash][]byte) [][]byte {
	var out [][]byte
	for _, h := range hashes {
		if len(h) != len(plan.Hash{}) { // the store says what is wrong with it
			out = append(out, h)
		} else if _, ok := chunks[plan.Hash(h)]; !ok {
			out = append(out, h)
		}
	}
	return out
}

// message serves peers that want a plan, and takes what was wanted from them.
func (l *librarian) message(ctx context.Context, m gossip.Message) {
	cur := l.horizon.current()
	if cur == nil {
		return
	}
	switch m.Kind {
	case kindPlanWant:
		l.courier.post(m.From, kindPlan, cur.sealed.Raw)
	case kindChunkWant:
		if len(m.Payload) == len(plan.Hash{}) {
			if c, ok := cur.chunks()[plan.Hash(m.Payload)]; ok {
				l.courier.post(m.From, kindChunk, c)
			}
		}
	case kindPlan:
		l.received(ctx, cur, m.Payload)
	case kindChunk:
		l.receivedChunk(ctx, m.Payload)
	}
}

func (l *librarian) received(ctx context.Context, cur *inForce, raw []byte) {
	s, err := plan.Open(raw)
	if err == nil {
		err = plan.Trusted(cur.sealed, s)
	}
	if err != nil {
		if l.said != err.Error() {
			l.said = err.Error()
			l.log.Warn("a peer's plan refused", slog.Any("err", err))
		}
		return
	}
	if s.Identity.Compare(cur.sealed.Identity) <= 0 || l.wanted != nil && s.Identity.Compare(l.wanted.Identity) <= 0 {
		return
	}
	l.wanted, l.chunks = s, maps.Clone(cur.chunks())
	l.complete(ctx)
	l.ask.up()
}

func (l *librarian) receivedChunk(ctx context.Context, c []byte) {
	if l.wanted == nil {
		return
	}
	sum := plan.Sum(c)
	for _, h := range l.wanted.Plan.GetSpec().GetChunks() {
		if plan.Hash(h) == sum {
			l.chunks[sum] = c
		}
	}
	l.complete(ctx)
	l.ask.up()
}

func (l *librarian) complete(ctx context.Context) {
	if len(l.missing()) > 0 {
		return
	}
	doc, err := store.Join(l.wanted.Plan.GetSpec(), l.chunks)
	if err != nil {
		l.log.Warn("a peer's plan is not whole", slog.Any("err", err))
	} else {
		l.offer(ctx, l.wanted, doc)
	}
	l.wanted, l.chunks = nil, nil
}

var errNoPlan = errors.New("this director has no plan yet")
