package director

import (
	"crypto/ed25519"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/geo"
)

// BenchmarkResidencyByPolicy holds an answer, and a whole decision with its tables, of 1,000
// services against each other: without residency, and where a policy keeps the clients of
// Europe on two of three clusters, as the plan has it. An answer comes from tables, which
// are made when a plan comes into force.
func BenchmarkResidencyByPolicy(b *testing.B) {
	const services = 1000
	now := time.Unix(1_800_000_000, 0)
	raws, problems := spec.Parse("bench.yaml", []byte(benchSpec(services)))
	if spec.Failed(problems) {
		b.Fatal(problemsError(problems))
	}
	key := benchKey(0)
	change, err := core.Bootstrap(core.State{Now: now, Me: "d1"}, raws, core.Director{Name: "d1", Site: "s1", Key: key.Public().(ed25519.PublicKey)}, fleetID)
	if err != nil {
		b.Fatal(err)
	}
	doc, err := proto.Marshal(change.Doc)
	if err != nil {
		b.Fatal(err)
	}
	_, change.Plan.Spec = store.Split(doc)
	set, _ := spec.ResolveWith(core.Raws(change.Doc), nil)
	var names []string
	for _, svc := range set.Services {
		names = append(names, svc.Name)
	}
	bundle := plan.Sum([]byte("rules"))
	m := new(dns.Msg)
	m.SetQuestion(set.Services[500].Hosts[0]+".", dns.TypeA)
	query, err := m.Pack()
	if err != nil {
		b.Fatal(err)
	}
	world := newEarth(geo.Default())
	for _, tc := range []struct {
		name string
		by   *plan.Residency
	}{
		{"none", nil},
		{"policy", &plan.Residency{Policy: bundle[:], Sets: []*plan.ResidencySet{{Services: names, Continents: []string{"EU"}, Clusters: []string{"fra", "sin"}}}}},
	} {
		p := proto.CloneOf(change.Plan)
		if p.Residency = tc.by; tc.by != nil {
			p.Policy = &plan.Policy{Bundle: &plan.SpecRef{Hash: bundle[:], Chunks: [][]byte{bundle[:]}, Size: 5}}
		}
		sealed, err := plan.Sign(p, "d1", key)
		if err != nil {
			b.Fatal(err)
		}
		f, err := new(zoneTexts).prepare(sealed, doc)
		if err != nil {
			b.Fatal(err)
		}
		made := func() *answer.Table {
			fit := world.fit(f.spec)
			decision := steer.Decide(steer.Input{Spec: f.spec, Plan: p, Places: fit.places})
			t, err := fit.compile(answer.Options{Zones: new(describer).describe(f, decision), Plan: sealed.Identity.String()})
			if err != nil {
				b.Fatal(err)
			}
			return t
		}
		table := made()
		client := answer.Client{Addr: netip.MustParseAddrPort("81.2.69.142:4000"), Transport: answer.UDP, Now: now}
		b.Run("answer/"+tc.name, func(b *testing.B) {
			buf := make([]byte, 0, 1232)
			b.ReportAllocs()
			for b.Loop() {
				if out, _ := table.ReplyTo(&client, buf[:0], query); len(out) == 0 {
					b.Fatal("no answer")
				}
			}
		})
		b.Run("plan/"+tc.name, func(b *testing.B) {
			for b.Loop() {
				made()
			}
		})
	}
}
