package director

import (
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// boundsAtOnce is for how many endpoints the bounds in force are computed in one
// turn of the loop, four times a second: all in a few seconds, and none of them for
// long.
const boundsAtOnce = 50

// bounds is the times within which this director's endpoints are seen to have
// failed, as shown by metrics.
type bounds struct {
	spec    *spec.Set // that they are of
	service int       // the next to compute
}

// faults names what a bound is of.
const (
	faultDeath = "death" // F1, F2: nothing answers
	faultHang  = "hang"  // F3: connected, and no answer
)

// bound is the times within which the death and the hang of an endpoint are seen, as
// things are: of its worst address, by the signal where it has one, and by the
// slowest of its checks.
type bound struct {
	death, hang time.Duration
	undead      bool // the one is not known here, since others probe it, or too few observers are there
	unhung      bool // nor the other
}

// address takes in one address of the endpoint.
func (b *bound) address(l *loop, subjects []steer.SubjectOf, now time.Time) {
	var signal, check time.Duration
	signals, checks := true, true // known
	for _, of := range subjects {
		switch of.Subject.Kind {
		case health.KindSignal:
			d, ok := l.boundOf(of.Subject, now)
			signal, signals = max(signal, d), signals && ok
		case health.KindCheck:
			d, ok := l.boundOf(of.Subject, now)
			check, checks = max(check, d), checks && ok
		}
	}
	if signal == 0 && signals {
		signal, signals = check, checks
	}
	b.death, b.undead = max(b.death, signal), b.undead || !signals
	b.hang, b.unhung = max(b.hang, check), b.unhung || !checks
}

// known gives both; 0: not known.
func (b bound) known() (death, hang time.Duration) {
	if !b.undead {
		death = b.death
	}
	if !b.unhung {
		hang = b.hang
	}
	return death, hang
}

// view is bound for status; nil: nothing is known.
func (b bound) view() *api.Detection {
	death, hang := b.known()
	if death == 0 && hang == 0 {
		return nil
	}
	return &api.Detection{Death: death.Seconds(), Hang: hang.Seconds()}
}

func (l *loop) boundOf(s health.Subject, now time.Time) (time.Duration, bool) {
	p, ok := l.pace(s)
	if !ok {
		return 0, false
	}
	return l.observer.Bound(l.book, s, health.Rhythm{Interval: p.Interval, Doubt: p.Doubt, Late: p.Late, Missed: p.Missed, AtOnce: p.AtOnce}, now)
}

// showBounds keeps the metric up, some endpoints at a time.
func (l *loop) showBounds(set *spec.Set, now time.Time) {
	if l.bounds.spec != set {
		l.shown.bounds.Reset()
		l.bounds = bounds{spec: set}
	}
	services := min(len(set.Services), topServices)
	for done := 0; done < boundsAtOnce && services > 0; {
		svc := set.Services[l.bounds.service%services]
		for i := range svc.Endpoints {
			e := &svc.Endpoints[i]
			var b bound
			for _, addr := range e.Watched() {
				b.address(l, steer.Subjects(svc, addr), now)
			}
			death, hang := b.known()
			l.shown.bound(svc.Name, e.Cluster, faultDeath, death)
			l.shown.bound(svc.Name, e.Cluster, faultHang, hang)
			done++
		}
		if l.bounds.service = (l.bounds.service + 1) % services; l.bounds.service == 0 {
			return
		}
	}
}

// bound shows one; what is not known has no value.
func (m *metrics) bound(service, cluster, fault string, d time.Duration) {
	if d == 0 {
		m.bounds.DeleteLabelValues(service, cluster, fault)
		return
	}
	m.bounds.WithLabelValues(service, cluster, fault).Set(d.Seconds())
}
