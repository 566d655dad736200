package core

import (
	"strings"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/plan"
)

// isToken tells whether an author is a program that brings a token: whoever made it, or
// found it, might be anybody, so that it is no second person.
func isToken(author string) bool {
	return strings.HasPrefix(Identity(author), string(access.Token)+":")
}

// isProgram tells whether an author is no person: a token, or a ServiceAccount, whose
// token whoever administers its cluster can make.
func isProgram(author string) bool {
	return isToken(author) || strings.HasPrefix(Identity(author), string(access.Kube)+":")
}

// samePerson tells whether two authors are one person by their names: the same name as a
// user of the system, in a certificate and at an OpenID provider is one person's.
func samePerson(a, b string) bool { return personOf(a) == personOf(b) }

func personOf(author string) string {
	who := Identity(author)
	for _, m := range []access.Method{access.Unix, access.Certificate, access.OpenID} {
		if name, ok := strings.CutPrefix(who, string(m)+":"); ok {
			return name
		}
	}
	return who
}

// makerOf gives the person that stands behind an author: of a token whoever made it, and
// of one that a token made, whoever made that. Of one that the plan does not have, it is
// the token.
func makerOf(p *plan.Plan, author string) string {
	for range maxTokens { // two might name each other
		t := p.Token(strings.TrimPrefix(Identity(author), string(access.Token)+":"))
		if !isToken(author) || t == nil {
			break
		}
		author = t.GetAuthor()
	}
	return author
}

// stake tells whether somebody has asked for what a request is about, himself or by a token.
func stake(p *plan.Plan, r *plan.Request, who string) bool {
	return samePerson(r.GetAuthor(), who) || samePerson(makerOf(p, r.GetAuthor()), who)
}
