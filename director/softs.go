package director

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/kube"
	"github.com/divertdns/divert/health/probe"
)

const (
	maxAsking  = 32 // soft probes out at once
	softTick   = 20 * time.Millisecond
	firstAsk   = time.Second
	unknownFor = 3  // times in a row, and people are told
	maxUnknown = 10 // lines of that
)

// softs asks what makes endpoints degraded: readiness, nodes, numbers. It asks once for
// all addresses of a cluster that the same is asked about and that are assigned to this
// director, and reports what it hears as the prober does. What it cannot learn it
// reports as nothing (S17).
type softs struct {
	horizon *horizon
	changes *broadcast
	name    string // of this director
	sources softSources
	report  func(health.Report)
	log     *slog.Logger
	shown   *prometheus.CounterVec
	now     func() time.Time
	ask     func(context.Context, *softAsk) (bad bool, why string, err error) // sources.ask; tests have their own

	mu      sync.Mutex
	unknown map[string]string        // by definition: what is not known, and why; for people
	heard   map[string]health.Report // by definition: what was last said of those that are asked here; zero before
}

func newSoftMetrics(reg prometheus.Registerer) *prometheus.CounterVec {
	return promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "divert_soft_answers_total", Help: "Answers to soft probes, by kind and what came of them (good, bad, waiting to have been bad for long enough, unknown).",
	}, []string{"kind", "outcome"})
}

// softAsk is one question about one cluster.
type softAsk struct {
	name     string // of the probe, for people
	cluster  string
	probe    *spec.Probe
	subjects []health.Subject // of what it is evidence, by address
	counter  *kube.Counter    // of its cluster's; nil: it names no control plane
	number   *number          // of a Prometheus; the asker's alone

	due     time.Time
	asking  bool
	bad     time.Time // since when it has been, without a break; zero: it is not
	failing int       // times in a row that nothing was learnt
	last    string    // outcome, for the log
}

// answered is what came of a question.
type answered struct {
	def   string
	ask   *softAsk
	began time.Time
	bad   bool
	why   string
	err   error
}

