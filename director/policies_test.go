package director

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3" //nolint:depguard // what is found in a store may come from anybody who can write to it

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/policy"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/election"
)

// shippedWith is the bundle that users copy, with other rules' data.
func shippedWith(t *testing.T, change ...string) []byte {
	t.Helper()
	b, problems := policy.ReadDir("../deploy/opa")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for i := range b.Files {
		if b.Files[i].Path == "data.json" {
			for j := 0; j < len(change); j += 2 {
				if !strings.Contains(string(b.Files[i].Text), change[j]) {
					t.Fatalf("data.json has no %s", change[j])
				}
				b.Files[i].Text = []byte(strings.Replace(string(b.Files[i].Text), change[j], change[j+1], 1))
			}
		}
	}
	return b.Encode()
}

// rules is a bundle of one rule for drains.
func rules(drain string) []byte {
	return policy.Bundle{Files: []policy.File{
		{Path: "admission.rego", Text: []byte("package divert.admission\ndeny contains \"never\" if false\n")},
		{Path: "drain.rego", Text: []byte("package divert.drain\n" + drain + "\n")},
	}}.Encode()
}

func adopting(bundle []byte) core.Command {
	return core.Command{ID: newID(), Verb: core.PolicyAdopt, Author: "root", Reason: "test", Bundle: bundle}
}

// refusal gives a command, which is to be refused, without a new plan.
func refusal(t *testing.T, d *Director, cmd core.Command) *core.Refusal {
	t.Helper()
	before := d.horizon.newest().sealed.Identity
	id, err := give(d, cmd)
	r, ok := errors.AsType[*core.Refusal](err)
	if !ok {
		t.Fatalf("%s %s: %v, %v, want a refusal", cmd.Verb, cmd.Scope, id, err)
	}
	if now := d.horizon.newest().sealed.Identity; now != before {
		t.Fatalf("%s was refused and written, as %v", cmd.Verb, now)
	}
	return r
}

const always = `"windows": [{"name": "the long freeze", "from": "2000-01-01T00:00:00Z", "to": "2200-01-01T00:00:00Z"}]`

