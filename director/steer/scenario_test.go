package steer

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

var update = flag.Bool("update", false, "write what the scenarios give now")

// TestScenarios runs the stories in testdata: commands, a line of four dashes,
// what they print, an empty line. Two deciders follow each: one that remembers,
// and one made anew for each question.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				t.Errorf("%s now gives\n%s", file, got)
			}
		})
	}
}

// play runs a story and gives it back with what it prints now.
func play(t *testing.T, text string) string {
	t.Helper()
	s := &story{t: t, f: newFleet()}
	var out strings.Builder
	for part := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n\n") {
		commands, _, asks := strings.Cut(part, "\n----")
		s.out.Reset()
		for line := range strings.SplitSeq(commands, "\n") {
			if !strings.HasPrefix(line, "#") {
				s.do(strings.Fields(line))
			}
		}
		if out.Len() > 0 {
			out.WriteString("\n")
		}
		out.WriteString(commands + "\n")
		if asks {
			out.WriteString("----\n" + s.out.String())
		} else if s.out.Len() > 0 {
			t.Fatalf("output without ---- after %q", commands)
		}
	}
	return out.String()
}

type story struct {
	t       *testing.T
	f       *fleet
	decider Decider
	out     strings.Builder
}

func (s *story) decide() Decision {
	in := s.f.input()
	in.Plan = proto.CloneOf(s.f.plan)
	d := s.decider.Decide(in)
	if again := Decide(in); dump(again) != dump(d) {
		s.t.Fatalf("a decider that remembers decides otherwise:\n%s\n%s", dump(d), dump(again))
	}
	return d
}

// changed makes the spec another one, as an apply does.
func (s *story) changed() {
	c := *s.f.set
	s.f.set = &c
}

