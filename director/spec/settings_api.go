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
		CRL       string // which of them are revoked; "" = none is known to be
	}
	OIDC struct {
		Issuer   string // an OpenID provider's URL; "" = none
		ClientID string // whom its ID tokens must be for
		CA       string // PEM file of who signs the provider's certificate; "" = the system's
		Claim    string // that names a person: sub or email
	}
	Kubernetes []APICluster // whose ServiceAccounts are known
	Grants     []access.Grant
}

// APICluster is a Kubernetes cluster whose ServiceAccounts are known by their tokens.
type APICluster struct {
	Name       string   // kube:NAME/… are its accounts
	Kubeconfig string   // file: its API server, and who asks it
	Context    string   // of the kubeconfig; "" = its current one
	Audiences  []string // whom tokens must be for, one of these
	Issuer     string   // that tokens name (the API server's --service-account-issuer); "" = any
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
				"crl":      func(c cursor) { a.TLS.CRL = r.path(c) },
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
		"kubernetes": func(c cursor) {
			c.nonEmpty(func(c cursor) { a.Kubernetes = append(a.Kubernetes, r.kubernetes(c)) })
		},
		"grants": func(c cursor) {
			c.nonEmpty(func(c cursor) { a.Grants = append(a.Grants, r.grant(c)) })
		},
	})
}

// kubernetes reads a cluster whose API server says whose a token is.
func (r *settingsReader) kubernetes(c cursor) APICluster {
	var k APICluster
	c.object(fields{
		"name":       func(c cursor) { k.Name = c.dotted() },
		"kubeconfig": func(c cursor) { k.Kubeconfig = r.path(c) },
		"context":    func(c cursor) { k.Context = c.text() },
		"audiences": func(c cursor) {
			c.nonEmpty(func(c cursor) {
				if text := c.text(); text != "" {
					k.Audiences = append(k.Audiences, text)
				}
			})
		},
		"issuer": func(c cursor) { k.Issuer = c.text() },
	}, "name", "kubeconfig", "audiences")
	return k
}

// checkKubernetes checks the clusters against each other, and what is granted against them:
// a token goes to the API server of one cluster, since another's could use it as its own.
func (r *settingsReader) checkKubernetes(fail func(path, message, remedy string)) {
	a := &r.s.API
	for i, k := range a.Kubernetes {
		at := item("api.kubernetes", i)
		if k.Issuer != "" && k.Issuer == a.OIDC.Issuer {
			fail(child(at, "issuer"), "is the provider of api.oidc, too", "keep one of the two")
		}
		if k.Issuer == "" && a.OIDC.ClientID != "" && slices.Contains(k.Audiences, a.OIDC.ClientID) {
			fail(child(at, "audiences"), "hold api.oidc.clientID, so that a person's login would be shown to the API server of "+quote(k.Name), "give the cluster an audience of its own, such as divert-"+k.Name+", or the issuer that its tokens name")
		}
		for _, before := range a.Kubernetes[:i] {
			switch {
			case k.Name == before.Name && k.Name != "":
				fail(child(at, "name"), quote(k.Name)+" stands here twice", "give each cluster a name of its own, and one API server")
			case (k.Issuer == "" || before.Issuer == "" || k.Issuer == before.Issuer) && slices.ContainsFunc(k.Audiences, func(t string) bool { return slices.Contains(before.Audiences, t) }):
				fail(at, "a token for "+quote(k.Name)+" could be one for "+quote(before.Name)+" as well, and would be shown to its API server",
					"give each audiences of its own, such as divert-"+k.Name+", or the issuer that its tokens name, where these differ")
			}
		}
	}
	for i, g := range a.Grants {
		cluster := access.KubeCluster(g.Who)
		if cluster != "" && !slices.ContainsFunc(a.Kubernetes, func(k APICluster) bool { return k.Name == cluster }) {
			fail(child(item("api.grants", i), "who"), "api.kubernetes has no cluster "+quote(cluster), "add it there: {name: "+cluster+", kubeconfig: …, audiences: [divert]}; or correct the name")
		}
	}
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
	case a.TLS.CRL != "" && a.TLS.ClientCA == "":
		fail("api.tls.crl", "stands beside no clientCA, so that no certificate is taken anyway", "add clientCA, or take crl out")
	case a.Listen == "" && secure:
		fail("api.tls", "stands beside no api.listen", "give api.listen an address, or take tls out")
	}
	r.checkKubernetes(fail)
	for i, g := range a.Grants {
		for _, before := range a.Grants[:i] {
			if g.Who == before.Who && g.Role == before.Role && g.Who != "" {
				fail(item("api.grants", i), quote(g.Who)+" is granted "+g.Role.String()+" twice", "write all its scopes in one")
				break
			}
		}
	}
}
