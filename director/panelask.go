package director

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
)

// heard is another director's word on the open question.
type heard struct {
	from   string
	answer panelAnswer
	at     time.Time
}

// answered passes an answer to whoever asked. What nobody waits for any more is
// dropped; so is what there is no room for, and asked for again.
func (p *panel) answered(m gossip.Message) {
	a, err := decodeAnswer(m.Payload)
	if err != nil {
		p.shown.questions.WithLabelValues("malformed").Inc()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil || p.open.number != a.number {
		return
	}
	select {
	case p.heard <- heard{m.From, a, m.Received}:
	default:
	}
}

// Probe has every registered director probe a target now, and shows what each saw. It
// ends when all have answered, or have not so much as said in panelPatience that they
// have the question, or with ctx. It changes nothing: no probe of it is a vote.
func (d *Director) Probe(ctx context.Context, target string, progress func(api.Probing)) (api.Probing, error) {
	f := d.horizon.current()
	switch {
	case d.mute != nil:
		return api.Probing{}, &core.Refusal{Reason: "this director says nothing to others, since its data folder cannot be written", Remedy: "ask another one"}
	case f == nil:
		return api.Probing{}, errNoPlan
	}
	return d.panel.ask(ctx, f, target, progress)
}

// enter waits for this director's turn to ask: one question at a time, and no more
// than the others would answer.
func (p *panel) enter(ctx context.Context) (leave func(), err error) {
	busy := &core.Refusal{Reason: "others have this director probe already", Remedy: "wait a moment and ask again"}
	select {
	case p.waiting <- struct{}{}:
		defer func() { <-p.waiting }()
	default:
		return nil, busy
	}
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, busy
	}
	if err := p.own.Wait(ctx); err != nil { // it knows at once whether that is before ctx ends
		<-p.turn
		return nil, &core.Refusal{Reason: "this director has been asked to probe more often than once in two seconds", Remedy: "wait a moment and ask again"}
	}
	return func() { <-p.turn }, nil
}

// asking is one question while it is put to all.
type asking struct {
	plan    *inForce
	text    string
	list    []aimed
	start   time.Time
	members []*member
}

// member is one registered director that is asked.
type member struct {
	name, site string
	self       bool
	taken      bool         // it has the question
	answer     *panelAnswer // done or refused
	took       time.Duration
	gaveUp     bool // it never said that it has it
	sent       time.Time
}

func (m *member) settled() bool { return m.answer != nil || m.gaveUp }

// ask puts a question to all, and gathers what they say.
func (p *panel) ask(ctx context.Context, f *inForce, text string, progress func(api.Probing)) (api.Probing, error) {
	list, err := aim(f.spec, text)
	if err != nil {
		return api.Probing{}, err
	}
	leave, err := p.enter(ctx)
	if err != nil {
		return api.Probing{}, err
	}
	defer leave()
	p.log.Info("asking all directors to probe", slog.String("target", text), slog.Int("subjects", len(list)))
	a := &asking{plan: f, text: text, list: list, start: time.Now()}
	for _, e := range f.sealed.Plan.Active() {
		a.members = append(a.members, &member{name: e.GetName(), site: e.GetSite(), self: e.GetName() == p.name})
	}
	q := question{target: text, wait: forWork(ctx, a.start)}
	answers, forget := p.listen(&q)
	defer forget()
	own, cancel := context.WithTimeout(ctx, q.wait)
	defer cancel()
	ours := make(chan heard, 1)
	go func() {
		seen := p.look(own, list, p.ours)
		ours <- heard{p.name, panelAnswer{state: answerDone, plan: planName(f), seen: seen}, time.Now()}
	}()
	p.gather(ctx, a, q.encode(), answers, ours, progress)
	return p.conclude(a), nil
}

// gather ends when every member is settled, or with ctx. Our own probes end with it:
// theirs is the shorter time.
func (p *panel) gather(ctx context.Context, a *asking, payload []byte, answers, ours <-chan heard, progress func(api.Probing)) {
	tick := time.NewTicker(panelResend)
	defer tick.Stop()
	told := a.start
	for p.remind(a, payload); slices.ContainsFunc(a.members, func(m *member) bool { return !m.settled() }); p.remind(a, payload) {
		select {
		case <-ctx.Done():
			if i := slices.IndexFunc(a.members, func(m *member) bool { return m.self && !m.settled() }); i >= 0 {
				a.hear(<-ours)
			}
			return
		case h := <-ours:
			a.hear(h)
		case h := <-answers:
			if !a.hear(h) {
				continue
			}
		case now := <-tick.C:
			if now.Sub(told) < time.Second {
				continue
			}
		}
		told = time.Now()
		progress(a.view())
	}
}

// listen opens a question, so that answers to it are heard.
func (p *panel) listen(q *question) (answers <-chan heard, forget func()) {
	c := make(chan heard, panelMail)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	q.number = p.number
	p.open, p.heard = q, c
	return c, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.open, p.heard = nil, nil
	}
}

// forWork is what of the time until ctx ends the others may use: their answers must be
// here before it.
func forWork(ctx context.Context, now time.Time) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return maxAsked
	}
	left := end.Sub(now)
	return max(min(left-min(left/4, time.Second), maxAsked), time.Millisecond)
}

// hear notes what a member says; true: it is settled by that.
func (a *asking) hear(h heard) bool {
	i := slices.IndexFunc(a.members, func(m *member) bool { return m.name == h.from })
	if i < 0 || a.members[i].answer != nil {
		return false
	}
	m := a.members[i]
	if m.taken = true; h.answer.state == answerTaken {
		return false
	}
	m.answer, m.took, m.gaveUp = &h.answer, max(h.at.Sub(a.start), 0), false
	return true
}

// remind sends the question to whom it is due, and gives up who does not even say that
// it has it. A director that is at work is asked seldom: only its answer can be lost.
func (p *panel) remind(a *asking, payload []byte) {
	now := time.Now()
	for _, m := range a.members {
		pause := panelResend
		if m.taken {
			pause *= 4
		}
		switch {
		case m.self || m.settled() || !m.sent.IsZero() && now.Sub(m.sent) < pause:
			continue
		case !m.taken && now.Sub(a.start) >= panelPatience:
			m.gaveUp = true
			continue
		}
		m.sent = now
		if _, err := p.send(m.name, kindProbeWant, payload); err != nil {
			p.log.Debug("question not sent", slog.String("to", m.name), slog.Any("err", err))
		}
	}
}
