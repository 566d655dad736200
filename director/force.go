package director

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/dnsserver/answer"
)

// inForce is a plan with everything that is made from it once: immutable. While some
// directors try another spec there are two of a plan, its sides, which know each other.
type inForce struct {
	sealed   *plan.Sealed
	ref      *plan.SpecRef // of doc
	doc      *plan.SpecDoc
	bytes    []byte // doc as stored
	spec     *spec.Set
	zones    []answer.Zone               // static records; the steered names are added at each decision
	doubts   []error                     // what CheckZone would refuse of them
	standbys *steer.Standbys             // what transfers say of steered names
	chunks   func() map[plan.Hash][]byte // of bytes, by hash; made when first asked for

	main  *inForce // the side of all who try nothing; nil: this is it
	trial *inForce // the side of those who try another spec; nil: nobody does, or this is it
}

// prepareAfter is prepare with what old has made already, where a spec document is the
// same: a drain then resolves nothing and parses no zone. Old may be nil. It gives the
// side of all who try nothing.
func (t *zoneTexts) prepareAfter(old *inForce, sealed *plan.Sealed, docs ...[]byte) (*inForce, error) {
	refs := sealed.Plan.Specs()
	if len(docs) > len(refs) || len(docs) < len(refs) && len(docs) > 1 {
		return nil, fmt.Errorf("plan %d.%d: %d spec documents at hand, it names %d", sealed.Identity.Epoch, sealed.Identity.Revision, len(docs), len(refs))
	}
	sides := make([]*inForce, len(refs))
	for i, ref := range refs {
		has := old.holding(ref)
		var err error
		switch {
		case has != nil:
			sides[i] = t.again(has, sealed, ref, i > 0)
		case i < len(docs):
			sides[i], err = t.side(sealed, ref, docs[i], i > 0)
		default:
			err = fmt.Errorf("plan %d.%d: the spec that is tried is not at hand", sealed.Identity.Epoch, sealed.Identity.Revision)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(sides) > 1 {
		sides[0].trial, sides[1].main = sides[1], sides[0]
	}
	return sides[0], nil
}

// again is a side of another plan with the same document.
func (t *zoneTexts) again(old *inForce, sealed *plan.Sealed, ref *plan.SpecRef, tried bool) *inForce {
	next := *old
	next.sealed, next.ref, next.spec = sealed, ref, steer.Narrow(old.spec, sealed.Plan, tried)
	next.standbys = steer.StandbysOf(next.spec, sealed.Plan)
	next.main, next.trial = nil, nil
	serial := serialsOf(sealed.Plan, tried)
	next.zones = slices.Clone(old.zones)
	moved := false
	for i := range next.zones {
		now := serial(next.spec.Zones[i].Name)
		moved = moved || next.zones[i].Serial != now
		next.zones[i].Serial = now
	}
	if !moved {
		next.zones = old.zones
	}
	return &next
}

// parts lists the chunks of the document, in order.
func (f *inForce) parts() [][]byte {
	chunks := f.chunks()
	out := make([][]byte, 0, len(chunks))
	for _, h := range f.ref.GetChunks() {
		out = append(out, chunks[plan.Hash(h)])
	}
	return out
}

// holds tells whether the document at hand is the one that ref names.
func (f *inForce) holds(ref *plan.SpecRef) bool {
	return bytes.Equal(f.ref.GetHash(), ref.GetHash())
}

// prepare does all the work on a plan that can fail, so that taking it into
// force is a swap. It gives the side of all who try nothing.
func (t *zoneTexts) prepare(sealed *plan.Sealed, docs ...[]byte) (*inForce, error) {
	return t.prepareAfter(nil, sealed, docs...)
}

func (t *zoneTexts) side(sealed *plan.Sealed, ref *plan.SpecRef, docBytes []byte, tried bool) (*inForce, error) {
	if sum := plan.Sum(docBytes); !bytes.Equal(sum[:], ref.GetHash()) {
		return nil, fmt.Errorf("plan %d.%d: the spec document at hand is not the one it names", sealed.Identity.Epoch, sealed.Identity.Revision)
	}
	doc, set, err := readSpec(docBytes)
	if err != nil {
		return nil, fmt.Errorf("spec of plan %d.%d: %w", sealed.Identity.Epoch, sealed.Identity.Revision, err)
	}
	zones, doubts, err := t.static(set, serialsOf(sealed.Plan, tried))
	if err != nil {
		return nil, err
	}
	for _, z := range set.Zones {
		z.Forget()
	}
	set = steer.Narrow(set, sealed.Plan, tried)
	return &inForce{sealed: sealed, ref: ref, doc: doc, bytes: docBytes, spec: set, zones: zones, doubts: doubts, standbys: steer.StandbysOf(set, sealed.Plan), chunks: sync.OnceValue(func() map[plan.Hash][]byte {
		out := map[plan.Hash][]byte{}
		parts, _ := store.Split(docBytes)
		for _, c := range parts {
			out[plan.Sum(c)] = c
		}
		return out
	})}, nil
}

// readSpec reads a committed document. What was committed was checked then, by the rules
// of its writer. A rule that is new here must not take answers away (S12): only what
// cannot be read does.
func readSpec(docBytes []byte) (*plan.SpecDoc, *spec.Set, error) {
	doc, err := plan.ReadDoc(docBytes)
	if err != nil {
		return nil, nil, err
	}
	set, problems := spec.ResolveWith(core.Raws(doc), nil)
	if set == nil {
		return nil, nil, problemsError(problems)
	}
	return doc, set, nil
}

// problemsError joins what is wrong into one error, warnings left out.
func problemsError(problems []spec.Problem) error {
	var errs []error
	for _, p := range problems {
		if !p.Warning {
			errs = append(errs, errors.New(p.String()))
		}
	}
	return errors.Join(errs...)
}

// horizon is what is known of plans: the one in force here, the one on disk,
// and the highest that anybody holds; what follows from that is core.Horizon's to
// say. Its writers are named at each method.
type horizon struct {
	texts *zoneTexts // of all these plans; locks itself

	mu    sync.Mutex
	force *inForce     // by the loop alone
	ids   core.Horizon // by whoever each method names; Force by the loop, with force
	store storeState   // by the store's reader
	space storeSpace   // by the store's reader
	next  *inForce     // offered, not yet taken by the loop
}

// storeState is what the last read of the store said.
type storeState struct {
	problem string        // "" = commands are accepted
	plan    plan.Identity // the plan found
	ok      bool          // read at least once
	newer   bool          // it holds a plan that this director is too old to read
}

// storeSpace is what the store lately said of its own room.
type storeSpace struct {
	refuses string // why it takes no writes though it is read; "" = it does
	fills   string // that it soon will not
}

func (h *horizon) setSpace(s storeSpace) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed = h.space != s
	h.space = s
	return changed
}

func (h *horizon) spaceNow() storeSpace {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.space
}

// unbegun tells whether the store holds no plan and nobody is known to hold one.
func (h *horizon) unbegun() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range h.ids.Peers {
		if !id.IsZero() {
			return false
		}
	}
	return h.force == nil && h.store.ok && h.store.plan.IsZero() && h.ids.Highest.IsZero()
}

