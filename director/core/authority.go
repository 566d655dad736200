package core

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// MayRemedy is what whoever may not do something is told to do.
const MayRemedy = "`divert whoami` shows what you may do; an admin grants more, under api.grants in the directors' settings or with a token"

// Who is whom the plan and the audit log name: the author, and the label that was given
// beside.
func (c Command) Who() string {
	if c.Label == "" || strings.HasSuffix(c.Author, ":"+c.Label) {
		return c.Author
	}
	return c.Author + " (" + c.Label + ")"
}

// Authorise refuses a command that whoever utters it may not utter, by the spec and the
// document that it would change. What no person utters, a director does.
func Authorise(set *spec.Set, doc *plan.SpecDoc, c Command) error {
	if c.By == nil {
		return nil
	}
	if ok, _ := access.Allow(*c.By, access.Action(c.Verb)); ok {
		return nil // all of the fleet
	}
	if set == nil {
		set = &spec.Set{}
	}
	if ok, why := access.Allow(*c.By, access.Action(c.Verb), aimedAt(set, doc, c)...); !ok {
		return &Refusal{Reason: why, Remedy: MayRemedy}
	}
	return nil
}

// May says whether somebody may do something to a scope, by a spec, without doing it: of
// apply the scope is a resource, cluster/fra, service/shop or zone/example.org.
func May(set *spec.Set, by access.Identity, action access.Action, scope string) error {
	if set == nil {
		set = &spec.Set{}
	}
	var to []access.Target
	switch Verb(action) {
	case Apply:
		if zone, ok := strings.CutPrefix(scope, "zone/"); ok && zone != "" {
			to = []access.Target{{Zone: zone}}
			break
		}
		to = scoped(set, scope)
	default:
		to = aimedAt(set, nil, Command{Verb: Verb(action), Scope: scope})
	}
	if ok, why := access.Allow(by, action, to...); !ok {
		return &Refusal{Reason: why, Remedy: MayRemedy}
	}
	return nil
}

// aimedAt lists what a command is about; none: the fleet as a whole.
func aimedAt(set *spec.Set, doc *plan.SpecDoc, c Command) []access.Target {
	switch c.Verb {
	case Drain, Undrain, Freeze, Thaw, Readmit:
		return scoped(set, c.Scope)
	case Apply:
		if c.Prune || c.Folder != "" {
			return nil
		}
		return applied(set, doc, c.Objects)
	default:
		return nil
	}
}

// scoped lists what a scope is about. Of one that cannot be read, or that the spec gives
// nothing, it is the fleet: who may not do everything is told so, not what there is.
func scoped(set *spec.Set, text string) []access.Target {
	s, err := steer.ParseScope(text)
	if err != nil {
		return nil
	}
	switch s.Kind {
	case steer.ScopeCluster:
		return []access.Target{{Cluster: s.Cluster}}
	case steer.ScopeService:
		return []access.Target{{Service: s.Service}}
	case steer.ScopeEndpoint:
		return []access.Target{{Service: s.Service, Cluster: s.Cluster}}
	case steer.ScopeDomain, steer.ScopeSelector:
		var out []access.Target
		for _, c := range set.Clusters {
			if s.Covers("", c) {
				out = append(out, access.Target{Cluster: c.Name})
			}
		}
		return out
	default:
		return nil
	}
}

// applied lists what resources are about, as far as they differ from what is in force.
// Who gives a service another host takes a name of that host's zone for it.
func applied(set *spec.Set, doc *plan.SpecDoc, objects []spec.Raw) []access.Target {
	have := make(map[string]*plan.Object, len(doc.GetObjects()))
	for _, o := range doc.GetObjects() {
		have[o.GetKind()+"/"+o.GetName()] = o
	}
	var out []access.Target
	for _, o := range objects {
		old := have[o.Kind+"/"+o.Name]
		if old != nil && !old.GetRemoved() && bytes.Equal(old.GetJson(), o.JSON) {
			continue
		}
		out = append(out, targetOf(o))
		if o.Kind == spec.KindGlobalService {
			for _, host := range newHosts(set, o) {
				out = append(out, access.Target{Zone: zoneOf(set, objects, host)}) // of none: the fleet
			}
		}
	}
	if len(out) == 0 && len(objects) > 0 { // nothing changes: it is about what it names
		out = append(out, targetOf(objects[0]))
	}
	return out
}

func targetOf(o spec.Raw) access.Target {
	switch o.Kind {
	case spec.KindCluster:
		return access.Target{Cluster: o.Name}
	case spec.KindZone:
		return access.Target{Zone: o.Name}
	case spec.KindGlobalService:
		return access.Target{Service: o.Name}
	default:
		return access.Target{}
	}
}

// newHosts lists the hosts of a service that it does not have yet.
func newHosts(set *spec.Set, o spec.Raw) []string {
	var written struct {
		Spec struct {
			Hosts []string `json:"hosts"`
		} `json:"spec"`
	}
	if json.Unmarshal(o.JSON, &written) != nil {
		return []string{""} // what cannot be read is refused by who reads it all
	}
	old := set.Service(o.Name)
	return slices.DeleteFunc(written.Spec.Hosts, func(host string) bool {
		return old != nil && slices.Contains(old.Hosts, strings.ToLower(strings.TrimSuffix(host, ".")))
	})
}

// zoneOf gives the zone of a host, of those in force and of those that come along.
func zoneOf(set *spec.Set, objects []spec.Raw, host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	best := ""
	if z := set.ZoneOf(host); z != nil {
		best = z.Name
	}
	for _, o := range objects {
		if o.Kind == spec.KindZone && len(o.Name) > len(best) && (host == o.Name || strings.HasSuffix(host, "."+o.Name)) {
			best = o.Name
		}
	}
	return best
}
