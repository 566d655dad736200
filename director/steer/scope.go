package steer

import (
	"fmt"
	"strings"

	"github.com/divertdns/divert/director/spec"
)

// ScopeKind is what an override is about.
type ScopeKind uint8

// The kinds of scope.
const (
	ScopeUnknown  ScopeKind = iota
	ScopeCluster            // cluster/fra
	ScopeEndpoint           // service/shop@fra
	ScopeDomain             // domain/fra-dc1
	ScopeSelector           // selector/tier=edge: every cluster with that label
	ScopeService            // service/shop
	ScopeFleet              // fleet
)

func (k ScopeKind) String() string {
	switch k {
	case ScopeCluster:
		return "cluster"
	case ScopeEndpoint:
		return "endpoint"
	case ScopeDomain:
		return "domain"
	case ScopeSelector:
		return "selector"
	case ScopeService:
		return "service"
	case ScopeFleet:
		return "fleet"
	default:
		return "unknown"
	}
}

// Scope is the parsed scope of an override. It is comparable.
type Scope struct {
	Kind    ScopeKind
	Service string
	Cluster string
	Domain  string
	Label   string // of clusters: the key
	Value   string
}

// String gives the form that ParseScope reads.
func (s Scope) String() string {
	switch s.Kind {
	case ScopeCluster:
		return "cluster/" + s.Cluster
	case ScopeEndpoint:
		return "service/" + s.Service + "@" + s.Cluster
	case ScopeDomain:
		return "domain/" + s.Domain
	case ScopeSelector:
		return "selector/" + s.Label + "=" + s.Value
	case ScopeService:
		return "service/" + s.Service
	case ScopeFleet:
		return "fleet"
	default:
		return "unknown"
	}
}

// ParseScope reads cluster/x, service/x@cluster, domain/x, selector/key=value, service/x
// and fleet. A service's name may hold a slash (namespace/name), so the last @ divides; so
// may a label's key, which holds no equals sign.
func ParseScope(text string) (Scope, error) {
	if text == "fleet" {
		return Scope{Kind: ScopeFleet}, nil
	}
	kind, rest, ok := strings.Cut(text, "/")
	if !ok || rest == "" {
		return Scope{}, unknownScope(text)
	}
	switch kind {
	case "cluster":
		return Scope{Kind: ScopeCluster, Cluster: rest}, nil
	case "domain":
		return Scope{Kind: ScopeDomain, Domain: rest}, nil
	case "selector":
		key, value, ok := strings.Cut(rest, "=")
		if !ok || key == "" || value == "" {
			return Scope{}, fmt.Errorf("scope %q lacks the key or the value of selector/KEY=VALUE", text)
		}
		return Scope{Kind: ScopeSelector, Label: key, Value: value}, nil
	case "service":
		at := strings.LastIndexByte(rest, '@')
		if at < 0 {
			return Scope{Kind: ScopeService, Service: rest}, nil
		}
		if at == 0 || at == len(rest)-1 {
			return Scope{}, fmt.Errorf("scope %q lacks the service or the cluster of service/NAME@CLUSTER", text)
		}
		return Scope{Kind: ScopeEndpoint, Service: rest[:at], Cluster: rest[at+1:]}, nil
	default:
		return Scope{}, unknownScope(text)
	}
}

func unknownScope(text string) error {
	return fmt.Errorf("scope %q is none of cluster/NAME, service/NAME@CLUSTER, domain/NAME, selector/KEY=VALUE, service/NAME, fleet", text)
}

// Covers tells whether the scope holds one endpoint: a service on a cluster.
func (s Scope) Covers(service string, cluster *spec.Cluster) bool {
	switch s.Kind {
	case ScopeCluster:
		return s.Cluster == cluster.Name
	case ScopeEndpoint:
		return s.Service == service && s.Cluster == cluster.Name
	case ScopeDomain:
		return s.Domain == cluster.FaultDomain
	case ScopeSelector:
		return cluster.Labels[s.Label] == s.Value // which is not empty
	case ScopeService:
		return s.Service == service
	case ScopeFleet:
		return true
	default:
		return false
	}
}
