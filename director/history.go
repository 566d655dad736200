package director

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/health"
)

// history keeps on disk what this director's answers were decided by, so that
// `divert explain --at` can decide again as it did then. What it keeps are the
// inputs of decisions, not answers: plan, spec, states, returns and certificates
// say all, and there are few of them. It alone writes the journal.
//
// It can hurt nobody: the loop leaves what it decided in a bounded queue, and a disk
// that is slow, full or read-only costs history (F16).
type history struct {
	options store.JournalOptions
	name    string
	version string
	loop    *loop
	doubt   func(context.Context) string // why this director's clock may be off; "" = it is not known to be
	log     *slog.Logger
	shown   *historyMetrics
	now     func() time.Time
	wanted  wake
	turn    chan struct{} // capacity 1: a slot for whoever decides again

	journal atomic.Pointer[store.Journal] // nil: not read yet, or not to be had. By run
	problem atomic.Pointer[string]        // why nothing is kept; nil = it is. By run

	// Of what was written last to the segment; by run.
	force   *inForce
	doc     plan.Hash
	kept    bool // the document
	begun   bool // a segment, since this process began
	returns map[health.Subject]steer.Return
	earlier map[health.Subject][]steer.Return
	stale   bool
	urgent  []*plan.Override
	geo     string
	synced  time.Time

	mu    sync.Mutex
	queue []telling // by the loop
	held  int       // subjects and certificates in queue
	last  []byte    // the document of the newest in queue
	lost  bool      // something that queue had no room for: all must be said anew
	blind bool      // changes were given to a decision of which no table was made
}

// telling is one change of what this director's answers are decided by.
type telling struct {
	at      time.Time
	force   *inForce // nil: certificates alone
	geo     string
	states  map[health.Subject]health.State // of all subjects; nil: changes
	changes []health.Change
	returns map[health.Subject]steer.Return
	earlier map[health.Subject][]steer.Return
	stale   bool
	urgent  []*plan.Override // emergency drains in force
	certs   []health.Certificate
}

const (
	// historyTick is how often a director notes that it is there: whoever asks of a
	// time between two entries should know that it was.
	historyTick = 15 * time.Second
	// historySync is how much of it the end of the machine, not of this process, may
	// cost.
	historySync   = time.Minute
	historyQueue  = 1024    // decisions that wait for the disk …
	historyHeld   = 1 << 19 // … and the subjects and certificates in them, documents as so many
	historyUnit   = 256     // octets
	historyFolder = "history"
)

// newHistory gives nil where the settings want none, or where nothing can be written.
func (d *Director) newHistory() *history {
	s := d.settings
	if s.History.For <= 0 || d.mute != nil {
		return nil
	}
	h := &history{
		options: store.JournalOptions{Dir: filepath.Join(s.DataDir, historyFolder), For: s.History.For, Size: s.History.Size, Log: d.log},
		name:    s.Name, version: d.opts.Version, loop: d.loop, doubt: d.clock, log: d.log, now: d.now, wanted: newWake(), turn: make(chan struct{}, 1),
	}
	h.shown = newHistoryMetrics(d.registry, h)
	d.loop.history = h
	return h
}

// tell leaves what was just decided; by the loop. A nil history keeps nothing.
func (h *history) tell(l *loop, f *inForce, on *earth, changes []health.Change) {
	if h == nil {
		return
	}
	t := telling{at: l.now(), force: f, geo: on.table.Origin().String(), changes: changes, returns: l.ramps.returns, earlier: l.ramps.earlier, stale: l.stale, urgent: l.urgent.added}
	h.mu.Lock()
	defer h.mu.Unlock()
	if changes == nil || h.blind {
		t.states, t.changes, h.blind = l.book.States(), nil, false
	}
	held := len(t.states) + len(t.changes)
	if f != nil && !sameBytes(h.last, f.bytes) {
		h.last = f.bytes // a queue of large specs would be as large as they are
		held += len(f.bytes) / historyUnit
	}
	h.addLocked(t, held)
}

