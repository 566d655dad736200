package director

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/health"
)

// metrics are the loop's own. Labels are bounded: directors by the roster,
// services by topServices.
type metrics struct {
	certificates        *prometheus.CounterVec
	dropped             *prometheus.CounterVec
	foreignVotes        prometheus.Counter
	refusedCertificates prometheus.Counter
	compile             prometheus.Histogram
	compileErrors       prometheus.Counter
	saveErrors          prometheus.Counter
	stalls              prometheus.Counter
	overflow            *prometheus.CounterVec
	endpoints           *prometheus.GaugeVec
	returning           *prometheus.GaugeVec
	paced               *prometheus.GaugeVec
	stalled             *prometheus.GaugeVec
	subjects            *prometheus.GaugeVec
	votes               *prometheus.GaugeVec
	bounds              *prometheus.GaugeVec
	plan                *prometheus.GaugeVec
	behind              prometheus.Gauge
	isolated            prometheus.Gauge
	dependencies        *prometheus.GaugeVec
	hears               prometheus.Gauge
	storeOK             prometheus.Gauge
	storeFills          prometheus.Gauge
	geo                 *prometheus.GaugeVec
	geoBuilt            prometheus.Gauge
}

// topServices bounds the service label.
const topServices = 1000

func newMetrics(reg prometheus.Registerer, version string, planAge func() time.Duration) *metrics {
	f := promauto.With(reg)
	f.NewGauge(prometheus.GaugeOpts{
		Name: "divert_build_info", Help: "Always 1; the version is the label.", ConstLabels: prometheus.Labels{"version": version},
	}).Set(1)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "divert_plan_age_seconds", Help: "Time since the store last confirmed that the plan in force is the newest.",
	}, func() float64 { return planAge().Seconds() })
	return &metrics{
		certificates: f.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_certificates_total", Help: "Transitions that came into force, by where to and how they were learnt (judged, proved, reported).",
		}, []string{"to", "how"}),
		dropped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_messages_dropped_total", Help: "Signed messages of directors that were not used, by reason.",
		}, []string{"reason"}),
		foreignVotes: f.NewCounter(prometheus.CounterOpts{
			Name: "divert_votes_unknown_total", Help: "Votes on subjects that are not in this director's spec.",
		}),
		refusedCertificates: f.NewCounter(prometheus.CounterOpts{
			Name: "divert_certificates_refused_total", Help: "Certificates of peers whose proof did not hold.",
		}),
		compile: f.NewHistogram(prometheus.HistogramOpts{
			Name: "divert_table_compile_seconds", Help: "Time from a decision's inputs to the table in force.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}),
		compileErrors: f.NewCounter(prometheus.CounterOpts{
			Name: "divert_table_compile_errors_total", Help: "Decisions that could not be made into a table; the old table stayed.",
		}),
		saveErrors: f.NewCounter(prometheus.CounterOpts{
			Name: "divert_state_write_errors_total", Help: "Writes of the last good state that failed.",
		}),
		stalls: f.NewCounter(prometheus.CounterOpts{
			Name: "divert_stalls_total", Help: "Times that this director itself stood still for more than 100 ms.",
		}),
		overflow: f.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_queue_overflows_total", Help: "Events and log lines dropped because their reader did not keep up, by queue.",
		}, []string{"queue"}),
		endpoints: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "divert_endpoints", Help: "Endpoints by service and verdict.",
		}, []string{"service", "health"}),
		returning: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "divert_endpoints_returning", Help: "Endpoints that have returned and get a share of their clients yet, by service and that share in percent.",
		}, []string{"service", "share"}),
		paced: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "divert_drain_moved_ratio", Help: "Share of the clients that have left the scope of a drain that goes, or ends, in steps, with what it is at (moving, held, rolling back, rolled back, returning, done).",
		}, []string{"scope", "state"}),
		stalled: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "divert_drain_stalled", Help: "1 while the next step of a drain is later than three in four of its own steps were.",
		}, []string{"scope"}),
		subjects: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "divert_subjects", Help: "Subjects by their state in force.",
		}, []string{"state"}),
		votes: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "divert_votes", Help: "This director's own votes in force, by what they say.",
		}, []string{"vote"}),
		bounds: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "divert_detection_bound_seconds", Help: "Time within which the death or the hang of an endpoint is agreed upon, as it is probed now; of the endpoints that this director probes, while enough observers are there.",
		}, []string{"service", "cluster", "fault"}),
		plan: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "divert_plan_info", Help: "Always 1; the identity of the plan in force is the labels.",
		}, []string{"fleet", "epoch", "revision", "hash"}),
		behind: f.NewGauge(prometheus.GaugeOpts{Name: "divert_plan_behind", Help: "1 while a newer plan is known than the one answered from."}),
		dependencies: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "divert_shared_dependency_failing", Help: "1 while several clusters that are reached through the same fail at once, and so are unknown to this director.",
		}, []string{"dependency"}),
		isolated: f.NewGauge(prometheus.GaugeOpts{Name: "divert_isolated", Help: "1 while this director hears too few others to make a transition."}),
		hears:    f.NewGauge(prometheus.GaugeOpts{Name: "divert_directors_heard", Help: "Directors heard within the last second, itself included."}),
		storeOK:  f.NewGauge(prometheus.GaugeOpts{Name: "divert_store_usable", Help: "1 while commands are accepted."}),
		geo: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "divert_geo_info", Help: "Always 1; the geo table that clients are placed by is the labels.",
		}, []string{"origin", "built", "hash"}),
		geoBuilt:   f.NewGauge(prometheus.GaugeOpts{Name: "divert_geo_build_timestamp_seconds", Help: "When the geo database was built that clients are placed by; 0 of the country table."}),
		storeFills: f.NewGauge(prometheus.GaugeOpts{Name: "divert_store_filling", Help: "1 while the store's database is near its quota, past which it refuses every change."}),
	}
}