// TestPolicyFreeze: with a real store. A freeze window of the shipped policy denies a
// drain and a spec, with its words and remedy, dry runs too; break-glass passes it and is on
// record; what is not of people, and what the policy is not asked about, goes on.
func TestPolicyFreeze(t *testing.T) {
	d := solo(t)
	bundle := shippedWith(t, `"windows": []`, always)
	first := adopting(bundle)
	first.DryRun = true
	if change, _, err := d.commander.commit(t.Context(), first, nil); err != nil || len(change.Preview.Warnings) != 2 ||
		change.Preview.Warnings[0] != "asked of an apply that changes nothing it says: apply is frozen by the long freeze, until 2200-01-01T00:00:00Z" {
		t.Errorf("before it is adopted: %q, %v", change.Preview.Warnings, err)
	}
	gave(t, d, adopting(bundle))
	f := d.horizon.current()
	if got := f.sealed.Plan.GetPolicy(); !bytes.Equal(got.GetBundle().GetHash(), hold(bundle).hash[:]) || got.GetRevision() != f.sealed.Identity.Revision || f.sealed.Plan.GetMinReader() != 10 {
		t.Errorf("the plan names %v, for readers of %d", got, f.sealed.Plan.GetMinReader())
	}

	for _, dry := range []bool{false, true} {
		cmd := drained("cluster/nyc")
		cmd.DryRun = dry
		r := refusal(t, d, cmd)
		if r.Reason != "the policy denies it: drain is frozen by the long freeze, until 2200-01-01T00:00:00Z" || !strings.Contains(r.Remedy, "--break-glass") || r.Force {
			t.Errorf("dry run %t: %+v", dry, r)
		}
	}
	forced := drained("cluster/nyc")
	forced.Force = true
	refusal(t, d, forced)
	raws, _ := spec.Parse("mesh.yaml", []byte(strings.Replace(soloSpec(), "192.0.2.2", "192.0.2.9", 1)))
	if r := refusal(t, d, core.Command{ID: newID(), Verb: core.Apply, Objects: raws, Author: "bob", Reason: "test"}); !strings.Contains(r.Reason, "apply is frozen by the long freeze") {
		t.Errorf("apply: %+v", r)
	}

	glass := drained("cluster/nyc")
	glass.BreakGlass, glass.Reason = true, ""
	if r := refusal(t, d, glass); !strings.Contains(r.Remedy, "--reason") {
		t.Errorf("without a reason: %+v", r)
	}
	glass.ID, glass.Reason = newID(), "INC-1"
	id := gave(t, d, glass)
	if !slices.ContainsFunc(d.Status().Overrides, func(o api.Override) bool { return o.Scope == "cluster/nyc" }) {
		t.Error("break-glass: no drain")
	}
	eventually(t, "it alerts", func() bool {
		s := d.Status()
		return slices.Contains(s.Alerts, "cluster/nyc was drained by break-glass, past the policy, by ann (INC-1)") && s.Overrides[0].Glass
	})
	records, err := d.Audit(t.Context(), id.Revision, 1)
	if err != nil || len(records) != 1 || !strings.Contains(records[0].What, "; by break-glass, past the policy: drain is frozen by the long freeze") || records[0].Why != "INC-1" ||
		!slices.Equal(records[0].Passed, []string{"drain is frozen by the long freeze, until 2200-01-01T00:00:00Z"}) || records[0].Policy != hold(bundle).hash.String() {
		t.Errorf("the record: %+v, %v", records, err)
	}

	// What it is not asked about.
	gave(t, d, core.Command{ID: newID(), Verb: core.Freeze, Author: "ann", Reason: "test", For: time.Hour})
	asked := testutil.ToFloat64(d.policies.shown.verdicts.WithLabelValues("denied"))
	if _, _, err := d.commander.commit(t.Context(), drained("cluster/fra"), &election.Term{Key: "nobody", CreateRevision: 1}); errors.As(err, new(*core.Refusal)) && strings.Contains(err.Error(), "policy") {
		t.Errorf("the leader's own write was judged: %v", err)
	}
	if now := testutil.ToFloat64(d.policies.shown.verdicts.WithLabelValues("denied")); now != asked || now != 4 {
		t.Errorf("%g verdicts before, %g after, want 4", asked, now)
	}
	if now := testutil.ToFloat64(d.policies.shown.verdicts.WithLabelValues("passed")); now != 1 {
		t.Errorf("%g passed, want 1", now)
	}

	s := d.Status()
	if s.Policy == nil || s.Policy.Problem != "" || s.Policy.Author != "root" || !slices.Contains(s.Policy.Files, "freeze.rego") || len(s.Policy.Hash) != 64 {
		t.Errorf("status: %+v", s.Policy)
	}
	gave(t, d, core.Command{ID: newID(), Verb: core.PolicyDrop, Author: "root", Reason: "test"})
	if s := d.Status(); s.Policy != nil {
		t.Errorf("after it was dropped: %+v", s.Policy)
	}
	gave(t, d, drained("service/pay@nyc"))
	if o := d.horizon.current().sealed.Plan.GetOverrides(); slices.ContainsFunc(o, func(o *plan.Override) bool { return o.GetGlass() != (o.GetScope() == "cluster/nyc") }) {
		t.Errorf("who broke the glass: %v", o)
	}
}

