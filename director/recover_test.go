package director

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3" //nolint:depguard // what is found in a store may come from anybody who can write to it
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
)

// soloSpec is that of a fleet of one director, whose commands wait for nobody else.
func soloSpec() string {
	return strings.Replace(meshSpec, "[{name: d1, site: s1}, {name: d2, site: s2}, {name: d3, site: s3}]", "[{name: d1, site: s1}]", 1)
}

func solo(t *testing.T) *Director {
	t.Helper()
	return aloneOf(t, slog.New(slog.NewTextHandler(t.Output(), nil)), soloSpec())
}

// drained gives a command of its own for each call.
func drained(scope string) core.Command {
	return core.Command{ID: newID(), Verb: core.Drain, Scope: scope, Author: "ann", Reason: "test", For: time.Hour}
}

func undrained(scope string) core.Command {
	return core.Command{ID: newID(), Verb: core.Undrain, Scope: scope, Author: "ann", Reason: "over"}
}

// gave is give, until the plan is in force here.
func gave(t *testing.T, d *Director, cmd core.Command) plan.Identity {
	t.Helper()
	id, err := give(d, cmd)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the plan is in force", func() bool { return d.horizon.current().sealed.Identity == id })
	return id
}

// eventually waits for a condition; the limit is only there so that a failure ends.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long: %s", what)
		}
	}
}

// vault is a director's store as whoever can write to etcd sees it.
type vault struct {
	t *testing.T
	d *Director
}

func (v vault) key(name string) string { return v.d.store.Prefix() + name }

func (v vault) put(name, value string) {
	v.t.Helper()
	if _, err := v.d.store.Client().Put(v.t.Context(), v.key(name), value); err != nil {
		v.t.Fatal(err)
	}
}

func (v vault) get(name string) string {
	v.t.Helper()
	resp, err := v.d.store.Client().Get(v.t.Context(), v.key(name))
	if err != nil || len(resp.Kvs) == 0 {
		v.t.Fatalf("%s: %v, %v", name, resp, err)
	}
	return string(resp.Kvs[0].Value)
}

func (v vault) remove(name string, options ...clientv3.OpOption) {
	v.t.Helper()
	if _, err := v.d.store.Client().Delete(v.t.Context(), v.key(name), options...); err != nil {
		v.t.Fatal(err)
	}
}

// blob is the name of the first piece of the spec in force.
func (v vault) blob() string {
	return "blob/" + plan.Hash(v.d.horizon.current().sealed.Plan.GetSpec().GetChunks()[0]).String()
}

// forge seals another plan than the one in force, by the director's own key or another.
func (v vault) forge(change func(*plan.Plan), key ed25519.PrivateKey) string {
	v.t.Helper()
	p := proto.CloneOf(v.d.horizon.current().sealed.Plan)
	p.Revision += 7
	p.Parent = v.d.horizon.current().sealed.Identity.Hash[:]
	if change != nil {
		change(p)
	}
	signer := v.d.identity.Key
	if key != nil {
		signer = key
	}
	sealed, err := plan.Sign(p, "d1", signer)
	if err != nil {
		v.t.Fatal(err)
	}
	return string(sealed.Raw)
}

