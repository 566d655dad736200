package director

import (
	"crypto/ed25519"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/health"
)

// paying gives the mesh's spec with pay's TTL and path.
func paying(t *testing.T, ttl, path string) []spec.Raw {
	t.Helper()
	text := strings.Replace(meshSpec, "hosts: [pay.example.org]", "hosts: [pay.example.org]\n  ttl: "+ttl, 1)
	raws, problems := spec.Parse("mesh.yaml", []byte(strings.Replace(text, "/healthz", path, 1)))
	if spec.Failed(problems) {
		t.Fatal(problems)
	}
	return raws
}

// carry gives a command, and waits until its plan is in force.
func carry(t *testing.T, d *Director, cmd core.Command) *inForce {
	t.Helper()
	cmd.ID, cmd.Author, cmd.Reason = newID(), "ann", "test"
	id, err := give(d, cmd)
	if err != nil {
		t.Fatalf("%s: %v", cmd.Verb, err)
	}
	end := time.After(20 * time.Second)
	for {
		changed := d.Changed()
		if f := d.horizon.current(); f.sealed.Identity.Revision >= id.Revision {
			return f
		}
		select {
		case <-changed:
		case <-end:
			t.Fatalf("revision %d of %s does not come into force", id.Revision, cmd.Verb)
		}
	}
}

func payTTL(f *inForce) string { return f.spec.Service("pay").TTL.String() }

// TestRevertFromTheStore: what revert goes back to is kept by collection (S3), and where it
// is gone all the same, that is said.
func TestRevertFromTheStore(t *testing.T) {
	d := alone(t)
	carry(t, d, core.Command{Verb: core.Apply, Objects: paying(t, "7s", "/healthz")})
	carry(t, d, core.Command{Verb: core.Apply, Objects: paying(t, "9s", "/healthz")})
	end := time.After(20 * time.Second)
	for !d.campaign.Status().Mine {
		d.campaign.Stand(true) // alone of three it hears too few, and would not by itself
		select {
		case <-d.Changed():
		case <-time.After(50 * time.Millisecond):
		case <-end:
			t.Fatal("nobody leads")
		}
	}
	d.steward.collect(t.Context(), d.campaign.Status().Term)
	if f := carry(t, d, core.Command{Verb: core.Revert}); payTTL(f) != "7s" {
		t.Fatalf("reverted: ttl %s, want 7s", payTTL(f))
	}
	if f := carry(t, d, core.Command{Verb: core.Revert}); payTTL(f) != "9s" {
		t.Fatalf("reverted again: ttl %s, want 9s", payTTL(f))
	}
	for _, h := range d.horizon.current().sealed.Plan.GetPrevious().GetChunks() {
		if _, err := d.store.Client().Delete(t.Context(), d.store.Prefix()+"blob/"+plan.Hash(h).String()); err != nil {
			t.Fatal(err)
		}
	}
	_, err := give(d, core.Command{ID: newID(), Verb: core.Revert, Author: "ann", Reason: "test"})
	if err == nil || !strings.Contains(err.Error(), "is gone from the store") {
		t.Errorf("got %v, want that it is gone", err)
	}
}

