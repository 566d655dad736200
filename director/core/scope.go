package core

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// site is one endpoint that a scope covers.
type site struct {
	service *spec.GlobalService
	end     *spec.Endpoint
	cluster *spec.Cluster
}

func (s site) String() string { return s.service.Name + "@" + s.end.Cluster }

// named says what is watched of a site as people know it, and where, never by the hash of a
// definition: "http :8080/healthz at 192.0.2.10".
func (w *work) named(s site, sub health.Subject) string {
	for _, of := range steer.Subjects(s.service, sub.Addr.Addr()) {
		if of.Subject == sub {
			if sub.Kind == health.KindSoft {
				return of.String()
			}
			return of.String() + " at " + w.set.NameOf(sub.Addr.Addr())
		}
	}
	// A gray failure is watched by nobody's probe. What decisions share may be missing.
	return (*steer.Prepared)(nil).Name(sub) + " at " + w.set.NameOf(sub.Addr.Addr())
}

// covered lists the endpoints of a scope, in the order of the spec. A cluster of
// another environment serves nothing, so it is none.
func covered(set *spec.Set, scope steer.Scope) []site {
	clusters := clustersOf(set)
	var out []site
	for _, svc := range set.Services {
		for i := range svc.Endpoints {
			if e := &svc.Endpoints[i]; holds(clusters, scope, svc, e) {
				out = append(out, site{service: svc, end: e, cluster: clusters[e.Cluster]})
			}
		}
	}
	return out
}

func clustersOf(set *spec.Set) map[string]*spec.Cluster {
	out := make(map[string]*spec.Cluster, len(set.Clusters))
	for _, c := range set.Clusters {
		out[c.Name] = c
	}
	return out
}

// holds tells whether a scope covers an endpoint.
func holds(clusters map[string]*spec.Cluster, scope steer.Scope, svc *spec.GlobalService, e *spec.Endpoint) bool {
	if scope.Service != "" && scope.Service != svc.Name {
		return false
	}
	c := clusters[e.Cluster]
	return c != nil && c.Environment == svc.Environment && scope.Covers(svc.Name, c)
}

// parseScope reads a scope and refuses one that the spec does not know.
func parseScope(set *spec.Set, text string, kinds ...steer.ScopeKind) (steer.Scope, error) {
	s, err := steer.ParseScope(text)
	if err != nil {
		return s, &Refusal{Reason: err.Error(), Remedy: "write it as in cluster/fra, service/shop@fra, domain/fra-dc1 or selector/tier=edge"}
	}
	if !slices.Contains(kinds, s.Kind) {
		return s, wrongKind(set, s, kinds)
	}
	switch s.Kind {
	case steer.ScopeCluster:
		return s, known("cluster", s.Cluster, clusterNames(set), "cluster/")
	case steer.ScopeDomain:
		return s, known("fault domain", s.Domain, domainNames(set), "domain/")
	case steer.ScopeSelector:
		return s, known("cluster with the label", s.Label+"="+s.Value, labels(set), "selector/")
	case steer.ScopeService, steer.ScopeEndpoint:
		if err := known("service", s.Service, serviceNames(set), "service/"); err != nil || s.Kind == steer.ScopeService {
			return s, err
		}
		svc := set.Service(s.Service)
		return s, known("site of "+s.Service, s.Cluster, endpointNames(svc), "service/"+s.Service+"@")
	default:
		return s, nil
	}
}

// Named reads a scope that names a part of a spec, and refuses, with what was probably
// meant, one that the spec does not know.
func Named(set *spec.Set, text string) (steer.Scope, error) {
	return parseScope(set, text, steer.ScopeCluster, steer.ScopeDomain, steer.ScopeService, steer.ScopeEndpoint)
}

func wrongKind(set *spec.Set, s steer.Scope, kinds []steer.ScopeKind) error {
	r := &Refusal{Reason: fmt.Sprintf("scope %s is too wide or of the wrong kind for this", s)}
	if svc := set.Service(s.Service); s.Kind == steer.ScopeService && svc != nil && slices.Contains(kinds, steer.ScopeEndpoint) {
		r.Remedy = "name one of its sites: " + list(prefixed("service/"+s.Service+"@", endpointNames(svc)))
		return r
	}
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = map[steer.ScopeKind]string{
			steer.ScopeCluster: "cluster/NAME", steer.ScopeEndpoint: "service/NAME@CLUSTER",
			steer.ScopeDomain: "domain/NAME", steer.ScopeSelector: "selector/KEY=VALUE", steer.ScopeService: "service/NAME", steer.ScopeFleet: "fleet",
		}[k]
	}
	r.Remedy = "give " + strings.Join(names, ", ")
	return r
}

func known(what, name string, names []string, prefix string) error {
	if slices.Contains(names, name) {
		return nil
	}
	r := &Refusal{Reason: fmt.Sprintf("there is no %s %q", what, name)}
	switch near := nearest(name, names); {
	case len(near) > 0:
		r.Remedy = "did you mean " + list(prefixed(prefix, near)) + "?"
	case len(names) == 0:
		r.Remedy = "there is none at all: apply a spec first"
	default:
		r.Remedy = "there are " + list(names)
	}
	return r
}

func clusterNames(set *spec.Set) []string {
	var out []string
	for _, c := range set.Clusters {
		out = append(out, c.Name)
	}
	return out
}

func serviceNames(set *spec.Set) []string {
	var out []string
	for _, s := range set.Services {
		out = append(out, s.Name)
	}
	return out
}

func domainNames(set *spec.Set) []string {
	var out []string
	for _, c := range set.Clusters {
		out = append(out, c.FaultDomain)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// labels lists those of all clusters, as key=value.
func labels(set *spec.Set) []string {
	var out []string
	for _, c := range set.Clusters {
		for k, v := range c.Labels {
			if v != "" {
				out = append(out, k+"="+v)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func endpointNames(svc *spec.GlobalService) []string {
	var out []string
	for _, e := range svc.Endpoints {
		out = append(out, e.Cluster)
	}
	return out
}

func prefixed(prefix string, names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = prefix + n
	}
	return out
}

// list shows names, the first twenty of them.
func list(names []string) string {
	const most = 20
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// nearest finds up to three names that were probably meant.
func nearest(name string, names []string) []string {
	type scored struct {
		name string
		far  int
	}
	var near []scored
	for _, n := range names {
		far := distance(strings.ToLower(name), strings.ToLower(n))
		if far <= 1+len(name)/4 || name != "" && (strings.Contains(n, name) || strings.Contains(name, n)) {
			near = append(near, scored{n, far})
		}
	}
	slices.SortFunc(near, func(a, b scored) int { return cmp.Or(cmp.Compare(a.far, b.far), cmp.Compare(a.name, b.name)) })
	var out []string
	for _, s := range near[:min(3, len(near))] {
		out = append(out, s.name)
	}
	return out
}

// distance is Levenshtein's, of the octets. Names are short; a long one is cut,
// so that nobody's input costs much.
func distance(a, b string) int {
	a, b = a[:min(64, len(a))], b[:min(64, len(b))]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
