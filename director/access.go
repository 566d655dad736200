package director

import (
	"fmt"
	"slices"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/oidc"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/tokenreview"
)

// bearers gives the tokens of the plan in force, also while the store is away.
func (d *Director) bearers() []access.Bearer {
	if f := d.horizon.current(); f != nil {
		return core.Bearers(f.sealed.Plan)
	}
	return nil
}

// May is nil where somebody may do something to a scope of the spec in force.
func (d *Director) May(by access.Identity, action access.Action, scope string) error {
	var set *spec.Set
	if f := d.horizon.current(); f != nil {
		set = f.spec
	}
	return core.May(set, by, action, scope)
}

// issuer is the OpenID provider of the settings; nil: there is none.
func (d *Director) issuer() (api.Issuer, error) {
	o := d.settings.API.OIDC
	if o.Issuer == "" {
		return nil, nil
	}
	issuer, err := oidc.New(oidc.Options{Issuer: o.Issuer, ClientID: o.ClientID, CA: o.CA, Claim: o.Claim, Log: d.log})
	if err != nil {
		return nil, fmt.Errorf("api.oidc: %w", err)
	}
	return issuer, nil
}

// reviews are the clusters of the settings whose ServiceAccounts are known; nil: none are.
func (d *Director) reviews() (api.Reviews, error) {
	if len(d.settings.API.Kubernetes) == 0 {
		return nil, nil
	}
	clusters := make([]tokenreview.Cluster, 0, len(d.settings.API.Kubernetes))
	for _, c := range d.settings.API.Kubernetes {
		clusters = append(clusters, tokenreview.Cluster(c))
	}
	r, err := tokenreview.New(tokenreview.Options{Clusters: clusters, Registry: d.registry, Log: d.log})
	if err != nil {
		return nil, fmt.Errorf("api.kubernetes: %w", err)
	}
	return r, nil
}

// Tokens lists the tokens of the plan in force.
func (d *Director) Tokens() []api.Token {
	f := d.horizon.current()
	if f == nil {
		return nil
	}
	now := d.now()
	var out []api.Token
	for _, t := range f.sealed.Plan.GetTokens() {
		expires := t.GetExpires().AsTime()
		out = append(out, api.Token{
			Name: t.GetName(), Role: t.GetRole(), Scopes: slices.Clone(t.GetScopes()), Expires: expires, Expired: !now.Before(expires),
			Author: t.GetAuthor(), Reason: t.GetReason(), Since: t.GetSince().AsTime(), Revision: t.GetRevision(),
		})
	}
	return out
}
