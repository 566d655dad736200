package director

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/probe"
)

// The bounds of what others may have this director do. A question comes from a
// director of the roster, names what it wants probed, and is answered from this
// director's own spec: the worst that a malicious one can have is somewhat more of the
// probes that are sent anyway.
const (
	panelProbes   = 64  // probes of questions that are out at once
	panelRate     = 500 // of them a second, as many as fast signals
	panelLasting  = 100 // of them a second for one director, once it has had maxAimed
	panelErrands  = 8   // questions of different directors under way at once
	panelBurst    = 10  // questions of one director, before it gets one each panelEach
	panelEach     = time.Second
	panelKeep     = time.Minute // for so long an answer can be had again
	panelMail     = 256
	panelResend   = 250 * time.Millisecond // between two times that a question is sent
	panelPatience = 3 * time.Second        // for a director to say that it has the question: a dozen datagrams
	panelWaiting  = 4                      // questions of people that may wait for those before them
)

// panel is all registered directors as a person has them probe now: it puts the
// question to them, and probes for the others that ask. What it learns is for people:
// it never votes and reports to nobody who does.
type panel struct {
	name    string
	send    func(to string, kind uint8, payload []byte) (gossip.Message, error) // a datagram
	courier *courier
	horizon *horizon
	probe   func(context.Context, probe.Target) health.Report
	soft    func(health.Subject) health.Report // what was last heard of it: others pay for an answer, so none is asked for
	peers   func(context.Context) []peerView
	log     *slog.Logger
	shown   *panelMetrics

	mail    chan gossip.Message
	done    chan finished
	slots   *semaphore.Weighted // of probes that are out
	pace    *rate.Limiter       // of probes
	own     *rate.Limiter       // of questions of people at this director
	ours    *rate.Limiter       // of probes for them
	turn    chan struct{}       // capacity 1: who asks the others
	waiting chan struct{}       // who wait for that

	askers map[string]*asker // by run alone

	mu     sync.Mutex
	number uint64    // of the last question
	open   *question // whose answers are wanted; nil: none
	heard  chan heard
}

// asker is another director, and the question of it that is answered.
type asker struct {
	limit   *rate.Limiter
	probes  *rate.Limiter
	boot    uint64
	number  uint64
	target  string
	begun   time.Time
	stop    context.CancelFunc // of the work; nil when it is over
	payload []byte             // the answer; nil while there is none
	again   time.Time          // when it was last said again
}

// finished is the answer to an asker's question.
type finished struct {
	from   string
	boot   uint64
	answer panelAnswer
}

type panelMetrics struct {
	probes    *prometheus.CounterVec
	questions *prometheus.CounterVec
}

func newPanelMetrics(reg prometheus.Registerer) *panelMetrics {
	f := promauto.With(reg)
	return &panelMetrics{
		probes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_asked_probes_total", Help: "Probes that were sent because somebody asked for them (divert probe), by outcome. They are no votes.",
		}, []string{"outcome"}),
		questions: f.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_probe_questions_total", Help: "Questions of other directors to probe now, by what became of them.",
		}, []string{"outcome"}),
	}
}

// prepare makes what New does not give.
func (p *panel) prepare() *panel {
	p.mail, p.done = make(chan gossip.Message, panelMail), make(chan finished, panelErrands)
	p.slots, p.pace = semaphore.NewWeighted(panelProbes), rate.NewLimiter(panelRate, panelProbes)
	p.own = rate.NewLimiter(rate.Every(2*panelEach), panelBurst/2) // less than the others allow
	p.ours = rate.NewLimiter(panelLasting, maxAimed)
	p.turn, p.waiting = make(chan struct{}, 1), make(chan struct{}, panelWaiting)
	p.askers = map[string]*asker{}
	return p
}

// deliver takes a message in without waiting.
func (p *panel) deliver(m gossip.Message) bool {
	select {
	case p.mail <- m:
		return true
	default:
		return false
	}
}

// run answers until ctx ends, and leaves no probe behind it.
func (p *panel) run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tick := time.NewTicker(panelKeep / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-p.mail:
			switch m.Kind {
			case kindProbeWant:
				p.asked(ctx, m, &work)
			case kindProbeSeen:
				p.answered(m)
			}
		case f := <-p.done:
			if a := p.askers[f.from]; a != nil && a.boot == f.boot && a.number == f.answer.number {
				a.stop()
				a.stop, a.payload = nil, f.answer.encode()
				p.reply(f.from, a.payload)
			}
		case now := <-tick.C:
			for name, a := range p.askers {
				if a.stop == nil && now.Sub(a.begun) > panelKeep {
					delete(p.askers, name)
				}
			}
		}
	}
}

