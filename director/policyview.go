package director

import (
	"encoding/hex"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/policy"
)

// describe shows the policy in force, and alerts where it cannot be used.
func (p *policies) describe(out *api.Status, f *inForce) {
	for _, o := range f.sealed.Plan.GetOverrides() {
		if o.GetGlass() {
			out.Alerts = append(out.Alerts, fmt.Sprintf("%s was drained by break-glass, past the policy, by %s (%s)", o.GetScope(), o.GetAuthor(), o.GetReason()))
		}
	}
	named := f.sealed.Plan.GetPolicy()
	if named == nil {
		return
	}
	out.Policy = &api.Policy{
		Hash: hex.EncodeToString(named.GetBundle().GetHash()), Author: named.GetAuthor(), Reason: named.GetReason(), Since: named.GetSince().AsTime(),
		Revision: named.GetRevision(), Octets: named.GetBundle().GetSize(), Problem: p.problem(f.sealed.Plan),
	}
	for _, s := range f.stable().sealed.Plan.GetResidency().GetSets() {
		out.Policy.Residency = append(out.Policy.Residency, policy.SetText(s))
	}
	if why := p.unsound(f.sealed.Plan); why != "" {
		out.Alerts = append(out.Alerts, why)
	}
	if h := p.at(f.sealed.Plan); h != nil {
		if b, err := policy.Decode(h.octets); err == nil {
			for _, file := range b.Files {
				out.Policy.Files = append(out.Policy.Files, file.Path)
			}
		}
	}
	if out.Policy.Problem != "" && out.Policy.Problem != beingRead {
		out.Alerts = append(out.Alerts, "the policy cannot be used here, so that people's commands are refused: "+out.Policy.Problem)
	}
}

// policyMetrics are what the policy has said.
type policyMetrics struct {
	verdicts *prometheus.CounterVec
	took     prometheus.Histogram
	adopted  prometheus.Gauge
	unusable prometheus.Gauge
}

func newPolicyMetrics(reg prometheus.Registerer) *policyMetrics {
	f := promauto.With(reg)
	return &policyMetrics{
		verdicts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "divert_policy_verdicts_total", Help: "Commands of people that the policy was asked about here, dry runs too, by what became of them (allowed, denied, failed, late, passed by break-glass).",
		}, []string{"outcome"}),
		took: f.NewHistogram(prometheus.HistogramOpts{
			Name: "divert_policy_verdict_duration_seconds", Help: "How long the policy took to be asked.", Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .2},
		}),
		adopted:  f.NewGauge(prometheus.GaugeOpts{Name: "divert_policy_adopted", Help: "Whether the plan in force names a policy."}),
		unusable: f.NewGauge(prometheus.GaugeOpts{Name: "divert_policy_unusable", Help: "Whether the policy that the plan names cannot be used here, so that people's commands are refused."}),
	}
}

// resided notes how long it took to be asked of residency.
func (m *policyMetrics) resided(v policy.Verdict) { m.took.Observe(v.Took.Seconds()) }

// of counts a verdict.
func (m *policyMetrics) of(v policy.Verdict, glass bool) {
	m.took.Observe(v.Took.Seconds())
	outcome := "denied"
	switch {
	case v.Allowed():
		outcome = "allowed"
	case glass:
		outcome = "passed"
	case v.Late:
		outcome = "late"
	case v.Problem != "":
		outcome = "failed"
	}
	m.verdicts.WithLabelValues(outcome).Inc()
}
