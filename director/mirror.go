package director

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/dnsserver/ask"
)

// mirror asks the other directors' DNS each second from which plan they answer:
// a mute one alerts, and a drain is complete only when seen there (S6).
type mirror struct {
	source netip.Addr
	peers  func(context.Context) []peerView
	log    *slog.Logger
	shown  *mirrorMetrics
	change func()

	mu   sync.Mutex
	last map[string]sighting
}

// sighting is the last answer of one peer's DNS.
type sighting struct {
	plan  plan.Identity
	fault string // "" = it answered
	since time.Time
}

const (
	mirrorTick    = time.Second
	mirrorTimeout = 700 * time.Millisecond
)

func (m *mirror) run(ctx context.Context) error {
	tick := time.NewTicker(mirrorTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var group errgroup.Group
		names := map[string]bool{}
		for _, p := range m.peers(ctx) {
			if p.self || p.dns == "" {
				continue
			}
			names[p.name] = true
			group.Go(func() error {
				m.look(ctx, p.name, p.dns)
				return nil
			})
		}
		_ = group.Wait() // look notes its failures itself
		m.keep(names)
	}
}

// look asks once and notes what was seen.
func (m *mirror) look(ctx context.Context, name, addr string) sighting {
	askCtx, cancel := context.WithTimeout(ctx, mirrorTimeout)
	defer cancel()
	var s sighting
	text, err := ask.Plan(askCtx, addr, m.source)
	if err == nil {
		s.plan, err = plan.ParseIdentity(text)
	}
	if err != nil {
		s.fault = err.Error()
	}
	if ctx.Err() != nil {
		return s
	}
	m.mu.Lock()
	old, known := m.last[name]
	s.since = time.Now()
	if known && (old.fault == "") == (s.fault == "") {
		s.since = old.since
	}
	m.last[name] = s
	m.mu.Unlock()
	m.shown.seen(name, s.fault == "")
	if !known || (old.fault == "") != (s.fault == "") {
		if s.fault == "" {
			m.log.Info("a director's DNS answers", slog.String("peer", name))
		} else {
			m.log.Warn("a director's DNS is mute", slog.String("peer", name), slog.String("why", s.fault))
		}
		m.change()
	}
	return s
}

// keep drops directors that are no longer asked.
func (m *mirror) keep(names map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.last, func(name string, _ sighting) bool {
		if !names[name] {
			m.shown.forget(name)
		}
		return !names[name]
	})
}

// seen gives the last sightings.
func (m *mirror) seen() map[string]sighting {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.last)
}

// confirm asks a director's DNS now; "" when it answers from the plan or a later
// one, else why not.
func (m *mirror) confirm(ctx context.Context, name, addr string, id plan.Identity) string {
	s := m.look(ctx, name, addr)
	switch {
	case s.fault != "":
		return "acknowledged, but its DNS does not confirm it: " + s.fault
	case s.plan.Compare(id) < 0:
		return "acknowledged, but its DNS still answers from an older plan"
	}
	return ""
}
