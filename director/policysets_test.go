package director

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/policy"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
)

// residing is a bundle that denies nothing and says something of residency.
func residing(rule string) []byte {
	return policy.Bundle{Files: []policy.File{
		{Path: "admission.rego", Text: []byte("package divert.admission\ndeny contains \"never\" if false\n")},
		{Path: "drain.rego", Text: []byte("package divert.drain\ndeny contains \"never\" if false\n")},
		{Path: "residency.rego", Text: []byte("package divert.residency\n" + rule + "\n")},
	}}.Encode()
}

// byLabel keeps the clients of each service where its label says.
const byLabel = `sets contains {"service": name, "clients": "everybody", "clusters": {"jurisdiction": wanted}, "why": "by law"} if {
	some name, service in input.spec.GlobalService
	wanted := service.metadata.labels.residency
}`

func labelledSpec(text string) string {
	return strings.NewReplacer(
		"metadata: {name: fra}", "metadata: {name: fra, labels: {jurisdiction: eu}}",
		"metadata: {name: nyc}", "metadata: {name: nyc, labels: {jurisdiction: us}}",
		"metadata: {name: pay}", "metadata: {name: pay, labels: {residency: us}}",
	).Replace(text)
}

// servedBy gives who answers for pay, and why.
func servedBy(t *testing.T, d *Director) (clusters, why string) {
	t.Helper()
	e, err := d.Explain("pay.example.org", "192.0.2.7")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range e.Answers {
		if f.Type == "A" {
			return strings.Join(f.Clusters, " "), strings.Join(f.Steps, "; ")
		}
	}
	return "", ""
}

func applying(t *testing.T, text string) core.Command {
	t.Helper()
	raws, problems := spec.Parse("mesh.yaml", []byte(text))
	if spec.Failed(problems) {
		t.Fatal(problems)
	}
	return core.Command{ID: newID(), Verb: core.Apply, Objects: raws, Author: "ann", Reason: "test"}
}

// TestResidencyByPolicy (S11): with a real store. Adopting a policy that keeps clients from a
// cluster changes the answers, and `explain` says that it was the policy; break-glass passes
// it not, a spec that would leave nobody is refused, one that it cannot be asked of too, and
// the sets of before stay; dropped, the answers are what they were.
func TestResidencyByPolicy(t *testing.T) {
	d := aloneOf(t, nil, labelledSpec(soloSpec()))
	if got, _ := servedBy(t, d); got != "fra" {
		t.Fatalf("before: %q", got)
	}
	cmd := adopting(residing(byLabel))
	dry := cmd
	dry.DryRun = true
	if change, _, err := d.commander.commit(t.Context(), dry, nil); err != nil || len(change.Preview.Effects) == 0 {
		t.Errorf("the preview: %+v, %v, want who moves", change.Preview, err)
	}
	gave(t, d, cmd)
	eventually(t, "answers are by the policy", func() bool { got, _ := servedBy(t, d); return got == "nyc" })
	if _, why := servedBy(t, d); !strings.Contains(why, "residency by policy: all clients only on nyc (by law): fra left out") {
		t.Errorf("explained by %q", why)
	}
	status := d.Status()
	if status.Policy == nil || !slices.Equal(status.Policy.Residency, []string{"pay: all clients only on nyc (by law)"}) {
		t.Errorf("status shows %+v", status.Policy)
	}

	// What is said of another spec comes with it.
	text := labelledSpec(soloSpec())
	gone := applying(t, strings.Replace(text, "labels: {residency: us}", "labels: {residency: ch}", 1))
	if r := refusal(t, d, gone); !strings.Contains(r.Reason, "nobody would answer these clients of pay") {
		t.Errorf("a spec that would leave nobody: %+v", r)
	}
	gone.ID, gone.BreakGlass = newID(), true
	id := gave(t, d, gone)
	if records, err := d.Audit(t.Context(), id.Revision, 1); err != nil || len(records) != 1 || len(records[0].Passed) != 1 || !strings.Contains(records[0].What, "by break-glass, residency by policy stays as it was") {
		t.Errorf("the record: %+v, %v", records, err)
	}
	if got, _ := servedBy(t, d); got != "nyc" {
		t.Errorf("S11: break-glass has passed it: %q", got)
	}
	gave(t, d, applying(t, strings.Replace(text, "labels: {residency: us}", "labels: {residency: eu}", 1)))
	eventually(t, "the other site", func() bool { got, _ := servedBy(t, d); return got == "fra" })
	alone := applying(t, strings.Replace(text, "{cluster: nyc, addresses: [192.0.2.2]}", "{cluster: nyc, addresses: [192.0.2.2], weight: 50}", 1))
	gave(t, d, alone)
	eventually(t, "back", func() bool { got, _ := servedBy(t, d); return got == "nyc" })

	drop := core.Command{ID: newID(), Verb: core.PolicyDrop, Author: "root", Reason: "test"}
	gave(t, d, drop)
	eventually(t, "as without a policy", func() bool { got, _ := servedBy(t, d); return got == "fra" })

	// One that cannot say anything is not adopted.
	if r := refusal(t, d, adopting(residing(`sets := true`))); !strings.Contains(r.Reason, "cannot say where clients may be served") {
		t.Errorf("got %+v", r)
	}
	if r := refusal(t, d, adopting(residing(strings.Replace(byLabel, "some name", "some x in numbers.range(1, 100000)\n\tsome y in numbers.range(1, 100000)\n\tx + y == -1\n\tsome name", 1)))); !strings.Contains(r.Reason, "did not answer within 200ms") {
		t.Errorf("got %+v", r)
	}
	gave(t, d, adopting(residing(`sets contains {"service": "pay", "clients": "everybody", "clusters": ["nyc"]} if input.spec.GlobalService.pay.spec.ttl != "19s"
sets contains {"service": "pay", "clients": "everybody", "clusters": ["nyc"]} if time.parse_rfc3339_ns(input.spec.GlobalService.pay.spec.ttl) > 0`)))
	eventually(t, "again", func() bool { got, _ := servedBy(t, d); return got == "fra" })
	if r := refusal(t, d, applying(t, strings.Replace(text, "hosts: [pay.example.org]", "hosts: [pay.example.org]\n  ttl: 17s", 1))); !strings.Contains(r.Reason, "could not say where clients may be served") || !strings.Contains(r.Reason, "residency.rego:3") {
		t.Errorf("one that errs: %+v", r)
	}
}

