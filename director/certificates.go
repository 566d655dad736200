package director

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/probe"
)

const (
	// maxExpiring is how many certificates an alert each is for: who reads needs the first.
	maxExpiring = 20
	// maxBearers is how many endpoints such an alert names.
	maxBearers = 4
)

// certificate is all that is probed whose certificate expires at one instant: it is one,
// or hangs on one, however many probes and addresses show it.
type certificate struct {
	at        time.Time
	endpoints []string // "shop@fra"
	probes    []string // "https :443/healthz at 192.0.2.10:443"
}

// expiring names the certificates that this director's probes warn of, the first to
// expire first. The list is ordered by time.
func expiring(set *spec.Set, list []probe.Expiry, now time.Time) []string {
	if len(list) == 0 {
		return nil
	}
	var certificates []*certificate
	of := make(map[health.Subject]*certificate, len(list))
	for _, e := range list {
		if n := len(certificates); n == 0 || !certificates[n-1].at.Equal(e.At) {
			certificates = append(certificates, &certificate{at: e.At})
		}
		of[e.Subject] = certificates[len(certificates)-1]
	}
	met := make(map[health.Subject]bool, len(list))
	eachService(set, func(svc *spec.GlobalService, cluster string, s steer.SubjectOf) {
		c := of[s.Subject]
		if c == nil {
			return
		}
		if name, n := svc.Name+"@"+cluster, len(c.endpoints); n == 0 || c.endpoints[n-1] != name {
			c.endpoints = append(c.endpoints, name)
		}
		if !met[s.Subject] {
			met[s.Subject] = true
			c.probes = append(c.probes, s.String()+" at "+place(set, s.Subject.Addr))
		}
	})
	// What is no longer in the spec, the prober will know of in a moment.
	certificates = slices.DeleteFunc(certificates, func(c *certificate) bool { return len(c.probes) == 0 })
	var alerts []string
	for _, c := range certificates[:min(len(certificates), maxExpiring)] {
		alerts = append(alerts, c.alert(now))
	}
	if more := len(certificates) - len(alerts); more > 0 {
		alerts = append(alerts, fmt.Sprintf("and %d more certificates expire soon (divert_probe_certificates_expiring)", more))
	}
	return alerts
}

func (c *certificate) alert(now time.Time) string {
	left := "has expired"
	if d := c.at.Sub(now); d > 0 {
		left = "expires in " + spec.FormatDuration(d.Truncate(coarse(d)))
	}
	return fmt.Sprintf("certificate of %s %s, at %s (%s)", some(c.endpoints, maxBearers), left, c.at.UTC().Format(time.RFC3339), some(c.probes, 1))
}

// place is an address and port, or a hostname's.
func place(set *spec.Set, addr netip.AddrPort) string {
	if name := set.Hostname(addr.Addr()); name != "" {
		return net.JoinHostPort(name, strconv.Itoa(int(addr.Port())))
	}
	return addr.String()
}

// coarse is the unit that a time left is told in.
func coarse(d time.Duration) time.Duration {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day:
		return day
	case d >= 2*time.Hour:
		return time.Hour
	default:
		return time.Minute
	}
}
