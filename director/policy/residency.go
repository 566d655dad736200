package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
)

// Residency is the point at which a bundle may say, of a spec, which clusters alone may serve
// some clients of some services. Nothing is denied there: what it says is put into the plan.
const Residency Point = "residency"

// setsRule is the set of objects that a bundle may define for it:
//
//	{"service": "shop", "clients": {"continents": ["EU"]}, "clusters": {"jurisdiction": "eu"}, "why": "…"}
//
// services may stand for service, with a list or a set; clients is "everybody", or lists of
// continents, countries and prefixes; clusters is a list or a set of names, or labels.
const setsRule = "data.divert.residency.sets"

// maxMembers is how many objects the rule may hold: they are put together where they say the
// same of several services.
const maxMembers = 10_000

// Resides tells whether the bundle says anything of residency.
func (p *Policy) Resides() bool { _, ok := p.asked[Residency]; return ok }

// Reside asks a policy which clusters may serve whom under a spec. It is a function of the
// two alone: who asks, when and why takes no part, so that every director that holds the
// bundle finds the same. nil without a problem: it says nothing, and nobody is kept from
// anywhere. The verdict has only its problem, and how long it took.
func (p *Policy) Reside(ctx context.Context, spec Resources) (*plan.Residency, Verdict) {
	return p.reside(ctx, spec, Deadline)
}

func (p *Policy) reside(ctx context.Context, spec Resources, deadline time.Duration) (out *plan.Residency, v Verdict) {
	if !p.Resides() {
		return nil, Verdict{}
	}
	if spec == nil {
		spec = Resources{}
	}
	input, err := json.Marshal(struct {
		Spec Resources `json:"spec"`
	}{spec})
	if err != nil {
		return nil, Verdict{Problem: fmt.Sprintf("writing the input of a policy: %v", err)}
	}
	v = p.asking(ctx, Residency, input, deadline, func(answer any) Verdict {
		sets, err := setsOf(answer, spec)
		if err != nil {
			return Verdict{Problem: "the policy's answer is odd: " + setsRule + " " + short(err.Error())}
		}
		if len(sets) > 0 {
			out = &plan.Residency{Policy: p.hash[:], Sets: sets}
		}
		if size := proto.Size(out); size > core.MaxResidency {
			out = nil
			return Verdict{Problem: fmt.Sprintf("its residency has %d KiB, at most %d go into a plan: say it of several services at once", (size+1023)>>10, core.MaxResidency>>10)}
		}
		return Verdict{}
	})
	if v.Problem != "" {
		return nil, v
	}
	return out, v
}

// setsOf reads what the rule came to, and puts it into its one order.
func setsOf(answer any, spec Resources) ([]*plan.ResidencySet, error) {
	set, ok := answer.(ast.Set)
	switch {
	case answer == nil:
		return nil, errors.New("is undefined")
	case !ok:
		return nil, fmt.Errorf("is %s, and not a set of objects", kindOf(answer))
	case set.Len() > maxMembers:
		return nil, fmt.Errorf("holds %d members, at most %d", set.Len(), maxMembers)
	}
	r := residents{spec: spec, labels: labelsOf(spec)}
	byKey := map[string]*plan.ResidencySet{}
	err := set.Iter(func(t *ast.Term) error {
		s, err := r.set(t.Value)
		if err != nil {
			return fmt.Errorf("holds what is none: %w, in %s", err, t)
		}
		if len(s.Services) == 0 {
			return nil // of what the spec does not have
		}
		services := s.Services
		s.Services = nil
		key, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
		if err != nil {
			return err
		}
		if byKey[string(key)] == nil {
			byKey[string(key)] = s
		}
		one := byKey[string(key)]
		one.Services = ordered(append(one.Services, services...))
		return core.CheckResidencySet(one)
	})
	if err != nil {
		return nil, err
	}
	if len(byKey) > core.MaxResidencySets {
		return nil, fmt.Errorf("comes to %d sets, at most %d", len(byKey), core.MaxResidencySets)
	}
	out := make([]*plan.ResidencySet, 0, len(byKey))
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		out = append(out, byKey[key])
	}
	return out, nil
}

// residents reads members of the rule for one spec.
type residents struct {
	spec   Resources
	labels map[string]map[string]string // of each cluster
}

func labelsOf(spec Resources) map[string]map[string]string {
	out := map[string]map[string]string{}
	for name, object := range spec["Cluster"] {
		var c struct {
			Metadata struct {
				Labels map[string]string `json:"labels"`
			} `json:"metadata"`
		}
		if err := json.Unmarshal(object, &c); err == nil { // else it has none, and nothing asks for it
			out[name] = c.Metadata.Labels
		}
	}
	return out
}

