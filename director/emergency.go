package director

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/time/rate"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/health"
)

const (
	urgentMail    = 256
	urgentTick    = 250 * time.Millisecond // between two looks, and two times that a word is sent
	urgentSummary = 2 * time.Second        // between two summaries
	urgentAges    = core.EmergencyPenalty  // between two writes of ages
	urgentRate    = 20                     // words of one director whose signatures are checked a second
)

// emergencies owns the words of operators that drain while the store is away: it keeps
// them on the disk, before it says or uses any, gives them to the others until they have
// them, judges what each comes to, and hands that to the loop. The leader asks it what the
// store is to hold. Where the plan lists no operator it does nothing at all.
type emergencies struct {
	name     string
	horizon  *horizon
	links    outbox
	file     *store.Emergencies
	states   func(context.Context) (certified, observed map[health.Subject]health.State, err error)
	earth    func() *earth
	prepared *atomic.Pointer[steer.Prepared]
	overlay  *overlay // the loop's
	wakeup   wake     // the loop's
	changed  func()
	log      *slog.Logger
	now      func() time.Time
	shown    *emergencyMetrics

	mail chan gossip.Message
	asks chan func(time.Time)
	memo core.Memo // by run alone, as all below

	held    core.Emergencies
	judged  []core.Emergency
	by      judgedBy
	version uint64 // of held
	spread  core.Spread
	limits  map[string]*rate.Limiter
	unsaved string // why the disk does not hold what is held; "" = it does
	dirty   bool   // it does not yet
	saved   time.Time
	told    time.Time // the last summary
	tell    bool      // there is something new to tell
}

// judgedBy is what a judgement depends on.
type judgedBy struct {
	plan      plan.Identity
	decisions uint64
	version   uint64
	over      int // words whose time is up
}

type emergencyMetrics struct {
	words   *prometheus.GaugeVec
	refused *prometheus.CounterVec
}

func newEmergencyMetrics(reg prometheus.Registerer) *emergencyMetrics {
	f := promauto.With(reg)
	return &emergencyMetrics{
		words: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "divert_emergency_drains", Help: "Drains that operators said while the store is away and that it does not hold yet, by what becomes of them.",
		}, []string{"state"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_emergency_words_refused_total", Help: "Words of operators that other directors sent and that do not count here, by reason.",
		}, []string{"reason"}),
	}
}

// prepare reads what the disk holds, so that the first table goes by it (S12).
func (e *emergencies) prepare() *emergencies {
	e.mail, e.asks = make(chan gossip.Message, urgentMail), make(chan func(time.Time))
	e.limits = map[string]*rate.Limiter{}
	e.overlay.done = newWake()
	raw, err := e.file.Load()
	if err != nil || raw == nil {
		e.damaged(err)
		return e
	}
	now := e.now()
	inForce, err := e.held.Decode(raw, now, now)
	e.damaged(err)
	for _, t := range e.held.Told(now) {
		if inForce[t.Word.Sum] && t.Left > 0 {
			e.judged = append(e.judged, core.Emergency{Word: t.Word, State: core.EmergencyInForce, Left: t.Left, Until: now.Add(t.Left)})
		}
	}
	if len(e.judged) > 0 {
		e.overlay.view.Store(&urgent{e.judged})
	}
	e.dirty, e.tell = true, true // the next start adds to the ages of this one
	return e
}

func (e *emergencies) damaged(err error) {
	if err == nil {
		return
	}
	e.unsaved, e.dirty = err.Error(), true
	e.log.Error("emergency drains on this disk cannot be read: what the other directors hold comes back from them", slog.Any("err", err))
}

// deliver takes a message in without waiting.
func (e *emergencies) deliver(m gossip.Message) bool {
	select {
	case e.mail <- m:
		return true
	default:
		return false
	}
}

func (e *emergencies) run(ctx context.Context) error {
	tick := time.NewTicker(urgentTick)
	defer tick.Stop()
	for {
		ticked := false
		select {
		case <-ctx.Done():
			if e.held.Len() > 0 {
				e.save(e.now())
			}
			return nil
		case m := <-e.mail:
			e.message(m, e.now())
		case ask := <-e.asks:
			ask(e.now())
		case <-e.overlay.done:
			e.tell = true
		case <-tick.C:
			ticked = true
		}
		e.step(ctx, e.now(), ticked)
	}
}

