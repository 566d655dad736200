package steer

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// places is a small geo table: the unknown place, then capitals.
var places = []Place{
	{},
	{Country: "DE", Continent: "EU", Latitude: 51, Longitude: 9},
	{Country: "NL", Continent: "EU", Latitude: 52.3, Longitude: 5.7},
	{Country: "TR", Continent: "AS", Latitude: 39, Longitude: 35},
	{Country: "US", Continent: "NA", Latitude: 38, Longitude: -97},
	{Country: "SG", Continent: "AS", Latitude: 1.4, Longitude: 103.8},
	{Country: "BR", Continent: "SA", Latitude: -10, Longitude: -55},
	{Continent: "EU"}, // the country is not known
}

// failer is what the builders need of a test or a property.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func placeOf(t failer, name string) int {
	t.Helper()
	for i, p := range places {
		if cmp.Or(p.Country, p.Continent, "??") == name {
			return i
		}
	}
	t.Fatalf("no place %q", name)
	return 0
}

// fleet is a spec in the making.
type fleet struct {
	set    *spec.Set
	plan   *plan.Plan
	states map[health.Subject]health.State
	// returns is replaced, never changed.
	returns map[health.Subject]Return
	earlier map[health.Subject][]Return // likewise
}

func newFleet() *fleet {
	return &fleet{
		set: &spec.Set{
			Fleet:     spec.Fleet{DegradedEjected: 50, MaxDrain: 72 * time.Hour, Automation: spec.AutomationAct},
			Hostnames: map[netip.Addr]string{},
		},
		plan:   &plan.Plan{Fleet: "f", Epoch: 1, Revision: 1},
		states: map[health.Subject]health.State{},
	}
}

func (f *fleet) input() Input {
	return Input{Spec: f.set, Plan: f.plan, States: f.states, Returns: f.returns, Earlier: f.earlier, Places: places}
}

// cluster adds a cluster: "fra:DE", with options domain=, env=, capacity=, and
// any other key as a label.
func (f *fleet) cluster(t failer, text string, options ...string) {
	t.Helper()
	name, country, _ := strings.Cut(text, ":")
	c := &spec.Cluster{Name: name, FaultDomain: name, Environment: "prod", Capacity: 100, Labels: map[string]string{}}
	c.Location.Country = country
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		switch k {
		case "domain":
			c.FaultDomain = v
		case "env":
			c.Environment = v
		case "capacity":
			c.Capacity = number(t, v)
		default:
			c.Labels[k] = v
		}
	}
	f.set.Clusters = append(f.set.Clusters, c)
}

func number(t failer, s string) int64 {
	t.Helper()
	var n int64
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatalf("number %q: %v", s, err)
	}
	return n
}

