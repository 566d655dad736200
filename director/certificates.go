package director

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/probe"
)

// maxExpiring is how many certificates an alert each is for: all the sites of a fleet may
// share a date, and who reads needs the first.
const maxExpiring = 20

// expiring names the certificates that this director's probes warn of, the first to
// expire first.
func expiring(set *spec.Set, list []probe.Expiry, now time.Time) []string {
	if len(list) == 0 {
		return nil
	}
	shown := list[:min(len(list), maxExpiring)]
	names := make(map[health.Subject]string, len(shown))
	for _, e := range shown {
		names[e.Subject] = ""
	}
	eachService(set, func(svc *spec.GlobalService, cluster string, of steer.SubjectOf) {
		if name, wanted := names[of.Subject]; wanted && name == "" {
			names[of.Subject] = describeProbe(of) + " of " + svc.Name + "@" + cluster
		}
	})
	var alerts []string
	for _, e := range shown {
		if names[e.Subject] == "" {
			continue // no longer in the spec; the prober will know in a moment
		}
		left := "has expired"
		if d := e.At.Sub(now); d > 0 {
			left = "expires in " + spec.FormatDuration(d.Truncate(coarse(d)))
		}
		alerts = append(alerts, fmt.Sprintf("certificate of %s (%s) %s, at %s", names[e.Subject], place(set, e.Subject.Addr), left, e.At.UTC().Format(time.RFC3339)))
	}
	if more := len(list) - len(shown); more > 0 {
		alerts = append(alerts, fmt.Sprintf("and %d more certificates expire soon (divert_probe_certificates_expiring)", more))
	}
	return alerts
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