// asked takes in one question, or another copy of it: a question is repeated until it
// is answered.
func (p *panel) asked(ctx context.Context, m gossip.Message, work *sync.WaitGroup) {
	q, err := decodeQuestion(m.Payload)
	if err != nil {
		p.shown.questions.WithLabelValues("malformed").Inc()
		return
	}
	a := p.askers[m.From]
	if a == nil {
		a = &asker{limit: rate.NewLimiter(rate.Every(panelEach), panelBurst), probes: rate.NewLimiter(panelLasting, maxAimed)}
		p.askers[m.From] = a
	}
	switch {
	case m.Boot < a.boot || m.Boot == a.boot && q.number < a.number:
		return // overtaken by a later one
	case m.Boot == a.boot && q.number == a.number && a.payload != nil:
		// An answer is as long as ten thousand questions; nobody who needs it asks so fast.
		if now := time.Now(); now.Sub(a.again) >= panelResend/2 {
			a.again = now
			p.reply(m.From, a.payload)
		}
		return
	case m.Boot == a.boot && q.number == a.number:
		p.reply(m.From, panelAnswer{number: q.number, state: answerTaken}.encode())
		return
	}
	if a.stop != nil { // its author has given the other one up
		a.stop()
	}
	a.boot, a.number, a.target, a.begun, a.stop, a.payload = m.Boot, q.number, q.target, time.Now(), nil, nil
	switch {
	case !a.limit.Allow():
		p.refuse(m.From, a, "asked more often than once a second")
		return
	case p.busy() >= panelErrands:
		p.refuse(m.From, a, "busy with the questions of others")
		return
	}
	p.shown.questions.WithLabelValues("taken").Inc()
	p.log.Info("probing for another director", slog.String("peer", m.From), slog.String("target", legible(q.target)))
	p.reply(m.From, panelAnswer{number: q.number, state: answerTaken}.encode())
	one, stop := context.WithTimeout(ctx, q.wait)
	a.stop = stop
	probes := a.probes
	work.Go(func() {
		defer stop()
		answer := p.work(one, q.target, probes)
		answer.number = q.number
		select {
		case p.done <- finished{m.From, m.Boot, answer}:
		case <-ctx.Done():
		}
	})
}

func (p *panel) refuse(to string, a *asker, why string) {
	p.shown.questions.WithLabelValues("refused").Inc()
	a.payload = panelAnswer{number: a.number, state: answerRefused, why: why}.encode()
	p.reply(to, a.payload)
}

func (p *panel) busy() int {
	n := 0
	for _, a := range p.askers {
		if a.stop != nil {
			n++
		}
	}
	return n
}

// reply sends by one datagram where that has room, else by a stream. What is lost is
// asked for again.
func (p *panel) reply(to string, payload []byte) {
	if len(payload)+gossip.Overhead(p.name) > gossip.MaxDatagram {
		p.courier.post(to, kindProbeSeen, payload)
		return
	}
	if _, err := p.send(to, kindProbeSeen, payload); err != nil {
		p.log.Debug("answer not sent", slog.String("to", to), slog.Any("err", err))
	}
}

// work probes what the spec in force has at a target.
func (p *panel) work(ctx context.Context, target string, probes *rate.Limiter) panelAnswer {
	f := p.horizon.current()
	if f == nil {
		return panelAnswer{state: answerRefused, why: "has no plan yet"}
	}
	list, err := aim(f.spec, target)
	if err != nil {
		why := err.Error()
		if refusal := (*core.Refusal)(nil); errors.As(err, &refusal) {
			why = refusal.Reason
		}
		return panelAnswer{state: answerRefused, plan: planName(f), why: why}
	}
	return panelAnswer{state: answerDone, plan: planName(f), seen: p.look(ctx, list, probes)}
}

// look probes each once, of what the asker may have. What the time did not suffice for is
// void.
func (p *panel) look(ctx context.Context, list []aimed, probes *rate.Limiter) []seen {
	out := make([]seen, len(list))
	var group sync.WaitGroup
	for i, a := range list {
		out[i] = seen{subject: a.Subject, outcome: outcomeVoid, why: "not probed in time"}
		if softAsked(a.Subject) {
			out[i].take(p.soft(a.Subject))
			continue
		}
		if probes.Wait(ctx) != nil || p.pace.Wait(ctx) != nil || p.slots.Acquire(ctx, 1) != nil {
			continue // the rest of the list has its words, too
		}
		group.Go(func() {
			defer p.slots.Release(1)
			r := p.probe(ctx, a.Target)
			if r.Void && ctx.Err() != nil {
				r.Reason = "no answer yet when the time was over"
			}
			out[i].take(r)
		})
	}
	group.Wait()
	for _, s := range out {
		p.shown.probes.WithLabelValues(s.outcome.String()).Inc()
	}
	return out
}

func (s *seen) take(r health.Report) {
	s.took, s.why = r.Latency, r.Reason
	switch {
	case r.Void:
		s.outcome = outcomeVoid
	case r.OK:
		s.outcome = outcomeOK
	default:
		s.outcome = outcomeFailed
	}
}

func planName(f *inForce) string {
	return utoa(f.sealed.Identity.Epoch) + "." + utoa(f.sealed.Identity.Revision)
}
