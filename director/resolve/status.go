package resolve

import (
	"net/netip"
	"time"
)

// Status is what is known of one name, for people.
type Status struct {
	Hostname  string
	Addresses []netip.Addr
	TTL       time.Duration
	Resolved  time.Time // last confirmed; zero = never
	Problem   string    // what was wrong the last time; "" = nothing
	Since     time.Time // since when it is not confirmed; zero = it was
	Gone      bool      // the last time the name did not exist
	Stale     bool      // not confirmed for an hour
}

// Status says what is known of a name; false: it is not one that is resolved.
func (r *Resolver) Status(name string) (Status, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[name]
	if e == nil {
		return Status{}, false
	}
	s := Status{
		Hostname: name, Resolved: e.at, Problem: e.problem, Since: e.failing, Gone: e.gone,
		Stale: e.wanted && e.age(time.Now()) >= Stale,
	}
	if records := e.records.Load(); records != nil {
		s.Addresses, s.TTL = records.All(), records.TTL
	}
	return s, true
}
