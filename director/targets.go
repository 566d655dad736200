package director

import (
	"net/netip"
	"time"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/probe"
)

// targets lists what this director probes: the subjects of every address of
// every service that are assigned to it, each once whatever the number of
// services behind it, at the shortest interval that one of them asks for. Soft subjects
// are watched, and others than the prober ask about them (see softs). What more specs ask
// for is probed too: of a subject that several have, the first says through what it is reached.
func targets(set *spec.Set, roster []health.Director, me string, more ...*spec.Set) ([]probe.Target, []health.Watched) {
	wanted := map[health.Subject]*probe.Target{}
	signal := map[health.Subject]health.Subject{}
	cluster := map[health.Subject]*spec.Cluster{}
	var order []health.Subject
	type place struct{ turn, turns int }
	assignment, places := health.NewAssignment(roster), map[netip.AddrPort]place{}
	eachOf(append([]*spec.Set{set}, more...), func(set *spec.Set, addr netip.Addr, s steer.SubjectOf) {
		mine, known := places[s.Subject.Addr]
		if !known {
			if mine.turn, mine.turns = assignment.Turn(me, s.Subject.Addr); len(roster) == 0 {
				mine.turns = 1
			}
			places[s.Subject.Addr] = mine
		}
		if mine.turns == 0 {
			return
		}
		t := probe.Target{Subject: s.Subject, Interval: s.Probe.Interval}
		if !s.Probe.Soft() {
			t = targetOf(set, s)
		}
		t.Turn, t.Turns = mine.turn, mine.turns
		if s.Subject.Kind == health.KindCheck && s.Probe.Fast > 0 {
			signal[s.Subject] = health.Subject{Kind: health.KindSignal, Addr: s.Subject.Addr}
		}
		if old := wanted[s.Subject]; old == nil {
			t.Name = s.String()
			wanted[s.Subject] = &t
			cluster[s.Subject] = set.Cluster(s.Cluster)
			order = append(order, s.Subject)
		} else if t.Interval < old.Interval {
			t.Name = old.Name
			*old = t
		}
	})
	out := make([]probe.Target, 0, len(order))
	watched := make([]health.Watched, 0, len(order))
	for _, s := range order {
		if !softAsked(s) {
			out = append(out, *wanted[s])
		}
		w := health.Watched{Subject: s, Signal: signal[s], Interval: wanted[s].Interval}
		if c := cluster[s]; c != nil && c.Via != "" && !softAsked(s) { // what is asked elsewhere does not go through it
			w.Via, w.Group = c.Via, c.Name
		}
		watched = append(watched, w)
		if probe.KeepsWarm && wanted[s].Fast && wanted[s].Hostname == "" {
			watched = append(watched, health.Watched{Subject: health.Gray(s.Addr), Interval: max(wanted[s].Interval, time.Second)})
		}
	}
	return out, watched
}

// softAsked tells whether a subject is one that a soft probe asks about.
func softAsked(s health.Subject) bool { return s.Kind == health.KindSoft && s.Addr.Port() == 0 }

// subjects lists every subject of some specs, assigned to this director or not. The prober
// reports about gray failures beside the signals that show them.
func subjects(sets ...*spec.Set) []health.Subject {
	var out []health.Subject
	seen := map[health.Subject]bool{}
	eachOf(sets, func(set *spec.Set, _ netip.Addr, s steer.SubjectOf) {
		if !seen[s.Subject] {
			seen[s.Subject] = true
			out = append(out, s.Subject)
			if s.Fast && set.Hostname(s.Subject.Addr.Addr()) == "" {
				out = append(out, health.Gray(s.Subject.Addr))
			}
		}
	})
	return out
}

func eachOf(sets []*spec.Set, yield func(*spec.Set, netip.Addr, steer.SubjectOf)) {
	for _, set := range sets {
		eachSubject(set, func(_ *spec.GlobalService, addr netip.Addr, s steer.SubjectOf) { yield(set, addr, s) })
	}
}

func eachSubject(set *spec.Set, yield func(*spec.GlobalService, netip.Addr, steer.SubjectOf)) {
	for _, svc := range set.Services {
		for _, e := range svc.Endpoints {
			for _, addr := range e.Watched() {
				for _, s := range steer.Subjects(svc, addr) {
					yield(svc, addr, s)
				}
			}
		}
	}
}

// targetOf turns a probe of the spec into one of the prober. What stands for a
// hostname is never dialled: the prober tries what the name resolves to.
func targetOf(set *spec.Set, s steer.SubjectOf) probe.Target {
	t := probe.Target{Subject: s.Subject, Hostname: set.Hostname(s.Subject.Addr.Addr()), Fast: s.Fast, Interval: s.Probe.Interval, Timeout: s.Probe.Timeout}
	if s.Fast {
		t.Interval = s.Probe.Fast
		t.TCP = &probe.TCP{Addr: s.Subject.Addr}
		return t
	}
	deepProbe(&t, s.Probe)
	return t
}

// deepProbe fills in what a deep probe asks: a case for each kind that goes to an address.
func deepProbe(t *probe.Target, p *spec.Probe) {
	addr := t.Subject.Addr
	switch {
	case p.HTTP != nil:
		h := p.HTTP
		t.HTTP = &probe.HTTP{
			Scheme: h.Scheme, Version: h.Version, Addr: addr, Method: h.Method, Path: h.Path, Host: h.Host, RequestBody: h.RequestBody,
			Statuses: h.Statuses, Body: h.Body, BodyRegexp: h.BodyRegexp, Secure: secure(h.Secure),
		}
		for _, f := range h.Headers {
			t.HTTP.Headers = append(t.HTTP.Headers, probe.Header(f))
		}
	case p.TCP != nil:
		t.TCP = &probe.TCP{Addr: addr, Send: p.TCP.Send, Expect: p.TCP.Expect, ExpectRegexp: p.TCP.ExpectRegexp}
	case p.TLS != nil:
		t.TLS = &probe.TLS{ALPN: p.TLS.ALPN, Secure: secure(p.TLS.Secure)}
	case p.GRPC != nil:
		t.GRPC = &probe.GRPC{Service: p.GRPC.Service, Plaintext: p.GRPC.Plaintext, Host: p.GRPC.Host, Secure: secure(p.GRPC.Secure)}
	case p.DNS != nil:
		d := p.DNS
		t.DNS = &probe.DNS{Transport: d.Transport, Name: d.Name, Type: d.Type, Rcodes: d.Rcodes, Answers: d.Answers, Secure: secure(d.Secure)}
	case p.ICMP != nil:
		t.ICMP = &probe.ICMP{}
	case p.Exec != nil:
		t.Exec = &probe.Exec{Command: p.Exec.Command, Args: p.Exec.Args}
	}
}

func secure(s spec.Secure) probe.Secure { return probe.Secure(s) }