// untold notes that a decision was made of which there is no table: the next one
// says all; by the loop.
func (h *history) untold() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.blind = true
}

// transitions leaves certificates that came into force; by the loop.
func (h *history) transitions(certs []health.Certificate, now time.Time) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addLocked(telling{at: now, certs: certs}, len(certs))
}

func (h *history) addLocked(t telling, held int) {
	if h.lost {
		return // all is said anew in a moment
	}
	if len(h.queue) >= historyQueue || h.held+held > historyHeld {
		h.queue, h.held, h.last, h.lost = nil, 0, nil, true
		h.loop.shown.overflow.WithLabelValues("history").Inc()
	} else {
		h.queue, h.held = append(h.queue, t), h.held+held
	}
	h.wanted.up()
}

// take empties the queue; lost tells whether it had no room for something.
func (h *history) take() (queue []telling, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	queue, lost = h.queue, h.lost
	h.queue, h.held, h.last, h.lost = nil, 0, nil, false
	return queue, lost
}

// run writes until ctx ends, then what is left and that it ends.
func (h *history) run(ctx context.Context) error {
	if h == nil {
		return nil
	}
	tick := time.NewTicker(historyTick)
	defer tick.Stop()
	alive := false
	for {
		h.write(ctx, alive)
		select {
		case <-ctx.Done():
			h.end()
			return nil
		case <-h.wanted:
			alive = false
		case <-tick.C:
			alive = true
		}
	}
}

// write takes what was left, and begins a new segment where that is due. After an
// error it does so at the next tick: the loop goes on meanwhile, and what it tells is
// held by the queue's bounds.
func (h *history) write(ctx context.Context, alive bool) {
	if h.problem.Load() != nil && !alive {
		return
	}
	j := h.journal.Load()
	if j == nil {
		var err error
		if j, err = store.OpenJournal(h.options); err != nil {
			h.fail(err)
			return
		}
		h.journal.Store(j)
	}
	now := h.now()
	h.mu.Lock()
	lost := h.lost
	h.mu.Unlock()
	var err error
	due := lost || j.Due(now)
	if due {
		err = h.begin(ctx, j)
	} else {
		queue, _ := h.take()
		entries := h.entries(j, queue)
		if alive {
			entries = append(entries, entryOf(now, nil, historyEntry{Kind: historyAlive}))
		}
		err = j.Append(entries...)
	}
	if err == nil && now.Sub(h.synced) >= historySync {
		h.synced = now
		err = j.Sync()
	}
	if err == nil && (alive || due) { // so that a burst takes one segment more than its room, at most
		j.Tidy(now, h.doubt(ctx) == "")
	}
	if err != nil {
		h.fail(err)
		return
	}
	if h.problem.Swap(nil) != nil {
		h.log.Info("history is kept again")
	}
}

func (h *history) fail(err error) {
	why := err.Error()
	if old := h.problem.Swap(&why); old == nil {
		h.log.Warn("history is not kept: answers and failover go on without it", slog.Any("err", err))
	}
	h.shown.errors.Inc()
	if j := h.journal.Load(); j != nil {
		_ = j.Close() // it failed already
	}
}

// begin begins a segment with all that holds now. What was told before goes into the
// one before.
func (h *history) begin(ctx context.Context, j *store.Journal) error {
	var before []telling
	var first telling
	var image *health.Image
	err := h.loop.inspect(ctx, func(now time.Time) {
		f := h.loop.horizon.current()
		if f == nil || !h.loop.decided {
			return // nothing is told, or not what the book says
		}
		before, _ = h.take()
		first = telling{
			at: now, force: f, geo: h.loop.earth.Load().table.Origin().String(),
			returns: h.loop.ramps.returns, earlier: h.loop.ramps.earlier, stale: h.loop.stale, urgent: h.loop.urgent.added,
		}
		image = h.loop.book.Image(now) // written off the loop
	})
	if err != nil || first.force == nil {
		return nil // the end, or nothing yet: asked again soon
	}
	// All is said anew in a moment: an error costs what this would have added.
	_ = j.Append(h.entries(j, before)...)
	h.force, h.returns, h.earlier, h.stale, h.urgent, h.geo = nil, nil, nil, false, nil, ""
	e := historyEntry{Kind: historyBegins, Director: h.name, Version: h.version, Image: image.Bytes(), Starts: !h.begun}
	refs, err := h.say(j, &e, first)
	if err != nil {
		return err
	}
	err = j.Begin(entryOf(first.at, refs, e))
	h.begun = h.begun || err == nil
	return err
}

