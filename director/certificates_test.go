package director

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/probe"
)

// TestExpiringCertificates: status names whose certificate it is and when it expires, the
// first ones only.
func TestExpiringCertificates(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	svc := &spec.GlobalService{Name: "shop", Probes: []spec.Probe{{HTTP: &spec.HTTPProbe{Scheme: "https", Port: 443, Path: "/healthz"}}}}
	var list []probe.Expiry
	for i := range byte(maxExpiring + 3) {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, i})
		svc.Endpoints = append(svc.Endpoints, spec.Endpoint{Cluster: "c" + string('a'+rune(i)), Addresses: []netip.Addr{addr}})
		list = append(list, probe.Expiry{Subject: steer.Subjects(svc, addr)[0].Subject, At: now.Add(time.Duration(i)*25*time.Hour - time.Hour)})
	}
	set := &spec.Set{Services: []*spec.GlobalService{svc}}
	got := expiring(set, list, now)
	if len(got) != maxExpiring+1 ||
		got[0] != "certificate of shop@ca has expired, at 2025-12-31T23:00:00Z (https :443/healthz at 192.0.2.0:443)" ||
		!strings.Contains(got[1], "shop@cb expires in 1d, at 2026-01-02T00:00:00Z") ||
		!strings.HasPrefix(got[maxExpiring], "and 3 more") {
		t.Errorf("got %s", strings.Join(got, "\n"))
	}
	if got := expiring(set, nil, now); got != nil {
		t.Errorf("without any: got %v", got)
	}
	if got := expiring(set, []probe.Expiry{{Subject: health.Subject{Kind: health.KindCheck}, At: now}}, now); len(got) != 0 {
		t.Errorf("of a probe that the spec no longer has: got %v", got)
	}
}

// TestOneExpiringCertificate: a certificate that several services, addresses and probes show
// is one alert, and one that expires at another time another.
func TestOneExpiringCertificate(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	set := &spec.Set{}
	var list []probe.Expiry
	for _, name := range []string{"cart", "shop"} {
		svc := &spec.GlobalService{Name: name, Probes: []spec.Probe{
			{HTTP: &spec.HTTPProbe{Scheme: "https", Port: 443, Path: "/" + name}}, {TLS: &spec.TLSProbe{Port: 443}},
		}}
		for i, cluster := range []string{"fra", "nyc", "sin"} {
			addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
			svc.Endpoints = append(svc.Endpoints, spec.Endpoint{Cluster: cluster, Addresses: []netip.Addr{addr}})
		}
		for i := range svc.Endpoints {
			for _, s := range steer.Subjects(svc, svc.Endpoints[i].Addresses[0]) {
				at := now.Add(6 * 24 * time.Hour)
				if i == 2 {
					at = now.Add(7 * 24 * time.Hour)
				}
				if e := (probe.Expiry{Subject: s.Subject, At: at}); !slices.Contains(list, e) { // the handshake of both is one check
					list = append(list, e)
				}
			}
		}
		set.Services = append(set.Services, svc)
	}
	slices.SortStableFunc(list, func(a, b probe.Expiry) int { return a.At.Compare(b.At) })
	want := "certificate of cart@fra, cart@nyc, shop@fra, shop@nyc expires in 6d, at 2026-01-07T00:00:00Z (X at 192.0.2.0:443 and 5 more)\n" +
		"certificate of cart@sin, shop@sin expires in 7d, at 2026-01-08T00:00:00Z (X at 192.0.2.2:443 and 2 more)"
	got := strings.Join(expiring(set, list, now), "\n")
	for _, name := range []string{"https :443/cart", "tls :443"} { // whichever of the two is first by its definition
		got = strings.ReplaceAll(got, "("+name+" at", "(X at")
	}
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestDeepProbes: the prober is asked all that the spec says, for each kind: an option
// that is lost on the way would be a check of something else.
func TestDeepProbes(t *testing.T) {
	secure := spec.Secure{SNI: "a", CA: "b", Warn: 1, Fail: 2}
	asked := probe.Secure(secure)
	addr := netip.MustParseAddrPort("192.0.2.10:443")
	tests := []struct {
		probe spec.Probe
		want  probe.Target
	}{
		{
			spec.Probe{HTTP: &spec.HTTPProbe{
				Scheme: "https", Port: 443, Method: "POST", Path: "/p", Host: "h", Statuses: []int{200, 201}, Body: "b",
				Version: "2", Headers: []spec.Header{{Name: "X-A", Value: "v"}}, BodyRegexp: "r", RequestBody: "q", Secure: secure,
			}},
			probe.Target{HTTP: &probe.HTTP{
				Scheme: "https", Addr: addr, Method: "POST", Path: "/p", Host: "h", Statuses: []int{200, 201}, Body: "b",
				Version: "2", Headers: []probe.Header{{Name: "X-A", Value: "v"}}, BodyRegexp: "r", RequestBody: "q", Secure: asked,
			}},
		},
		{spec.Probe{TCP: &spec.TCPProbe{Port: 443, Send: "s", Expect: "e", ExpectRegexp: "r"}}, probe.Target{TCP: &probe.TCP{Addr: addr, Send: "s", Expect: "e", ExpectRegexp: "r"}}},
		{spec.Probe{TLS: &spec.TLSProbe{Port: 443, ALPN: []string{"h2"}, Secure: secure}}, probe.Target{TLS: &probe.TLS{ALPN: []string{"h2"}, Secure: asked}}},
		{
			spec.Probe{GRPC: &spec.GRPCProbe{Port: 443, Service: "s", Plaintext: true, Host: "h", Secure: secure}},
			probe.Target{GRPC: &probe.GRPC{Service: "s", Plaintext: true, Host: "h", Secure: asked}},
		},
		{
			spec.Probe{DNS: &spec.DNSProbe{Port: 443, Transport: "tls", Name: "n", Type: "A", Rcodes: []string{"NOERROR"}, Answers: []string{"192.0.2.1"}, Secure: secure}},
			probe.Target{DNS: &probe.DNS{Transport: "tls", Name: "n", Type: "A", Rcodes: []string{"NOERROR"}, Answers: []string{"192.0.2.1"}, Secure: asked}},
		},
		{spec.Probe{ICMP: &spec.ICMPProbe{}}, probe.Target{ICMP: &probe.ICMP{}}},
		{spec.Probe{Exec: &spec.ExecProbe{Command: "/c", Args: []string{"a"}}}, probe.Target{Exec: &probe.Exec{Command: "/c", Args: []string{"a"}}}},
	}
	for _, tc := range tests {
		var got probe.Target
		got.Subject.Addr, tc.want.Subject.Addr = addr, addr
		deepProbe(&got, &tc.probe)
		if !cmp.Equal(got, tc.want, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })) {
			t.Errorf("%s: got %+v, want %+v", tc.probe.String(), got, tc.want)
		}
	}
}
