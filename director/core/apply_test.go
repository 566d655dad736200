package core

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

func (w *world) folder(name string, objects []spec.Raw) (Command, int) {
	apply, differs := Pending(w.s.Doc, name, objects)
	return Command{Verb: Apply, Source: SourceFiles, Folder: name, Objects: apply, Author: name, Reason: "folder"}, len(differs)
}

// sync does what a director with a folder does again and again, and returns how
// many differences wait.
func (w *world) sync(name string, objects []spec.Raw) int {
	w.t.Helper()
	for range 5 {
		c, differs := w.folder(name, objects)
		if len(c.Objects) == 0 {
			return differs
		}
		if got := w.do(c); got.Noop {
			w.t.Fatalf("the folder of %s asks for nothing for ever", name)
		}
	}
	w.t.Fatalf("the folder of %s never comes to rest", name)
	return 0
}

func (w *world) shopTTL() string { return w.s.Spec.Service("shop").TTL.String() }

// TestStaleFolder: a director coming back with last month's folder changes
// nothing (S19).
func TestStaleFolder(t *testing.T) {
	w := newWorld(t)
	v1 := raws(t, fleetYAML)
	v2 := edit(t, v1, "GlobalService/shop", `"steering"`, `"ttl":"7s","steering"`)
	v3 := edit(t, v1, "GlobalService/shop", `"steering"`, `"ttl":"9s","steering"`)

	if n := w.sync("d1", v1); n != 0 {
		t.Fatalf("its own bootstrap differs by %d", n)
	}
	// d3 is new: equal is noted, and from then on it is known.
	before := w.s.Plan.Identity.Revision
	if n := w.sync("d3", v1); n != 0 || w.s.Plan.Identity.Revision != before+1 {
		t.Fatalf("an equal folder of a new director: %d differ, revision %d", n, w.s.Plan.Identity.Revision)
	}
	// d1's folder changes; d3 is away and comes back.
	if n := w.sync("d1", v2); n != 0 || w.shopTTL() != "7s" {
		t.Fatalf("changed folder: %d differ, ttl %s", n, w.shopTTL())
	}
	before = w.s.Plan.Identity.Revision
	if n := w.sync("d3", v1); n != 0 || w.shopTTL() != "7s" || w.s.Plan.Identity.Revision != before {
		t.Fatalf("the stale folder: %d differ, ttl %s, revision %d", n, w.shopTTL(), w.s.Plan.Identity.Revision)
	}
	// A folder that missed a change and now says a third thing waits for a person.
	if n := w.sync("d3", v3); n == 0 || w.shopTTL() != "7s" {
		t.Fatalf("a folder out of step: %d differ, ttl %s", n, w.shopTTL())
	}
	// A person settles it; the folder then is in step.
	w.do(Command{Verb: Apply, Objects: v3})
	if n := w.sync("d3", v3); n != 0 || w.shopTTL() != "9s" {
		t.Fatalf("settled: %d differ, ttl %s", n, w.shopTTL())
	}
	if n := w.sync("d3", v2); n != 0 || w.shopTTL() != "7s" {
		t.Fatalf("in step again: %d differ, ttl %s", n, w.shopTTL())
	}
}

// TestNewFolderShowsItsDifference instead of applying it.
func TestNewFolderShowsItsDifference(t *testing.T) {
	w := newWorld(t)
	mine := edit(t, raws(t, fleetYAML), "GlobalService/shop", `"steering"`, `"ttl":"7s","steering"`)
	mine = append(mine, only(raws(t, strings.NewReplacer("name: pay", "name: twin", "pay.example.org", "twin.example.org").Replace(fleetYAML)), "GlobalService/twin")...)
	c, differs := w.folder("d2", mine)
	if differs == 0 {
		t.Error("shows no difference")
	}
	for _, r := range c.Objects {
		if r.Name == "shop" || r.Name == "twin" {
			t.Errorf("would apply %s", r.Name)
		}
	}
	// Even were it to ask for all of it.
	c.Objects = mine
	w.do(c)
	if w.s.Spec.Service("twin") != nil || w.shopTTL() == "7s" {
		t.Error("a new director's folder was applied")
	}
}