// entries gives what was told as entries; what was told since it was begun alone.
func (h *history) entries(j *store.Journal, queue []telling) []store.Entry {
	var out []store.Entry
	for _, t := range queue {
		var refs []plan.Hash
		e := historyEntry{Kind: historyTold}
		if t.force == nil {
			e.Kind, e.Certificates = historyProved, health.EncodeCertificates(t.certs)
		} else {
			// A document that cannot be kept is missed by who asks, and told there.
			refs, _ = h.say(j, &e, t)
		}
		out = append(out, entryOf(t.at, refs, e))
	}
	return out
}

// say puts into an entry what differs from what was said before.
func (h *history) say(j *store.Journal, e *historyEntry, t telling) (refs []plan.Hash, err error) {
	if h.force != t.force {
		if h.force == nil || h.force.sealed != t.force.sealed {
			e.Plan = t.force.sealed.Raw
		}
		if h.force == nil || !sameBytes(h.force.bytes, t.force.bytes) {
			h.doc, err = j.Keep(t.force.bytes)
			h.kept = err == nil
			giveBack(len(t.force.bytes))
		}
		h.force = t.force
		e.Doc = h.doc.String()
		if h.kept {
			refs = []plan.Hash{h.doc}
		}
		if errors.Is(err, store.ErrTooLarge) {
			err = nil // the rest is worth keeping
		}
	}
	if e.All = t.states != nil; e.All {
		e.States = stateTexts(t.states)
	} else if len(t.changes) > 0 {
		e.States = make(map[string]string, len(t.changes))
		for _, c := range t.changes {
			e.States[c.Subject.String()] = c.State.String() // the latest is the last
		}
	}
	if e.Kind == historyBegins || !maps.Equal(h.returns, t.returns) {
		h.returns = t.returns
		e.Returns = returnTexts(t.returns)
	}
	if e.Kind == historyBegins || !maps.EqualFunc(h.earlier, t.earlier, slices.Equal) {
		h.earlier = t.earlier
		e.Earlier = earlierTexts(t.earlier)
	}
	if e.Kind == historyBegins || h.stale != t.stale {
		h.stale = t.stale
		e.Stale = &t.stale
	}
	if e.Kind == historyBegins || !slices.EqualFunc(h.urgent, t.urgent, sameOverride) {
		h.urgent = t.urgent
		e.Urgent = overrideOctets(t.urgent)
	}
	if e.Kind == historyBegins || h.geo != t.geo {
		h.geo, e.Geo = t.geo, t.geo
	}
	return refs, err
}

// end writes what is left, and that this director ends.
func (h *history) end() {
	j := h.journal.Load()
	if j == nil || h.problem.Load() != nil || h.force == nil {
		return // nothing is begun
	}
	queue, lost := h.take()
	if lost {
		queue = nil
	}
	now := h.now()
	if err := j.Append(append(h.entries(j, queue), entryOf(now, nil, historyEntry{Kind: historyEnds}))...); err != nil {
		h.log.Warn("the end of the history is not written", slog.Any("err", err))
	}
	_ = j.Close()
}

// alert says why nothing is kept; "" = it is.
func (h *history) alert() string {
	if h == nil {
		return ""
	}
	if why := h.problem.Load(); why != nil {
		return "history is not kept: " + *why
	}
	return ""
}