// TestCanary: a director that tries a spec answers from it, and decides commands by the one
// of all; over a restart too. One that does not watches what either needs.
func TestCanary(t *testing.T) {
	d := alone(t)
	key := benchKey(4).Public().(ed25519.PublicKey)
	carry(t, d, core.Command{Verb: core.DirectorAdd, Director: &core.Director{Name: "d4", Key: key}})
	carry(t, d, core.Command{Verb: core.Apply, Objects: paying(t, "9s", "/healthz")})
	serial := func(f *inForce) uint32 { return f.zones[0].Serial }

	f := carry(t, d, core.Command{Verb: core.Apply, Objects: paying(t, "7s", "/ready"), Canary: []string{"d1"}, Soak: time.Hour})
	if payTTL(f) != "7s" || payTTL(f.stable()) != "9s" || serial(f) != uint32(f.sealed.Identity.Revision) {
		t.Fatalf("d1 tries ttl %s of %s, serial %d in revision %d", payTTL(f), payTTL(f.stable()), serial(f), f.sealed.Identity.Revision)
	}
	for _, raw := range d.Spec() {
		if strings.Contains(string(raw.JSON), "/ready") {
			t.Error("what is tried is shown as the spec of the fleet")
		}
	}
	f = carry(t, d, core.Command{Verb: core.Drain, Scope: "cluster/fra", For: time.Hour, Force: true})
	if payTTL(f) != "7s" || payTTL(f.stable()) != "9s" || serial(f) != uint32(f.sealed.Identity.Revision) {
		t.Errorf("a drain in the soak: ttl %s of %s, serial %d", payTTL(f), payTTL(f.stable()), serial(f))
	}
	if st := d.Status(); st.Rollout == nil || !st.Rollout.Here || st.Rollout.State != "soaking" {
		t.Errorf("status: %+v", st.Rollout)
	}
	onDisk := func() (*inForce, error) {
		g, err := store.Peek(filepath.Join(d.settings.DataDir, "state"), nil)
		if err != nil {
			return nil, err
		}
		sealed, err := plan.Open(g.Plan)
		if err != nil {
			return nil, err
		}
		return new(zoneTexts).prepare(sealed, g.Docs()...)
	}
	for end := time.After(20 * time.Second); ; {
		saved, err := onDisk()
		if err == nil && saved.sealed.Identity == f.sealed.Identity {
			if payTTL(saved.on("d1")) != "7s" || payTTL(saved.on("d4")) != "9s" {
				t.Errorf("after a restart d1 has ttl %s, d4 %s", payTTL(saved.on("d1")), payTTL(saved.on("d4")))
			}
			break
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-end:
			t.Fatalf("not on the disk: %v", err)
		}
	}
	tried := serial(f)
	f = carry(t, d, core.Command{Verb: core.Abort})
	if payTTL(f) != "9s" || f.tried() != nil || serial(f) <= tried {
		t.Errorf("taken back: ttl %s, serial %d after %d", payTTL(f), serial(f), tried)
	}

	f = carry(t, d, core.Command{Verb: core.Apply, Objects: paying(t, "7s", "/ready"), Canary: []string{"d4"}, Soak: time.Hour})
	if payTTL(f) != "9s" || f.tried() == nil {
		t.Errorf("d4 tries it, and d1 has ttl %s", payTTL(f))
	}
	var states map[health.Subject]health.State
	if err := d.loop.inspect(t.Context(), func(time.Time) { states = d.loop.book.States() }); err != nil {
		t.Fatal(err)
	}
	for _, s := range subjects(f.tried().spec) {
		if _, known := states[s]; !known {
			t.Errorf("d1 does not watch %s, which only d4 goes by: nobody could prove its fall (S7)", s)
		}
	}
	if f = carry(t, d, core.Command{Verb: core.GoOn}); payTTL(f) != "7s" || f.tried() != nil {
		t.Errorf("gone on: ttl %s", payTTL(f))
	}
	if f = carry(t, d, core.Command{Verb: core.Revert}); payTTL(f) != "9s" {
		t.Errorf("reverted: ttl %s", payTTL(f))
	}
}

// TestFollowers: a plan that is signed well and follows another than the one in force is
// refused before it is used (S7), as is one whose spec sends clients where they must not go.
func TestFollowers(t *testing.T) {
	m := &mesh{t: t, ctx: t.Context()}
	for i, name := range []string{"d1", "d2", "d3"} {
		m.nodes = append(m.nodes, &node{loop: &loop{name: name}, mesh: m, key: benchKey(byte(i))})
	}
	cur := m.plan(nil, 1, m.nodes[0]).sealed
	child := func(change func(*plan.Plan)) *plan.Sealed {
		return m.plan(func(p *plan.Plan) {
			p.Parent = cur.Identity.Hash[:]
			if change != nil {
				change(p)
			}
		}, 2, m.nodes[0]).sealed
	}
	if err := follows(cur, child(nil)); err != nil {
		t.Errorf("its successor: %v", err)
	}
	if err := follows(cur, child(func(p *plan.Plan) { p.Parent = make([]byte, 32) })); err == nil {
		t.Error("the child of another plan was taken")
	}
	if err := follows(cur, child(func(p *plan.Plan) { p.Roster = p.Roster[:2] })); err == nil {
		t.Error("a roster that forgets a director was taken")
	}
}
