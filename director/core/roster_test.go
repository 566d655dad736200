package core

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

func keyText(name string) string {
	return "ed25519:" + base64.StdEncoding.EncodeToString(public(name))
}

func (w *world) join(name, key string) Command {
	return Command{Verb: DirectorJoin, Author: "director d1", Director: &Director{Name: name, Key: public(key), Gossip: "192.0.2.1:7946"}}
}

func (w *world) active() string {
	var out []string
	for _, d := range w.s.Plan.Plan.Active() {
		text := d.GetName() + "@" + d.GetSite()
		if len(d.GetKey()) == 0 {
			text += "?"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

// TestEnrolment walks through SEMANTICS' rules of the roster.
func TestEnrolment(t *testing.T) {
	w := newWorld(t)
	if got, want := w.active(), "d1@fra-dc1 d2@nyc? d3@sin?"; got != want {
		t.Fatalf("bootstrap wrote %s, want %s", got, want)
	}
	w.do(w.join("d2", "d2"))
	if got := w.do(w.join("d2", "d2")); !got.Noop {
		t.Error("joined twice")
	}
	w.refused(w.join("d2", "dx"), "another key than the one that was pinned")
	w.refused(w.join("d3", "d2"), "already that of d2")
	w.refused(w.join("d9", "d9"), "divert director approve d9")
	w.refused(Command{Verb: DirectorJoin, Director: &Director{Name: "d3", Key: []byte("short")}}, "not one of Ed25519")
	w.refused(Command{Verb: DirectorJoin}, "no director is named")
	w.refused(Command{Verb: DirectorAdd, Director: &Director{Name: "d9"}}, "nobody has shown a key for d9")

	moved := w.join("d2", "d2")
	moved.Director.Gossip = "192.0.2.9:7946"
	w.do(moved)
	if got := w.s.Plan.Plan.Director("d2").GetGossip(); got != "192.0.2.9:7946" {
		t.Errorf("moved to %s", got)
	}

	w.do(Command{Verb: DirectorAdd, Director: &Director{Name: "d9", Site: "lon", Key: public("d9")}})
	if got, want := w.active(), "d1@fra-dc1 d2@nyc d3@sin? d9@lon"; got != want {
		t.Fatalf("approved: %s, want %s", got, want)
	}
	w.do(Command{Verb: DirectorRemove, Scope: "d2"})
	w.refused(w.join("d2", "d2"), "was removed from the roster")
	if due := Due(w.s); len(due) != 0 {
		t.Errorf("files bring a removed name back: %+v", due)
	}
	w.refused(Command{Verb: DirectorRemove, Scope: "d22"}, "no director")
	w.do(Command{Verb: DirectorAdd, Director: &Director{Name: "d2", Key: public("d2b")}})
	if got, want := w.active(), "d1@fra-dc1 d2@nyc d3@sin? d9@lon"; got != want {
		t.Fatalf("back: %s, want %s", got, want)
	}
	w.refused(Command{Verb: DirectorAdd, Director: &Director{Name: "d2", Key: public("d2")}}, "director remove d2 first")
}

// TestLastDirectorStays: nobody removes the last one, or the last that can sign.
func TestLastDirectorStays(t *testing.T) {
	w := newWorld(t)
	w.refused(Command{Verb: DirectorRemove, Scope: "d1"}, "last director with a key")
	w.do(Command{Verb: DirectorRemove, Scope: "d2"})
	w.do(Command{Verb: DirectorRemove, Scope: "d3"})
	w.refused(Command{Verb: DirectorRemove, Scope: "d1"}, "last director of the roster")
}

// TestFilesOnlyAddNames, one in each revision, by the leader's own writes.
func TestFilesOnlyAddNames(t *testing.T) {
	w := newWorld(t)
	all := raws(t, fleetYAML)
	more := edit(t, all, "Fleet/default", `{"name":"d2","site":"nyc"}`,
		`{"name":"d4","site":"lon"},{"key":"`+keyText("d5")+`","name":"d5"},{"key":"`+keyText("d2")+`","name":"d2","site":"moon"}`)
	c := w.do(Command{Verb: Apply, Objects: more})
	warnings := strings.Join(c.Preview.Warnings, "; ")
	for _, want := range []string{"d4 is new", "d5 is new", "d2 stays in nyc"} {
		if !strings.Contains(warnings, want) {
			t.Errorf("warnings %q lack %q", warnings, want)
		}
	}
	var steps int
	for ; steps < 10; steps++ {
		due := Due(w.s)
		if len(due) == 0 {
			break
		}
		if len(due) != 1 {
			t.Fatalf("more than one change of the roster: %+v", due)
		}
		before := len(w.s.Plan.Plan.GetRoster())
		w.do(due[0])
		if len(w.s.Plan.Plan.GetRoster()) > before+1 {
			t.Fatal("two names in one revision")
		}
	}
	if got, want := w.active(), "d1@fra-dc1 d2@nyc d3@sin? d4@lon? d5@d5"; got != want || steps != 3 {
		t.Fatalf("after %d steps: %s, want %s", steps, got, want)
	}
	c = w.do(Command{Verb: Apply, Objects: edit(t, more, "Fleet/default", `,{"name":"d3","site":"sin"}`, ``)})
	if !strings.Contains(strings.Join(c.Preview.Warnings, "; "), "d3 left Fleet.directors and stays") || w.s.Plan.Plan.Director("d3").GetStanding() != plan.Director_ACTIVE {
		t.Errorf("a file removed a director: %v", c.Preview.Warnings)
	}
}

func TestBootstrapRefusals(t *testing.T) {
	w := newWorld(t)
	s := w.s
	s.Plan, s.Doc, s.Spec = nil, nil, nil
	all := raws(t, fleetYAML)
	me := Director{Name: "d1", Key: public("d1")}
	tests := []struct {
		name  string
		s     State
		raws  []spec.Raw
		me    Director
		fleet string
		want  string
	}{
		{"has a plan", w.s, all, me, "f", "holds a plan of fleet fleet-1 already"},
		{"no fleet", s, all, me, "", "fleet ID"},
		{"fleet with a space", s, all, me, "a b", "fleet ID"},
		{"not listed", s, all, Director{Name: "d9", Key: public("d9")}, "f", "d9 is not in Fleet.directors"},
		{"another key", s, edit(t, all, "Fleet/default", `"name":"d1"`, `"key":"`+keyText("dx")+`","name":"d1"`), me, "f", "another key"},
		{"bad spec", s, only(all, "GlobalService/shop"), me, "f", "errors"},
		{"no key", s, all, Director{Name: "d1"}, "f", "without a name or key"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Bootstrap(tc.s, tc.raws, tc.me, tc.fleet)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %+v, %v, want %q", got, err, tc.want)
			}
		})
	}
	// With nothing at all the director is alone in its roster.
	c, err := Bootstrap(s, nil, Director{Name: "solo", Site: "x", Key: public("solo")}, "f")
	if err != nil || len(c.Plan.GetRoster()) != 1 || c.Plan.GetEpoch() != 1 || c.Plan.GetRevision() != 1 {
		t.Errorf("alone: %+v, %v", c, err)
	}
}

// TestRecover: epoch and revision above all that is known (S3), on the director
// that holds the most only.
func TestRecover(t *testing.T) {
	w := newWorld(t)
	w.do(w.drain("cluster/fra"))
	mine := w.s.Plan.Identity
	c := Command{ID: "r", Author: "alice", Reason: "disk lost"}
	higher := mine
	higher.Revision = 9
	if _, err := Recover(w.s, c, 0, Known{Director: "d2", Identity: mine}, Known{Director: "d3", Identity: higher}); err == nil || !strings.Contains(err.Error(), "run `divert store recover` on d3") {
		t.Errorf("recovered from less than d3 holds: %v", err)
	}
	foreign := mine
	foreign.Fleet = "other"
	if _, err := Recover(w.s, c, 0, Known{Director: "d2", Identity: foreign}); err == nil || !strings.Contains(err.Error(), "wrong fleet") {
		t.Errorf("recovered beside another fleet: %v", err)
	}
	older := mine
	older.Epoch, older.Revision = mine.Epoch, 1
	got, err := Recover(w.s, c, 0, Known{Director: "the store", Identity: older}, Known{Director: "d2", Identity: plan.Identity{}}, Known{Director: "d3", Identity: mine})
	if err != nil {
		t.Fatal(err)
	}
	if got.Plan.GetEpoch() != mine.Epoch+1 || got.Plan.GetRevision() != mine.Revision+1 || got.Doc == nil {
		t.Errorf("recovered %d.%d", got.Plan.GetEpoch(), got.Plan.GetRevision())
	}
	w.take(got)
	if w.scopes(plan.Override_DRAIN) != "cluster/fra" {
		t.Error("recovery lost a drain")
	}
	ahead := w.s.Plan.Identity
	ahead.Revision += 5
	// What is only remembered raises the order and refuses nothing: nobody may have it
	// any more.
	got, err = Recover(w.s, Command{ID: "r1", Author: "alice"}, 0, Known{Director: "", Identity: ahead}, Known{Director: "d2", Identity: mine})
	if err != nil || !strings.Contains(got.Audit.GetWhat(), "is given up") {
		t.Errorf("a plan that nobody holds: %v\n%v", err, got.Plan)
	} else if id := (plan.Identity{Epoch: got.Plan.GetEpoch(), Revision: got.Plan.GetRevision()}); id.Epoch <= ahead.Epoch || id.Revision <= ahead.Revision {
		t.Errorf("got %d.%d, not above %d.%d", id.Epoch, id.Revision, ahead.Epoch, ahead.Revision)
	}
	if _, err := Recover(State{}, c, 0); err == nil {
		t.Error("recovered from nothing")
	}
	// A restored store with a higher revision under an older epoch.
	restored := plan.Identity{Fleet: mine.Fleet, Epoch: 1, Revision: 77}
	got, err = Recover(w.s, Command{ID: "r2", Author: "alice"}, 0, Known{Director: "the store", Identity: restored})
	if err != nil || got.Plan.GetRevision() != 78 || got.Plan.GetEpoch() != 3 {
		t.Errorf("revisions restart: %v, %v", got.Plan, err)
	}
}

// TestBootstrapKeys: a fleet does not begin with two directors of one key.
func TestBootstrapKeys(t *testing.T) {
	yaml := strings.Replace(fleetYAML, "{name: d2, site: nyc}", fmt.Sprintf("{name: d2, site: nyc, key: %q}", keyText("d1")), 1)
	s := newWorld(t).s
	s.Plan = nil
	_, err := Bootstrap(s, raws(t, yaml), Director{Name: "d1", Key: public("d1")}, "fleet-1")
	if err == nil || !strings.Contains(err.Error(), "d2 the key of d1") {
		t.Errorf("got %v", err)
	}
}

// TestApproveAgainstFiles: a person does not approve another key than the files
// give, or the next apply would be refused for it.
func TestApproveAgainstFiles(t *testing.T) {
	w := newWorld(t)
	w.do(Command{Verb: Apply, Objects: edit(t, raws(t, fleetYAML), "Fleet/default", `"name":"d2"`, fmt.Sprintf(`"key":%q,"name":"d2"`, keyText("d2")))})
	w.do(Command{Verb: DirectorRemove, Scope: "d2"})
	w.refused(Command{Verb: DirectorAdd, Director: &Director{Name: "d2", Key: public("dx")}}, "another key than Fleet.directors gives it")
	w.do(Command{Verb: DirectorAdd, Director: &Director{Name: "d2", Key: public("d2")}})
}

// TestRecoverNeedsTheSpec: a new store without the spec would be good for nobody.
func TestRecoverNeedsTheSpec(t *testing.T) {
	w := newWorld(t)
	w.s.Plan.Plan.Spec = &plan.SpecRef{Hash: []byte("x"), Size: 1}
	w.s.Doc = nil
	if _, err := Recover(w.s, Command{ID: "r", Author: "alice"}, 0); err == nil || !strings.Contains(err.Error(), "spec") {
		t.Errorf("got %v", err)
	}
}