// The kinds of entry.
const (
	historyBegins = "begins"       // all that holds
	historyTold   = "told"         // what is now decided by
	historyProved = "certificates" // that came into force
	historyAlive  = "alive"
	historyEnds   = "ends"
)

// historyEntry is the body of a journal's entry. Fields are only added, and one that
// is not there says nothing new.
type historyEntry struct {
	Kind     string                   `json:"kind"`
	Director string                   `json:"director,omitempty"`
	Version  string                   `json:"version,omitempty"`
	Plan     []byte                   `json:"plan,omitempty"`    // as sealed
	Doc      string                   `json:"doc,omitempty"`     // hash of the spec document that was used
	Starts   bool                     `json:"starts,omitempty"`  // the process, too
	Image    []byte                   `json:"image,omitempty"`   // health.Book.Save
	All      bool                     `json:"all,omitempty"`     // States are those of all subjects
	States   map[string]string        `json:"states,omitempty"`  // by subject
	Returns  map[string]historyReturn `json:"returns,omitempty"` // all of them; by subject
	// Earlier are those that observations go by; all of them, too.
	Earlier map[string][]historyReturn `json:"earlier,omitempty"`
	Stale   *bool                      `json:"stale,omitempty"`
	Urgent  *[][]byte                  `json:"urgent,omitempty"` // all emergency drains in force: plan.Override
	Geo     string                     `json:"geo,omitempty"`
	// Certificates are messages of health.EncodeCertificates.
	Certificates [][]byte `json:"certificates,omitempty"`
}

type historyReturn struct {
	At  time.Time     `json:"at"`
	Age time.Duration `json:"age,omitempty"`
}

func entryOf(at time.Time, refs []plan.Hash, e historyEntry) store.Entry {
	body, err := json.Marshal(e)
	if err != nil {
		body = fmt.Appendf(nil, `{"kind":"told"}`) // of strings, numbers and octets: it always encodes
	}
	return store.Entry{At: at, Refs: refs, Body: body}
}

func stateTexts(states map[health.Subject]health.State) map[string]string {
	out := make(map[string]string, len(states))
	for s, st := range states {
		if st != health.Unknown {
			out[s.String()] = st.String()
		}
	}
	return out
}

func returnTexts(returns map[health.Subject]steer.Return) map[string]historyReturn {
	out := make(map[string]historyReturn, len(returns)+1)
	for s, r := range returns {
		out[s.String()] = historyReturn(r)
	}
	if len(out) == 0 {
		out[""] = historyReturn{} // none, which is not the same as nothing new
	}
	return out
}

func earlierTexts(earlier map[health.Subject][]steer.Return) map[string][]historyReturn {
	out := make(map[string][]historyReturn, len(earlier)+1)
	for s, list := range earlier {
		for _, r := range list {
			out[s.String()] = append(out[s.String()], historyReturn(r))
		}
	}
	if len(out) == 0 {
		out[""] = nil // as above
	}
	return out
}

func sameBytes(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

type historyMetrics struct{ errors prometheus.Counter }

func newHistoryMetrics(reg prometheus.Registerer, h *history) *historyMetrics {
	m := &historyMetrics{errors: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "divert_history_write_errors_total", Help: "Times that what this director told could not be written down.",
	})}
	span := func(value func(store.Span) float64) func() float64 {
		return func() float64 {
			if j := h.journal.Load(); j != nil {
				return value(j.Span())
			}
			return 0
		}
	}
	reg.MustRegister(m.errors,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "divert_history_bytes", Help: "Size of what is kept of what this director told.",
		}, span(func(s store.Span) float64 { return float64(s.Octets) })),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "divert_history_oldest_timestamp_seconds", Help: "Since when what this director told is kept; 0: nothing is.",
		}, span(func(s store.Span) float64 {
			if s.First.IsZero() {
				return 0
			}
			return float64(s.First.UnixNano()) / 1e9
		})))
	return m
}