// TestPolicySees: the shipped rules work on what a real director gives them: labels and
// endpoints as they are written, who gives the command, what is left of a service.
func TestPolicySees(t *testing.T) {
	text := strings.NewReplacer(
		"metadata: {name: fra}", "metadata: {name: fra, labels: {jurisdiction: eu}}", "metadata: {name: pay}", "metadata: {name: pay, labels: {residency: eu}}",
		"endpoints: [{cluster: fra, addresses: [192.0.2.1]}, {cluster: nyc, addresses: [192.0.2.2]}]", "endpoints: [{cluster: fra, addresses: [192.0.2.1]}, {cluster: nyc, addresses: [192.0.2.2]}]",
	).Replace(soloSpec())
	d := solo(t)
	gave(t, d, adopting(shippedWith(t, `"drainers": {}`, `"drainers": {"cluster/fra": ["bob"]}`, `"sites": 1`, `"sites": 2`)))
	raws, problems := spec.Parse("mesh.yaml", []byte(text))
	if spec.Failed(problems) {
		t.Fatal(problems)
	}
	r := refusal(t, d, core.Command{ID: newID(), Verb: core.Apply, Objects: raws, Author: "ann", Reason: "test"})
	if r.Reason != "the policy denies it: pay must stay in eu, and nyc is not there" {
		t.Errorf("residency: %+v", r)
	}
	r = refusal(t, d, drained("domain/fra")) // by ann
	if !strings.Contains(r.Reason, "ann may not drain cluster/fra") || !strings.Contains(r.Reason, "it would leave pay 1 healthy sites, and at least 2 are wanted") || !strings.Contains(r.Remedy, "ask one of bob") {
		t.Errorf("drainers: %+v", r)
	}
	cmd := drained("cluster/fra")
	cmd.Author, cmd.Label = "bob", "ann"
	if r := refusal(t, d, cmd); strings.Contains(r.Reason, "may not drain") {
		t.Errorf("who is listed, under a label: %+v", r)
	}
	cmd.ID, cmd.Author, cmd.Label = newID(), "ann", "bob"
	if r := refusal(t, d, cmd); !strings.Contains(r.Reason, "ann may not drain") {
		t.Errorf("under the label of who is listed: %+v", r)
	}
}

// TestPolicyFails: a rule that does not end, one that errs and one that is odd deny, and say
// so; answers go on, and the policy can be put right.
func TestPolicyFails(t *testing.T) {
	d := solo(t)
	for _, tc := range []struct{ name, rule, want, outcome string }{
		{"late", "deny contains \"never\" if {\n\tsome a in numbers.range(1, 100000)\n\tsome b in numbers.range(1, 100000)\n\tsome c in numbers.range(1, 100000)\n\ta + b + c == -1\n}", "did not answer within 200ms", "late"},
		{"an error", `deny contains "x" if time.parse_rfc3339_ns(input.command.scope) > 1`, "drain.rego:2: time.parse_rfc3339_ns", "failed"},
		{"odd", `deny := true`, "the policy's answer is odd", "failed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := adopting(rules(tc.rule))
			if tc.name == "late" { // its trial is late
				if r := refusal(t, d, cmd); !r.Force || !strings.Contains(r.Reason, "too slow for this fleet") || !strings.Contains(r.Reason, tc.want) {
					t.Errorf("adopted without force: %+v", r)
				}
				cmd.ID, cmd.Force = newID(), true
			}
			id := gave(t, d, cmd)
			if records, err := d.Audit(t.Context(), id.Revision, 1); err != nil || len(records) != 1 || records[0].Forced != cmd.Force || strings.Contains(records[0].What, "forced, though it is too slow") != cmd.Force {
				t.Errorf("the record: %+v, %v", records, err)
			}
			was := testutil.ToFloat64(d.policies.shown.verdicts.WithLabelValues(tc.outcome))
			r := refusal(t, d, drained("cluster/nyc"))
			if !strings.HasPrefix(r.Reason, "the policy could not be asked, which denies: ") || !strings.Contains(r.Reason, tc.want) || !strings.Contains(r.Remedy, "divert policy adopt") {
				t.Errorf("got %+v", r)
			}
			if now := testutil.ToFloat64(d.policies.shown.verdicts.WithLabelValues(tc.outcome)); now != was+1 {
				t.Errorf("%s: %g, then %g", tc.outcome, was, now)
			}
			if e, err := d.Explain("pay.example.org", "192.0.2.7"); err != nil || len(e.Answers) == 0 {
				t.Errorf("answers: %+v, %v", e, err)
			}
		})
	}
	r := refusal(t, d, adopting(rules("deny contains \"x\" if http.send({}).status_code == 200")))
	if !strings.Contains(r.Reason, "drain.rego:2: ") || !strings.Contains(r.Reason, "http.send may not be used") {
		t.Errorf("what cannot be compiled: %+v", r)
	}
	refusal(t, d, adopting([]byte("no bundle")))
	refusal(t, d, adopting(nil))
	refusal(t, d, adopting(make([]byte, core.MaxBundle+1)))
	gave(t, d, adopting(rules(`deny contains "never" if false`)))
	gave(t, d, drained("cluster/nyc"))
}