func (s *story) do(words []string) {
	f, t := s.f, s.t
	if len(words) == 0 {
		return
	}
	args := words[1:]
	switch words[0] {
	case "cluster":
		f.cluster(t, args[0], args[1:]...)
		s.changed()
	case "service":
		policy := map[string]spec.Policy{"geo": spec.PolicyGeo, "failover": spec.PolicyFailover, "weighted": spec.PolicyWeighted}[args[1]]
		f.service(t, args[0], policy, args[2:]...)
		s.changed()
	case "set":
		for _, a := range args[1:] {
			s.set(serviceNamed(t, f.set, args[0]), a)
		}
		s.changed()
	case "fall": // after it came back
		f.mark(args[0], health.KindUnknown, health.Down)
		f.fallen(args[0])
	case "fail":
		f.mark(args[0], health.KindUnknown, health.Down)
	case "hang": // the signal answers, the probe does not
		f.mark(args[0], health.KindCheck, health.Down)
	case "heal":
		f.mark(args[0], health.KindUnknown, health.Up)
		f.mark(args[0], health.KindSoft, health.Up)
	case "back": // back fra 12s 8s: it came back at 12 s, 8 s ago
		f.mark(args[0], health.KindUnknown, health.Up)
		f.back(args[0], duration(t, args[1]), duration(t, args[2]))
	case "degrade":
		f.mark(args[0], health.KindSoft, health.Down)
	case "lose", "regain": // one probe of a service at a cluster, named as people see it, or its fast signal
		s.one(serviceNamed(t, f.set, args[0]), args[1], strings.Join(args[2:], " "), map[string]health.State{"lose": health.Down, "regain": health.Up}[words[0]])
	case "drain":
		f.override(plan.Override_DRAIN, args[0], "alice", slices.Contains(args, "last-resort"))
	case "undrain", "thaw":
		f.plan.Revision++
		f.plan.Overrides = slices.DeleteFunc(f.plan.Overrides, func(o *plan.Override) bool { return o.GetScope() == args[0] })
	case "freeze":
		o := f.override(plan.Override_OBSERVE, args[0], "bob", false)
		for sub, st := range f.states {
			if st == health.Down {
				o.Down = append(o.Down, sub.String())
			}
		}
		slices.Sort(o.Down)
	case "ask":
		s.ask(args)
	case "sites":
		s.sites(args[0])
	case "alerts":
		d := s.decide()
		for i := range d.Services {
			for _, a := range d.Services[i].Alerts {
				fmt.Fprintf(&s.out, "%s: %s\n", d.Services[i].Name, a)
			}
		}
	default:
		t.Fatalf("unknown command %q", words)
	}
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func serviceNamed(t *testing.T, set *spec.Set, name string) *spec.GlobalService {
	t.Helper()
	for _, svc := range set.Services {
		if svc.Name == name {
			return svc
		}
	}
	t.Fatalf("no service %q", name)
	return nil
}

// probeNamed makes a probe: tcp:443, readiness or nodes, with a weight.
func probeNamed(t *testing.T, text, weight string) spec.Probe {
	t.Helper()
	var p spec.Probe
	switch kind, port, _ := strings.Cut(text, ":"); kind {
	case "tcp":
		p.TCP, p.Fast = &spec.TCPProbe{Port: uint16(number(t, port))}, 100*time.Millisecond
	case "readiness":
		p.Readiness = &spec.ReadinessProbe{Namespace: "store", Service: "web", Min: 50}
	case "nodes":
		p.Kube = &spec.KubeProbe{MinNodesReady: 50}
	default:
		t.Fatalf("no probe %q", text)
	}
	if weight != "" {
		p.Weight = number(t, weight)
	}
	return p
}

// one sets the state of one probe at a cluster.
func (s *story) one(svc *spec.GlobalService, cluster, probe string, st health.State) {
	for _, a := range svc.Endpoint(cluster).Watched() {
		for _, o := range Subjects(svc, a) {
			name := o.Probe.String()
			if o.Fast {
				name = fmt.Sprintf("fast :%d", o.Subject.Addr.Port())
			}
			if name == probe {
				s.f.states[o.Subject] = st
			}
		}
	}
}

// set changes one setting of a service: "region=EU:fra,ams", "pin=PREFIX:nyc",
// "residency=EU:jurisdiction=eu", "answers=2" and so on.
func (s *story) set(svc *spec.GlobalService, text string) {
	key, value, _ := strings.Cut(text, "=")
	before, after, _ := strings.Cut(value, ">")
	switch key {
	case "region":
		svc.Steering.Regions = append(svc.Steering.Regions, spec.Region{Clients: clients(before), Order: strings.Split(after, ",")})
	case "pin":
		svc.Pins = append(svc.Pins, spec.Pin{Prefix: netip.MustParsePrefix(before), Cluster: after})
	case "residency":
		k, v, _ := strings.Cut(after, "=")
		svc.Residency = append(svc.Residency, spec.ResidencyRule{Clients: clients(before), Clusters: map[string]string{k: v}})
	case "unknown":
		svc.ResidencyUnknown = map[string]spec.ResidencyUnknown{"allow": spec.ResidencyUnknownAllow, "intersect": spec.ResidencyUnknownIntersect}[value]
	case "order":
		svc.Steering.Order = strings.Split(value, ",")
	case "ramp":
		svc.Steering.Ramp = duration(s.t, value)
	case "answers":
		svc.Steering.Answers = int(number(s.t, value))
	case "minHealthy":
		svc.MinHealthy = int(number(s.t, value))
	case "siteNames":
		svc.SiteNames = true
	case "allDown":
		svc.AllDown = map[string]spec.AllDown{"alive": spec.AllDownAlive, "all": spec.AllDownAll, "fallback": spec.AllDownFallback}[before]
		for a := range strings.SplitSeq(after, ",") {
			if a != "" {
				svc.Fallback = append(svc.Fallback, netip.MustParseAddr(a))
			}
		}
	case "probe":
		svc.Probes = append(svc.Probes, probeNamed(s.t, before, after))
	case "combine":
		svc.Combine = spec.Combine{AtLeast: int(number(s.t, before))}
		if after != "" {
			svc.Combine.DegradedBelow = number(s.t, after)
		}
	case "automation":
		svc.Automation = map[string]spec.Automation{"act": spec.AutomationAct, "observe": spec.AutomationObserve}[value]
	default:
		s.t.Fatalf("unknown setting %q", text)
	}
}

// clients reads "EU+TR+198.51.100.0/24".
func clients(text string) spec.Clients {
	var c spec.Clients
	for w := range strings.SplitSeq(text, "+") {
		switch p, err := netip.ParsePrefix(w); {
		case err == nil:
			c.Prefixes = append(c.Prefixes, p)
		case slices.Contains([]string{"AF", "AN", "AS", "EU", "NA", "OC", "SA"}, w):
			c.Continents = append(c.Continents, w)
		default:
			c.Countries = append(c.Countries, w)
		}
	}
	return c
}

// ask prints what clients are told: "ask shop DE", "ask shop DE AAAA from
// 203.0.113.0/24", "ask shop DE site fra", and why.
func (s *story) ask(args []string) {
	d := s.decide()
	v6, site := false, ""
	var client netip.Prefix
	for i := 2; i < len(args); i++ {
		switch args[i] {
		case "AAAA":
			v6 = true
		case "from":
			i++
			client = netip.MustParsePrefix(args[i])
		case "site":
			i++
			site = args[i]
		}
	}
	svc := &d.Services[slices.IndexFunc(d.Services, func(x Service) bool { return x.Name == args[0] })]
	views := [2]*View{&svc.V4, &svc.V6}
	if site != "" {
		i := slices.IndexFunc(svc.SiteViews, func(x SiteView) bool { return x.Cluster == site })
		views = [2]*View{&svc.SiteViews[i].V4, &svc.SiteViews[i].V6}
	}
	v, f := views[0], IPv4
	if v6 {
		v, f = views[1], IPv6
	}
	set := look(v, placeOf(s.t, args[1]), client)
	if set == nil {
		s.out.WriteString("no address of this family\n")
		return
	}
	line := ""
	for i, c := range set.Choices {
		text := c.Cluster
		if set.Weighted {
			text += fmt.Sprintf("*%d", c.Weight)
		}
		var addrs []string
		for _, a := range svc.Addrs(f, &c) {
			addrs = append(addrs, s.f.set.NameOf(a))
		}
		if c.Share > 0 {
			text += fmt.Sprintf(" %d%%", c.Share)
		}
		switch {
		case i > 0 && c.Level > set.Choices[i-1].Level:
			line += " | " // for those alone whom none before it may have
		case i > 0:
			line += ", "
		}
		line += text + " " + strings.Join(addrs, "+")
	}
	if line == "" {
		line = "nothing"
	}
	if set.Tier != TierHealthy {
		line += " [" + set.Tier.String() + "]"
	}
	if set.FailOpen {
		line += " [fail open]"
	}
	s.out.WriteString(line + "\n")
	for _, w := range svc.Why(f, set) {
		s.out.WriteString("  " + w + "\n")
	}
}

func (s *story) sites(name string) {
	d := s.decide()
	for i := range d.Services {
		if d.Services[i].Name != name {
			continue
		}
		for _, x := range d.Services[i].Sites() {
			line := x.Cluster + " " + x.Health.String()
			if x.Drained != "" {
				line += ", drained"
			}
			if x.Serving {
				line += ", serving"
			}
			fmt.Fprintf(&s.out, "%s, %d of %d live", line, len(x.Live), len(x.All))
			if x.Why != "" {
				s.out.WriteString(": " + x.Why)
			}
			s.out.WriteString("\n")
		}
	}
}

// dump writes all of a decision, for comparing.
func dump(d Decision) string {
	out := fmt.Sprintln(d.Alike)
	for i := range d.Services {
		s := &d.Services[i]
		out += fmt.Sprintf("%s %s %s next %s\n", s.Name, s.Hosts, dumpRuling(s.Ruling), s.Next)
	}
	return out
}

// dumpRuling writes all of a ruling but when it ends.
func dumpRuling(r *Ruling) string {
	out := fmt.Sprintf("%v %d %t %v %+v\n", r.TTL, r.Answers, r.Observing, r.Alerts, r.Sites())
	dumpView := func(f Family, v *View) {
		for i := range v.Sets {
			s := &v.Sets[i]
			out += fmt.Sprintf(" %s %d: %v %t %t %q", f, i, s.Tier, s.Weighted, s.FailOpen, r.Why(f, s))
			for _, list := range [][]Choice{s.Choices, s.Rest} {
				for j := range list {
					c := &list[j]
					out += fmt.Sprintf(" %d %s/%s*%d %d%% %v", c.Level, c.Cluster, c.Domain, c.Weight, c.Share, r.Addrs(f, c))
				}
				out += ";"
			}
			out += "\n"
		}
		out += fmt.Sprintf(" %v %v\n", v.ByPlace, v.ByPrefix)
	}
	dumpView(IPv4, &r.V4)
	dumpView(IPv6, &r.V6)
	for i := range r.SiteViews {
		out += r.SiteViews[i].Cluster + "\n"
		dumpView(IPv4, &r.SiteViews[i].V4)
		dumpView(IPv6, &r.SiteViews[i].V6)
	}
	return out
}
