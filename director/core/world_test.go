package core

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// fleetYAML is three sites, two services, three directors.
const fleetYAML = `
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: fra, labels: {jurisdiction: eu}}
spec: {location: {country: DE}, faultDomain: fra-dc1}
---
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: nyc, labels: {jurisdiction: us}}
spec: {location: {country: US}}
---
apiVersion: divert.dev/v1alpha1
kind: Cluster
metadata: {name: sin, labels: {jurisdiction: sg}}
spec: {location: {country: SG}}
---
apiVersion: divert.dev/v1alpha1
kind: Zone
metadata: {name: example.org}
spec:
  nameservers: [ns1.example.org]
  hostmaster: dns-admin@example.org
  records: |
    ns1 A 192.0.2.53
---
apiVersion: divert.dev/v1alpha1
kind: Zone
metadata: {name: example.net}
spec:
  nameservers: [ns1.example.org]
  hostmaster: dns-admin@example.org
  records: |
    www A 192.0.2.80
---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: shop}
spec:
  hosts: [shop.example.org]
  endpoints:
  - {cluster: fra, addresses: [192.0.2.10]}
  - {cluster: nyc, addresses: [192.0.2.11]}
  - {cluster: sin, addresses: [192.0.2.12]}
  probes: [{http: {port: 80, path: /healthz}}]
  steering: {policy: failover, order: [fra, nyc, sin]}
---
apiVersion: divert.dev/v1alpha1
kind: GlobalService
metadata: {name: pay}
spec:
  hosts: [pay.example.org]
  endpoints:
  - {cluster: fra, addresses: [192.0.2.20]}
  - {cluster: nyc, addresses: [192.0.2.21]}
  probes: [{tcp: {port: 443}}]
  steering: {policy: failover, order: [fra, nyc]}
---
apiVersion: divert.dev/v1alpha1
kind: Fleet
metadata: {name: default}
spec:
  directors:
  - {name: d1, site: fra-dc1}
  - {name: d2, site: nyc}
  - {name: d3, site: sin}
`

// world is a fleet whose store is this struct: commands are decided and, if not
// refused, in force.
type world struct {
	t     testing.TB
	s     State
	n     int
	key   string // of whose key signs
	audit []*plan.Audit
}

func keyOf(name string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	return ed25519.NewKeyFromSeed(seed)
}

func public(name string) []byte { return keyOf(name).Public().(ed25519.PublicKey) }

func raws(t testing.TB, yaml string) []spec.Raw {
	t.Helper()
	out, problems := spec.Parse("test.yaml", []byte(yaml))
	if spec.Failed(problems) {
		t.Fatalf("test spec: %v", problems)
	}
	return out
}

// only picks resources by name.
func only(all []spec.Raw, names ...string) []spec.Raw {
	return slices.DeleteFunc(slices.Clone(all), func(r spec.Raw) bool { return !slices.Contains(names, r.Kind+"/"+r.Name) })
}

// edit replaces text in one resource.
func edit(t testing.TB, all []spec.Raw, id, from, to string) []spec.Raw {
	t.Helper()
	out := slices.Clone(all)
	for i, r := range out {
		if r.Kind+"/"+r.Name == id {
			text := strings.ReplaceAll(string(r.JSON), from, to)
			if text == string(r.JSON) {
				t.Fatalf("%s has no %q: %s", id, from, r.JSON)
			}
			out[i].JSON = []byte(text)
			return out
		}
	}
	t.Fatalf("no %s", id)
	return nil
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, key: "d1", s: State{
		States: map[health.Subject]health.State{}, Observed: map[health.Subject]health.State{},
		Places: merged,
		Now:    time.Date(2026, 1, 2, 13, 0, 0, 0, time.UTC), Me: "d1",
	}}
	c, err := Bootstrap(w.s, raws(t, fleetYAML), Director{Name: "d1", Site: "fra-dc1", Key: public("d1")}, "fleet-1")
	if err != nil {
		t.Fatal(err)
	}
	w.take(c)
	for _, svc := range w.s.Spec.Services {
		for _, e := range svc.Endpoints {
			w.mark(w.s.Observed, svc.Name, e.Cluster, health.Up)
		}
	}
	return w
}

// soften has soft evidence say that a service's site is degraded.
func (w *world) soften(service, cluster string) {
	svc := w.s.Spec.Service(service)
	for _, a := range svc.Endpoint(cluster).Addresses {
		at := steer.Subjects(svc, a)[0].Subject.Addr
		w.s.States[health.Subject{Kind: health.KindSoft, Addr: at, Def: "00000000000000aa"}] = health.Down
	}
}

// mark sets what is said of a service's site.
func (w *world) mark(m map[health.Subject]health.State, service, cluster string, st health.State) {
	svc := w.s.Spec.Service(service)
	for _, e := range svc.Endpoints {
		if e.Cluster != cluster {
			continue
		}
		for _, a := range e.Watched() {
			for _, o := range steer.Subjects(svc, a) {
				m[o.Subject] = st
			}
		}
	}
}

func (w *world) fail(service, cluster string) { w.mark(w.s.States, service, cluster, health.Down) }
func (w *world) heal(service, cluster string) { w.mark(w.s.States, service, cluster, health.Up) }