// TestFolderAddsAndNeverRemoves.
func TestFolderAddsAndNeverRemoves(t *testing.T) {
	w := newWorld(t)
	all := raws(t, fleetYAML)
	twin := only(raws(t, strings.NewReplacer("name: pay", "name: twin", "pay.example.org", "twin.example.org").Replace(fleetYAML)), "GlobalService/twin")
	if n := w.sync("d1", append(all, twin...)); n != 0 || w.s.Spec.Service("twin") == nil {
		t.Fatal("a new file in a known folder was not applied")
	}
	if n := w.sync("d1", only(all, "Cluster/fra")); n != 0 || w.s.Spec.Service("shop") == nil || w.s.Spec.Service("twin") == nil {
		t.Fatal("what left the folder left the spec")
	}
	w.refused(Command{Verb: Apply, Folder: "d1", Prune: true, Objects: all}, "never removes")
}

// TestPrune removes by a person's word, with force where it is much, and a
// tombstone keeps stale folders from bringing it back.
func TestPrune(t *testing.T) {
	w := newWorld(t)
	all := raws(t, fleetYAML)
	without := only(all, "Cluster/fra", "Cluster/nyc", "Cluster/sin", "Zone/example.org", "Zone/example.net", "GlobalService/shop", "Fleet/default")
	w.refused(Command{Verb: Apply, Prune: true}, "an empty source removes nothing")
	r := w.refused(Command{Verb: Apply, Prune: true, Objects: without}, "service pay loses its last address; 2 of 5 endpoints go, more than 25 %")
	if !r.Force {
		t.Error("force would pass it")
	}
	c := w.do(Command{Verb: Apply, Prune: true, Objects: without, Force: true})
	if w.s.Spec.Service("pay") != nil || !c.Audit.GetForced() || !strings.Contains(c.Summary, "removed GlobalService/pay") {
		t.Fatalf("pruned: %+v", c)
	}
	if n := w.sync("d1", all); n != 0 || w.s.Spec.Service("pay") != nil {
		t.Error("the folder of old brought it back")
	}
	changed := edit(t, all, "GlobalService/pay", `"steering"`, `"ttl":"7s","steering"`)
	if n := w.sync("d1", changed); n == 0 || w.s.Spec.Service("pay") != nil {
		t.Error("a changed file of what was removed did not wait for a person")
	}
	w.do(Command{Verb: Apply, Objects: all})
	if w.s.Spec.Service("pay") == nil {
		t.Error("a person cannot bring it back")
	}
}

// TestFolderLosses: what takes away too much waits, the rest goes on.
func TestFolderLosses(t *testing.T) {
	w := newWorld(t)
	all := raws(t, fleetYAML)
	less := edit(t, all, "GlobalService/shop", `{"addresses":["192.0.2.11"],"cluster":"nyc"},{"addresses":["192.0.2.12"],"cluster":"sin"}`, `{"addresses":["192.0.2.11"],"cluster":"nyc"}`)
	less = edit(t, less, "GlobalService/shop", `["fra","nyc","sin"]`, `["fra","nyc"]`)
	if n := w.sync("d1", less); n != 0 || len(w.s.Spec.Service("shop").Endpoints) != 2 {
		t.Fatalf("one of five endpoints: %d wait", n)
	}
	less = edit(t, less, "GlobalService/shop", `,{"addresses":["192.0.2.11"],"cluster":"nyc"}`, ``)
	less = edit(t, less, "GlobalService/shop", `["fra","nyc"]`, `["fra"]`)
	less = edit(t, less, "GlobalService/pay", `{"addresses":["192.0.2.20"],"cluster":"fra"},`, ``)
	less = edit(t, less, "GlobalService/pay", `["fra","nyc"]`, `["nyc"]`)
	less = edit(t, less, "Zone/example.net", `192.0.2.80`, `192.0.2.81`)
	if n := w.sync("d1", less); n == 0 || len(w.s.Spec.Service("shop").Endpoints) != 2 || len(w.s.Spec.Service("pay").Endpoints) != 2 {
		t.Fatalf("two of four endpoints: %d wait", n)
	}
	if z := w.s.Spec.Zone("example.net"); !strings.Contains(z.Records, "192.0.2.81") {
		t.Error("what is harmless waits too")
	}
	w.refused(Command{Verb: Apply, Objects: less}, "2 of 4 endpoints go")
	w.do(Command{Verb: Apply, Objects: less, Force: true})
	if n := w.sync("d1", less); n != 0 || len(w.s.Spec.Service("pay").Endpoints) != 1 {
		t.Errorf("settled: %d wait", n)
	}
}

