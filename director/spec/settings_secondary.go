package spec

import (
	"net/netip"
	"slices"
	"strings"
)

// defaultTSIG is the algorithm that every server of secondaries has.
const defaultTSIG = "hmac-sha256"

func (r *settingsReader) dnsTLS(c cursor) {
	t := &r.s.DNS.TLS
	c.object(fields{
		"listen": func(c cursor) { t.Listen = c.listens(c.nonEmpty) },
		"cert":   func(c cursor) { t.Cert = r.path(c) },
		"key":    func(c cursor) { t.Key = r.path(c) },
	}, "listen", "cert", "key")
}

// listens reads a list of addresses to listen on.
func (c cursor) listens(each func(func(cursor))) []string {
	out := []string{}
	seen := map[string]bool{}
	each(func(c cursor) {
		l := c.listen()
		if l != "" && seen[l] && !strings.HasSuffix(l, ":0") {
			c.fail(quote(l)+" stands here twice", "keep one of the two")
		}
		seen[l] = true
		out = appendText(out, l)
	})
	return out
}

// prefixes reads a list of prefixes, each once.
func (c cursor) prefixes(each func(func(cursor))) []netip.Prefix {
	var out []netip.Prefix
	each(func(c cursor) {
		p, ok := c.prefix()
		switch {
		case !ok:
		case slices.Contains(out, p):
			c.fail(p.String()+" stands here twice", "keep one of the two")
		default:
			out = append(out, p)
		}
	})
	return out
}

func (r *settingsReader) dnsTransfers(c cursor) {
	t := &r.s.DNS.Transfers
	c.object(fields{
		"allow": func(c cursor) { t.Allow = c.prefixes(c.nonEmpty) },
		"keys": func(c cursor) {
			c.nonEmpty(func(c cursor) {
				if k := r.tsigKey(c); k.Name != "" {
					t.Keys = append(t.Keys, k)
				}
			})
		},
		"notify": func(c cursor) {
			// A broken one, too, so that each keeps its index for the checks.
			c.nonEmpty(func(c cursor) { t.Notify = append(t.Notify, c.secondary()) })
		},
	})
}

func (r *settingsReader) tsigKey(c cursor) TransferKey {
	k := TransferKey{Algorithm: defaultTSIG}
	c.object(fields{
		"name": func(c cursor) {
			// As other servers do, whatever the letters and the last dot.
			k.Name = strings.ToLower(strings.TrimSuffix(c.word(), "."))
			if k.Name != "" && (strings.HasPrefix(k.Name, ".") || strings.Contains(k.Name, "..")) {
				c.fail(quote(k.Name)+" is no domain name", "write one such as secondary.example.net")
				k.Name = ""
			}
		},
		"algorithm":  func(c cursor) { k.Algorithm = c.choice("hmac-sha256", "hmac-sha384", "hmac-sha512") },
		"secretFile": func(c cursor) { k.SecretFile = r.path(c) },
		// The value is `divert secrets set tsig/NAME`'s.
		"fleetSecret": func(c cursor) { k.Shared = c.bool() },
	}, "name")
	switch file := (cursor{c.d, c.v, child(c.path, "secretFile")}); {
	case k.Shared && c.v.get("secretFile") != nil:
		file.fail("stands beside fleetSecret", "keep one of the two")
	case !k.Shared && c.v.kind == kindMap && c.v.get("secretFile") == nil:
		file.fail("is missing", "add it; or fleetSecret: true, and give the fleet the secret with `divert secrets set`")
	}
	same := func(other TransferKey) bool { return other.Name == k.Name }
	if k.Name != "" && slices.ContainsFunc(r.s.DNS.Transfers.Keys, same) {
		c.fail(quote(k.Name)+" names two keys", "give each a name of its own, the same at the secondary")
	}
	return k
}

// secondary reads where a NOTIFY goes: an address and port, or these with a key.
func (c cursor) secondary() Secondary {
	var s Secondary
	to := func(c cursor) {
		text := c.text()
		if text == "" {
			return
		}
		a, err := netip.ParseAddrPort(text)
		if err != nil || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() || a.Addr().Zone() != "" {
			c.fail(quote(text)+" is no address and port of a server", `write one such as "198.51.100.7:53" or "[2001:db8::7]:53"`)
			return
		}
		s.Addr = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	if c.v.kind != kindMap {
		to(c)
		return s
	}
	c.object(fields{
		"address": to,
		"key":     func(c cursor) { s.Key = strings.ToLower(strings.TrimSuffix(c.word(), ".")) },
	}, "address", "key")
	return s
}

// checkStreams checks what the settings of DNS say against each other.
func (r *settingsReader) checkStreams(fail func(path, message, remedy string)) {
	d := &r.s.DNS
	for i, l := range d.TLS.Listen {
		if slices.Contains(d.Listen, l) && !strings.HasSuffix(l, ":0") {
			fail(item("dns.tls.listen", i), l+" stands in dns.listen, too, which takes TCP there", "give DNS over TLS a port of its own: 853")
		}
	}
	if len(d.Listen) == 0 {
		for _, at := range []struct {
			path string
			some bool
		}{
			{"dns.tls", len(d.TLS.Listen) > 0},
			{"dns.transfers", len(d.Transfers.Allow)+len(d.Transfers.Keys)+len(d.Transfers.Notify) > 0},
			{"dns.proxyProtocol", len(d.ProxyProtocol) > 0},
		} {
			if at.some {
				fail(at.path, "stands beside dns: {listen: []}, and a witness answers nothing", "take it out, or give dns.listen an address")
			}
		}
	}
	names := map[string]bool{}
	for _, k := range d.Transfers.Keys {
		names[k.Name] = true
	}
	for i, n := range d.Transfers.Notify {
		at := item("dns.transfers.notify", i)
		if n.Key != "" && !names[n.Key] {
			fail(child(at, "key"), "there is no key "+quote(n.Key)+" in dns.transfers.keys", "add it there, or take key out")
		}
		for _, before := range d.Transfers.Notify[:i] {
			if before.Addr == n.Addr && n.Addr.IsValid() {
				fail(at, n.Addr.String()+" stands here twice", "keep one of the two")
				break
			}
		}
	}
}
