package spec

import (
	"net/netip"
	"slices"
)

// maxResolvers is more than anybody needs: each that is silent costs a name its time.
const maxResolvers = 8

// resolvers reads which servers say what hostnames resolve to. Names are refused: there
// would be nobody to resolve them.
func (r *settingsReader) resolvers(c cursor) {
	s := r.s
	c.nonEmpty(func(c cursor) {
		text := c.text()
		if text == "" {
			return
		}
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			if addr, bare := netip.ParseAddr(text); bare == nil {
				at, err = netip.AddrPortFrom(addr, 53), nil
			}
		}
		switch {
		case err != nil || at.Port() == 0 || at.Addr().IsUnspecified() || at.Addr().IsMulticast():
			c.fail(quote(text)+" is no address of a server", `write one such as "192.0.2.53" or "[2001:db8::53]:5353"`)
		case slices.Contains(s.Resolvers, at.String()):
			c.fail(quote(text)+" stands here twice", "keep one of the two")
		case len(s.Resolvers) == maxResolvers:
			c.fail("there are more than 8", "keep the nearest two or three")
		default:
			s.Resolvers = append(s.Resolvers, at.String())
		}
	})
}

// checkResolvers refuses this director itself, which never recurses (S14).
func (r *settingsReader) checkResolvers(fail func(path, message, remedy string)) {
	for i, server := range r.s.Resolvers {
		if slices.Contains(r.s.DNS.Listen, server) {
			fail(item("resolvers", i), server+" is this director, which resolves nothing for others", "write the address of a recursive server")
		}
	}
}
