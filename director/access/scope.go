package access

import (
	"fmt"
	"path"
	"strings"
)

// maxScope is the longest scope, in octets.
const maxScope = 256

// Kind says what a Scope is about.
type Kind int

// The kinds.
const (
	Unknown Kind = iota
	Fleet
	Cluster
	Zone
	Service
	Namespace
)

func (k Kind) String() string {
	switch k {
	case Fleet:
		return "fleet"
	case Cluster:
		return "cluster"
	case Zone:
		return "zone"
	case Service:
		return "service"
	case Namespace:
		return "namespace"
	default:
		return "unknown"
	}
}

// Scope is what a grant is about. The zero Scope covers nothing.
type Scope struct {
	Kind Kind
	Glob string // of the name; "*" stands for any letters but a slash. "" for the fleet
}

// ParseScope reads fleet, cluster/GLOB, zone/GLOB, service/GLOB (with namespace/name
// where it has one) or namespace/GLOB.
func ParseScope(text string) (Scope, error) {
	if text == "fleet" {
		return Scope{Kind: Fleet}, nil
	}
	word, glob, _ := strings.Cut(text, "/")
	s := Scope{Glob: glob}
	for _, k := range []Kind{Cluster, Zone, Service, Namespace} {
		if word == k.String() {
			s.Kind = k
		}
	}
	if s.Kind == Unknown || len(text) > maxScope || !goodGlob(glob, s.Kind == Service) {
		return Scope{}, fmt.Errorf("%.80q is no scope of access: want fleet, or cluster/NAME, zone/NAME, service/NAME or namespace/NAME, in which * stands for any letters", text)
	}
	return s, nil
}

// goodGlob tells whether a text is a name in which * may stand, of two parts at most
// where that is allowed.
func goodGlob(s string, two bool) bool {
	if s == "" {
		return false
	}
	slashes := 0
	for i, b := range []byte(s) {
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '-', b == '.', b == '_', b == '*':
		case b == '/' && two && i > 0 && i < len(s)-1:
			slashes++
		default:
			return false
		}
	}
	return slashes <= 1
}

// String is what ParseScope reads.
func (s Scope) String() string {
	if s.Kind == Fleet {
		return "fleet"
	}
	return s.Kind.String() + "/" + s.Glob
}

// MarshalText writes what ParseScope reads.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is ParseScope.
func (s *Scope) UnmarshalText(b []byte) error {
	scope, err := ParseScope(string(b))
	*s = scope
	return err
}

// Target is one thing that something is done to: a cluster, a service, a service on a
// cluster (both are given), a zone; none of them: the fleet as a whole.
type Target struct {
	Cluster, Service, Zone string
}

func (t Target) String() string {
	switch {
	case t.Service != "" && t.Cluster != "":
		return "service/" + t.Service + "@" + t.Cluster
	case t.Service != "":
		return "service/" + t.Service
	case t.Cluster != "":
		return "cluster/" + t.Cluster
	case t.Zone != "":
		return "zone/" + t.Zone
	default:
		return "the fleet"
	}
}

// Covers tells whether a target lies in the scope. What is about the fleet as a whole
// lies in no other scope than that.
func (s Scope) Covers(t Target) bool {
	switch s.Kind {
	case Fleet:
		return true
	case Cluster:
		return matches(s.Glob, t.Cluster)
	case Zone:
		return matches(s.Glob, t.Zone)
	case Service:
		return matches(s.Glob, t.Service)
	case Namespace:
		namespace, _, found := strings.Cut(t.Service, "/")
		return found && matches(s.Glob, namespace)
	default:
		return false
	}
}

func matches(glob, name string) bool {
	ok, err := path.Match(glob, name)
	return err == nil && ok && name != ""
}