// service adds a service on port 80 of the sites given as
// fra=192.0.2.1,192.0.2.2, fra*50=… or fra=lb.example.net; an HTTP probe and its fast signal.
func (f *fleet) service(t failer, name string, policy spec.Policy, sites ...string) *spec.GlobalService {
	t.Helper()
	s := &spec.GlobalService{
		Name: name, Hosts: []string{name + ".example.org"}, Environment: "prod", TTL: 20 * time.Second,
		ResidencyUnknown: spec.ResidencyUnknownIntersect, MinHealthy: 1, AllDown: spec.AllDownAlive, Automation: spec.AutomationAct,
		Steering: spec.Steering{Policy: policy, Answers: 1, Ramp: 30 * time.Second},
		Probes: []spec.Probe{{
			HTTP:     &spec.HTTPProbe{Scheme: "http", Port: 80, Method: "GET", Path: "/", Host: name + ".example.org", Statuses: []int{200}},
			Interval: time.Second, Timeout: time.Second, Fast: 100 * time.Millisecond,
		}},
	}
	for _, site := range sites {
		name, addrs, _ := strings.Cut(site, "=")
		name, weight, weighted := strings.Cut(name, "*")
		e := spec.Endpoint{Cluster: name, Weight: 100, Capacity: 100}
		if weighted {
			e.Weight = number(t, weight)
		}
		for _, c := range f.set.Clusters {
			if c.Name == name {
				e.Capacity = c.Capacity
			}
		}
		for a := range strings.SplitSeq(addrs, ",") {
			addr, err := netip.ParseAddr(a)
			if err != nil {
				e.Hostname = a
				f.set.Hostnames[spec.StandIn(a)] = a
				break
			}
			e.Addresses = append(e.Addresses, addr)
		}
		s.Endpoints = append(s.Endpoints, e)
		s.Steering.Order = append(s.Steering.Order, name)
	}
	f.set.Services = append(f.set.Services, s)
	slices.SortFunc(f.set.Services, func(a, b *spec.GlobalService) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

// mark sets the states of what is watched at a cluster (every service, or one),
// or at one address.
func (f *fleet) mark(where string, kind health.Kind, st health.State) {
	for _, svc := range f.set.Services {
		for _, e := range svc.Endpoints {
			for _, a := range e.Watched() {
				if where != e.Cluster && where != f.set.NameOf(a) && where != svc.Name+"@"+e.Cluster {
					continue
				}
				if kind == health.KindSoft {
					f.states[health.Subject{Kind: kind, Addr: netip.AddrPortFrom(a, 80), Def: "00000000000000aa"}] = st
					continue
				}
				for _, o := range Subjects(svc, a) {
					if kind == health.KindUnknown || o.Subject.Kind == kind {
						f.states[o.Subject] = st
					}
				}
			}
		}
	}
}

// noon is when returns are counted from.
var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// back makes what is watched at a cluster, or an address, have come back so long after noon, and be of
// that age; of one past the last step nothing is left.
func (f *fleet) back(where string, after, age time.Duration) {
	f.returns = maps.Clone(f.returns)
	if f.returns == nil {
		f.returns = map[health.Subject]Return{}
	}
	r := Return{At: noon.Add(after)}
	steps := Steps(f.set)
	for _, step := range steps {
		if age >= step {
			r.Age = step
		}
	}
	for _, svc := range f.set.Services {
		for _, e := range svc.Endpoints {
			for _, a := range e.Watched() {
				if where != e.Cluster && where != f.set.NameOf(a) {
					continue
				}
				for _, o := range Subjects(svc, a) {
					if f.returns[o.Subject] = r; len(steps) == 0 || age >= steps[len(steps)-1] {
						delete(f.returns, o.Subject)
					}
				}
			}
		}
	}
}

// fallen makes what is watched at a cluster, or an address, have fallen after it came back.
func (f *fleet) fallen(where string) {
	f.returns, f.earlier = maps.Clone(f.returns), maps.Clone(f.earlier)
	if f.earlier == nil {
		f.earlier = map[health.Subject][]Return{}
	}
	for _, svc := range f.set.Services {
		for _, e := range svc.Endpoints {
			for _, a := range e.Watched() {
				if where != e.Cluster && where != f.set.NameOf(a) {
					continue
				}
				for _, o := range Subjects(svc, a) {
					if r, ok := f.returns[o.Subject]; ok {
						list := slices.DeleteFunc(slices.Clone(f.earlier[o.Subject]), func(old Return) bool { return old.At.Equal(r.At) })
						f.earlier[o.Subject] = append(list, r)
						delete(f.returns, o.Subject)
					}
				}
			}
		}
	}
}

// override adds an override of the next revision.
func (f *fleet) override(kind plan.Override_Kind, scope, author string, lastResort bool) *plan.Override {
	f.plan.Revision++
	o := &plan.Override{
		Id: fmt.Sprintf("o%d", f.plan.Revision), Kind: kind, Scope: scope, Author: author, Reason: "INC-1", Revision: f.plan.Revision,
		LastResort: lastResort,
		Start:      timestamppb.New(time.Date(2026, 1, 2, 13, 0, 0, 0, time.UTC)),
		End:        timestamppb.New(time.Date(2026, 1, 2, 14, 0, 0, 0, time.UTC)),
	}
	f.plan.Overrides = append(f.plan.Overrides, o)
	return o
}

// look finds what clients at a place, of a prefix, are told: as package answer
// will, by the longest configured prefix, else by place.
func look(v *View, place int, client netip.Prefix) *Set {
	row, bits := v.ByPlace, -1
	if client.IsValid() {
		for _, p := range v.ByPrefix {
			if p.Prefix.Bits() > bits && covers(p.Prefix, client) {
				row, bits = p.ByPlace, p.Prefix.Bits()
			}
		}
	}
	if len(row) == 0 {
		return nil
	}
	return &v.Sets[row[place]]
}

func clustersOf(s *Set) []string {
	out := []string{}
	for _, c := range s.Choices {
		out = append(out, c.Cluster)
	}
	return out
}
