package director

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/resolve"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/dnsserver/answer"
)

// TestHostnamesFromDisk: a director that starts where nothing can be resolved answers
// with what it last knew, and so does a stand-in for it (S12); with an older divert's
// disk it begins with what is written as addresses (F22).
func TestHostnamesFromDisk(t *testing.T) {
	m := &mesh{t: t, ctx: t.Context()}
	m.nodes = append(m.nodes, &node{loop: &loop{name: "d1"}, mesh: m, key: benchKey(0)})
	f := m.planOf(flatSpec, nil, 7, m.nodes[0])
	saved := resolve.Write(map[string]resolve.Saved{"nyc.example.net": {Records: resolvedTo(45*time.Second, "198.51.100.2"), At: time.Now().Add(-3 * time.Hour)}})
	for _, tc := range []struct {
		name     string
		resolved []byte
		want     string
	}{
		{"known", saved, "NOERROR; 45 198.51.100.2"},
		{"an older divert's", nil, "NOERROR; 60 192.0.2.10"},
		{"damaged", saved[:len(saved)-1], "NOERROR; 60 192.0.2.10"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := onDisk(t, func(g *store.Generation, _ []string) {
				if g != nil {
					g.Plan, g.Doc, g.Resolved, g.Highest = f.sealed.Raw, f.bytes, tc.resolved, f.sealed.Identity
				}
			}, 7)
			if got := asked(t, d.table.Load(), "mixed.example.org.", dns.TypeA, "203.0.113.9"); got != tc.want {
				t.Errorf("the director: got %s, want %s", got, tc.want)
			}
			table, _, err := standIn(d.settings, newSurvey(""), nil, d.log)
			if err != nil {
				t.Fatal(err)
			}
			if got := asked(t, table, "mixed.example.org.", dns.TypeA, "203.0.113.9"); got != tc.want {
				t.Errorf("the stand-in: got %s, want %s", got, tc.want)
			}
			if tc.resolved == nil || tc.name == "damaged" {
				return
			}
			if s, ok := d.resolver.Status("nyc.example.net"); !ok || time.Since(s.Resolved) < 2*time.Hour {
				t.Errorf("got %+v, want its age from the disk", s)
			}
			if got := d.saver.resolver.Save(); string(got) != string(tc.resolved) {
				t.Error("what is saved again differs")
			}
		})
	}
}

// TestHostnameLimits: what the spec lets through is resolved.
func TestHostnameLimits(t *testing.T) {
	if spec.MaxHostnames != resolve.MaxNames {
		t.Errorf("a spec may have %d hostnames, and %d are resolved", spec.MaxHostnames, resolve.MaxNames)
	}
}

// TestStandInRefused: whoever owns the name of a load balancer can work out what stands
// for another, and nobody is sent there, whatever probe.allow says.
func TestStandInRefused(t *testing.T) {
	permit := permitted([]netip.Prefix{netip.MustParsePrefix("100::/16")})
	if err := permit(spec.StandIn("victim.example.net")); err == nil {
		t.Error("a stand-in: got permitted, want refused")
	}
	if err := permit(netip.MustParseAddr("100:0:0:1::1")); err != nil {
		t.Errorf("beside them: got %v", err)
	}
	if err := permit(netip.MustParseAddr("127.0.0.1")); err == nil {
		t.Error("loopback: got permitted, want refused")
	}
}