// run owns the questions until ctx ends.
func (s *softs) run(ctx context.Context) error {
	asks, counters := map[string]*softAsk{}, map[string]*watchedCounter{}
	answers := make(chan answered)
	asking := 0
	var askers sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		askers.Wait()
		for _, c := range counters {
			c.counter.Close()
		}
		for _, a := range asks {
			a.number.close()
		}
	}()
	var seen *inForce
	next, full := s.now(), false // when the first is due; some are, and as many are asked as may be
	for {
		changed := s.changes.changed()
		now := s.now()
		if f := s.horizon.current(); f != nil && f != seen {
			if seen == nil || seen.spec != f.spec || !slices.Equal(core.Voters(seen.sealed.Plan), core.Voters(f.sealed.Plan)) {
				s.sources.counters(f.spec, counters, s.log)
				asks = s.take(f, asks, counters)
				next = now
			}
			seen = f
		}
		if !now.Before(next) || full && asking < maxAsking {
			next, full = now.Add(time.Hour), false
			for def, a := range asks {
				switch {
				case a.asking:
				case a.due.After(now):
					next = earlier(next, a.due)
				case asking == maxAsking:
					full = true
				default:
					a.asking = true
					asking++
					askers.Go(func() {
						out := answered{def: def, ask: a, began: now}
						patience, cancel := context.WithTimeout(ctx, a.probe.Timeout)
						defer cancel()
						out.bad, out.why, out.err = s.ask(patience, a)
						select {
						case answers <- out:
						case <-ctx.Done():
						}
					})
				}
			}
		}
		timer := time.NewTimer(max(next.Sub(now), softTick)) // several at once, not one look for each
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-changed:
		case out := <-answers:
			asking--
			out.ask.asking = false
			if asks[out.def] == out.ask {
				s.hear(out, s.now())
				next = earlier(next, out.ask.due)
			} else {
				out.ask.number.close()
			}
		}
		timer.Stop()
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// take makes the questions of a plan in force; what is known of those that stay, stays.
func (s *softs) take(f *inForce, old map[string]*softAsk, counters map[string]*watchedCounter) map[string]*softAsk {
	out := softAsks(f.spec, core.Voters(f.sealed.Plan), s.name)
	for def, a := range out {
		if c := counters[a.cluster]; c != nil {
			a.counter = c.counter
		}
		was := old[def]
		if was == nil {
			a.due = s.now().Add(time.Duration(rand.Float64() * float64(min(firstAsk, a.probe.Interval)))) // not all at once
			continue
		}
		a.due, a.bad, a.failing, a.last = earlier(was.due, s.now().Add(a.probe.Interval)), was.bad, was.failing, was.last
		if !was.asking && sameReach(was.probe, a.probe) {
			a.number, was.number = was.number, nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for def, was := range old {
		if !was.asking { // else it is closed when its answer comes, which nobody wants any more
			was.number.close()
		}
		if out[def] == nil {
			delete(s.unknown, def)
			delete(s.heard, def)
		}
	}
	for def := range out {
		if _, ok := s.heard[def]; !ok {
			if s.heard == nil {
				s.heard = map[string]health.Report{}
			}
			s.heard[def] = health.Report{}
		}
	}
	return out
}

// latest gives what a soft subject last came to, for people, with how old that is.
func (s *softs) latest(sub health.Subject) health.Report {
	s.mu.Lock()
	r, mine := s.heard[sub.Def]
	s.mu.Unlock()
	r.Subject = sub
	switch {
	case !mine:
		r.Void, r.Reason = true, "asked by those assigned to it alone"
	case r.At.IsZero():
		r.Void, r.Reason = true, "not asked yet"
	default:
		r.Reason = strings.TrimSuffix("asked "+s.now().Sub(r.At).Round(time.Second).String()+" ago: "+r.Reason, ": ")
	}
	return r
}

// sameReach tells whether two probes of one definition are asked in the same way.
func sameReach(a, b *spec.Probe) bool {
	return a.Prometheus == nil || a.Prometheus.Bearer == b.Prometheus.Bearer && a.Prometheus.TLS == b.Prometheus.TLS
}

// softAsks lists the questions that are this director's to ask, by definition, each at
// the shortest interval that a service asks for.
func softAsks(set *spec.Set, roster []health.Director, me string) map[string]*softAsk {
	out := map[string]*softAsk{}
	assignment := health.NewAssignment(roster)
	eachSubject(set, func(_ *spec.GlobalService, _ netip.Addr, of steer.SubjectOf) {
		if !softAsked(of.Subject) || len(roster) > 0 && !assignment.Observes(me, of.Subject.Addr) {
			return
		}
		a := out[of.Subject.Def]
		if a == nil {
			a = &softAsk{name: of.String(), cluster: of.Cluster, probe: of.Probe}
			out[of.Subject.Def] = a
		}
		if of.Probe.Interval < a.probe.Interval {
			a.probe = of.Probe
		}
		if !slices.Contains(a.subjects, of.Subject) {
			a.subjects = append(a.subjects, of.Subject)
		}
	})
	return out
}

// hear takes in one answer.
func (s *softs) hear(out answered, now time.Time) {
	a := out.ask
	a.due = out.began.Add(time.Duration(float64(a.probe.Interval) * (0.8 + 0.4*rand.Float64())))
	r := health.Report{At: now, Latency: now.Sub(out.began), Sign: health.SignWrong}
	outcome := "good"
	switch {
	case out.err != nil:
		// Of what went on meanwhile nothing is known, so that a row of bad answers ends.
		outcome, r.Void, r.Reason, a.bad = "unknown", true, out.err.Error(), time.Time{}
		a.failing++
	case !out.bad:
		r.OK, a.bad, a.failing = true, time.Time{}, 0
	default:
		outcome, r.Reason, a.failing = "bad", out.why, 0
		if a.bad.IsZero() {
			a.bad = out.began
		}
		if p := a.probe.Prometheus; p != nil && out.began.Sub(a.bad) < p.For {
			// Neither: said to be good, it would bring back what has been bad for long
			// wherever the clock of a director begins anew.
			outcome, r.Void = "waiting", true
			r.Reason = fmt.Sprintf("%s, and not yet for %s", out.why, spec.FormatDuration(p.For))
		}
	}
	s.shown.WithLabelValues(softKind(a.probe), outcome).Inc()
	for _, sub := range a.subjects {
		r.Subject = sub
		s.report(r)
	}
	if outcome != a.last {
		a.last = outcome
		s.log.Info("soft probe", slog.String("probe", a.name), slog.String("cluster", a.cluster), slog.String("outcome", outcome), slog.String("why", r.Reason))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard[out.def] = r
	delete(s.unknown, out.def)
	if a.failing >= unknownFor {
		if s.unknown == nil {
			s.unknown = map[string]string{}
		}
		s.unknown[out.def] = fmt.Sprintf("%s in %s is unknown to this director, so it says nothing: %s", a.name, a.cluster, r.Reason)
	}
}

func softKind(p *spec.Probe) string {
	switch {
	case p.Readiness != nil:
		return "readiness"
	case p.Kube != nil:
		return "kube"
	default:
		return "prometheus"
	}
}

// describe tells people what is not known.
func (s *softs) describe(out *api.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := make([]string, 0, len(s.unknown))
	for _, line := range s.unknown {
		lines = append(lines, line)
	}
	slices.Sort(lines)
	if n := len(lines) - maxUnknown; n > 0 {
		lines = append(lines[:maxUnknown], fmt.Sprintf("%d more soft probes are unknown to this director", n))
	}
	out.Alerts = append(out.Alerts, lines...)
}

// watchedCounter counts in one cluster.
type watchedCounter struct {
	spec    spec.ControlPlane
	counter *kube.Counter
}

// softSources is where answers come from.
type softSources struct {
	files   spec.Kubeconfigs
	secrets string           // folder of what may be sent; "" = none
	prober  *probe.Scheduler // whose dial policy counts (C12)
}

// counters keeps one counter for each cluster that names its control plane.
func (s *softSources) counters(set *spec.Set, have map[string]*watchedCounter, log *slog.Logger) {
	for name, c := range have {
		if cl := set.Cluster(name); cl == nil || cl.ControlPlane == nil || !sameControlPlane(*cl.ControlPlane, c.spec) {
			c.counter.Close()
			delete(have, name)
		}
	}
	for _, cl := range set.Clusters {
		cp := cl.ControlPlane
		if cp == nil || have[cl.Name] != nil {
			continue
		}
		counter, err := kube.NewCounter(kube.Options{Kubeconfig: s.files.Path(cp.Kubeconfig), Open: s.files.Open, Context: cp.Context, Endpoints: cp.Endpoints})
		if err != nil {
			log.Warn("control plane cannot be asked", slog.String("cluster", cl.Name), slog.Any("err", err))
			continue
		}
		have[cl.Name] = &watchedCounter{spec: *cp, counter: counter}
	}
}

// ask asks the question. An error says why there is no answer.
func (s *softSources) ask(ctx context.Context, a *softAsk) (bad bool, why string, err error) {
	if a.probe.Prometheus != nil {
		if a.number == nil {
			a.number = &number{sources: s, probe: a.probe.Prometheus.ForCluster(a.cluster)}
		}
		f, err := a.number.ask(ctx)
		if err != nil {
			return false, "", err
		}
		bad, why = outside(a.probe.Prometheus, f)
		return bad, why, nil
	}
	if a.counter == nil {
		return false, "", fmt.Errorf("cluster %s names no control plane", a.cluster)
	}
	var f kube.Fraction
	var least int
	what := "nodes"
	if k := a.probe.Kube; k != nil {
		f, err = a.counter.Nodes(ctx, k.Selector)
		bad, least = f.Below(k.MinNodesReady), k.MinNodesReady
	} else {
		r := a.probe.Readiness
		f, err = a.counter.Ready(ctx, r.Namespace, r.Service)
		bad, least, what = f.Below(r.Min) || f.Ready < r.MinReady, r.Min, "addresses"
		if f.Ready < r.MinReady && !f.Below(r.Min) {
			return true, fmt.Sprintf("%s %s ready, %d are wanted", f, what, r.MinReady), err
		}
	}
	if err != nil {
		return false, "", err
	}
	return bad, fmt.Sprintf("%s %s ready, %d %% are wanted", f, what, cmp.Or(least, 1)), nil
}