// TestPolicyLost: a director without the bundle denies people's commands and says so, and
// answers; one that has it puts it back into the store. A policy can be replaced without.
func TestPolicyLost(t *testing.T) {
	d := solo(t)
	v := vault{t, d}
	ctx := api.WithUser(t.Context(), "ann")
	bundle := rules(`deny contains "never" if false`)
	gave(t, d, adopting(bundle))
	name := "blob/" + hold(bundle).hash.String()
	eventually(t, "it is on the disk", func() bool {
		g, _, err := d.disk.Load()
		return err == nil && bytes.Equal(g.Policy, bundle)
	})

	v.remove(name)
	if report, err := d.CheckStore(t.Context()); err != nil || len(report.Findings) != 1 || !strings.Contains(report.Findings[0].What, "the policy's bundle is missing") {
		t.Errorf("check: %+v, %v", report, err)
	}
	gave(t, d, drained("cluster/nyc"))            // it is at hand
	eventually(t, "it is put back", func() bool { // once the store was read again, with the plan of the drain
		d.librarian.replenish(t.Context())
		resp, err := d.store.Client().Get(t.Context(), v.key(name))
		return err == nil && len(resp.Kvs) == 1 && string(resp.Kvs[0].Value) == string(bundle)
	})
	v.put(name, "damaged")
	if out, err := d.Recover(ctx, false); err != nil || out.Code != 0 || v.get(name) != string(bundle) {
		t.Errorf("recover: %+v, %v", out, err)
	}

	forget := func() {
		d.policies.mu.Lock()
		defer d.policies.mu.Unlock()
		d.policies.held = nil
	}
	v.remove(name)
	forget()
	r := refusal(t, d, undrained("cluster/nyc"))
	if !strings.Contains(r.Reason, "the policy cannot be had: its bundle is gone from the store") {
		t.Errorf("without it: %+v", r)
	}
	d.policies.follow(t.Context(), d.horizon.current())
	if s := d.Status(); s.Policy == nil || !strings.Contains(s.Policy.Problem, "gone from the store") || !slices.ContainsFunc(s.Alerts, func(a string) bool { return strings.Contains(a, "the policy cannot be used here") }) {
		t.Errorf("status: %+v, %q", s.Policy, s.Alerts)
	}
	if testutil.ToFloat64(d.policies.shown.unusable) != 1 {
		t.Error("the metric says nothing of it")
	}
	if e, err := d.Explain("pay.example.org", "192.0.2.7"); err != nil || len(e.Answers) == 0 {
		t.Errorf("answers: %+v, %v", e, err)
	}
	glass := undrained("cluster/nyc")
	glass.BreakGlass = true
	gave(t, d, glass)
	gave(t, d, adopting(rules(`deny contains "never" if 1 > 2`)))
	gave(t, d, drained("cluster/nyc"))

	// All of the store is lost: it gets the policy back with the plan.
	v.remove("", clientv3.WithPrefix())
	d.librarian.readStore(t.Context())
	if out, err := d.Recover(ctx, false); err != nil || out.Code != 0 {
		t.Fatalf("recover: %+v, %v", out, err)
	}
	forget()
	gave(t, d, undrained("cluster/nyc"))
}