// TestHostnamesShown: people see what is not resolved, for how long, and who answers
// instead.
func TestHostnamesShown(t *testing.T) {
	m := &mesh{t: t, ctx: t.Context()}
	m.nodes = append(m.nodes, &node{loop: &loop{name: "d1"}, mesh: m, key: benchKey(0)})
	f := m.planOf(flatSpec, nil, 1, m.nodes[0])
	d := &Director{resolver: resolve.New(resolve.Options{})}
	restoreNames(d.resolver, resolve.Write(map[string]resolve.Saved{"nyc.example.net": {Records: resolvedTo(time.Minute, "198.51.100.2"), At: time.Now().Add(-90 * time.Minute)}}), nil)
	d.resolver.Set(hostnames(f.spec))

	known := hostnameView(d.resolver, "nyc.example.net")
	if !slices.Equal(known.Addresses, []string{"198.51.100.2"}) || known.At == nil || known.TTL != 60 || !known.Stale {
		t.Errorf("got %+v", known)
	}
	if got := hostnameView(d.resolver, "fra.example.net"); len(got.Addresses) > 0 || got.At != nil || got.Stale {
		t.Errorf("got %+v, want nothing known, and no alarm yet", got)
	}
	shown := api.Service{Name: "mixed", Sites: []api.Site{{Addresses: []api.Address{{Resolved: known}, {Address: "192.0.2.1"}}}}}
	for want, cname := range map[string]bool{"its last good addresses serve": false, "it is probed by its last good addresses": true} {
		alerts := staleNames(shown, cname, time.Now())
		if len(alerts) != 1 || !strings.HasPrefix(alerts[0], "mixed: nyc.example.net was last resolved 1h30m ago, and "+want) {
			t.Errorf("got %q", alerts)
		}
	}
	known.Gone, known.Stale = true, false
	if alerts := staleNames(shown, true, time.Now()); len(alerts) != 1 || !strings.Contains(alerts[0], "nyc.example.net does not exist (NXDOMAIN), and clients are sent there by a CNAME") {
		t.Errorf("got %q", alerts)
	}
	if alerts := staleNames(shown, false, time.Now()); len(alerts) != 0 {
		t.Errorf("got %q, want none: its last good addresses serve", alerts)
	}

	typo := api.Service{Name: "mixed", Sites: []api.Site{
		{Cluster: "fra", Serving: true, Addresses: []api.Address{{Resolved: &api.Hostname{Hostname: "tpyo.example.net", Problem: "the name does not exist (NXDOMAIN)"}}}},
		{Cluster: "nyc", Serving: true, Addresses: []api.Address{{Resolved: known}}},
		{Cluster: "sin", Serving: true, Addresses: []api.Address{{Resolved: &api.Hostname{Hostname: "new.example.net"}}}},
	}}
	if alerts := staleNames(typo, false, time.Now()); !slices.Equal(alerts, []string{"mixed: no address of tpyo.example.net is known, so fra serves nobody: the name does not exist (NXDOMAIN)"}) {
		t.Errorf("got %q, want an alarm of the one that was asked for in vain", alerts)
	}
	if alerts := staleNames(typo, true, time.Now()); len(alerts) != 1 || !strings.Contains(alerts[0], "nyc.example.net does not exist") {
		t.Errorf("got %q: by a CNAME clients look for themselves", alerts)
	}
	markAbsent(&typo)
	if typo.Sites[0].Serving || !typo.Sites[1].Serving || typo.Sites[2].Serving {
		t.Errorf("got %+v, want nyc alone to serve", typo.Sites)
	}

	decision := steer.Decide(steer.Input{Spec: f.spec, Plan: f.sealed.Plan})
	for _, tc := range []struct {
		service  string
		aaaa     bool
		answered []string
		want     []string
	}{
		{"apex", false, []string{"nyc"}, []string{"hostname: fra.example.net of fra is not resolved here yet"}},
		{"apex", true, nil, []string{"hostname: fra.example.net of fra is not resolved here yet", "hostname: nyc.example.net of nyc has no IPv6 address"}},
		{"mixed", false, []string{"nyc"}, nil},
	} {
		i := slices.IndexFunc(decision.Services, func(s steer.Service) bool { return s.Name == tc.service })
		svc := &decision.Services[i]
		view := &svc.V4
		if tc.aaaa {
			view = &svc.V6
		}
		if got := d.passedOver(f.spec, svc, view.For(netip.Prefix{}, 0), tc.aaaa, tc.answered); !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %q, want %q", tc.service, got, tc.want)
		}
	}
	i := slices.IndexFunc(decision.Services, func(s steer.Service) bool { return s.Name == "apex" })
	alone := &steer.Set{Choices: decision.Services[i].V4.Sets[0].Choices[:1]}
	if got := d.passedOver(f.spec, &decision.Services[i], alone, false, []string{"nyc"}); len(got) != 2 || !strings.HasSuffix(got[1], "the next that residency allows answers: nyc") {
		t.Errorf("got %q, want who answers instead", got)
	}
}