// TestEnvironmentIsALoss: a cluster that changes its environment leaves every
// service of the old one, whatever else stays as it is.
func TestEnvironmentIsALoss(t *testing.T) {
	w := newWorld(t)
	all := raws(t, fleetYAML)
	staging := edit(t, all, "Cluster/nyc", `"location"`, `"environment":"staging","location"`)
	w.refused(Command{Verb: Apply, Objects: staging}, "2 of 5 endpoints go")
	if n := w.sync("d1", staging); n == 0 || w.s.Spec.Cluster("nyc").Environment != "prod" {
		t.Errorf("a folder did it: %d wait", n)
	}
	w.do(Command{Verb: Apply, Objects: staging, Force: true})
}

// TestLastFamily: a service's last address of a family is a loss too, and so is
// its whole disappearance behind other addresses' backs.
func TestLastFamily(t *testing.T) {
	w := newWorld(t)
	all := raws(t, fleetYAML)
	both := edit(t, all, "GlobalService/pay", `"192.0.2.20"`, `"192.0.2.20","2001:db8::20"`)
	w.do(Command{Verb: Apply, Objects: both})
	w.refused(Command{Verb: Apply, Objects: all}, "service pay loses its last IPv6 address")
}

func TestApplyRefusals(t *testing.T) {
	w := newWorld(t)
	all := raws(t, fleetYAML)
	other := *w
	other.s.Doc = proto.CloneOf(w.s.Doc)
	for _, o := range other.s.Doc.GetObjects() {
		o.Source = "custom resources"
	}
	tests := []struct {
		name string
		w    *world
		c    Command
		want string
	}{
		{"twice", w, Command{Objects: append(only(all, "Cluster/fra"), only(all, "Cluster/fra")...)}, "Cluster/fra is given twice"},
		{"nothing in it", w, Command{Objects: []spec.Raw{{Kind: "Cluster", Name: "x"}}}, "lacks its kind, name or content"},
		{"source", w, Command{Source: "moon", Objects: all}, `there is no source "moon"`},
		{"another's", &other, Command{Objects: all}, "belongs to custom resources"},
		{"broken by prune", w, Command{Prune: true, Force: true, Objects: only(all, "GlobalService/shop", "Fleet/default")}, "errors"},
		{"key of another", w, Command{Objects: edit(t, all, "Fleet/default", `"name":"d2"`, fmt.Sprintf(`"key":%q,"name":"d2"`, keyText("d1")))}, "gives d2 the key of d1"},
		{"pinned key", w, Command{Objects: edit(t, all, "Fleet/default", `"name":"d1"`, fmt.Sprintf(`"key":%q,"name":"d1"`, keyText("dx")))}, "another key than the one that was pinned"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			tc.w.t = t
			tc.c.Verb = Apply
			tc.w.refused(tc.c, tc.want)
		})
	}
	if got := w.do(Command{Verb: Apply, Objects: all}); !got.Noop {
		t.Errorf("applied what is in force: %+v", got)
	}
	// All errors at once.
	bad := edit(t, all, "GlobalService/shop", `"cluster":"fra"`, `"cluster":"mars"`)
	bad = edit(t, bad, "GlobalService/pay", `pay.example.org`, `pay.example.com`)
	if r := w.refused(Command{Verb: Apply, Objects: bad}, "mars"); len(r.Problems) < 2 || !strings.Contains(r.Error(), "pay.example.com") {
		t.Errorf("problems %v", r.Problems)
	}
	// A zone that the directors could not read.
	w.s.CheckZone = func(z *spec.Zone) []spec.Problem { return []spec.Problem{{Line: 1, Message: "moonshine in " + z.Name}} }
	w.refused(Command{Verb: Apply, Objects: edit(t, all, "Zone/example.net", "192.0.2.80", "192.0.2.81")}, "moonshine in example.net")
}