// TestPolicyInBackup: a backup holds the bundle, and a fleet that has lost everything gets
// it back; one that has not keeps its policy of now.
func TestPolicyInBackup(t *testing.T) {
	old := solo(t)
	ctx := api.WithUser(t.Context(), "ann")
	bundle := rules(`deny contains "no" if input.command.verb == "drain"`)
	gave(t, old, adopting(bundle))
	var file bytes.Buffer
	if err := old.Backup(ctx, &file, false); err != nil {
		t.Fatal(err)
	}
	if b, err := store.ReadBackup(bytes.NewReader(file.Bytes()), nil); err != nil || !bytes.Equal(b.Policy, bundle) {
		t.Fatalf("backup: %q, %v", b.Policy, err)
	}
	d := bare(t, filepath.Join(old.settings.DataDir, "identity.json"), emptyEtcd(t))
	eventually(t, "it waits", func() bool { w := d.waiting.Load(); return w != nil && strings.Contains(*w, "divert restore") })
	out, err := d.Restore(ctx, bytes.NewReader(file.Bytes()), api.RestoreOptions{})
	if err != nil || out.Code != 0 || !slices.ContainsFunc(out.Preview.Warnings, func(w string) bool { return strings.Contains(w, "comes back: policy") }) {
		t.Fatalf("restore: %+v, %v", out, err)
	}
	if r := refusal(t, d, drained("cluster/nyc")); r.Reason != "the policy denies it: no" {
		t.Errorf("after it came back: %+v", r)
	}
	if report, err := d.CheckStore(ctx); err != nil || len(report.Findings) > 0 {
		t.Errorf("the store: %+v, %v", report, err)
	}

	gave(t, old, core.Command{ID: newID(), Verb: core.PolicyDrop, Author: "root", Reason: "test"})
	raws, _ := spec.Parse("mesh.yaml", []byte(strings.Replace(soloSpec(), "192.0.2.2", "192.0.2.9", 1)))
	gave(t, old, core.Command{ID: newID(), Verb: core.Apply, Objects: raws, Author: "bob", Reason: "oops"})
	if out, err := old.Restore(ctx, bytes.NewReader(file.Bytes()), api.RestoreOptions{}); err != nil || out.Code != 0 {
		t.Fatalf("restore: %+v, %v", out, err)
	}
	if p := old.horizon.newest().sealed.Plan.GetPolicy(); p != nil {
		t.Errorf("a restored spec brought a policy: %v", p)
	}
}

// TestPolicyTwoPersons (S16): what takes two persons is judged when it is asked for and
// when it is approved, by who does so; a spec that waits is judged as it would be.
func TestPolicyTwoPersons(t *testing.T) {
	d := aloneOf(t, nil, pairSpec)
	gave(t, d, adopting(shippedWith(t, `"drainers": {}`, `"drainers": {"cluster/fra": ["unix:alice", "unix:bob"]}`)))
	drain := drained("cluster/fra")
	drain.Author, drain.Label, drain.Force = "unix:carol", "alice", true
	if r := refusal(t, d, drain); !strings.Contains(r.Reason, "unix:carol may not drain cluster/fra") {
		t.Errorf("asked for by another: %+v", r)
	}
	drain.ID, drain.Author, drain.Label = newID(), "unix:alice", "on call"
	gave(t, d, drain)
	if len(d.Status().Requests) != 1 {
		t.Fatalf("it does not wait: %+v", d.Status().Overrides)
	}
	yes := core.Command{ID: newID(), Verb: core.Approve, Scope: drain.ID, Author: "unix:carol"}
	if r := refusal(t, d, yes); !strings.Contains(r.Reason, "unix:carol may not drain cluster/fra") {
		t.Errorf("approved by another: %+v", r)
	}
	yes.ID, yes.Author = newID(), "unix:bob"
	gave(t, d, yes)
	if o := d.horizon.current().sealed.Plan.GetOverrides(); len(o) != 1 || o[0].GetApprover() != "unix:bob" {
		t.Errorf("approved: %v", o)
	}

	text := strings.NewReplacer("metadata: {name: pay}", "metadata: {name: pay, labels: {residency: eu}}").Replace(pairSpec)
	raws, _ := spec.Parse("mesh.yaml", []byte(strings.Replace(text, "192.0.2.2", "192.0.2.9", 1)))
	apply := core.Command{ID: newID(), Verb: core.Apply, Objects: raws, Author: "unix:alice", Reason: "test", Force: true}
	if r := refusal(t, d, apply); !strings.Contains(r.Reason, "pay must stay in eu") {
		t.Errorf("a spec that would wait: %+v", r)
	}
}