// BenchmarkRename is one name of ten thousand resolving anew: from the change to the
// table.
func BenchmarkRename(b *testing.B) {
	const services = 10_000
	var text strings.Builder
	text.WriteString(strings.Split(flatSpec, "---\nkind: GlobalService")[0])
	to := known{}
	for i := range services {
		name := fmt.Sprintf("lb-%d.example.net", i)
		fmt.Fprintf(&text, "---\nkind: GlobalService\nmetadata: {name: s%d}\nspec:\n  hosts: [s%d.example.org]\n  endpoints: [{cluster: fra, addresses: [192.0.2.10]}, {cluster: nyc, hostname: %s}]\n  steering: {policy: geo}\n", i, i, name)
		to[name] = resolvedTo(time.Minute, "198.51.100.1")
	}
	raws, problems := spec.Parse("bench.yaml", []byte(text.String()))
	if spec.Failed(problems) {
		b.Fatal(problemsError(problems))
	}
	set, problems := spec.Resolve(raws)
	if set == nil {
		b.Fatal(problemsError(problems))
	}
	zones, _, err := new(zoneTexts).static(set, serialsOf(&plan.Plan{}, false))
	if err != nil {
		b.Fatal(err)
	}
	f := &inForce{spec: set, zones: zones, standbys: steer.StandbysOf(set, &plan.Plan{})}
	d, decider := describer{resolved: to.records}, &steer.Decider{}
	var table *answer.Table
	for i := 0; b.Loop(); i++ {
		to[fmt.Sprintf("lb-%d.example.net", i%services)] = resolvedTo(time.Minute, fmt.Sprintf("198.51.100.%d", i%200+2))
		decision := decider.Decide(steer.Input{Spec: set, Plan: &plan.Plan{}})
		if table, err = answer.Compile(answer.Options{Zones: d.describe(f, decision), Before: table}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestDirectorsResolveDifferently: directors that resolve a hostname differently, or
// not at all, decide alike and fail over together by what stands for it (S7, L2); each
// answers by what it knows, and one that learns more does at once.
func TestDirectorsResolveDifferently(t *testing.T) {
	text := strings.Replace(meshSpec, "{cluster: fra, addresses: [192.0.2.1]}", "{cluster: fra, hostname: lb.fra.example.net}", 1)
	if text == meshSpec {
		t.Fatal("the mesh has another spec")
	}
	inBubble(t, func(t *testing.T, m *mesh) {
		learn := func(n *node, addr string) {
			saved := resolve.Write(map[string]resolve.Saved{"lb.fra.example.net": {Records: resolvedTo(time.Minute, addr)}})
			if err := n.resolver.Restore(saved); err != nil {
				t.Fatal(err)
			}
			n.renamed.Store(true)
		}
		want := func(when string, addrs ...string) {
			t.Helper()
			var first []steer.Choice
			for i, n := range m.nodes {
				var chosen []steer.Choice
				_ = n.inspect(m.ctx, func(time.Time) { chosen = n.decision.Services[0].V4.For(netip.Prefix{}, 0).Choices })
				if i == 0 {
					first = chosen
				}
				if !slices.Equal(first, chosen) {
					t.Errorf("%s: %s decides %v, %s %v", when, m.nodes[0].name, first, n.name, chosen)
				}
				if got := asked(t, n.table.Load(), "pay.example.org.", dns.TypeA, "203.0.113.9"); !strings.HasSuffix(got, " "+addrs[i]) {
					t.Errorf("%s: %s answers %s, want %s", when, n.name, got, addrs[i])
				}
			}
		}
		learn(m.nodes[0], "198.51.100.1")
		learn(m.nodes[1], "198.51.100.2")
		f := m.planOf(text, nil, 2, m.nodes[0])
		for _, n := range m.nodes {
			n.horizon.offer(f)
		}
		time.Sleep(3 * time.Second)
		want("at first", "198.51.100.1", "198.51.100.2", "192.0.2.2")
		standIn := spec.StandIn("lb.fra.example.net").String()
		m.nodes[0].set(standIn, true)
		m.nodes[2].set(standIn, true)
		time.Sleep(time.Second)
		want("two see it down", "192.0.2.2", "192.0.2.2", "192.0.2.2")
		m.nodes[0].set(standIn, false)
		m.nodes[2].set(standIn, false)
		time.Sleep(15 * time.Second)
		want("it has returned", "198.51.100.1", "198.51.100.2", "192.0.2.2")
		learn(m.nodes[2], "198.51.100.3")
		time.Sleep(2 * loopTick)
		want("the third has learned", "198.51.100.1", "198.51.100.2", "198.51.100.3")
		// Names that change all the time cost a table each half second.
		before := m.nodes[2].table.Load()
		made := 0
		for i := range 100 {
			learn(m.nodes[2], fmt.Sprintf("198.51.100.%d", 100+i))
			time.Sleep(loopTick)
			if now := m.nodes[2].table.Load(); now != before {
				before = now
				made++
			}
		}
		if made < 3 || made > 6 {
			t.Errorf("100 changes in 2.5 s made %d tables, want about 5", made)
		}
	})
}

// TestInsteadIsShown: a drained site that answers since the chosen one has no address
// of a family is said to serve, and alarms: the drain is not what it seems (S1, S6).
func TestInsteadIsShown(t *testing.T) {
	m, n := standing(t)
	image := resolve.Write(map[string]resolve.Saved{"nyc.example.net": {Records: resolvedTo(time.Minute, "198.51.100.2"), At: time.Now()}})
	if err := n.resolver.Restore(image); err != nil {
		t.Fatal(err)
	}
	f := m.planOf(flatSpec, func(p *plan.Plan) {
		p.Overrides = []*plan.Override{{Id: "one", Kind: plan.Override_DRAIN, Scope: "service/mixed@fra", Author: "somebody", Reason: "a test", Revision: 2}}
	}, 2, n)
	if !n.takeForce(f, time.Now()) {
		t.Fatal("the plan makes no table")
	}
	if got := asked(t, n.table.Load(), "mixed.example.org.", dns.TypeAAAA, "203.0.113.9"); got != "NOERROR; 60 2001:db8::10" {
		t.Fatalf("got %s, want the drained site's, which alone has the type (S14)", got)
	}
	var out api.Status
	n.describe(&out, time.Now())
	serving := map[string]bool{}
	for _, svc := range out.Services {
		for _, site := range svc.Sites {
			serving[svc.Name+"@"+site.Cluster] = site.Serving
		}
	}
	if !serving["mixed@fra"] || !serving["mixed@nyc"] || serving["mixed@sin"] {
		t.Errorf("got %v, want nyc and fra shown as serving", serving)
	}
	if got := strings.Join(out.Alerts, "; "); strings.Count(got, "mixed: IPv6: drained fra serves") != 1 || strings.Contains(got, "sin") {
		t.Errorf("got alerts %s", got)
	}
}
