package director

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// siteEvidence is what one site is judged by, before its proofs are opened: that takes
// a while, and the loop does not wait for it.
type siteEvidence struct {
	api.Evidence
	proofs [][][]byte // by subject
}

// evidence lists what the sites of a service are judged by.
func (l *loop) evidence(f *inForce, s *steer.Service, now time.Time) []siteEvidence {
	def := f.spec.Service(s.Name)
	healths := slices.Collect(s.Healths(func(sub health.Subject) bool { return l.book.VotedUp(sub, now) }))
	roster := core.Voters(f.sealed.Plan)
	var out []siteEvidence
	for i, site := range s.Sites() {
		v := siteEvidence{Evidence: api.Evidence{Cluster: site.Cluster, Health: healths[i].String(), Why: site.Why, Subjects: []api.SubjectEvidence{}}}
		add := func(sub health.Subject, probe string) {
			e, proof := l.subjectEvidence(f.spec, roster, sub, now)
			e.Probe = probe
			v.Subjects, v.proofs = append(v.Subjects, e), append(v.proofs, proof)
		}
		for _, addr := range site.All {
			for _, of := range steer.Subjects(def, addr) {
				add(of.Subject, of.String())
				if gray := health.Gray(of.Subject.Addr); of.Fast && f.spec.Hostname(addr) == "" {
					add(gray, fmt.Sprintf("gray :%d", gray.Addr.Port()))
				}
			}
		}
		out = append(out, v)
	}
	return out
}

// subjectEvidence tells what is in force of a subject and what each director says of it.
func (l *loop) subjectEvidence(set *spec.Set, roster []health.Director, s health.Subject, now time.Time) (api.SubjectEvidence, [][]byte) {
	chain, quorum := l.book.Chain(s), l.book.Quorum()
	next := health.After(chain.N + 1)
	out := api.SubjectEvidence{
		Subject: steer.SubjectText(set, s), Address: set.NameOf(s.Addr.Addr()), State: chain.State().String(), Next: next.String(), Words: []api.Word{},
	}
	suspicion := next == health.Down && s.Kind != health.KindSoft
	if out.Votes = quorum.Votes; suspicion {
		out.Votes, out.Needed, out.Cap = 0, hundredths(quorum.Theta()), hundredths(quorum.Cap())
	}
	var proof [][]byte
	if t, ok := l.book.InForce(s); ok {
		out.Transition, out.Reason, proof = t.N, t.Reason, t.Proof
		if !t.Since.IsZero() {
			out.Since = &t.Since
		}
	}
	assigned := l.book.Assigned(s)
	domains, total := map[string]int{}, 0
	withheld := l.abstains() != "" || l.book.Isolated(now)
	for _, o := range l.book.Opinions(s, now) {
		o.Counted = o.Counted && (o.Director != l.name || !withheld) // the others leave it out, too
		w := api.Word{Director: o.Director, Assigned: slices.Contains(assigned, o.Director), Word: o.State.String(), Weight: hundredths(o.Weight), Counted: o.Counted, Why: o.Why}
		if o.Leans {
			w.Word = "suspects"
		}
		if !o.Counted {
			w.Weight, w.Why, w.LeftOut = 0, "", l.leftOut(o, w.Assigned, now)
		} else if o.Weight > 0 {
			domain := o.Director
			if i := slices.IndexFunc(roster, func(d health.Director) bool { return d.Name == o.Director }); i >= 0 {
				domain = cmp.Or(roster[i].Site, o.Director)
			}
			domains[domain] += o.Weight
		}
		out.Words = append(out.Words, w)
	}
	for _, weight := range domains {
		if suspicion {
			weight = min(weight, quorum.DomainCap())
		}
		total += weight
	}
	out.Weight = hundredths(total)
	return out, proof
}

// leftOut says why a director's word is not counted. Why another one gives none, only
// that one knows.
func (l *loop) leftOut(o health.Opinion, assigned bool, now time.Time) string {
	if o.Director == l.name {
		switch {
		case l.abstains() != "":
			return "abstains: " + l.abstains()
		case l.book.Isolated(now):
			return "isolated"
		case o.Why != "":
			return o.Why
		case !assigned:
			return "not assigned"
		default:
			return "not signed yet"
		}
	}
	beat, at, ok := l.book.Peer(o.Director)
	switch {
	case !ok:
		return "not heard since this director started"
	case now.Sub(at) > time.Second:
		return "silent for " + spec.FormatDuration(max(now.Sub(at).Round(time.Second), time.Second))
	case beat.Abstaining:
		return "abstains"
	case o.State == health.Unknown && !assigned:
		return "not assigned"
	case o.State == health.Unknown:
		return "gives no vote: `divert explain` asked there says why"
	default:
		return "stale, or of another transition"
	}
}

// proved opens the proofs of sites that are not healthy, and says whose votes they are.
func proved(sites []siteEvidence, verify health.Verify) []api.Evidence {
	var out []api.Evidence
	for _, site := range sites {
		for i, proof := range site.proofs {
			if site.Health == steer.Healthy.String() {
				break
			}
			for _, raw := range proof {
				if b, err := verify(raw); err == nil {
					site.Subjects[i].Voters = append(site.Subjects[i].Voters, b.Director)
				}
			}
		}
		out = append(out, site.Evidence)
	}
	return out
}

func hundredths(n int) float64 { return float64(n) / 100 }
