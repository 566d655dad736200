package director

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/time/rate"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/election"
	"github.com/divertdns/divert/health"
)

// newSealer gives nil where nothing can be written.
func (d *Director) newSealer() *sealer {
	if d.mute != nil {
		d.loop.sealed = func(gossip.Message) {}
		return nil
	}
	quiet := func(err error) {
		if err != nil {
			d.log.Debug("of the audit log, a message was not sent", slog.Any("err", err))
		}
	}
	s := &sealer{
		name: d.settings.Name, key: d.identity.Key, dir: d.settings.DataDir, records: d.store.EachAudit, log: d.log, now: d.now,
		plan: func() *plan.Sealed {
			if f := d.horizon.current(); f != nil {
				return f.sealed
			}
			return nil
		},
		usable: func() bool {
			at := d.horizon.storeNow()
			return at.ok && at.problem == "" && !d.horizon.unsure()
		},
		tell: func(kind uint8, payload []byte) {
			_, err := d.links.Broadcast(kind, payload)
			quiet(err)
		},
		ask: func(to string, kind uint8, payload []byte) {
			_, err := d.links.Send(to, kind, payload)
			quiet(err)
		},
		post:  func(to string, kind uint8, payload []byte) { d.courier.post(to, kind, payload) },
		shown: newSealMetrics(d.registry), changed: d.changes.tell, mail: make(chan gossip.Message, sealMail), wanted: newWake(),
		limits: map[string]*rate.Limiter{}, faults: map[string]string{}, heardAt: map[string]time.Time{},
		autos: &autoQueue{}, autosRate: newAutosRate(), autosMore: map[health.State]int{},
		kept: keeper{store: d.store, pile: keepPile, last: keepLast, readers: d.readers, term: func() (election.Term, bool) {
			status := d.campaign.Status()
			return status.Term, status.Mine
		}},
	}
	s.syslog = d.newSyslogger()
	d.loop.autos = s.autos
	d.loop.sealed = func(m gossip.Message) {
		if !s.deliver(m) {
			d.loop.shown.overflow.WithLabelValues("audit").Inc()
		}
	}
	return s
}

type sealMetrics struct {
	records, revision, directors, faults prometheus.Gauge
	altered                              prometheus.Gauge
	errors, refused, conflicts, mended   prometheus.Counter
	collected                            prometheus.Counter
}

func newSealMetrics(reg prometheus.Registerer) *sealMetrics {
	f := promauto.With(reg)
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	count := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &sealMetrics{
		records:   gauge("divert_audit_sealed_records", "Audit records that this director has sealed on its disk."),
		revision:  gauge("divert_audit_sealed_revision", "Plan revision of the last audit record that this director has sealed."),
		directors: gauge("divert_audit_sealed_directors", "Directors, this one included, that have sealed every audit record that this one has."),
		faults:    gauge("divert_audit_faults", "What is wrong with the sealed audit log, here or as another director has it; more than 0 is an alert."),
		errors:    count("divert_audit_seal_errors_total", "Times that audit records could not be sealed on this director's disk."),
		refused:   count("divert_audit_messages_refused_total", "Messages of other directors about the audit log that are none."),
		altered:   gauge("divert_audit_store_faults", "What is wrong with the sealed audit log in the store: its head there, and records that were altered; more than 0 is an alert."),
		collected: count("divert_audit_collected_total", "Sealed audit records that this director, as leader, has removed from the store."),
		mended:    count("divert_audit_tiles_mended_total", "Sealed tiles that were altered or damaged on this director's disk, and were written anew."),
		conflicts: count("divert_audit_conflicts_total", "Times that a director's audit log was found to be no extension of what was sealed before."),
	}
}

// observe shows where the log stands.
func (m *sealMetrics) observe(v *sealView) {
	m.records.Set(float64(v.headOf.Size))
	m.revision.Set(float64(v.headOf.Revision))
	m.directors.Set(float64(len(v.holders())))
	m.faults.Set(float64(len(v.faults())))
	m.altered.Set(float64(len(v.kept)))
}

// holders are the directors that have sealed all that this one has.
func (v *sealView) holders() (names []string) {
	if v.head == nil || v.lost != "" {
		return nil
	}
	names = append(names, v.name)
	for _, o := range v.said {
		if o.Fault == "" && o.Head.Size >= v.headOf.Size {
			names = append(names, o.Director)
		}
	}
	return names
}

// shownFaults bounds what status says of one log.
const shownFaults = 5

// faults are sentences of what is wrong.
func (v *sealView) faults() (out []string) {
	if v.problem != "" {
		out = append(out, "audit records are not sealed on this director's disk: "+v.problem)
	}
	if v.lost != "" {
		out = append(out, "audit log: "+v.lost+": it signs nothing until it has them again, from the store or the other directors")
	}
	if v.odd != "" {
		out = append(out, "audit log: "+v.odd)
	}
	for _, o := range v.said {
		if o.Fault != "" {
			out = append(out, fmt.Sprintf("audit log: %s: `divert audit verify` on each says more", o.Fault))
		}
	}
	for _, what := range v.kept {
		out = append(out, "audit log: "+what)
	}
	bad := 0
	for _, f := range v.findings {
		if f.Harmless {
			continue
		}
		if bad++; bad <= shownFaults {
			out = append(out, "audit log: "+f.String())
		}
	}
	if bad > shownFaults {
		out = append(out, fmt.Sprintf("audit log: and %d more: `divert audit verify`", bad-shownFaults))
	}
	return out
}

// describe adds what is wrong to a status.
func (s *sealer) describe(out *api.Status) {
	if s == nil {
		return
	}
	if v := s.view.Load(); v != nil {
		out.Alerts = append(out.Alerts, v.faults()...)
	}
	if alert := s.syslog.alert(); alert != "" {
		out.Alerts = append(out.Alerts, alert)
	}
}
