package director

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// view shows how far the members are.
func (a *asking) view() api.Probing {
	out := api.Probing{Target: a.text, Plan: planName(a.plan), Took: time.Since(a.start).Seconds(), Targets: []api.Probed{}}
	for _, m := range a.members {
		o := api.Observer{Name: m.name, Site: m.site, This: m.self, State: "asked"}
		switch {
		case m.answer != nil && m.answer.state == answerRefused:
			o.State, o.Why, o.Plan, o.Took = "refused", m.answer.why, m.answer.plan, m.took.Seconds()
		case m.answer != nil:
			o.State, o.Plan, o.Took = "answered", m.answer.plan, m.took.Seconds()
		case m.gaveUp:
			o.State = "silent"
		case m.taken:
			o.State = "probing"
		}
		out.Observers = append(out.Observers, o)
	}
	return out
}

// conclude shows the matrix, and says what it comes to.
func (p *panel) conclude(a *asking) api.Probing {
	out := a.view()
	ctx, cancel := context.WithTimeout(context.Background(), statusPatience)
	defer cancel()
	known := map[string]peerView{}
	for _, v := range p.peers(ctx) {
		known[v.name] = v
	}
	absent := false
	for i := range out.Observers {
		o := &out.Observers[i]
		absent = absent || o.State != "answered"
		o.State, o.Why = unanswered(*o, known[o.Name])
	}
	roster := core.Voters(a.plan.sealed.Plan)
	assignment := health.NewAssignment(roster)
	quorum := health.QuorumOf(roster, a.plan.spec.Fleet.QuorumObservers)
	sights := make([]map[health.Subject]seen, len(a.members))
	for i, m := range a.members {
		sights[i] = map[health.Subject]seen{}
		if m.answer != nil {
			for _, s := range m.answer.seen {
				sights[i][s.subject] = s
			}
		}
	}
	failed := false
	for _, t := range a.list {
		v := api.Probed{
			Subject: steer.SubjectText(a.plan.spec, t.Subject), Address: a.plan.spec.NameOf(t.Subject.Addr.Addr()), Probe: t.of.String(),
			Endpoints: t.endpoints, Assigned: assignment.Observers(t.Subject.Addr),
		}
		for i, m := range a.members {
			if m.answer == nil || m.answer.state != answerDone {
				continue
			}
			r := api.ProbeResult{Director: m.name, Outcome: outcomeVoid.String(), Reason: "not in the spec that it has in force, plan " + m.answer.plan}
			if s, ok := sights[i][t.Subject]; ok {
				r.Outcome, r.Took, r.Reason = s.outcome.String(), s.took.Seconds(), s.why
			}
			v.Results = append(v.Results, r)
		}
		judge(&v, roster, quorum)
		failed = failed || v.Verdict != "pass"
		out.Targets = append(out.Targets, v)
	}
	switch {
	case failed:
		out.Code = 1
	case absent:
		out.Code = 3
	}
	out.Took = time.Since(a.start).Seconds()
	return out
}

// unanswered tells why a director said nothing: it is not there, or it is and does not
// know the question, as one of an older version.
func unanswered(o api.Observer, v peerView) (state, why string) {
	there := v.heard && v.silent <= time.Second
	switch {
	case o.State == "answered" || o.State == "refused":
		return o.State, o.Why
	case o.State == "probing":
		return "late", "has the question, and did not answer in time"
	case there && o.State == "silent":
		return "old", "is there, and does not know the question: too old, or datagrams of this size do not reach it"
	case there:
		return "late", "is there, and did not answer in time"
	case !v.heard:
		return "silent", "not heard since this director started"
	default:
		return "silent", "silent for " + spec.FormatDuration(max(v.silent.Round(time.Second), time.Second))
	}
}

// judge counts the results of one subject. A quorum is what would make it fall, if they
// were votes: enough of those assigned to it, in enough fault domains.
func judge(v *api.Probed, roster []health.Director, q health.Quorum) {
	var failing []string
	passed, void, votes, domains := 0, 0, 0, map[string]bool{}
	for _, r := range v.Results {
		switch r.Outcome {
		case outcomeOK.String():
			passed++
		case outcomeFailed.String():
			failing = append(failing, r.Director)
			if i := slices.IndexFunc(roster, func(d health.Director) bool { return d.Name == r.Director }); i >= 0 && slices.Contains(v.Assigned, r.Director) {
				votes++
				domains[cmp.Or(roster[i].Site, roster[i].Name)] = true
			}
		default:
			void++
		}
	}
	n := passed + len(failing)
	v.Quorum = votes >= q.Votes && len(domains) >= q.Domains
	switch {
	case n == 0:
		v.Verdict, v.Summary = "unknown", "nobody could probe it"
	case len(failing) == 0:
		v.Verdict, v.Summary = "pass", fmt.Sprintf("%d of %d pass", passed, n)
	case passed == 0:
		v.Verdict, v.Summary = "fail", fmt.Sprintf("%d of %d fail", n, n)
	default:
		v.Verdict, v.Summary = "disagree", fmt.Sprintf("disagree: %d of %d fail (%s)", len(failing), n, strings.Join(failing, ", "))
	}
	if v.Quorum {
		v.Summary += ", a quorum"
	}
	if void > 0 && n > 0 {
		v.Summary += fmt.Sprintf("; %d could not tell", void)
	}
}