// inspect runs a question on the goroutine that owns the words.
func (e *emergencies) inspect(ctx context.Context, ask func(time.Time)) error {
	done := make(chan struct{})
	select {
	case e.asks <- func(now time.Time) { defer close(done); ask(now) }:
		<-done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// step does all that is due.
func (e *emergencies) step(ctx context.Context, now time.Time, ticked bool) {
	f := e.horizon.current()
	if f == nil {
		return
	}
	if e.horizon.savedPlan() == f.sealed.Identity && e.held.Forget(f.sealed.Plan) {
		e.touch() // the plan on the disk says it all
	}
	e.judge(ctx, f, now)
	if e.dirty || e.held.Len() > 0 && now.Sub(e.saved) >= urgentAges {
		e.save(now)
	}
	if e.held.Len() > 0 || len(f.sealed.Plan.GetOperators()) > 0 {
		e.speak(f, now, ticked)
	}
}

// touch notes that what is held is other than before.
func (e *emergencies) touch() {
	e.version++
	e.dirty, e.tell = true, true
}

// judge finds what each word comes to, and hands it to the loop where it is news.
func (e *emergencies) judge(ctx context.Context, f *inForce, now time.Time) {
	list := e.held.Told(now)
	by := judgedBy{plan: f.sealed.Identity, decisions: e.overlay.decisions.Load(), version: e.version}
	for _, t := range list {
		if t.Left <= 0 {
			by.over++
		}
	}
	if by == e.by || len(list) == 0 && len(e.judged) == 0 {
		return
	}
	next, err := e.verdict(ctx, f, list)
	if err != nil {
		return // the next look tries again
	}
	e.by = by
	if slices.EqualFunc(next, e.judged, sameEmergency) {
		return
	}
	e.tellLog(next)
	e.judged, e.dirty, e.tell = next, true, true
	e.overlay.view.Store(&urgent{next})
	e.wakeup.up()
	e.changed()
	e.shown.words.Reset()
	for _, j := range next {
		if j.Word.GetEnds() == "" {
			e.shown.words.WithLabelValues(j.State.String()).Inc()
		}
	}
}

func (e *emergencies) verdict(ctx context.Context, f *inForce, list []core.Told) ([]core.Emergency, error) {
	if len(list) == 0 {
		e.memo = core.Memo{}
		return nil, nil
	}
	states, observed, err := e.states(ctx)
	if err != nil {
		return nil, err
	}
	f = f.stable() // all go by one spec, as all other commands do
	return core.Judge(core.State{
		Plan: f.sealed, Doc: f.doc, Spec: f.spec, States: states, Observed: observed, Places: e.earth().placesFor,
		Now: e.now(), Me: e.name, Memo: &e.memo, Prepared: e.prepared.Load(),
	}, list), nil
}

// sameEmergency tells whether a table and people would be told the same. How long it lasts
// moves by what the others say of it.
func sameEmergency(a, b core.Emergency) bool {
	return a.Word.Sum == b.Word.Sum && a.State == b.State && a.Why == b.Why && a.Until.Sub(b.Until).Abs() < 2*time.Second
}

// tellLog logs a line for each word that comes to something else.
func (e *emergencies) tellLog(next []core.Emergency) {
	was := map[plan.Hash]core.EmergencyState{}
	for _, j := range e.judged {
		was[j.Word.Sum] = j.State
	}
	for _, j := range next {
		if was[j.Word.Sum] == j.State {
			continue
		}
		e.log.Warn("emergency", slog.String("id", j.Word.GetId()), slog.String("operator", j.Word.GetOperator()), slog.String("scope", j.Word.GetScope()),
			slog.String("ends", j.Word.GetEnds()), slog.String("state", j.State.String()), slog.String("why", j.Why), slog.String("reason", j.Word.GetReason()))
	}
}

// save writes what is held; an error is told, and tried again.
func (e *emergencies) save(now time.Time) {
	err := e.file.Save(e.held.Encode(e.judged, now))
	e.saved = now // also where it failed: the next look at ages is not before its time
	if err == nil {
		e.dirty, e.unsaved = false, ""
		return
	}
	if e.unsaved == "" {
		e.log.Error("emergency drains cannot be written: they stay in force, and are lost here at a restart", slog.Any("err", err))
		e.changed()
	}
	e.unsaved = err.Error()
	e.dirty = false // tried again with the ages
}

// due gives the words as they are judged now, with what each has left: what the leader is
// to write of them.
func (e *emergencies) due(ctx context.Context) (out []core.Emergency) {
	_ = e.inspect(ctx, func(now time.Time) {
		left := map[plan.Hash]time.Duration{}
		for _, t := range e.held.Told(now) {
			left[t.Word.Sum] = t.Left
		}
		for _, j := range e.judged {
			j.Left = left[j.Word.Sum]
			out = append(out, j)
		}
	})
	return out
}

// savedPlan is the plan that is on the disk.
func (h *horizon) savedPlan() plan.Identity {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ids.Saved
}
