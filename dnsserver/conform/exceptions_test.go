package conform

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// contrast is one question that Divert and a peer answer differently.
type contrast struct {
	qtype       uint16
	peer        string
	child       bool // there is a zone a.z. too
	own, theirs said
}

// exceptions are the differences that are meant, each with the section that allows
// it. One makes of a peer's reply what Divert's may be in its place, if that is what
// it is about; several may come together. Those of one peer are its own: the others
// agree with Divert there.
var exceptions = []struct {
	name   string
	adjust func(contrast) said
}{
	{"RFC 6672 section 2.2: a DNAME keeps its name in an answer, a * too", func(c contrast) said {
		if c.peer == "knot" && slices.ContainsFunc(c.own.answer, func(record string) bool {
			return strings.HasPrefix(record, "*.") && strings.Contains(record, " dname ")
		}) {
			return c.own
		}
		return c.theirs
	}},
	{"RFC 1034 section 4.3.2 step 1: an alias leads into any zone that is there", func(c contrast) said {
		if c.peer != "nsd" && c.child && crosses(c.own.answer) && len(c.theirs.answer) > 0 {
			return c.own
		}
		return c.theirs
	}},
	{"RFC 4035 section 3.1.4.1: DS of a child's top is the parent's, behind an alias too", func(c contrast) said {
		n := len(c.own.answer)
		if c.peer != "nsd" && c.child && c.qtype == dns.TypeDS && n > 0 && strings.HasSuffix(c.own.answer[n-1], " cname a.z. ") {
			return c.own
		}
		return c.theirs
	}},
	{"RFC 1034 section 4.3.3: a delegation ends what a wildcard above or below it makes", func(c contrast) said {
		if c.peer == "bind" || len(c.own.ns) == 0 || !subset(c.own.extra, c.theirs.extra) {
			return c.theirs
		}
		cut, _, _ := strings.Cut(c.own.ns[0], " ")
		c.theirs.extra = slices.DeleteFunc(slices.Clone(c.theirs.extra), func(record string) bool {
			owner, _, _ := strings.Cut(record, " ")
			return dns.IsSubDomain(cut, owner) && !slices.Contains(c.own.extra, record)
		})
		return c.theirs
	}},
	{"RFC 6672 section 2.2: YXDOMAIN is all that is said", func(c contrast) said {
		if c.peer == "knot" && c.own.rcode == dns.RcodeYXDomain && begins(c.theirs.answer, c.own.answer) {
			return c.own
		}
		return c.theirs
	}},
	{"RFC 2181 section 5: the order of sets says nothing", func(c contrast) said {
		if c.peer == "bind" && len(c.own.answer) == len(c.theirs.answer) && subset(c.theirs.answer, c.own.answer) {
			c.theirs.answer = c.own.answer
		}
		return c.theirs
	}},
	{"RFC 8482 section 4.2: ANY is HINFO", func(c contrast) said {
		n := len(c.own.answer) - 1
		if c.qtype == dns.TypeANY && n >= 0 && strings.Contains(c.own.answer[n], ` hinfo "rfc8482" `) && len(c.theirs.answer) > n {
			c.theirs.answer = append(c.theirs.answer[:n:n], c.own.answer[n])
		}
		return c.theirs
	}},
	{"RFC 8482 section 4.2: ANY is answered by a CNAME, made of a DNAME too", func(c contrast) said {
		if c.qtype == dns.TypeANY && c.peer != "bind" && len(c.own.answer) == 2 && strings.Contains(c.own.answer[0], " dname ") && begins(c.theirs.answer, c.own.answer) {
			return c.own
		}
		return c.theirs
	}},
	{"RFC 1034 section 4.3.2 step 6: addresses of what an answer names are optional", func(c contrast) said {
		if c.peer == "knot" && c.own.aa && len(c.own.answer) > 0 && len(c.own.extra) == 0 {
			c.theirs.extra = nil
		}
		return c.theirs
	}},
	{"RFC 1034 section 4.3.2 step 3b: a referral has whatever addresses are available", func(c contrast) said {
		if c.peer == "bind" && len(c.own.ns) > 0 && subset(c.theirs.extra, c.own.extra) {
			c.theirs.extra = c.own.extra
		}
		return c.theirs
	}},
	{"RFC 1034 section 3.6.2: software should not fail on a loop", func(c contrast) said {
		if c.peer == "bind" && c.theirs.rcode == dns.RcodeServerFailure && aliases(c.own) > 0 &&
			(begins(c.own.answer, c.theirs.answer) || begins(c.theirs.answer, c.own.answer)) {
			return c.own
		}
		return c.theirs
	}},
	{"RFC 2181 section 5: no record twice", func(c contrast) said {
		if c.peer != "bind" {
			c.theirs.answer = distinct(c.theirs.answer)
		}
		return c.theirs
	}},
	{"RFC 1034 section 3.6.2: how long a chain is followed is open", func(c contrast) said {
		if (aliases(c.own) == 9 || c.peer == "knot" && aliases(c.theirs) >= 5) && (begins(c.own.answer, c.theirs.answer) || begins(c.theirs.answer, c.own.answer)) {
			return c.own
		}
		return c.theirs
	}},
}

// crosses tells whether an alias leads from the zone z. to its child a.z., or back.
func crosses(answer []string) bool {
	return slices.ContainsFunc(answer, func(record string) bool {
		fields := strings.Fields(record)
		return fields[3] == "cname" && dns.IsSubDomain("a.z.", fields[0]) != dns.IsSubDomain("a.z.", fields[4])
	})
}

// begins tells whether all begins with what front has.
func begins(all, front []string) bool {
	return len(all) >= len(front) && slices.Equal(all[:len(front)], front)
}

// subset tells whether all of some are in all.
func subset(some, all []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// distinct leaves out what was there before.
func distinct(all []string) []string {
	var out []string
	for _, s := range all {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// aliases counts the CNAME records of an answer.
func aliases(s said) int {
	n := 0
	for _, record := range s.answer {
		if strings.Contains(record, " cname ") {
			n++
		}
	}
	return n
}

// excuse names the exceptions that a difference is under, none where it is under
// none.
func (c contrast) excuse() []string {
	var names []string
	for _, e := range exceptions {
		adjusted := e.adjust(c)
		if !adjusted.equal(c.theirs) {
			c.theirs = adjusted
			names = append(names, c.peer+": "+e.name)
		}
		if c.own.equal(c.theirs) {
			return names
		}
	}
	return nil
}
