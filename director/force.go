package director

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/dnsserver/answer"
)

// inForce is a plan with everything that is made from it once: immutable.
type inForce struct {
	sealed   *plan.Sealed
	doc      *plan.SpecDoc
	bytes    []byte // doc as stored
	spec     *spec.Set
	zones    []answer.Zone               // static records; the steered names are added at each decision
	doubts   []error                     // what CheckZone would refuse of them
	standbys *steer.Standbys             // what transfers say of steered names
	chunks   func() map[plan.Hash][]byte // of bytes, by hash; made when first asked for
}

// prepareAfter is prepare with what old has made already, where the spec
// document is the same: a drain then resolves nothing and parses no zone. Old may
// be nil.
func (t *zoneTexts) prepareAfter(old *inForce, sealed *plan.Sealed, docBytes []byte) (*inForce, error) {
	if old == nil || !old.holds(sealed.Plan.GetSpec()) {
		return t.prepare(sealed, docBytes)
	}
	next := *old
	next.sealed, next.standbys = sealed, steer.StandbysOf(old.spec, sealed.Plan)
	serials := serialsOf(sealed.Plan)
	next.zones = slices.Clone(old.zones)
	moved := false
	for i := range next.zones {
		serial := serials[next.spec.Zones[i].Name]
		moved = moved || next.zones[i].Serial != serial
		next.zones[i].Serial = serial
	}
	if !moved {
		next.zones = old.zones
	}
	return &next, nil
}

// parts lists the chunks of the document, in order.
func (f *inForce) parts() [][]byte {
	chunks := f.chunks()
	out := make([][]byte, 0, len(chunks))
	for _, h := range f.sealed.Plan.GetSpec().GetChunks() {
		out = append(out, chunks[plan.Hash(h)])
	}
	return out
}

// holds tells whether the document at hand is the one that ref names.
func (f *inForce) holds(ref *plan.SpecRef) bool {
	return bytes.Equal(f.sealed.Plan.GetSpec().GetHash(), ref.GetHash())
}

// prepare does all the work on a plan that can fail, so that taking it into
// force is a swap.
func (t *zoneTexts) prepare(sealed *plan.Sealed, docBytes []byte) (*inForce, error) {
	if ref := sealed.Plan.GetSpec(); plan.Sum(docBytes) != plan.Hash(ref.GetHash()) {
		return nil, fmt.Errorf("plan %d.%d: the spec document at hand is not the one it names", sealed.Identity.Epoch, sealed.Identity.Revision)
	}
	doc, err := plan.ReadDoc(docBytes)
	if err != nil {
		return nil, fmt.Errorf("reading the spec of plan %d.%d: %w", sealed.Identity.Epoch, sealed.Identity.Revision, err)
	}
	// What was committed was checked then, by the rules of its writer. A rule that
	// is new here must not take answers away (S12): only what cannot be read does.
	set, problems := spec.ResolveWith(core.Raws(doc), nil)
	if set == nil {
		return nil, fmt.Errorf("spec of plan %d.%d: %w", sealed.Identity.Epoch, sealed.Identity.Revision, problemsError(problems))
	}
	zones, doubts, err := t.static(set, sealed.Plan)
	if err != nil {
		return nil, err
	}
	for _, z := range set.Zones {
		z.Forget()
	}
	return &inForce{sealed: sealed, doc: doc, bytes: docBytes, spec: set, zones: zones, doubts: doubts, standbys: steer.StandbysOf(set, sealed.Plan), chunks: sync.OnceValue(func() map[plan.Hash][]byte {
		out := map[plan.Hash][]byte{}
		parts, _ := store.Split(docBytes)
		for _, c := range parts {
			out[plan.Sum(c)] = c
		}
		return out
	})}, nil
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
// and the highest that anybody holds. Its writers are named at each method.
type horizon struct {
	texts *zoneTexts // of all these plans; locks itself

	mu      sync.Mutex
	force   *inForce                 // by the loop alone
	saved   plan.Identity            // by the saver: on disk, and in the table before that
	highest plan.Identity            // by whoever holds a higher one, its signature checked
	store   storeState               // by the store's reader
	space   storeSpace               // by the store's reader
	peers   map[string]plan.Identity // by the loop: what each peer's heartbeat names as highest
	next    *inForce                 // offered, not yet taken by the loop
	lost    bool                     // by New: the disk's newest plan is gone; until found
}

// storeState is what the last read of the store said.
type storeState struct {
	problem string        // "" = commands are accepted
	plan    plan.Identity // the plan found
	ok      bool          // read at least once
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
	for _, id := range h.peers {
		if !id.IsZero() {
			return false
		}
	}
	return h.force == nil && h.store.ok && h.store.plan.IsZero() && h.highest.IsZero()
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
	h.raiseLocked(id)
}

func (h *horizon) raiseLocked(id plan.Identity) {
	if h.highest.IsZero() || id.Fleet == h.highest.Fleet && id.Compare(h.highest) > 0 {
		h.highest = id
	}
}

func (h *horizon) known() plan.Identity {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.highest
}

// offer leaves a prepared plan for the loop, which takes the highest offered.
func (h *horizon) offer(f *inForce) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next == nil || f.sealed.Identity.Compare(h.next.sealed.Identity) > 0 {
		h.next = f
	}
	h.raiseLocked(f.sealed.Identity)
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
// Where nothing was in force it may be another fleet's than this disk once knew:
// a person has begun anew with `store init`.
func (h *horizon) swap(f *inForce) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.force == nil && h.highest.Fleet != f.sealed.Identity.Fleet {
		h.highest = plan.Identity{}
	}
	h.force = f
	h.raiseLocked(f.sealed.Identity)
	h.texts.settle(f.zones)
}

