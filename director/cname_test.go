package director

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/health"
)

// namedSpec is meshSpec with hostnames for endpoints, and names of its single sites.
var namedSpec = strings.NewReplacer(
	"addresses: [192.0.2.1]", "hostname: lb.fra.example.net", "addresses: [192.0.2.2]", "hostname: lb.nyc.example.net",
	"  hosts: [pay.example.org]", "  siteNames: true\n  hosts: [pay.example.org, \"*.pay.example.org\"]",
).Replace(meshSpec)

// told is what a table answers, as "name TTL type data".
func told(t *testing.T, table *answer.Table, name string, qtype uint16) string {
	t.Helper()
	packet, err := new(dns.Msg).SetQuestion(name, qtype).Pack()
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := table.Reply(nil, packet, answer.Client{Addr: netip.MustParseAddrPort("198.51.100.7:4000"), Transport: answer.UDP, Now: time.Now()})
	m := new(dns.Msg)
	if err := m.Unpack(raw); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, rr := range m.Answer {
		out = append(out, strings.Join(strings.Fields(rr.String()), " "))
	}
	return strings.Join(out, "; ")
}

// TestCNAMEOfDecision: the CNAME is of the site that steering chose, whatever is asked
// (RFC 1034 section 3.6.2), fails over, fails open (S1), and follows a drain; a
// transfer hands out the plan's (S13).
func TestCNAMEOfDecision(t *testing.T) {
	f := planOver(t, namedSpec)
	drained := *f
	sealed := *f.sealed
	p := proto.CloneOf(f.sealed.Plan)
	p.Overrides = []*plan.Override{{Id: "one", Kind: plan.Override_DRAIN, Scope: "cluster/fra", Author: "somebody", Reason: "a test", Revision: 2}}
	sealed.Plan, drained.sealed, drained.standbys = p, &sealed, steer.StandbysOf(f.spec, p)
	down := func(hosts ...string) map[health.Subject]health.State {
		out := map[health.Subject]health.State{}
		for _, s := range subjects(f.spec) {
			if slices.Contains(hosts, f.spec.Hostname(s.Addr.Addr())) {
				out[s] = health.Down
			}
		}
		return out
	}
	d, decider := &describer{}, &steer.Decider{}
	var before *answer.Table
	for _, tc := range []struct {
		name    string
		f       *inForce
		states  map[health.Subject]health.State
		want    string // cluster
		standby string
	}{
		{"at first", f, nil, "fra", "fra"},
		{"fra is down", f, down("lb.fra.example.net"), "nyc", "fra"},
		{"all are down: fail open", f, down("lb.fra.example.net", "lb.nyc.example.net"), "fra", "fra"},
		{"fra is drained", &drained, nil, "nyc", "nyc"},
		{"and nyc down", &drained, down("lb.nyc.example.net"), "nyc", "nyc"},
		{"all is over", f, nil, "fra", "fra"},
	} {
		decision := decider.Decide(steer.Input{Spec: tc.f.spec, Plan: tc.f.sealed.Plan, States: tc.states, Places: placesOf(geo.Default())})
		table, err := answer.Compile(answer.Options{Zones: d.describe(tc.f, decision), Geo: geo.Default(), Before: before})
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		before = table
		for _, name := range []string{"pay.example.org.", "any.pay.example.org."} {
			want := name + " 20 IN CNAME lb." + tc.want + ".example.net."
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeTXT, dns.TypeHTTPS, dns.TypeANY} {
				if got := told(t, table, name, qtype); got != want {
					t.Errorf("%s, %s %s: got %s, want %s", tc.name, name, dns.Type(qtype), got, want)
				}
			}
		}
		// A site's own name is that site's, whatever is up.
		if got := told(t, table, "fra.pay.example.org.", dns.TypeA); got != "fra.pay.example.org. 20 IN CNAME lb.fra.example.net." {
			t.Errorf("%s: the site name says %s", tc.name, got)
		}
		if got, want := transferred(t, table), "lb."+tc.standby+".example.net."; got["pay.example.org."] != want ||
			got["*.pay.example.org."] != want || got["fra.pay.example.org."] != "lb.fra.example.net." || got["nyc.pay.example.org."] != "lb.nyc.example.net." {
			t.Errorf("%s: a transfer hands out %v, want %s", tc.name, got, want)
		}
	}
}

