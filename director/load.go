package director

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver"
	"github.com/divertdns/divert/dnsserver/answer"
)

const (
	loadTick     = 10 * time.Second
	loadWindow   = time.Minute // that a rate is of, but for services of longer TTLs: over one, all ask once
	loadLongest  = 5 * time.Minute
	loadLeast    = 15 * time.Second // that a rate must be of
	loadAskEach  = 30 * time.Second // of one Prometheus
	loadKeep     = 2 * time.Minute  // that a number of it is said again
	loadPatience = 3 * time.Second
	loadAsking   = 8 // Prometheus asked at once
	loadMail     = 64
)

// loads knows how busy the sites are: it counts what this director answers and asks
// whom the spec names, tells the others, and hears what they say. It decides nothing: the
// leader writes what all come to into the plan (core.Spill).
type loads struct {
	name    string // of this director
	horizon *horizon
	counts  func() map[dnsserver.Site][answer.Families]uint64
	sources *softSources
	send    func(kind uint8, payload []byte) (gossip.Message, error) // a datagram to all
	courier *courier
	log     *slog.Logger
	now     func() time.Time
	shown   *loadMetrics
	mail    chan gossip.Message

	looks []look // by run alone, as asks
	asks  map[steer.Scope]*loadAsk
	set   *spec.Set // that asks are of

	trips trips

	began atomic.Pointer[time.Time] // when it began to listen

	mu     sync.Mutex
	heard  map[string]heardLoad // by director, this one too
	parts  map[steer.Scope]float64
	pools  []core.Measured
	sought *spec.Set // that pools are of
}

// look is the counters at one instant.
type look struct {
	at time.Time
	n  map[dnsserver.Site]uint64
}

// loadAsk is a number of a Prometheus about one endpoint.
type loadAsk struct {
	scope  steer.Scope
	number *number
	asking bool
	due    time.Time
	value  float64
	at     time.Time // when it was heard; zero: never
	last   string    // what went wrong, for the log
}

// loadAnswer is what came of asking.
type loadAnswer struct {
	ask   *loadAsk
	value float64
	err   error
}

// heardLoad is what a director last said.
type heardLoad struct {
	core.Sample
	boot, seq uint64
	at        time.Time
}

type loadMetrics struct {
	used, kept *prometheus.GaugeVec
	samples    *prometheus.CounterVec
}

func newLoadMetrics(reg prometheus.Registerer) *loadMetrics {
	f := promauto.With(reg)
	gauge := func(name, help string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"pool"})
	}
	return &loadMetrics{
		used: gauge("divert_utilisation_ratio", "Load of a cluster, or of an endpoint with a capacity of its own, as part of its capacity: what all directors' samples come to. No series while it is not known."),
		kept: gauge("divert_kept_clients_ratio", "Part of its own clients that a site keeps under the plan in force; below 1 while it is too busy."),
		samples: f.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_load_samples_total", Help: "Samples of load, by what became of them: heard of other directors, malformed ones, and numbers that a Prometheus was asked for.",
		}, []string{"outcome"}),
	}
}

// newLoads makes the part that knows of loads, and tells those of it who ask.
func (d *Director) newLoads(shown *metrics) *loads {
	l := (&loads{
		name: d.settings.Name, horizon: d.horizon, counts: func() map[dnsserver.Site][answer.Families]uint64 { return d.dns.Answered() },
		sources: &d.softs.sources, send: d.links.Broadcast, courier: d.courier, log: d.log, now: d.now, shown: newLoadMetrics(d.registry),
	}).prepare()
	d.commander.loads = l.merged
	d.loop.loads = func(m gossip.Message) {
		if !l.deliver(m) {
			shown.overflow.WithLabelValues("loads").Inc()
		}
	}
	return l
}

// prepare makes what New does not give.
func (l *loads) prepare() *loads {
	l.mail = make(chan gossip.Message, loadMail)
	l.asks, l.heard = map[steer.Scope]*loadAsk{}, map[string]heardLoad{}
	return l
}

// deliver takes a message in without waiting.
func (l *loads) deliver(m gossip.Message) bool {
	select {
	case l.mail <- m:
		return true
	default:
		return false
	}
}