// TestPolicyReplacedByTwo (S16): where the fleet asks for two persons, another policy in the
// place of one waits for the second, who approves the very bundle that was asked for, from
// the store; it is in force then. So does its end.
func TestPolicyReplacedByTwo(t *testing.T) {
	d := aloneOf(t, nil, pairSpec)
	first, second := adopting(rules(`deny contains "never" if false`)), adopting(rules(`deny contains "not now" if true`))
	first.Author, second.Author = "unix:alice", "unix:alice"
	gave(t, d, first)
	gave(t, d, second)
	p := d.horizon.current().sealed.Plan
	if r := p.Request(second.ID); r == nil || len(r.GetBundle().GetChunks()) == 0 || !bytes.Equal(p.GetPolicy().GetBundle().GetHash(), hold(first.Bundle).hash[:]) {
		t.Fatalf("it does not wait: %v, %v", p.GetRequests(), p.GetPolicy())
	}
	gave(t, d, drained("cluster/nyc")) // by the first
	yes := core.Command{ID: newID(), Verb: core.Approve, Scope: second.ID, Author: "unix:bob"}
	gave(t, d, yes)
	if p = d.horizon.current().sealed.Plan; !bytes.Equal(p.GetPolicy().GetBundle().GetHash(), hold(second.Bundle).hash[:]) || len(p.GetPolicy().GetBundle().GetChunks()) == 0 || p.Request(second.ID).GetBundle() != nil {
		t.Fatalf("approved: %v, %v", p.GetPolicy(), p.GetRequests())
	}
	if r := refusal(t, d, core.Command{ID: newID(), Verb: core.Undrain, Scope: "cluster/nyc", Author: "ann", Reason: "test"}); !strings.Contains(r.Reason, "not now") {
		t.Errorf("by the second: %+v", r)
	}
	drop := core.Command{ID: newID(), Verb: core.PolicyDrop, Author: "unix:alice", Reason: "INC-1"}
	gave(t, d, drop)
	if d.horizon.current().sealed.Plan.GetPolicy() == nil {
		t.Fatal("dropped by one")
	}
	glass := core.Command{ID: newID(), Verb: core.PolicyDrop, Author: "unix:alice", Reason: "INC-1", BreakGlass: true}
	gave(t, d, glass)
	if p := d.horizon.current().sealed.Plan; p.GetPolicy() != nil || len(p.GetGlass()) != 1 {
		t.Errorf("by break-glass: %v", p)
	}
}

// TestPolicyBeingRead: a bundle that takes long to compile holds up nobody who follows the
// plan; people's commands are denied meanwhile, and say why.
func TestPolicyBeingRead(t *testing.T) {
	release := make(chan struct{})
	p := &policies{
		log: slog.New(slog.DiscardHandler), shown: newPolicyMetrics(prometheus.NewRegistry()), change: func() {}, save: newWake(), unread: newWake(), patience: time.Millisecond,
		compile: func(octets []byte) (*policy.Policy, string) {
			<-release
			return compiled(octets)
		},
	}
	bundle := rules(`deny contains "never" if false`)
	p.put(bundle)
	held := p.held
	var owner errgroup.Group
	ctx, cancel := context.WithCancel(t.Context())
	owner.Go(func() error { return p.run(ctx) })
	_, ref := store.Split(bundle)
	f := &inForce{sealed: &plan.Sealed{Plan: &plan.Plan{Policy: &plan.Policy{Bundle: ref}}}}
	p.follow(t.Context(), f) // returns
	if got := p.problem(f.sealed.Plan); got != beingRead {
		t.Errorf("got %q", got)
	}
	if v := p.verdict(t.Context(), policy.Drain, judged{base: f}); v.Allowed() || !strings.Contains(denied(v).Error(), "the policy is being read") {
		t.Errorf("got %+v, want it denied", v)
	}
	close(release)
	<-held.read
	if got := p.problem(f.sealed.Plan); got != "" {
		t.Errorf("once it is read: %q", got)
	}
	if asked, problem := p.wait(t.Context(), held); asked == nil || problem != "" {
		t.Errorf("once it is read: %v, %q", asked, problem)
	}
	cancel()
	if err := owner.Wait(); err != nil {
		t.Error(err)
	}
}