// TestRogueResidency (S7, S11): a director that writes a plan with a new spec and wider sets
// than the policy says of it is refused by the other, which asks the policy itself, names the
// writer, and answers as before.
func TestRogueResidency(t *testing.T) {
	d := aloneOf(t, nil, labelledSpec(soloSpec()))
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	gave(t, d, core.Command{ID: newID(), Verb: core.DirectorAdd, Author: "root", Reason: "x", Director: &core.Director{Name: "d2", Site: "s2", Key: key.Public().(ed25519.PublicKey)}})
	gave(t, d, adopting(residing(byLabel)))
	good := d.horizon.current()
	write := func(change func(p *plan.Plan)) plan.Identity {
		t.Helper()
		p := proto.CloneOf(good.sealed.Plan)
		p.Revision, p.Parent, p.Writer, p.Written = p.GetRevision()+1, good.sealed.Identity.Hash[:], "d2", timestamppb.Now()
		doc := proto.CloneOf(good.doc)
		for _, o := range doc.GetObjects() {
			if o.GetKind() == "GlobalService" {
				o.Json = []byte(strings.Replace(string(o.GetJson()), "192.0.2.1", "192.0.2.9", 1))
			}
		}
		octets, err := (proto.MarshalOptions{Deterministic: true}).Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		chunks, ref := store.Split(octets)
		p.Spec = ref
		change(p)
		rogue, err := plan.Sign(p, "d2", key)
		if err != nil {
			t.Fatal(err)
		}
		snap, err := d.store.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.store.Commit(t.Context(), store.Commit{
			Parent: snap.ModRevision, Read: snap.StoreRevision, Next: rogue, Chunks: chunks, Audit: &plan.Audit{Who: "root", What: "x"}, Result: &plan.Result{Id: newID(), Command: []byte{1}},
		}); err != nil {
			t.Fatal(err)
		}
		return rogue.Identity
	}
	write(func(p *plan.Plan) { p.Residency.Sets[0].Clusters = []string{"fra", "nyc"} })
	eventually(t, "it is refused", func() bool {
		return strings.Contains(strings.Join(d.Status().Alerts, "\n"), "director d2 wrote a plan that is refused")
	})
	status := d.Status()
	if text := strings.Join(status.Alerts, "\n"); status.Plan.Revision != good.sealed.Identity.Revision || !strings.Contains(text, "its residency is another than policy") {
		t.Errorf("revision %d, %s", status.Plan.Revision, text)
	}
	if got, _ := servedBy(t, d); got != "nyc" {
		t.Errorf("answers by the rogue's: %q", got)
	}

	// What would follow the rogue's plan would be taken by nobody: it is refused, with what
	// puts it right.
	d.librarian.refusals.taken(d.horizon.storeNow().plan) // as where the store was not read since
	drain := core.Command{ID: newID(), Verb: core.Drain, Scope: "cluster/fra", Author: "ann", Reason: "test", For: time.Hour, LastResort: true}
	if r := refusal(t, d, drain); !strings.Contains(r.Reason, "its residency is another than policy") || !strings.Contains(r.Reason, "divert store recover --force") {
		t.Errorf("a drain on top of it: %+v", r)
	}
	id, _, err := d.commander.recover(t.Context(), "ann", true)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is recovered", func() bool { return d.horizon.current().sealed.Identity == id })
	gave(t, d, drain)
}