// set reads one member, strictly: a key that is mistyped would let clients go where they
// must not.
func (r *residents) set(v ast.Value) (*plan.ResidencySet, error) {
	o, ok := v.(ast.Object)
	if !ok {
		return nil, errors.New("it is no object")
	}
	s := &plan.ResidencySet{}
	seen := map[string]bool{}
	err := o.Iter(func(k, v *ast.Term) error {
		key, _ := stringOf(k)
		seen[key] = true
		var err error
		switch key {
		case "service":
			name, ok := stringOf(v)
			if !ok {
				return errors.New("service is no text")
			}
			s.Services = []string{name}
		case "services":
			s.Services, err = texts("services", v.Value)
		case "clients":
			err = clients(s, v.Value)
		case "clusters":
			s.Clusters, err = r.clusters(v.Value)
		case "why":
			var ok bool
			if s.Why, ok = stringOf(v); !ok {
				return errors.New("why is no text")
			}
			if s.Why = short(s.Why); len(s.Why) > core.MaxResidencyWhy {
				return fmt.Errorf("why has %d octets, at most %d", len(s.Why), core.MaxResidencyWhy)
			}
		default:
			return fmt.Errorf("there is no key %s", k)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case seen["service"] == seen["services"]:
		return nil, errors.New("it has to have service or services")
	case !seen["clients"]:
		return nil, errors.New("it has no clients: \"everybody\", or continents, countries and prefixes")
	case !seen["clusters"]:
		return nil, errors.New("it has no clusters: names, or labels")
	}
	s.Services = ordered(slices.DeleteFunc(s.Services, func(name string) bool { _, has := r.spec["GlobalService"][name]; return !has }))
	if len(s.Services) > 0 && len(s.Clusters) == 0 {
		return nil, fmt.Errorf("no cluster of the spec is one of these, so that nobody would answer these clients of %s", s.Services[0])
	}
	return s, nil
}

// clusters gives the names of those that the spec has.
func (r *residents) clusters(v ast.Value) ([]string, error) {
	labels, ok := v.(ast.Object)
	if !ok {
		names, err := texts("clusters", v)
		return ordered(slices.DeleteFunc(names, func(name string) bool { _, has := r.labels[name]; return !has })), err
	}
	want := map[string]string{}
	err := labels.Iter(func(k, v *ast.Term) error {
		key, ok := stringOf(k)
		value, text := stringOf(v)
		if !ok || !text {
			return errors.New("clusters asks for a label that is no text")
		}
		want[key] = value
		return nil
	})
	if err == nil && len(want) == 0 {
		err = errors.New("clusters asks for no label, which all have")
	}
	var out []string
	for name, has := range r.labels {
		missing := false
		for k, v := range want {
			got, ok := has[k]
			missing = missing || !ok || got != v
		}
		if !missing {
			out = append(out, name)
		}
	}
	return ordered(out), err
}

// clients reads whom a member is about.
func clients(s *plan.ResidencySet, v ast.Value) error {
	if text, ok := v.(ast.String); ok {
		if s.Everybody = text == "everybody"; !s.Everybody {
			return fmt.Errorf("clients is %s: \"everybody\", or an object", v)
		}
		return nil
	}
	o, ok := v.(ast.Object)
	if !ok {
		return errors.New("clients is \"everybody\", or an object of continents, countries and prefixes")
	}
	err := o.Iter(func(k, v *ast.Term) error {
		key, _ := stringOf(k)
		list, err := texts("clients."+key, v.Value)
		switch key {
		case "continents":
			s.Continents = ordered(list)
		case "countries":
			s.Countries = ordered(list)
		case "prefixes":
			for i, text := range list {
				p, err := netip.ParsePrefix(text)
				if err != nil || p.Masked() != p || p.Addr().Is4In6() {
					return fmt.Errorf("%q is no prefix, such as 198.51.100.0/24", text)
				}
				list[i] = p.String()
			}
			s.Prefixes = ordered(list)
		default:
			return fmt.Errorf("clients has no key %s: continents, countries, prefixes", k)
		}
		return err
	})
	if err == nil && len(s.Continents)+len(s.Countries)+len(s.Prefixes) == 0 {
		err = errors.New("clients names nobody: write \"everybody\", if that is meant")
	}
	return err
}

// texts reads a list or a set of texts.
func texts(name string, v ast.Value) (out []string, err error) {
	read := func(t *ast.Term) {
		text, ok := stringOf(t)
		if (!ok || text == "") && err == nil {
			err = fmt.Errorf("%s holds %s, which is no text", name, short(t.String()))
		}
		out = append(out, text)
	}
	switch v := v.(type) {
	case *ast.Array:
		v.Foreach(read)
	case ast.Set:
		v.Foreach(read)
	default:
		err = fmt.Errorf("%s is no list of texts", name)
	}
	return out, err
}

// ordered sorts texts, each once; nil of none.
func ordered(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// SetText says in one line what a set asks for.
func SetText(s *plan.ResidencySet) string {
	who := "all clients"
	if !s.GetEverybody() {
		who = "clients of " + strings.Join(slices.Concat(s.GetContinents(), s.GetCountries(), s.GetPrefixes()), ", ")
	}
	return fmt.Sprintf("%s: %s only on %s%s", strings.Join(s.GetServices(), ", "), who, strings.Join(s.GetClusters(), ", "), reason(s.GetWhy()))
}

func reason(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

// SpecOf reads the spec of an input: after the command, else before it.
func SpecOf(input []byte) (Resources, error) {
	var in struct {
		Spec Specs `json:"spec"`
	}
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, fmt.Errorf("the input is no JSON of a command: %w", err)
	}
	if in.Spec.After != nil {
		return in.Spec.After, nil
	}
	return in.Spec.Before, nil
}
