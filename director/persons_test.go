package director

import (
	"context"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
)

// pairSpec is meshSpec of one director, whose commands may take two persons.
var pairSpec = strings.Replace(meshSpec, "spec: {directors: [{name: d1, site: s1}, {name: d2, site: s2}, {name: d3, site: s3}]}",
	"spec: {directors: [{name: d1, site: s1}], safety: {twoPersons: true}}", 1)

// TestSecondPerson: a dangerous command waits in the plan, whoever waits for it is told at
// once what came of it, and so is whoever says it again, after a restart or by way of
// another director, since it is all in the store (S16, S4, S5).
func TestSecondPerson(t *testing.T) {
	d := aloneOf(t, nil, pairSpec)
	drain := core.Command{ID: "c1", Verb: core.Drain, Scope: "cluster/fra", Author: "unix:alice", Reason: "INC-1", For: time.Hour, Force: true}
	short, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var told []api.Outcome
	out, err := d.Do(short, drain, func(o api.Outcome) { told = append(told, o) })
	if err != nil || out.Code != 3 || out.Request == nil || out.Request.State != api.RequestWaits || !strings.Contains(out.Remedy, "divert approve c1") {
		t.Fatalf("got %+v, %v, want that it waits", out, err)
	}
	if len(told) == 0 || told[0].Request == nil {
		t.Errorf("told %+v, want at once that it waits", told)
	}
	status := d.Status()
	if len(status.Requests) != 1 || len(status.Overrides) != 0 || !strings.Contains(strings.Join(status.Alerts, "\n"), "divert approve c1") {
		t.Errorf("status shows %+v, %+v, %q", status.Requests, status.Overrides, status.Alerts)
	}

	// Somebody waits, and another person approves.
	waited := make(chan api.Outcome, 1)
	go func() {
		o, _ := d.Do(t.Context(), drain, nil)
		waited <- o
	}()
	yes := core.Command{ID: "y1", Verb: core.Approve, Scope: "c1", Author: "unix:alice"}
	if out, _ = d.Do(t.Context(), yes, nil); out.Code != 1 || !strings.Contains(out.Error, "may not approve") {
		t.Errorf("by who asked: got %+v", out)
	}
	yes.Author = "unix:bob"
	if out, err = d.Do(t.Context(), yes, nil); err != nil || out.Code != 0 || out.Revision == 0 || out.Override == nil || out.Override.ID != "c1" {
		t.Fatalf("approved: got %+v, %v", out, err)
	}
	if got := <-waited; got.Code != 0 || got.Request.State != api.RequestDone || got.Request.By != "unix:bob" || got.Override == nil {
		t.Errorf("who waited: got %+v", got)
	}
	if out, _ = d.Do(t.Context(), drain, nil); out.Code != 0 || !strings.Contains(out.Summary, "approved by unix:bob") {
		t.Errorf("said again: got %+v", out)
	}
	if out, _ = d.Do(t.Context(), core.Command{ID: "n1", Verb: core.Deny, Scope: "c1", Author: "unix:bob", Reason: "x"}, nil); out.Code != 1 {
		t.Errorf("denied after that: got %+v", out)
	}
	records, err := d.Audit(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	last := records[len(records)-1]
	if last.Who != "unix:alice" || last.Approver != "unix:bob" || last.Command != "c1" {
		t.Errorf("S15: got %+v", last)
	}

	// Denied: who waits, and who says it again, learns of it.
	drain.ID, drain.Scope = "c2", "cluster/nyc"
	go func() {
		o, _ := d.Do(t.Context(), drain, nil)
		waited <- o
	}()
	for len(d.Status().Requests) < 2 {
		<-d.Changed()
	}
	if out, err = d.Do(t.Context(), core.Command{ID: "n2", Verb: core.Deny, Scope: "c2", Author: "unix:bob", Reason: "the last site"}, nil); err != nil || out.Code != 0 {
		t.Fatalf("denied: got %+v, %v", out, err)
	}
	for _, got := range []api.Outcome{<-waited, func() api.Outcome { o, _ := d.Do(t.Context(), drain, nil); return o }()} {
		if got.Code != 1 || !strings.Contains(got.Error, "denied by unix:bob (the last site)") {
			t.Errorf("denied: got %+v", got)
		}
	}
}

// TestNothingToApprove: what one person had done asks for no second one: nobody is told that
// he approved or denied it (S16).
func TestNothingToApprove(t *testing.T) {
	d := aloneOf(t, nil, pairSpec)
	if out, err := d.Do(t.Context(), core.Command{ID: "f1", Verb: core.Freeze, Author: "unix:alice", Reason: "x", For: time.Hour}, nil); err != nil || out.Code != 0 {
		t.Fatalf("got %+v, %v", out, err)
	}
	for _, verb := range []core.Verb{core.Approve, core.Deny} {
		out, err := d.Do(t.Context(), core.Command{ID: newID(), Verb: verb, Scope: "f1", Author: "unix:bob", Reason: "x"}, nil)
		if err != nil || out.Code != 1 || !strings.Contains(out.Error, "no request has the ID") {
			t.Errorf("%s: got %+v, %v", verb, out, err)
		}
	}
}

// TestRogueLeader: what a director writes to the store that no second person approved is
// refused by the other, which names it, goes on answering, takes no commands over it, and
// has the store put right by a person (S7, S16).
func TestRogueLeader(t *testing.T) {
	d := aloneOf(t, nil, pairSpec)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	add := core.Command{ID: "add", Verb: core.DirectorAdd, Author: "unix:alice", Reason: "x", Director: &core.Director{Name: "d2", Site: "s2", Key: key.Public().(ed25519.PublicKey)}}
	if _, err := give(d, add); err != nil {
		t.Fatal(err)
	}
	if _, err := give(d, core.Command{ID: "y", Verb: core.Approve, Scope: "add", Author: "unix:bob"}); err != nil {
		t.Fatal(err)
	}
	for d.horizon.current().sealed.Plan.Director("d2") == nil {
		<-d.Changed()
	}
	good := d.horizon.current().sealed
	for d.horizon.acked() != good.Identity { // before, its table may not be in force yet
		<-d.Changed()
	}
	before := d.table.Load()

	p := proto.CloneOf(good.Plan)
	p.Revision, p.Parent, p.Writer, p.Written = p.GetRevision()+1, good.Identity.Hash[:], "d2", timestamppb.Now()
	for _, cluster := range []string{"fra", "nyc"} {
		p.Overrides = append(p.Overrides, &plan.Override{
			Id: cluster, Kind: plan.Override_DRAIN, Scope: "cluster/" + cluster, Author: "unix:alice", Reason: "x", Approver: "unix:bob",
			Start: timestamppb.Now(), End: timestamppb.New(time.Now().Add(time.Hour)), Revision: p.GetRevision(),
		})
	}
	rogue, err := plan.Sign(p, "d2", key)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := d.store.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.store.Commit(t.Context(), store.Commit{
		Parent: snap.ModRevision, Read: snap.StoreRevision, Next: rogue, Held: true, Audit: &plan.Audit{Who: "unix:alice", What: "x"}, Result: &plan.Result{Id: "r", Command: []byte{1}},
	}); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(strings.Join(d.Status().Alerts, "\n"), "director d2 wrote a plan that is refused") {
		<-d.Changed()
	}
	status := d.Status()
	if status.Plan.Revision != good.Identity.Revision || !strings.Contains(status.Store, "not to be trusted") || d.table.Load() != before {
		t.Errorf("got revision %d, store %q: want the plan that was in force", status.Plan.Revision, status.Store)
	}
	if got := counted(t, d, "divert_plans_refused_total"); got != 1 {
		t.Errorf("counted %v refusals, want 1", got)
	}
	if _, err := give(d, core.Command{ID: "later", Verb: core.Freeze, Author: "unix:alice", Reason: "x", For: time.Hour}); err == nil || !strings.Contains(err.Error(), "d2") {
		t.Errorf("a command over it: got %v, want a refusal that names d2", err)
	}
	if _, did, err := d.commander.recover(t.Context(), "unix:alice", true); err != nil {
		t.Fatalf("recover --force: got %q, %v", did, err)
	}
	if got := d.horizon.newest().sealed; got.Identity.Epoch != good.Identity.Epoch+1 || len(got.Plan.GetOverrides()) != 0 {
		t.Errorf("recovered: got %v", got.Plan)
	}
}

func counted(t *testing.T, d *Director, name string) (sum float64) {
	t.Helper()
	families, err := d.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// TestLargeSpecByTwo (S16): what a large apply brings waits in the store for the second
// person, and is in force once he approves.
func TestLargeSpecByTwo(t *testing.T) {
	d := aloneOf(t, nil, pairSpec)
	text := strings.Replace(pairSpec, "metadata: {name: pay}", "metadata: {name: pay, labels: {a: "+strings.Repeat("x", 600<<10)+"}}", 1)
	raws, problems := spec.Parse("mesh.yaml", []byte(text))
	if spec.Failed(problems) {
		t.Fatal(problems)
	}
	apply := core.Command{ID: "p1", Verb: core.Apply, Source: core.SourceFiles, Objects: raws, Prune: true, Force: true, Author: "unix:alice", Reason: "test"}
	gave(t, d, apply)
	was := d.horizon.current().sealed.Plan
	if r := was.Request("p1"); len(r.GetBundle().GetChunks()) != 2 {
		t.Fatalf("it does not wait in two chunks: %v", r.GetBundle())
	}
	gave(t, d, core.Command{ID: newID(), Verb: core.Approve, Scope: "p1", Author: "unix:bob"})
	f := d.horizon.current()
	if p := f.sealed.Plan; p.GetSpec().GetSize() < 600<<10 || p.Request("p1").GetBundle() != nil || p.Request("p1").GetState() != plan.Request_DONE {
		t.Errorf("approved: a spec of %d octets, %v", p.GetSpec().GetSize(), p.Request("p1").GetState())
	}
}
