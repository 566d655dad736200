package director

import (
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
)

// message takes in what another director says.
func (e *emergencies) message(m gossip.Message, now time.Time) {
	if m.Kind == kindEmergencies {
		list, err := decodeHoldings(m.Payload)
		if err != nil {
			e.shown.refused.WithLabelValues("malformed").Inc()
			return
		}
		e.spread.Note(&e.held, m.From, m.Boot, list, now)
		if e.held.Len() > 0 {
			e.changed() // a command may wait for it
		}
		return
	}
	raw, age, err := decodeWord(m.Payload)
	var sum plan.Hash
	if err == nil {
		sum, err = plan.WordSum(raw)
	}
	if err != nil {
		e.shown.refused.WithLabelValues("malformed").Inc()
		return
	}
	if e.held.Word(sum) == nil {
		if err := e.hear(raw, m.From, now); err != nil {
			e.log.Debug("emergency refused", slog.String("peer", m.From), slog.Any("err", err))
			return
		}
	}
	e.held.Claim(sum, m.From, age, now)
}

// hear takes in a word that is new here, if it counts.
func (e *emergencies) hear(raw []byte, from string, now time.Time) error {
	f := e.horizon.current()
	if f == nil || len(f.sealed.Plan.GetOperators()) == 0 {
		e.shown.refused.WithLabelValues("no operators").Inc()
		return errNoPlan
	}
	l := e.limits[from]
	if l == nil {
		l = rate.NewLimiter(urgentRate, 2*core.MaxWords)
		e.limits[from] = l
	}
	if !l.Allow() {
		e.shown.refused.WithLabelValues("too many").Inc()
		return fmt.Errorf("more than %d a second", urgentRate)
	}
	if unheard, err := e.held.Hear(f.sealed.Plan, raw, now, now); err != nil {
		e.shown.refused.WithLabelValues(unheard).Inc()
		return err
	}
	e.touch()
	return nil
}

// speak tells the others what is held here, and gives each what it lacks.
func (e *emergencies) speak(f *inForce, now time.Time, ticked bool) {
	if now.Sub(e.told) >= urgentSummary || e.tell && (ticked || now.Sub(e.told) >= urgentTick) {
		e.told, e.tell = now, false
		for _, b := range encodeHoldings(e.holdings(now), e.name) {
			e.broadcast(kindEmergencies, b)
		}
	}
	others := core.Others(core.Voters(f.sealed.Plan), e.name)
	for _, name := range e.spread.Keep(others) {
		delete(e.limits, name)
	}
	if !ticked {
		return
	}
	for _, name := range others {
		for _, word := range e.spread.Give(&e.held, name, now) {
			if _, err := e.links.Send(name, kindEmergency, encodeWord(word.Raw, e.held.Age(word.Sum, now))); err != nil {
				e.log.Debug("emergency not sent", slog.String("to", name), slog.Any("err", err))
			}
		}
	}
}

// holdings is what this director says of the words that it holds.
func (e *emergencies) holdings(now time.Time) []core.Holding {
	answered := e.overlay.view.Load() == e.overlay.used.Load() && e.unsaved == ""
	return e.held.Holdings(e.judged, answered, now)
}

func (e *emergencies) broadcast(kind uint8, payload []byte) {
	if _, err := e.links.Broadcast(kind, payload); err != nil {
		e.log.Debug("emergencies not told", slog.Any("err", err))
	}
}
