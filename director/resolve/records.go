package resolve

import (
	"net/netip"
	"slices"
	"time"

	"github.com/divertdns/divert/dnsserver/ask"
)

// Records is the last good answer of a name. It is immutable, and its identity
// changes only when what it says does.
type Records struct {
	Addrs [2][]netip.Addr // IPv4, IPv6; ordered
	Known [2]bool         // the family was resolved: to Addrs, or to none
	TTL   time.Duration   // how long at most a client may keep them, in steps: see ttlSteps
}

// All gives the addresses of both families.
func (r *Records) All() []netip.Addr {
	if r == nil {
		return nil
	}
	return slices.Concat(r.Addrs[0], r.Addrs[1])
}

// outcome is what came of a query.
type outcome struct {
	ask.Addresses
	err error
}

// update says what is known after an answer for each family, what is wrong with it,
// and how long it holds; 0 = it does not confirm what is known. Nothing but other
// addresses takes the last good away; that there are none of a family is believed where
// the other one has just resolved, so that no NXDOMAIN, SERVFAIL, time-out or empty
// answer empties a name.
func update(old *Records, got [2]outcome, permit func(netip.Addr) error) (r *Records, problem string, refresh time.Duration) {
	made := Records{TTL: maxRefresh}
	if old != nil {
		made = *old
	}
	var fresh [2]bool
	refresh = maxRefresh
	for f, g := range got {
		if g.err != nil || len(g.Addrs) == 0 {
			continue
		}
		addrs, why := usable(g.Addrs, permit)
		if len(addrs) == 0 {
			problem = why
			continue
		}
		fresh[f], made.Known[f], made.Addrs[f] = true, true, addrs
		refresh = min(refresh, g.TTL)
	}
	for f, g := range got {
		switch {
		case g.err != nil:
			if problem == "" {
				problem = g.err.Error()
			}
		case len(g.Addrs) > 0:
		case fresh[1-f]:
			made.Known[f], made.Addrs[f] = true, nil
		case problem == "" && got[1-f].err == nil && len(got[1-f].Addrs) == 0:
			problem = "the name has no addresses"
		}
	}
	if !fresh[0] && !fresh[1] {
		return old, problem, 0
	}
	refresh = min(max(refresh, minRefresh), maxRefresh)
	made.TTL = step(refresh)
	r = &made
	if old != nil && old.same(r) {
		r = old
	}
	for f := range fresh {
		// A family that never had any is not missed: servers that answer SERVFAIL for every
		// AAAA are a commonplace.
		if len(made.Addrs[f]) > 0 && !fresh[f] {
			refresh = 0
		}
	}
	return r, problem, refresh
}

func (r *Records) same(other *Records) bool {
	return r.TTL == other.TTL && r.Known == other.Known &&
		slices.Equal(r.Addrs[0], other.Addrs[0]) && slices.Equal(r.Addrs[1], other.Addrs[1])
}

// usable leaves out what may not be dialled (C12): nobody is sent there either.
func usable(addrs []netip.Addr, permit func(netip.Addr) error) (out []netip.Addr, why string) {
	for _, a := range addrs {
		if err := permit(a); err != nil {
			why = err.Error()
			continue
		}
		if len(out) < MaxAddrs {
			out = append(out, a)
		}
	}
	return out, why
}

// step rounds a TTL down. Servers count TTLs down while they keep an answer; a table
// need not be made anew for each second of that.
func step(ttl time.Duration) time.Duration {
	out := minRefresh
	for _, s := range ttlSteps() {
		if s <= ttl {
			out = s
		}
	}
	return out
}

func ttlSteps() []time.Duration {
	const s = time.Second
	return []time.Duration{5 * s, 10 * s, 15 * s, 20 * s, 30 * s, 45 * s, 60 * s, 90 * s, 120 * s, 180 * s, 300 * s, 600 * s, 1200 * s, 1800 * s, 3600 * s}
}
