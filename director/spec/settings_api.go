package spec

import (
	"net/url"
	"slices"

	"github.com/divertdns/divert/director/access"
)

// APISettings say where a director is asked and told, and by whom.
type APISettings struct {
	Listen string // "" = no TCP; off loopback only with TLS
	Socket string // path of the unix socket; "" = control.sock in the data folder
	TLS    struct {
		Cert, Key string // PEM files, read again when they change; "" = no TLS
		ClientCA  string // PEM: who signs the certificates of clients; "" = these have none
	}
	OIDC struct {
		Issuer   string // an OpenID provider's URL; "" = none
		ClientID string // whom its ID tokens must be for
		CA       string // PEM file of who signs the provider's certificate; "" = the system's
		Claim    string // that names a person: sub or email
	}
	Grants []access.Grant
}

func (r *settingsReader) api(c cursor) {
	a := &r.s.API
	c.object(fields{
		"listen": func(c cursor) { a.Listen = c.listen() },
		"socket": func(c cursor) { a.Socket = r.path(c) },
		"tls": func(c cursor) {
			c.object(fields{
				"cert":     func(c cursor) { a.TLS.Cert = r.path(c) },
				"key":      func(c cursor) { a.TLS.Key = r.path(c) },
				"clientCA": func(c cursor) { a.TLS.ClientCA = r.path(c) },
			}, "cert", "key")
		},
		"oidc": func(c cursor) {
			a.OIDC.Claim = "sub"
			c.object(fields{
				"issuer": func(c cursor) {
					a.OIDC.Issuer = c.text()
					if u, err := url.Parse(a.OIDC.Issuer); a.OIDC.Issuer != "" && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "") {
						c.fail(quote(a.OIDC.Issuer)+" is no OpenID provider", "write its URL, such as https://login.example.net/realms/ops")
					}
				},
				"clientID": func(c cursor) { a.OIDC.ClientID = c.text() },
				"ca":       func(c cursor) { a.OIDC.CA = r.path(c) },
				"claim":    func(c cursor) { a.OIDC.Claim = c.choice("sub", "email") },
			}, "issuer", "clientID")
		},
		"grants": func(c cursor) {
			c.nonEmpty(func(c cursor) { a.Grants = append(a.Grants, r.grant(c)) })
		},
	})
}

// grant reads who may do how much, and where.
func (r *settingsReader) grant(c cursor) access.Grant {
	var g access.Grant
	c.object(fields{
		"who": func(c cursor) {
			if g.Who = c.text(); g.Who == "" {
				return
			}
			if err := access.CheckWho(g.Who); err != nil {
				c.fail(err.Error(), "write one such as cert:alice, unix:alice or group:unix:ops; a token brings its own grant")
			}
		},
		"role": func(c cursor) { g.Role, _ = access.ParseRole(c.choice("viewer", "operator", "admin")) },
		"scopes": func(c cursor) {
			c.nonEmpty(func(c cursor) {
				text := c.text()
				if text == "" {
					return
				}
				s, err := access.ParseScope(text)
				switch {
				case err != nil:
					c.fail(err.Error(), "write one such as fleet, cluster/fra, zone/example.org, service/shop/* or namespace/shop")
				case slices.Contains(g.Scopes, s):
					c.fail(quote(text)+" stands here twice", "keep one of the two")
				}
				g.Scopes = append(g.Scopes, s)
			})
		},
	}, "who", "role", "scopes")
	return g
}

// checkAPI checks what is said of the API against each other.
func (r *settingsReader) checkAPI(fail func(path, message, remedy string)) {
	a := &r.s.API
	secure := a.TLS.Cert != "" || a.TLS.Key != ""
	switch {
	case a.Listen != "" && !isLoopback(a.Listen) && !secure:
		fail("api.listen", a.Listen+" is not loopback, and off loopback the API needs TLS",
			"add api: {tls: {cert: …, key: …, clientCA: …}} and grants; or write 127.0.0.1 and reach it through a tunnel")
	case a.Listen == "" && secure:
		fail("api.tls", "stands beside no api.listen", "give api.listen an address, or take tls out")
	}
	for i, g := range a.Grants {
		for _, before := range a.Grants[:i] {
			if g.Who == before.Who && g.Role == before.Role && g.Who != "" {
				fail(item("api.grants", i), quote(g.Who)+" is granted "+g.Role.String()+" twice", "write all its scopes in one")
				break
			}
		}
	}
}