func (h *horizon) savedNow(id plan.Identity) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.saved = id
}

// acked gives the identity that this director may acknowledge (S6): on disk, in
// the table, and not behind the highest plan known (S3). The zero Identity
// acknowledges nothing.
func (h *horizon) acked() plan.Identity {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.force == nil || h.lost || h.saved != h.force.sealed.Identity {
		return plan.Identity{}
	}
	if top, _ := h.namedLocked(); h.saved.Compare(top) < 0 {
		return plan.Identity{}
	}
	return h.saved
}

// behind tells whether a higher plan is known than the one in force.
func (h *horizon) behind() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	top, _ := h.namedLocked()
	return h.force != nil && (h.lost || h.force.sealed.Identity.Compare(top) < 0)
}

// lose notes that this disk held a newer plan than the one in force, and that
// nobody here can say which (S3).
func (h *horizon) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = true
}

// confirm says that the store holds the plan in force: there is no newer one.
func (h *horizon) confirm() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = false
}

// hear keeps the word of the directors that are there, of the others of the
// roster, and drops every other. When all of them are, what was lost is known:
// what they name as highest counts.
func (h *horizon) hear(others int, there map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.peers, func(name string, _ plan.Identity) bool { return !there[name] })
	if others > 0 && len(h.peers) == others {
		h.lost = false
	}
}

func (h *horizon) setStore(s storeState) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed = h.store != s
	h.store = s
	return changed
}

// usable tells whether the store was read, may be written to, and no live peer
// names a higher plan than the one in force: what acts by itself waits for all
// of it (F25).
func (h *horizon) usable() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.force == nil || !h.store.ok || h.store.problem != "" {
		return false
	}
	top, _ := h.namedLocked()
	return h.force.sealed.Identity.Compare(top) >= 0
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

func (h *horizon) setPeer(name string, id plan.Identity) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.peers == nil {
		h.peers = map[string]plan.Identity{}
	}
	h.peers[name] = id
}

// named gives the highest plan of our fleet that is held here or named by a
// live peer, and the peer ("" = here). A peer's word alone never refuses a
// command: only a plan whose signature was checked does (S7).
func (h *horizon) named() (plan.Identity, string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.namedLocked()
}

func (h *horizon) namedLocked() (plan.Identity, string) {
	top, who := h.highest, ""
	for name, id := range h.peers {
		if c := id.Compare(top); id.Fleet == top.Fleet && (c > 0 || c == 0 && who != "" && name < who) {
			top, who = id, name
		}
	}
	return top, who
}

// heard gives what live peers say that they hold, by name.
func (h *horizon) heard() []core.Known {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []core.Known
	for _, name := range slices.Sorted(maps.Keys(h.peers)) {
		out = append(out, core.Known{Director: name, Identity: h.peers[name]})
	}
	return out
}

// holders lists the peers whose heartbeats name a plan of at least this order.
func (h *horizon) holders(id plan.Identity) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for name, has := range h.peers {
		if has.Fleet == id.Fleet && has.Compare(id) >= 0 {
			out = append(out, name)
		}
	}
	return out
}
