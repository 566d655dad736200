package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxWho is the longest name of an identity, in octets.
const maxWho = 256

// LabelMark parts an identity's name from the label that who has it gives beside.
const LabelMark = " ("

// Method is how an identity was found out.
type Method string

// The methods. Each begins the names that it gives, but for Loopback, which finds
// nobody out.
const (
	Loopback    Method = "loopback" // a connection from this machine without a credential
	Unix        Method = "unix"     // the kernel's word of who is at the other end of a socket
	Certificate Method = "cert"     // a client's certificate, by its common name
	Token       Method = "token"    // a bearer's, by the token's name
	OpenID      Method = "oidc"     // what an OpenID provider signed
	Kube        Method = "kube"     // a Kubernetes cluster's word of its ServiceAccounts: CLUSTER/NAME
)

// Why somebody is not known who may be somebody.
var (
	ErrUnavailable = errors.New("who asks cannot be found out now")
	ErrHurried     = errors.New("too many were brought in so short a time")
)

// Identity is who asks, as it was authenticated, with what it was granted. The zero
// Identity is nobody.
type Identity struct {
	Who    string // "unix:alice", "cert:alice", "token:ci"
	Method Method
	Groups []string // "group:unix:ops", "group:cert:sre"
	Grants []Grant
	Token  *Bearer // by which it was authenticated; nil: by something else
	// Expires is when what it was authenticated by ends; zero: it does not.
	Expires time.Time
	// Guarded says of whoever asks on loopback that the director has been told who may do
	// what, so that he may see, and not take all of intent away.
	Guarded bool
}

// Grant is one role in some scopes.
type Grant struct {
	Who    string // whom it is for: an identity's name or one of its groups; "" of a token's own
	Role   Role
	Scopes []Scope
}

func (g Grant) String() string {
	words := make([]string, len(g.Scopes))
	for i, s := range g.Scopes {
		words[i] = s.String()
	}
	return g.Role.String() + " of " + strings.Join(words, ", ")
}

// Whole is the grant of everything.
func Whole(who string) Grant {
	return Grant{Who: who, Role: Admin, Scopes: []Scope{{Kind: Fleet}}}
}

// Name makes the name of an identity, or refuses what would mislead whoever reads it
// in the audit log.
func Name(m Method, name string) (string, error) {
	switch {
	case name == "":
		return "", fmt.Errorf("the %s names nobody", m)
	case len(name) > maxWho-16 || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || !unicode.IsPrint(r) }):
		return "", fmt.Errorf("the name that the %s gives is too long, or holds what cannot be printed", m)
	case strings.Contains(name, LabelMark): // it would read as another's, with a label
		return "", fmt.Errorf("the name that the %s gives holds %q, behind which stands what somebody calls himself", m, LabelMark)
	}
	return string(m) + ":" + name, nil
}

// Group is the name of a group that a method knows: one of the system's is not one of
// the same name in a certificate.
func Group(m Method, name string) string { return "group:" + string(m) + ":" + name }

// CheckWho says what is wrong with the name in a grant, nil: nothing. A token brings
// its own grant, and whoever asks on loopback is nobody in particular.
func CheckWho(who string) error {
	name, group := strings.CutPrefix(who, "group:")
	for _, m := range []Method{Unix, Certificate, OpenID, Kube} {
		if rest, ok := strings.CutPrefix(name, string(m)+":"); ok {
			if cluster, of, ok := strings.Cut(rest, "/"); m == Kube && (!ok || cluster == "" || of == "") {
				return fmt.Errorf("%.80q names no cluster: want kube:CLUSTER/system:serviceaccount:NAMESPACE:NAME, or group:kube:CLUSTER/system:serviceaccounts:NAMESPACE", who)
			}
			_, err := Name(m, rest)
			return err
		}
	}
	if group {
		return fmt.Errorf("%.80q names no group: want group:unix:NAME, group:cert:NAME, group:oidc:NAME or group:kube:CLUSTER/NAME", who)
	}
	return fmt.Errorf("%.80q names nobody: want unix:NAME, cert:NAME, oidc:NAME, kube:CLUSTER/NAME, or a group such as group:unix:NAME", who)
}

// KubeCluster is the cluster whose word an identity or a group goes by, "" where it goes
// by no cluster's.
func KubeCluster(who string) string {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(who, "group:"), string(Kube)+":")
	if !ok {
		return ""
	}
	cluster, _, _ := strings.Cut(rest, "/")
	return cluster
}

// Granted lists the grants that are for an identity, or for one of its groups.
func Granted(grants []Grant, who string, groups []string) []Grant {
	var out []Grant
	for _, g := range grants {
		if g.Who != "" && (g.Who == who || slices.Contains(groups, g.Who)) {
			out = append(out, g)
		}
	}
	return out
}

// Allow says whether an identity may do something to each of some targets, none: to
// the fleet as a whole; and why. What nothing allows is denied.
func Allow(id Identity, a Action, targets ...Target) (bool, string) {
	role, scoped, known := a.need()
	switch {
	case !known:
		return false, fmt.Sprintf("nobody may do %.40q: access knows no such thing", a)
	case a == Open:
		return true, "anybody may ask for this"
	case id.Who == "":
		return false, "nobody has said who asks"
	case id.Method == Loopback && id.Guarded && role == Admin:
		return false, fmt.Sprintf("whoever asks on loopback without a credential may only see where grants are set, and this takes %s of the fleet", role)
	case id.Method == Loopback && a.reads():
		return true, "whoever asks on this machine's loopback may read"
	case id.Method == Loopback:
		return false, "whoever asks on loopback without a credential may only read"
	case role == Nobody:
		return true, "whoever is known may ask for this"
	}
	if scoped && len(targets) == 0 {
		targets = []Target{{}}
	}
	if !scoped {
		for _, g := range id.Grants {
			if g.Role >= role && len(g.Scopes) > 0 {
				return true, id.Who + " is " + g.String()
			}
		}
		return false, fmt.Sprintf("%s, and this takes %s", id.Rights(), role)
	}
	why := ""
	for _, t := range targets {
		i := slices.IndexFunc(id.Grants, func(g Grant) bool {
			return g.Role >= role && slices.ContainsFunc(g.Scopes, func(s Scope) bool { return s.Covers(t) })
		})
		if i < 0 {
			return false, fmt.Sprintf("%s, and %s takes %s of %s", id.Rights(), a, role, t)
		}
		if why == "" {
			why = id.Who + " is " + id.Grants[i].String()
		}
	}
	return true, why
}

// Rights says in a line what an identity was granted.
func (id Identity) Rights() string {
	if len(id.Grants) == 0 {
		return id.Who + " was granted nothing"
	}
	const most = 4
	words := make([]string, 0, most)
	for _, g := range id.Grants[:min(most, len(id.Grants))] {
		words = append(words, g.String())
	}
	out := id.Who + " is " + strings.Join(words, "; ")
	if more := len(id.Grants) - most; more > 0 {
		out += fmt.Sprintf("; and %d more", more)
	}
	return out
}

type key struct{}

// With notes who asks.
func With(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, key{}, id)
}

// From gives whom With noted; nobody where it was not.
func From(ctx context.Context) Identity {
	id, _ := ctx.Value(key{}).(Identity)
	return id
}