// TestResidencyKept (S7, S11, S12): what break-glass kept, since the policy could not be asked
// for a moment, is taken by who can ask it, is alerted, and is put right by applying the same
// spec again; a plan that only says to have kept its sets, or that does not say so, is not.
func TestResidencyKept(t *testing.T) {
	d := aloneOf(t, nil, labelledSpec(soloSpec()))
	gave(t, d, adopting(residing(byLabel)))
	eventually(t, "answers are by the policy", func() bool { got, _ := servedBy(t, d); return got == "nyc" })
	before := d.horizon.current()
	var usable *heldPolicy
	eventually(t, "the bundle is at hand", func() bool { usable = d.policies.at(before.sealed.Plan); return usable != nil })
	swap := func(h *heldPolicy) {
		d.policies.mu.Lock()
		defer d.policies.mu.Unlock()
		d.policies.held = h
	}
	unusable := hold(usable.octets)
	unusable.done(nil, "it was not read in time")
	swap(unusable)
	text := strings.Replace(labelledSpec(soloSpec()), "labels: {residency: us}", "labels: {residency: eu}", 1)
	cmd := applying(t, text)
	cmd.BreakGlass = true
	gave(t, d, cmd)
	swap(usable)
	kept := d.horizon.current()
	if !kept.sealed.Plan.GetResidencyKept() || !proto.Equal(kept.sealed.Plan.GetResidency(), before.sealed.Plan.GetResidency()) {
		t.Fatalf("the plan says %v of %v", kept.sealed.Plan.GetResidencyKept(), kept.sealed.Plan.GetResidency())
	}
	if err := d.policies.confirm(t.Context(), before, kept, false); err != nil {
		t.Errorf("S12: who can ask the policy refuses it: %v", err)
	}
	other := func(change func(p *plan.Plan)) *inForce {
		f, sealed := *kept, *kept.sealed
		sealed.Plan = proto.CloneOf(sealed.Plan)
		change(sealed.Plan)
		f.sealed = &sealed
		return &f
	}
	wider := other(func(p *plan.Plan) { p.Residency = nil })
	for name, f := range map[string]*inForce{"without the mark": other(func(p *plan.Plan) { p.ResidencyKept = false }), "with other sets": wider} {
		if err := d.policies.confirm(t.Context(), before, f, false); err == nil {
			t.Errorf("S11: %s it is taken", name)
		}
	}
	if err := d.policies.confirm(t.Context(), before, wider, true); err != nil {
		t.Errorf("one that missed revisions, and another vouches: %v", err)
	}
	d.policies.follow(t.Context(), kept)
	if alerts := strings.Join(d.Status().Alerts, "\n"); !strings.Contains(alerts, "the policy could not be asked then; `divert apply` of the same spec asks it anew") {
		t.Errorf("alerts %q", alerts)
	}
	gave(t, d, core.Command{ID: newID(), Verb: core.Drain, Scope: "cluster/fra", Author: "ann", Reason: "test", For: time.Hour, LastResort: true})
	gave(t, d, core.Command{ID: newID(), Verb: core.Undrain, Scope: "cluster/fra", Author: "ann", Reason: "test"})

	gave(t, d, applying(t, text))
	eventually(t, "the policy was asked", func() bool { got, _ := servedBy(t, d); return got == "fra" })
	now := d.horizon.current()
	if now.sealed.Plan.GetResidencyKept() {
		t.Error("it is still said to be kept")
	}
	d.policies.follow(t.Context(), now)
	if why := d.policies.unsound(now.sealed.Plan); why != "" {
		t.Errorf("alerts %q", why)
	}
	if change, _, err := d.commander.commit(t.Context(), applying(t, text), nil); err != nil || !change.Noop {
		t.Errorf("once more: %+v, %v, want nothing to do", change.Summary, err)
	}
}