// observe shows what a director is at, four times a second.
func (m *metrics) observe(l *loop, now time.Time) {
	m.isolated.Set(yes(l.book.Isolated(now)))
	m.hears.Set(float64(l.book.Hears(now)))
	m.behind.Set(yes(l.horizon.behind()))
	m.paces(l.horizon.current(), now)
	m.dependencies.Reset()
	for _, d := range l.observer.Dependencies() {
		m.dependencies.WithLabelValues(d.Via).Set(1)
	}
	store, space := l.horizon.storeNow(), l.horizon.spaceNow()
	m.storeOK.Set(yes(store.ok && store.problem == "" && space.refuses == ""))
	m.storeFills.Set(yes(space.fills != ""))
	up, down, leaning := l.publish.Tally()
	m.votes.WithLabelValues("up").Set(float64(up))
	m.votes.WithLabelValues("down").Set(float64(down))
	m.votes.WithLabelValues("leaning").Set(float64(leaning))
}

// decided shows what is decided by.
func (m *metrics) decided(f *inForce) {
	id := f.sealed.Identity
	m.plan.Reset()
	m.plan.WithLabelValues(id.Fleet, utoa(id.Epoch), utoa(id.Revision), id.Hash.Short()).Set(1)
}

// placed shows by what clients are placed.
func (m *metrics) placed(o geo.Origin) {
	built, seconds := "", 0.0
	if !o.Built.IsZero() {
		built, seconds = o.Built.UTC().Format(time.RFC3339), float64(o.Built.Unix())
	}
	m.geo.Reset()
	m.geo.WithLabelValues(o.Name, built, o.Hash).Set(1)
	m.geoBuilt.Set(seconds)
}

// newGeoMetrics show what is wrong with the placing of clients, when asked.
func newGeoMetrics(reg prometheus.Registerer, d *Director) {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "divert_geo_database_unusable", Help: "1 while the geo database that the settings name cannot be used, and clients are placed by an earlier one or by the country table.",
	}, func() float64 { return yes(d.survey.problem() != "") })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "divert_geo_tables", Help: "Different geo tables that the registered directors place clients by, as far as this one knows; more than 1 is a fault.",
	}, func() float64 { return float64(len(d.placings())) })
}

// verdicts shows the endpoints as status does, and the subjects.
func (m *metrics) verdicts(l *loop, d steer.Decision) {
	states := [...]health.State{health.Unknown, health.Up, health.Down}
	var subjects [len(states)]int
	for _, s := range l.book.Standing() {
		subjects[s]++
	}
	for _, s := range states {
		m.subjects.WithLabelValues(s.String()).Set(float64(subjects[s]))
	}
	healths := [...]steer.Health{steer.HealthUnknown, steer.Healthy, steer.Degraded, steer.Failed}
	endpoints := map[string]*[len(healths)]int{}
	now := l.now()
	up := func(s health.Subject) bool { return l.book.VotedUp(s, now) }
	last, lastCounts := (*steer.Ruling)(nil), [len(healths)]int{}
	for i := range d.Services {
		s := &d.Services[i]
		name := s.Name
		if i >= topServices {
			name = "other"
		}
		if s.Ruling != last { // services that are decided as one are one after the other, as a rule
			last, lastCounts = s.Ruling, [len(healths)]int{}
			for h := range s.Healths(up) {
				lastCounts[h]++
			}
		}
		counts := endpoints[name]
		if counts == nil {
			counts = new([len(healths)]int)
			endpoints[name] = counts
		}
		for h, n := range lastCounts {
			counts[h] += n
		}
	}
	m.returns(d)
	m.endpoints.Reset()
	for name, counts := range endpoints {
		for h, n := range counts {
			m.endpoints.WithLabelValues(name, healths[h].String()).Set(float64(n))
		}
	}
}

// returns shows the endpoints that have a share of their clients.
func (m *metrics) returns(d steer.Decision) {
	m.returning.Reset()
	for i := range d.Services {
		name := d.Services[i].Name
		if i >= topServices {
			name = "other"
		}
		for share := range d.Services[i].Shares() {
			m.returning.WithLabelValues(name, strconv.Itoa(share)).Inc()
		}
	}
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// mirrorMetrics show what the peers' DNS says.
type mirrorMetrics struct{ up *prometheus.GaugeVec }

func newMirrorMetrics(reg prometheus.Registerer) *mirrorMetrics {
	return &mirrorMetrics{up: promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{
		Name: "divert_peer_dns_up", Help: "1 while the director's DNS answers this one's question for its plan.",
	}, []string{"director"})}
}

func (m *mirrorMetrics) seen(name string, ok bool) { m.up.WithLabelValues(name).Set(yes(ok)) }
func (m *mirrorMetrics) forget(name string)        { m.up.DeleteLabelValues(name) }

// planAge is since when the store has not confirmed the plan in force.
func (d *Director) planAge() time.Duration {
	at := d.confirmed.Load()
	if at == nil {
		if f := d.horizon.current(); f != nil {
			return d.now().Sub(f.sealed.Plan.GetWritten().AsTime())
		}
		return 0
	}
	return d.now().Sub(*at)
}
