package director

import (
	"log/slog"
	"slices"

	"github.com/divertdns/divert/director/steer"
)

// tellMoves logs one line for each endpoint that begins or ceases to serve. Where
// services move together that are decided as one, the first speaks for all.
func (l *loop) tellMoves(old, next steer.Decision) {
	before := byName(old, next)
	together := make([]int, len(next.Services))
	for i := range next.Services {
		if first := next.Alike[i]; identicalSites(before(i), before(int(first))) {
			together[first]++
		}
	}
	for i := range next.Services {
		was, s := before(i), &next.Services[i]
		if first := int(next.Alike[i]); identicalSites(was, s.Sites) || first != i && identicalSites(was, before(first)) {
			continue
		}
		for _, site := range s.Sites {
			at := slices.IndexFunc(was, func(b steer.Site) bool { return b.Cluster == site.Cluster })
			if at >= 0 && was[at].Serving == site.Serving && was[at].Health == site.Health && was[at].Drained == site.Drained {
				continue
			}
			if at < 0 && site.Health == steer.Healthy {
				continue
			}
			args := []any{
				slog.String("service", s.Name), slog.String("cluster", site.Cluster), slog.String("health", site.Health.String()),
				slog.Bool("serving", site.Serving), slog.String("drain", site.Drained), slog.String("why", site.Why),
			}
			if n := together[i]; n > 1 {
				args = append(args, slog.Int("services", n))
			}
			l.log.Info("endpoint", args...)
		}
	}
}

// byName gives what the sites of the next decision's services were.
func byName(old, next steer.Decision) func(i int) []steer.Site {
	if slices.EqualFunc(old.Services, next.Services, func(a, b steer.Service) bool { return a.Name == b.Name }) {
		return func(i int) []steer.Site { return old.Services[i].Sites }
	}
	was := make(map[string]int, len(old.Services))
	for i := range old.Services {
		was[old.Services[i].Name] = i
	}
	return func(i int) []steer.Site {
		at, ok := was[next.Services[i].Name]
		if !ok {
			return nil
		}
		return old.Services[at].Sites
	}
}

func identicalSites(a, b []steer.Site) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