// TestResidencyByTwo (S11, S16): what a policy says of residency is a part of what waits for
// the second person, who approves it: of a first policy, and of a spec under it.
func TestResidencyByTwo(t *testing.T) {
	d := aloneOf(t, nil, labelledSpec(pairSpec))
	approved := func(asked core.Command) {
		t.Helper()
		asked.Author = "unix:alice"
		gave(t, d, asked)
		if r := d.horizon.current().sealed.Plan.Request(asked.ID); !r.Waits(d.now()) {
			t.Fatalf("it does not wait: %v", r)
		}
		gave(t, d, core.Command{ID: newID(), Verb: core.Approve, Scope: asked.ID, Author: "unix:bob"})
	}
	approved(adopting(residing(byLabel)))
	if p := d.horizon.current().sealed.Plan; p.GetPolicy() == nil || len(p.GetResidency().GetSets()) != 1 {
		t.Fatalf("adopted: %v, %v", p.GetPolicy(), p.GetResidency())
	}
	if who, _ := servedBy(t, d); who != "nyc" {
		t.Errorf("answered from %s", who)
	}
	approved(applying(t, strings.Replace(labelledSpec(pairSpec), "residency: us", "residency: eu", 1)))
	if who, _ := servedBy(t, d); who != "fra" {
		t.Errorf("by the spec after: answered from %s", who)
	}
}

// TestResidencyExamined (S7): where a plan came into force before its policy was at hand, the
// director alerts once it can tell that the plan's residency is not what the policy says.
func TestResidencyExamined(t *testing.T) {
	d := aloneOf(t, nil, labelledSpec(soloSpec()))
	gave(t, d, adopting(residing(byLabel)))
	f := *d.horizon.current()
	eventually(t, "it is looked at", func() bool {
		d.policies.follow(t.Context(), &f)
		return d.policies.unsound(f.sealed.Plan) == "" && d.policies.sound.of == saysOf(f.sealed.Plan)
	})
	sealed := *f.sealed
	sealed.Plan = proto.CloneOf(sealed.Plan)
	sealed.Plan.Residency = nil
	f.sealed = &sealed
	d.policies.follow(t.Context(), &f)
	if why := d.policies.unsound(sealed.Plan); !strings.Contains(why, "its residency is another than policy") {
		t.Errorf("got %q", why)
	}
	var out api.Status
	d.policies.describe(&out, &f)
	if !strings.Contains(strings.Join(out.Alerts, "\n"), "its residency is another") {
		t.Errorf("alerts %q", out.Alerts)
	}
}

// TestResidencyRestored (S7, S11): a spec that a backup brings back has what the policy of now
// says of it: with the sets of before every director would refuse the plan.
func TestResidencyRestored(t *testing.T) {
	d := aloneOf(t, nil, labelledSpec(soloSpec()))
	gave(t, d, adopting(residing(byLabel)))
	eventually(t, "answers are by the policy", func() bool { got, _ := servedBy(t, d); return got == "nyc" })
	var file bytes.Buffer
	if err := d.Backup(t.Context(), &file, false); err != nil {
		t.Fatal(err)
	}
	gave(t, d, applying(t, strings.Replace(labelledSpec(soloSpec()), "labels: {residency: us}", "labels: {residency: eu}", 1)))
	eventually(t, "the other site", func() bool { got, _ := servedBy(t, d); return got == "fra" })
	out, err := d.Restore(api.WithUser(t.Context(), "ann"), &file, api.RestoreOptions{})
	if err != nil || out.Code != 0 {
		t.Fatalf("got %+v, %v", out, err)
	}
	eventually(t, "as in the backup", func() bool { got, _ := servedBy(t, d); return got == "nyc" })
}