// run samples until ctx ends.
func (l *loads) run(ctx context.Context) error {
	began := l.now()
	l.began.Store(&began)
	tick := time.NewTicker(loadTick)
	defer tick.Stop()
	answers := make(chan loadAnswer)
	var askers sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		askers.Wait()
		for _, a := range l.asks {
			a.number.close()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-l.mail:
			l.hear(m)
		case out := <-answers:
			l.learn(out)
		case <-tick.C:
			f := l.horizon.current()
			if f == nil {
				continue
			}
			l.take(f.spec)
			l.sample(f)
			l.ask(func(a *loadAsk) {
				askers.Go(func() {
					patience, cancel := context.WithTimeout(ctx, loadPatience)
					defer cancel()
					out := loadAnswer{ask: a}
					out.value, out.err = a.number.ask(patience)
					select {
					case answers <- out:
					case <-ctx.Done():
					}
				})
			})
		}
	}
}

// hear takes in what another director says.
func (l *loads) hear(m gossip.Message) {
	s, err := decodeLoad(m.Payload)
	if err != nil {
		l.shown.samples.WithLabelValues("malformed").Inc()
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.heard[m.From]; ok && (m.Boot < old.boot || m.Boot == old.boot && m.Seq <= old.seq) {
		return // overtaken by a later one
	}
	l.heard[m.From] = heardLoad{Sample: s, boot: m.Boot, seq: m.Seq, at: l.now()}
	l.shown.samples.WithLabelValues("heard").Inc()
}

// take makes the questions of a spec; what is known of those that stay, stays.
func (l *loads) take(set *spec.Set) {
	if set == l.set {
		return
	}
	l.set = set
	old := l.asks
	l.asks = map[steer.Scope]*loadAsk{}
	for _, svc := range set.Services {
		for i := range svc.Endpoints {
			e := &svc.Endpoints[i]
			if e.Load == nil {
				continue
			}
			scope, probe := endpointScope(svc.Name, e.Cluster), e.Load.ForCluster(e.Cluster)
			if was := old[scope]; was != nil && *was.number.probe == *probe {
				l.asks[scope] = was
				delete(old, scope)
				continue
			}
			l.asks[scope] = &loadAsk{scope: scope, number: &number{sources: l.sources, probe: probe}}
		}
	}
	l.trips.watch(set)
	for _, a := range old {
		if !a.asking { // else it is closed when its answer comes
			a.number.close()
		}
	}
}

func endpointScope(service, cluster string) steer.Scope {
	return steer.Scope{Kind: steer.ScopeEndpoint, Service: service, Cluster: cluster}
}

// ask begins the questions that are due, as many as may be out at once.
func (l *loads) ask(begin func(*loadAsk)) {
	now, asking := l.now(), 0
	for _, a := range l.asks {
		if a.asking {
			asking++
		}
	}
	for _, a := range l.asks {
		if asking == loadAsking {
			return // the others at the next tick
		}
		if a.asking || now.Before(a.due) {
			continue
		}
		a.asking = true
		asking++
		a.due = now.Add(time.Duration(float64(loadAskEach) * (0.8 + 0.4*rand.Float64())))
		begin(a)
	}
}

// learn takes in what a Prometheus said.
func (l *loads) learn(out loadAnswer) {
	a := out.ask
	a.asking = false
	if l.asks[a.scope] != a {
		a.number.close()
		return
	}
	why, outcome := "", "answered"
	switch {
	case out.err != nil:
		why, outcome = out.err.Error(), "unanswered"
	case math.IsInf(out.value, 0) || out.value < 0:
		why, outcome = "it is no load", "unanswered"
	default:
		a.value, a.at = out.value, l.now()
	}
	l.shown.samples.WithLabelValues(outcome).Inc()
	if why != a.last {
		a.last = why
		l.log.Info("load", slog.String("site", a.scope.String()), slog.String("outcome", outcome), slog.String("why", why))
	}
}

// sample works out what this director has to say, and says it.
func (l *loads) sample(f *inForce) {
	now := l.now()
	s, parts := l.rates(f.spec, now)
	for scope, a := range l.asks {
		if !a.at.IsZero() && now.Sub(a.at) <= loadKeep {
			s.Numbers[scope] = a.value
		}
	}
	s.Trips = l.trips.least()
	l.mu.Lock()
	if parts != nil { // before, not even this director knows what it answers
		own := l.heard[l.name]
		l.heard[l.name], l.parts = heardLoad{Sample: s, seq: own.seq + 1, at: now}, parts
	}
	roster := core.Voters(f.sealed.Plan)
	maps.DeleteFunc(l.heard, func(name string, _ heardLoad) bool { return f.sealed.Plan.Director(name) == nil })
	l.mu.Unlock()
	if parts == nil {
		return
	}
	payload := encodeLoad(s)
	if len(payload)+gossip.Overhead(l.name) <= gossip.MaxDatagram {
		if _, err := l.send(kindLoad, payload); err != nil {
			l.log.Debug("sample not sent", slog.Any("err", err))
		}
	} else {
		for _, peer := range core.Others(roster, l.name) {
			l.courier.post(peer, kindLoad, payload) // what is dropped comes again
		}
	}
	l.show(f)
}

// rates makes rates of counters, by pool and by endpoint; nil parts: not known yet.
func (l *loads) rates(set *spec.Set, now time.Time) (core.Sample, map[steer.Scope]float64) {
	current := look{at: now, n: map[dnsserver.Site]uint64{}}
	for site, n := range l.counts() {
		for f := range n {
			current.n[site] += n[f]
		}
	}
	if n := len(l.looks); n > 0 {
		for site, count := range l.looks[n-1].n {
			if current.n[site] < count { // counters that began anew
				l.looks = nil
				break
			}
		}
	}
	l.looks = append(l.looks, current)
	if n := len(l.looks) - 1 - int(loadLongest/loadTick); n > 0 {
		l.looks = l.looks[n:]
	}
	s := core.Sample{Answers: map[steer.Scope]float64{}, Numbers: map[steer.Scope]float64{}}
	if now.Sub(l.looks[0].at) < loadLeast {
		return s, nil
	}
	parts := map[steer.Scope]float64{}
	for site, n := range current.n {
		cluster := set.Cluster(site.Cluster)
		if cluster == nil {
			continue
		}
		var e *spec.Endpoint
		window := loadWindow
		if svc := set.Service(site.Service); svc != nil {
			e, window = svc.Endpoint(site.Cluster), min(max(window, svc.TTL), loadLongest)
		}
		first := l.looks[0]
		for _, k := range l.looks {
			if now.Sub(k.at) >= window {
				first = k
			}
		}
		rate := float64(n-first.n[site]) / now.Sub(first.at).Seconds()
		if rate == 0 {
			continue
		}
		if e == nil {
			e = &spec.Endpoint{Cluster: site.Cluster} // one of many that are counted together
		}
		parts[endpointScope(site.Service, site.Cluster)] = rate
		if pool, ok := steer.PoolOf(site.Service, e, cluster); ok && e.Load == nil {
			s.Answers[pool.Scope] += rate
		}
	}
	return s, parts
}

// merged gives what all directors' samples come to now; nil: too few are heard.
func (l *loads) merged() *core.Loads {
	f, began := l.horizon.current(), l.began.Load()
	if f == nil || began == nil {
		return nil
	}
	roster, now := core.Voters(f.sealed.Plan), l.now()
	l.mu.Lock()
	heard := make(map[string]core.Sample, len(l.heard))
	for name, h := range l.heard {
		s := h.Sample
		s.Age = now.Sub(h.at)
		heard[name] = s
	}
	parts, pools := l.parts, l.poolsOf(f.spec)
	l.mu.Unlock()
	return core.MergeLoads(pools, roster, heard, parts, now.Sub(*began))
}

// poolsOf lists the pools of a spec, which may have many endpoints; with mu held.
func (l *loads) poolsOf(set *spec.Set) []core.Measured {
	if l.sought != set {
		l.sought, l.pools = set, core.Pools(set)
	}
	return l.pools
}