// transferred is the CNAMEs of a transfer of example.org.
func transferred(t *testing.T, table *answer.Table) map[string]string {
	t.Helper()
	packet, err := new(dns.Msg).SetAxfr("example.org.").Pack()
	if err != nil {
		t.Fatal(err)
	}
	x, _ := table.Transfer(packet, answer.Client{Transport: answer.TCP})
	out := map[string]string{}
	for more := true; more; {
		var raw []byte
		if raw, more, err = x.Next(nil); err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(raw); err != nil {
			t.Fatal(err)
		}
		for _, rr := range m.Answer {
			if c, ok := rr.(*dns.CNAME); ok {
				out[c.Hdr.Name] = c.Target
			}
		}
	}
	return out
}

// TestHostnamesAreProbedByName: what stands for a hostname is watched, and never
// dialled: the prober is told the name (C12).
func TestHostnamesAreProbedByName(t *testing.T) {
	f := planOver(t, namedSpec)
	probes, watched := targets(f.spec, nil, "d1")
	if len(probes) != 4 || len(watched) != 4 || len(subjects(f.spec)) != 4 {
		t.Fatalf("%d probes, %d watched, %d subjects, want a signal and a check of each hostname", len(probes), len(watched), len(subjects(f.spec)))
	}
	names := map[string]int{}
	for _, p := range probes {
		names[p.Hostname]++
		if !spec.IsStandIn(p.Subject.Addr.Addr()) {
			t.Errorf("%+v is of no hostname", p)
		}
	}
	if names["lb.fra.example.net"] != 2 || names["lb.nyc.example.net"] != 2 {
		t.Errorf("got %v", names)
	}
}

// TestCheckZoneOfAliases: beside a CNAME there is nothing, however it is written
// (RFC 1034 section 3.6.2); beside addresses there may be.
func TestCheckZoneOfAliases(t *testing.T) {
	z := &spec.Zone{
		Name: "example.org", Nameservers: []string{"ns1.example.net"}, Hostmaster: "admin@example.org",
		Records: "$GENERATE 1-2 n$ TXT text\n", Steered: []string{"n1.example.org", "n2.example.org"}, CNAMEs: []string{"n2.example.org"},
	}
	problems := CheckZone(z)
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "n2.example.org. has a CNAME") || problems[0].Remedy == "" {
		t.Errorf("got %v", problems)
	}
}

// syncBuffer is a log that several write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestHostnamesAreShown: whatever people are shown of an endpoint that is a hostname
// has its name, never what stands for it.
func TestHostnamesAreShown(t *testing.T) {
	log := &syncBuffer{}
	d := aloneWith(t, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	objects, problems := spec.Parse("named.yaml", []byte(namedSpec))
	if spec.Failed(problems) {
		t.Fatal(problems)
	}
	id, err := give(d, core.Command{ID: newID(), Verb: core.Apply, Author: "ann", Objects: objects})
	if err != nil {
		t.Fatal(err)
	}
	for d.horizon.current().sealed.Identity.Revision < id.Revision {
		<-d.Changed()
	}
	got, err := d.Explain("pay.example.org", "198.51.100.7")
	if err != nil || len(got.Answers) != 1 || got.Answers[0].Type != "CNAME" || !slices.Equal(got.Answers[0].Addresses, []string{"lb.fra.example.net"}) {
		t.Errorf("explain: got %+v, %v", got, err)
	}
	status := d.Status()
	at := slices.IndexFunc(status.Services, func(s api.Service) bool { return s.Name == "pay" })
	var shown []string
	for _, site := range status.Services[at].Sites {
		for _, a := range site.Addresses {
			shown = append(shown, a.Address)
			for _, s := range a.Subjects {
				if !strings.Contains(s.Subject, a.Address) {
					t.Errorf("%s has a subject %s", a.Address, s.Subject)
				}
			}
		}
	}
	if !slices.Equal(shown, []string{"lb.fra.example.net", "lb.nyc.example.net"}) {
		t.Errorf("status shows %v", shown)
	}
	if text := log.String(); strings.Contains(text, "100::") {
		t.Errorf("the log shows what stands for a hostname:\n%s", text)
	}
}
