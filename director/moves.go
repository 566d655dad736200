package director

import (
	"log/slog"
	"slices"

	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// tellMoves logs one line for each endpoint that begins or ceases to serve. Where
// services move together that are decided as one, the first speaks for all; of more
// than maxLines endpoints the rest are counted by what became of them. Health is what
// status says, by whoever is voted up; of so many it is not asked, and what never fell has
// none there.
func (l *loop) tellMoves(old, next steer.Decision, up func(health.Subject) bool) {
	before := byName(old, next)
	together := make([]int, len(next.Services))
	for i := range next.Services {
		if first := next.Alike[i]; before(i) == before(int(first)) {
			together[first]++
		}
	}
	type fate struct {
		cluster string
		health  steer.Health
		serving bool
	}
	lines, rest := 0, map[fate]int{}
	for i := range next.Services {
		was, s := before(i), &next.Services[i]
		if first := int(next.Alike[i]); was == s.Ruling || first != i && was == before(first) {
			continue
		}
		for _, n := range s.Moved(was) {
			if lines++; lines > maxLines {
				cluster, h, serving := s.Glance(n)
				rest[fate{cluster, h, serving}] += max(1, together[i])
				continue
			}
			site := s.Site(n)
			args := []any{
				slog.String("service", s.Name), slog.String("cluster", site.Cluster), slog.String("health", s.Health(n, up).String()),
				slog.Bool("serving", site.Serving), slog.String("drain", site.Drained), slog.String("why", site.Why),
			}
			if n := together[i]; n > 1 {
				args = append(args, slog.Int("services", n))
			}
			l.log.Info("endpoint", args...)
		}
	}
	for to, n := range rest {
		args := []any{slog.String("cluster", to.cluster), slog.Bool("serving", to.serving), slog.Int("services", n)}
		if to.health != steer.HealthUnknown {
			args = append(args, slog.String("health", to.health.String()))
		}
		l.log.Info("more endpoints", args...)
	}
}

// tellShared logs when what several clusters are reached through seems to fail, and when
// it works again: meanwhile nothing behind it falls, whatever its clients see.
func (l *loop) tellShared() {
	now := map[string]bool{}
	for _, d := range l.observer.Dependencies() {
		if now[d.Via] = true; !l.failing[d.Via] {
			l.log.Warn("shared dependency fails: what is reached through it is unknown, and none of it falls", slog.String("via", d.Via), slog.Any("clusters", d.Groups))
		}
	}
	for via := range l.failing {
		if !now[via] {
			l.log.Info("shared dependency works again, or one cluster alone fails behind it", slog.String("via", via))
		}
	}
	l.failing = now
}

// byName gives what was decided for the services of the next decision; nil where
// nothing was.
func byName(old, next steer.Decision) func(i int) *steer.Ruling {
	if slices.EqualFunc(old.Services, next.Services, func(a, b steer.Service) bool { return a.Name == b.Name }) {
		return func(i int) *steer.Ruling { return old.Services[i].Ruling }
	}
	was := make(map[string]*steer.Ruling, len(old.Services))
	for i := range old.Services {
		was[old.Services[i].Name] = old.Services[i].Ruling
	}
	return func(i int) *steer.Ruling { return was[next.Services[i].Name] }
}