// take puts a change into force, and holds every change against S3 and S15.
func (w *world) take(c Change) {
	w.t.Helper()
	if c.Plan == nil {
		w.t.Fatalf("no plan: %+v", c)
	}
	vaulted(c)
	if c.Doc != nil && fleetOf(w.s.Spec).TwoPersons { // as the writer does, and each director holds it against what was approved
		octets, err := (proto.MarshalOptions{Deterministic: true}).Marshal(c.Doc)
		if err != nil {
			w.t.Fatal(err)
		}
		sum := plan.Sum(octets)
		c.Plan.Spec = &plan.SpecRef{Hash: sum[:], Size: uint64(len(octets))}
	}
	if c.Bundle != nil {
		c.Split(func(b []byte) ([][]byte, *plan.SpecRef) {
			sum := plan.Sum(b)
			return [][]byte{b}, &plan.SpecRef{Hash: sum[:], Size: uint64(len(b)), Chunks: [][]byte{sum[:]}}
		})
	}
	c.Vouch(keyOf(w.key))
	next, err := plan.Sign(c.Plan, w.s.Me, keyOf(w.key))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := plan.Trusted(w.s.Plan, next); err != nil {
		w.t.Fatalf("nobody would trust the next plan: %v", err)
	}
	if w.s.Plan != nil && next.Identity.Compare(w.s.Plan.Identity) <= 0 {
		w.t.Fatalf("S3: %v does not follow %v", next.Identity, w.s.Plan.Identity)
	}
	if c.Audit == nil || c.Audit.GetRevision() != next.Identity.Revision || c.Audit.GetWho() == "" || c.Audit.GetWhat() == "" {
		w.t.Fatalf("S15: audit %v", c.Audit)
	}
	w.audit = append(w.audit, c.Audit)
	w.s.Plan = next
	if c.Doc == nil {
		w.s.Spec = steer.Narrow(w.s.Spec, next.Plan, false)
		return // else the very same spec, as in a director
	}
	w.s.Doc = c.Doc
	set, problems := spec.Resolve(Raws(w.s.Doc))
	if spec.Failed(problems) {
		w.t.Fatalf("committed spec: %v", problems)
	}
	w.s.Spec = steer.Narrow(set, next.Plan, false)
}

// try decides a command with what every command has.
func (w *world) try(c Command) (Change, error) {
	w.n++
	if c.ID == "" {
		c.ID = fmt.Sprintf("c%d", w.n)
	}
	if c.Author == "" {
		c.Author = "alice"
	}
	return Decide(w.s, c)
}

// do decides a command that must pass, and takes it into force.
func (w *world) do(c Command) Change {
	w.t.Helper()
	got, err := w.try(c)
	if err != nil {
		w.t.Fatalf("%s %s: %v", c.Verb, c.Scope, err)
	}
	if !got.Noop {
		w.take(got)
	}
	return got
}

// refused decides a command that must not pass.
func (w *world) refused(c Command, want string) *Refusal {
	w.t.Helper()
	got, err := w.try(c)
	var r *Refusal
	if !errors.As(err, &r) {
		w.t.Fatalf("%s %s: got %+v, %v, want a refusal", c.Verb, c.Scope, got, err)
	}
	if !strings.Contains(r.Error(), want) {
		w.t.Fatalf("%s %s: refused with %q, want %q", c.Verb, c.Scope, r.Error(), want)
	}
	return r
}

// everywhere is the geo table's places.
func everywhere() []steer.Place {
	return []steer.Place{
		{},
		{Country: "DE", Continent: "EU", Latitude: 51, Longitude: 9},
		{Country: "FR", Continent: "EU", Latitude: 46, Longitude: 2},
		{Country: "US", Continent: "NA", Latitude: 38, Longitude: -97},
	}
}

// merged gives them as a director does.
func merged(sets ...*spec.Set) []steer.Place {
	places, _ := steer.Merge(everywhere(), sets...)
	return places
}

// seen makes all directors answer from the plan in force, and votes say of every site that
// is not down that it is up.
func (w *world) seen() {
	w.s.Acks = map[string]plan.Identity{}
	for _, d := range w.s.Plan.Plan.Active() {
		w.s.Acks[d.GetName()] = w.s.Plan.Identity
	}
	w.s.Fresh = map[health.Subject]bool{}
	for _, svc := range w.s.Spec.Services {
		for _, e := range svc.Endpoints {
			for _, a := range e.Watched() {
				for _, o := range steer.Subjects(svc, a) {
					w.s.Fresh[o.Subject] = w.s.States[o.Subject] != health.Down
				}
			}
		}
	}
}

// finish lets the leader take what is due of drains in steps, a second apart, until nothing
// is for an hour; it gives the audit's words.
func (w *world) finish() (what []string) {
	w.t.Helper()
	for idle := 0; idle < 3600; idle++ {
		w.seen()
		due := slices.DeleteFunc(Due(w.s), func(c Command) bool { return c.Verb != Step })
		if len(due) > 0 {
			w.do(due[0])
			what = append(what, w.audit[len(w.audit)-1].GetWhat())
			idle = 0
		}
		if !w.s.Plan.Plan.Paced() {
			break
		}
		w.s.Now = w.s.Now.Add(time.Second)
	}
	return what
}

func (w *world) drain(scope string) Command {
	return Command{Verb: Drain, Scope: scope, Reason: "INC-1", For: time.Hour}
}

// serving lists the sites of a service that clients are sent to.
func (w *world) serving(service string) string {
	d := steer.Decide(steer.Input{Spec: w.s.Spec, Plan: w.s.Plan.Plan, States: w.s.States, Places: everywhere()})
	var out []string
	for _, s := range d.Services {
		for _, site := range s.Sites() {
			if s.Name == service && site.Serving {
				out = append(out, site.Cluster)
			}
		}
	}
	return strings.Join(out, ",")
}

func (w *world) scopes(kind plan.Override_Kind) string {
	var out []string
	for _, o := range w.s.Plan.Plan.GetOverrides() {
		if o.GetKind() == kind {
			out = append(out, o.GetScope())
		}
	}
	return strings.Join(out, ",")
}