func (h *horizon) current() *inForce {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.force
}

// raise notes that a plan of this identity exists. Another fleet's is ignored.
func (h *horizon) raise(id plan.Identity) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ids.Raise(id)
}

func (h *horizon) known() plan.Identity {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ids.Highest
}

// offer leaves a prepared plan for the loop, which takes the highest offered.
func (h *horizon) offer(f *inForce) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next == nil || f.sealed.Identity.Compare(h.next.sealed.Identity) > 0 {
		h.next = f
	}
	h.ids.Raise(f.sealed.Identity)
}

// take gives the loop what was offered, if it may replace what is in force.
func (h *horizon) take() (*inForce, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.next
	h.next = nil
	if f == nil {
		return nil, nil
	}
	var cur *plan.Sealed
	if h.force != nil {
		cur = h.force.sealed
		if f.sealed.Identity == cur.Identity {
			return nil, nil
		}
	}
	if err := plan.Trusted(cur, f.sealed); err != nil {
		return nil, err
	}
	return f, nil
}

// swap takes a plan into force: called by the loop once its table is in place.
func (h *horizon) swap(f *inForce) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.force = f
	h.ids.Swap(f.sealed.Identity)
	zones := f.zones
	if t := f.tried(); t != nil {
		zones = slices.Concat(f.stable().zones, t.zones)
	}
	h.texts.settle(zones)
}

// savedNow is the saver's.
func (h *horizon) savedNow(id plan.Identity) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ids.Saved = id
}

// acked gives the identity that this director may acknowledge (S6); zero: none.
func (h *horizon) acked() plan.Identity {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ids.Acked()
}

// behind tells whether a higher plan is known than the one in force.
func (h *horizon) behind() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ids.Behind()
}

// hear is the loop's: which of the others are there.
func (h *horizon) hear(others int, there map[string]bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ids.Hear(others, there, now)
}

func (h *horizon) setStore(s storeState) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed = h.store != s
	h.store = s
	h.ids.Stored = plan.Identity{}
	if s.problem == "" {
		h.ids.Stored = s.plan
	}
	return changed
}

// usable tells whether the store was read, may be written to, and no live peer
// names a higher plan than the one in force: what acts by itself waits for all
// of it (F25).
func (h *horizon) usable() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.store.ok && h.store.problem == "" && h.ids.Current()
}

// newest gives the newest plan at hand: offered, else in force.
func (h *horizon) newest() *inForce {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next != nil && (h.force == nil || h.next.sealed.Identity.Compare(h.force.sealed.Identity) > 0) {
		return h.next
	}
	return h.force
}

func (h *horizon) storeNow() storeState {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.store
}

// setPeer is the loop's.
func (h *horizon) setPeer(name string, id plan.Identity) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ids.SetPeer(name, id)
}

// named gives the highest plan of our fleet that is held here or named by a
// live peer, and the peer ("" = here).
func (h *horizon) named() (plan.Identity, string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ids.Named()
}

// heard gives what live peers say that they hold, by name.
func (h *horizon) heard() []core.Known {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ids.Heard()
}

// holders lists the peers whose heartbeats name a plan of at least this order.
func (h *horizon) holders(id plan.Identity) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ids.Holders(id)
}