// TestStatesOfTheStore goes through what may be found in an etcd: what the director
// says of it, that it answers as ever and takes no command that it must not, and the
// command that puts it right (S3, S4, F25).
func TestStatesOfTheStore(t *testing.T) {
	stranger := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	d := solo(t)
	v := vault{t, d}
	ctx := api.WithUser(t.Context(), "ann")
	for _, tc := range []struct {
		name  string
		spoil func()
		says  string // status, and the refusal of a command; "" = commands are taken as ever
		check string // `divert store check`
		force string // what `recover` without --force says; "" = it does it
		back  func() // what puts it right, where recover is not what does
	}{
		{name: "empty", spoil: func() { v.remove("", clientv3.WithPrefix()) }, says: "it was lost or replaced", check: "divert store recover"},
		{name: "the plan's key removed", spoil: func() { v.remove("plan") }, says: "it was lost or replaced", check: "divert store recover"},
		{name: "garbage for a plan", spoil: func() { v.put("plan", "\x00\xffgarbage") }, says: "cannot be read", check: "divert store recover"},
		{name: "nothing for a plan", spoil: func() { v.put("plan", "") }, says: "is no plan envelope", check: "divert store recover"},
		{name: "a truncated plan", spoil: func() { raw := v.get("plan"); v.put("plan", raw[:len(raw)/2]) }, says: "cannot be read", check: "divert store recover"},
		{name: "a flipped plan", spoil: func() {
			raw := []byte(v.get("plan"))
			raw[len(raw)/2] ^= 1
			v.put("plan", string(raw))
		}, says: "cannot be read", check: "divert store recover"},
		{name: "an older plan", spoil: func() {
			v.put("plan", v.forge(func(p *plan.Plan) { p.Revision -= 8 }, nil))
		}, says: "it was restored or replaced", check: "divert store recover"},
		{name: "another plan of the same order", spoil: func() {
			v.put("plan", v.forge(func(p *plan.Plan) { p.Revision -= 7; p.Writer = "x" }, nil))
		}, says: "it was replaced", check: "divert store recover"},
		{name: "a stranger's plan", spoil: func() { v.put("plan", v.forge(nil, stranger)) }, says: "not to be trusted", check: "divert store recover --force", force: "the store holds plan"},
		{name: "another fleet's plan", spoil: func() { v.put("plan", v.forge(func(p *plan.Plan) { p.Fleet = "theirs" }, nil)) }, says: "belongs to fleet theirs", check: "point it at its own store", force: "of fleet theirs"},
		{name: "a newer divert's plan", spoil: func() {
			env := &plan.Envelope{}
			if err := proto.Unmarshal([]byte(v.get("plan")), env); err != nil {
				t.Fatal(err)
			}
			env.Format = 99
			raw, err := proto.Marshal(env)
			if err != nil {
				t.Fatal(err)
			}
			v.put("plan", string(raw))
		}, says: "too new for this director", check: "upgrade", force: "too new for this director"},
		{name: "a newer plan whose spec is lost", spoil: func() {
			v.put("plan", v.forge(func(p *plan.Plan) {
				_, p.Spec = store.Split([]byte("a spec that is nowhere"))
			}, nil))
		}, says: "its spec is lost", check: "are missing", force: "the store holds plan"},
		{name: "a note that it was moved", spoil: func() {
			note, err := proto.Marshal(&plan.Envelope{Format: 1, Kind: "moved", Payload: []byte(`{"to":["https://etcd.example.net:2379"]}`)})
			if err != nil {
				t.Fatal(err)
			}
			v.put("plan", string(note))
		}, says: "was moved to https://etcd.example.net:2379", check: "was moved to", force: "was moved to"},
		{name: "a missing piece of the spec", spoil: func() { v.remove(v.blob()) }, check: "are missing"},
		{name: "all pieces missing", spoil: func() { v.remove("blob/", clientv3.WithPrefix()) }, check: "are missing"},
		{name: "a truncated piece of the spec", spoil: func() { raw := v.get(v.blob()); v.put(v.blob(), raw[:len(raw)/2]) }, check: "are damaged"},
		{name: "an audit record ahead of the plan", spoil: func() {
			next := d.horizon.current().sealed.Identity.Revision + 1
			raw, err := proto.Marshal(&plan.Audit{Revision: next, Who: "nobody"})
			if err != nil {
				t.Fatal(err)
			}
			v.put(fmt.Sprintf("audit/%020d", next), string(raw))
		}, check: "past the plan's"},
		{name: "a result that cannot be read", spoil: func() { v.put("command/mine", "\xff\xffgarbage") }, check: `command "mine" cannot be read`},
		{name: "a candidate without a lease", spoil: func() { v.put("election/0", "ghost") }, check: "has no lease"},
		{name: "acknowledgements that cannot be read", spoil: func() { v.put("ack/d1", "\xffgarbage"); v.put("ack/ghost", "") }, back: func() {}},
		{name: "keys of nobody", spoil: func() { v.put("blob/xyz", "x"); v.put("blob/"+strings.Repeat("0", 64), "x"); v.put("somewhere", "x") }, back: func() {}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			gave(t, d, drained("cluster/fra")) // something to lose
			// Nobody mends by itself what is about to be looked at.
			report, err := d.CheckStore(ctx)
			must(err)
			if tidy := slices.DeleteFunc(report.Findings, gapsOnly); len(tidy) > 0 {
				t.Fatalf("not in order before: %+v", tidy)
			}
			before := d.horizon.current().sealed.Identity
			tc.spoil()
			report, err = d.CheckStore(ctx)
			must(err)
			if found := fmt.Sprint(slices.DeleteFunc(report.Findings, gapsOnly)); tc.check == "" && found != "[]" || !strings.Contains(found, tc.check) {
				t.Errorf("check says %s, want %q", found, tc.check)
			}
			if tc.says != "" {
				eventually(t, "status says so", func() bool { return strings.Contains(d.Status().Store, tc.says) })
				_, _, err := d.commander.commit(ctx, drained("cluster/nyc"), nil)
				if err == nil || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("a command: got %v, want %q", err, tc.says)
				}
			}
			if d.horizon.current().sealed.Identity != before {
				t.Errorf("the plan in force is another: %v", d.horizon.current().sealed.Identity)
			}
			if tc.back != nil {
				tc.back()
			} else {
				if tc.force != "" {
					out, err := d.Recover(ctx, false)
					if err != nil || out.Code != 1 || !strings.Contains(out.Error, tc.force) || !out.CanForce {
						t.Errorf("recover without force: %+v, %v", out, err)
					}
				}
				out, err := d.Recover(ctx, tc.force != "")
				if err != nil || out.Code != 0 {
					t.Fatalf("recover: %+v, %v", out, err)
				}
				eventually(t, "commands are accepted", func() bool { return d.Status().Store == "ok" })
			}
			report, err = d.CheckStore(ctx)
			must(err)
			if left := slices.DeleteFunc(report.Findings, gapsOnly); len(left) > 0 && tc.back == nil {
				t.Errorf("afterwards: %+v", left)
			}
			if len(d.horizon.current().sealed.Plan.GetOverrides()) != 1 {
				t.Error("the drain is lost")
			}
			if id := gave(t, d, undrained("cluster/fra")); id.Compare(before) <= 0 {
				t.Errorf("plan %v does not follow %v (S3)", id, before)
			}
			if out, err := d.Recover(ctx, false); err != nil || out.Code != 1 || !strings.Contains(out.Error, "nothing to recover") {
				t.Errorf("recover what is in order: %+v, %v", out, err)
			}
		})
	}
}

// gapsOnly tells findings that no command undoes: what is gone of the audit log is gone.
func gapsOnly(f api.Finding) bool { return strings.HasPrefix(f.What, "the audit log has no record") }

// TestReplenish: a piece of the spec that the store has lost comes back by itself.
func TestReplenish(t *testing.T) {
	d := solo(t)
	v := vault{t, d}
	name := v.blob()
	want := v.get(name)
	eventually(t, "the store is read", func() bool {
		state := d.horizon.storeNow()
		return state.problem == "" && state.plan == d.horizon.current().sealed.Identity
	})
	v.remove(name)
	d.librarian.replenish(t.Context())
	if v.get(name) != want {
		t.Error("the piece is not what it was")
	}
}
