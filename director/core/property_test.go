package core

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// TestAnyHistory plays random commands, failures and hours. world.take holds
// each plan against S3 and S15; after each step nothing that was given to Decide
// has changed, the lists are in order, every override of a person has an end,
// no name is empty (S1), and serials only grow (S13).
func TestAnyHistory(t *testing.T) {
	start := newWorld(t)
	all := raws(t, fleetYAML)
	variants := [][]spec.Raw{
		all,
		edit(t, all, "GlobalService/shop", `"steering"`, `"ttl":"7s","steering"`),
		edit(t, all, "GlobalService/shop", `"steering"`, `"automation":"observe","steering"`),
		edit(t, all, "Zone/example.net", `192.0.2.80`, `192.0.2.81`),
		only(all, "Cluster/fra", "Cluster/nyc", "Cluster/sin", "Zone/example.org", "GlobalService/shop", "Fleet/default"),
	}
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: start.t, s: start.s, key: "d1"}
		w.s.States = map[health.Subject]health.State{}
		for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
			w.s.Now = w.s.Now.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "minutes")) * time.Minute)
			if rapid.Bool().Draw(t, "flip") {
				svc := rapid.SampledFrom(w.s.Spec.Services).Draw(t, "service")
				e := rapid.SampledFrom(svc.Endpoints).Draw(t, "site")
				w.mark(w.s.States, svc.Name, e.Cluster, rapid.SampledFrom([]health.State{health.Up, health.Down}).Draw(t, "state"))
			}
			w.seen()
			c := drawCommand(t, w, variants)
			if c.ID == "" {
				c.ID = fmt.Sprintf("p%d", i)
			}
			plain, doc := proto.CloneOf(w.s.Plan.Plan), proto.CloneOf(w.s.Doc)
			serials := map[string]uint32{}
			for _, z := range w.s.Plan.Plan.GetZones() {
				serials[z.GetName()] = z.GetSerial()
			}
			got, err := Decide(w.s, c)
			var r *Refusal
			if err != nil && !errors.As(err, &r) {
				t.Fatalf("%+v: %v", c, err)
			}
			again, err2 := Decide(w.s, c)
			if fmt.Sprint(err) != fmt.Sprint(err2) || !proto.Equal(got.Plan, again.Plan) || !proto.Equal(got.Doc, again.Doc) || fmt.Sprintf("%+v", got.Preview) != fmt.Sprintf("%+v", again.Preview) {
				t.Fatalf("%+v is decided in two ways", c)
			}
			if !proto.Equal(plain, w.s.Plan.Plan) || !proto.Equal(doc, w.s.Doc) {
				t.Fatalf("%+v wrote to what it was given", c)
			}
			if err != nil || got.Noop {
				continue
			}
			w.take(got)
			checkPlan(t, w, serials)
		}
	})
}

func drawCommand(t *rapid.T, w *world, variants [][]spec.Raw) Command {
	scopes := []string{
		"cluster/fra", "cluster/nyc", "cluster/sin", "domain/fra-dc1", "service/shop@fra", "service/pay@nyc", "service/shop", "fleet", "cluster/mars",
	}
	if due := Due(w.s); len(due) > 0 && rapid.Bool().Draw(t, "leader") {
		return due[0]
	}
	c := Command{
		Author: rapid.SampledFrom([]string{"alice", "bob"}).Draw(t, "author"), Reason: "INC-1",
		Verb:       rapid.SampledFrom([]Verb{Drain, Drain, Undrain, Freeze, Thaw, Readmit, Apply, DirectorJoin, DirectorAdd, DirectorRemove, Expire}).Draw(t, "verb"),
		Scope:      rapid.SampledFrom(scopes).Draw(t, "scope"),
		For:        time.Duration(rapid.IntRange(0, 80).Draw(t, "hours")) * time.Hour,
		Force:      rapid.Bool().Draw(t, "force"),
		LastResort: rapid.Bool().Draw(t, "lastResort"),
	}
	switch c.Verb {
	case Drain:
		if c.Paced = rapid.Bool().Draw(t, "paced"); c.Paced {
			c.Steps = rapid.SampledFrom([][]int{nil, {1, 50, 100}, {100}}).Draw(t, "percent")
			c.Wait = rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(t, "wait")
		}
	case Undrain:
		c.Now = rapid.Bool().Draw(t, "now")
	case Apply:
		c.Objects = rapid.SampledFrom(variants).Draw(t, "objects")
		c.Prune = rapid.Bool().Draw(t, "prune")
		if !c.Prune {
			c.Folder = rapid.SampledFrom([]string{"", "d1", "d2"}).Draw(t, "folder")
		}
	case DirectorJoin, DirectorAdd, DirectorRemove:
		name := rapid.SampledFrom([]string{"d1", "d2", "d3", "d9"}).Draw(t, "director")
		c.Scope = name
		c.Director = &Director{Name: name, Key: public(rapid.SampledFrom([]string{"d1", "d2", "d3", "d9"}).Draw(t, "key"))}
	}
	return c
}

func checkPlan(t *rapid.T, w *world, before map[string]uint32) {
	p := w.s.Plan.Plan
	sortedCopy := proto.CloneOf(p)
	sortPlan(sortedCopy)
	if !proto.Equal(p, sortedCopy) {
		t.Fatal("lists out of order")
	}
	keys := map[string]bool{}
	for _, d := range p.Active() {
		if k := string(d.GetKey()); k != "" && keys[k] {
			t.Fatal("two directors with one key")
		} else {
			keys[k] = true
		}
	}
	if p.Holder(public(w.key)) == nil { // whoever signs must be left
		w.key = ""
		for _, k := range []string{"d1", "d2", "d3", "d9"} {
			if h := p.Holder(public(k)); h != nil && w.key == "" {
				w.key, w.s.Me = k, h.GetName()
			}
		}
		if w.key == "" {
			t.Fatal("nobody is left who could sign")
		}
	}
	ids := map[string]bool{}
	for _, o := range p.GetOverrides() {
		if o.GetAuthor() != SpecAuthor && (o.GetEnd() == nil || o.GetEnd().AsTime().Sub(w.s.Now) > 72*time.Hour) {
			t.Fatalf("S18: no end, or one too far: %v", o)
		}
		id := o.GetKind().String() + o.GetScope() + fmt.Sprint(o.GetAuthor() == SpecAuthor)
		if ids[id] || o.GetId() == "" || o.GetRevision() > p.GetRevision() {
			t.Fatalf("override %v", o)
		}
		ids[id] = true
	}
	if err := checkPaces(p); err != nil {
		t.Fatal(err)
	}
	for _, z := range p.GetZones() {
		if was, ok := before[z.GetName()]; ok && was != z.GetSerial() && !grows(was, z.GetSerial()) {
			t.Fatalf("S13: serial of %s from %d to %d", z.GetName(), was, z.GetSerial())
		}
	}
	d := steer.Decide(steer.Input{Spec: w.s.Spec, Plan: p, States: w.s.States, Places: everywhere()})
	for _, svc := range d.Services {
		for _, set := range svc.V4.Sets {
			if len(set.Choices) == 0 {
				t.Fatalf("S1: %s is empty: %q", svc.Name, svc.Why(steer.IPv4, &set))
			}
		}
	}
}