// TestDocIsOrdered: the stored document is in one order, whatever came first.
func TestDocIsOrdered(t *testing.T) {
	w := newWorld(t)
	names := []string{}
	for _, o := range w.s.Doc.GetObjects() {
		names = append(names, o.GetKind()+"/"+o.GetName())
	}
	want := "Cluster/fra Cluster/nyc Cluster/sin Fleet/default GlobalService/pay GlobalService/shop Zone/example.net Zone/example.org"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("order %s, want %s", got, want)
	}
}

// TestNewFolderStaysNew: what a new director's folder has in common with the
// spec does not make it known while anything in it differs, or its second look
// would apply what its first only showed (S19).
func TestNewFolderStaysNew(t *testing.T) {
	w := newWorld(t)
	twin := only(raws(t, strings.NewReplacer("name: pay", "name: twin", "pay.example.org", "twin.example.org").Replace(fleetYAML)), "GlobalService/twin")
	mine := append(raws(t, fleetYAML), twin...)
	if n := w.sync("d2", mine); n == 0 || w.s.Spec.Service("twin") != nil {
		t.Fatalf("%d differ, and twin was applied: %v", n, w.s.Spec.Service("twin") != nil)
	}
	// A person settles it; from then on the folder is known.
	w.do(Command{Verb: Apply, Objects: twin})
	if n := w.sync("d2", mine); n != 0 {
		t.Fatalf("settled: %d differ", n)
	}
	more := append(mine, only(raws(t, strings.NewReplacer("name: pay", "name: more", "pay.example.org", "more.example.org").Replace(fleetYAML)), "GlobalService/more")...)
	if n := w.sync("d2", more); n != 0 || w.s.Spec.Service("more") == nil {
		t.Fatal("a new file in a known folder was not applied")
	}
}

// A copy of a document is whole, whatever fields it has, and can be changed without
// the first; what its resources say is not copied.
func TestCloneDoc(t *testing.T) {
	doc := &plan.SpecDoc{Objects: []*plan.Object{
		{Kind: "Zone", Name: "example.org", Source: "files", Json: []byte(`{}`), Removed: true, Applied: []*plan.Applied{{Director: "d1", Hash: []byte("h")}}},
	}}
	doc.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	doc.Objects[0].ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 98, protowire.VarintType), 1))
	fields := doc.Objects[0].ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if !doc.Objects[0].ProtoReflect().Has(fields.Get(i)) {
			t.Errorf("the field %s is not tried", fields.Get(i).Name())
		}
	}
	before := proto.CloneOf(doc)
	c := cloneDoc(doc)
	if !proto.Equal(c, doc) {
		t.Fatalf("got %v, want %v", c, doc)
	}
	if &c.Objects[0].Json[0] != &doc.Objects[0].Json[0] {
		t.Error("what a resource says is copied")
	}
	c.Objects[0].Name, c.Objects[0].Json = "other", []byte(`{"a":1}`)
	c.Objects[0].Applied[0].Director = "d2"
	c.Objects = append(c.Objects, &plan.Object{})
	if !proto.Equal(doc, before) {
		t.Errorf("the first was changed: %v", doc)
	}
}
