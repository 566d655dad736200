package core

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// named makes the endpoints of shop hostnames.
func named(t testing.TB) []spec.Raw {
	t.Helper()
	all := raws(t, fleetYAML)
	for _, e := range [][2]string{{"192.0.2.10", "fra"}, {"192.0.2.11", "nyc"}, {"192.0.2.12", "sin"}} {
		all = edit(t, all, "GlobalService/shop", `"addresses":["`+e[0]+`"]`, `"hostname":"`+e[1]+`.example.com"`)
	}
	return all
}

// watched is the subjects of a service's site.
func watched(svc *spec.GlobalService, cluster string) (out []health.Subject) {
	for _, a := range svc.Endpoint(cluster).Watched() {
		for _, o := range steer.Subjects(svc, a) {
			out = append(out, o.Subject)
		}
	}
	return out
}

// TestHostnamesAreHostnames: an endpoint that becomes a hostname is no loss (S19), is
// drained and guarded as one with addresses (S1), moves the zone's serial as what is
// handed out of it does (S13), and raises what a plan takes of its readers as long as
// it is there.
func TestHostnamesAreHostnames(t *testing.T) {
	w := newWorld(t)
	if got := w.s.Plan.Plan.GetMinReader(); got != plan.ReaderFirst {
		t.Fatalf("a plan without hostnames takes a reader of %d", got)
	}
	serial := w.serial("example.org")
	w.do(Command{Verb: Apply, Objects: named(t)})
	if got := w.s.Plan.Plan.GetMinReader(); got != plan.ReaderHostnames {
		t.Errorf("a plan with hostnames takes a reader of %d", got)
	}
	if w.serial("example.org") == serial {
		t.Error("the serial stays, though the zone has other records")
	}
	if got := w.serving("shop"); got != "fra" {
		t.Errorf("serving: %s", got)
	}

	serial = w.serial("example.org")
	w.do(w.drain("service/shop@fra"))
	if got := w.serving("shop"); got != "nyc" {
		t.Errorf("serving after the drain: %s", got)
	}
	if w.serial("example.org") == serial {
		t.Error("the serial stays, though a transfer hands out another CNAME")
	}
	w.do(w.drain("service/shop@nyc"))
	r := w.refused(w.drain("service/shop@sin"), "last")
	if strings.Contains(r.Error(), "100::") {
		t.Errorf("it shows what stands for a hostname: %v", r)
	}

	// The same names written otherwise are the same zone.
	serial = w.serial("example.org")
	w.do(Command{Verb: Apply, Objects: edit(t, named(t), "GlobalService/shop", "fra.example.com", "FRA.example.com.")})
	if w.serial("example.org") != serial {
		t.Error("the serial moves with the letter case of a hostname")
	}
	w.do(Command{Verb: Apply, Objects: raws(t, fleetYAML), Force: true}) // IPv6, which the hostnames may have had
	if got := w.s.Plan.Plan.GetMinReader(); got != plan.ReaderFirst {
		t.Errorf("a plan that has none any more takes a reader of %d", got)
	}
}

// TestHostnameLosses: a hostname may have both families, so that what takes its place
// is a loss where it has one alone (S19).
func TestHostnameLosses(t *testing.T) {
	w := newWorld(t)
	w.do(Command{Verb: Apply, Objects: named(t)})
	w.refused(Command{Verb: Apply, Objects: raws(t, fleetYAML)}, "service shop loses its last IPv6 address")
}

// TestAssumedFamily: beside sites with IPv4 alone, a hostname's drain takes the IPv6 that
// it may have (S1); the refusal says that it is taken to have it.
func TestAssumedFamily(t *testing.T) {
	w := newWorld(t)
	w.do(Command{Verb: Apply, Objects: edit(t, raws(t, fleetYAML), "GlobalService/shop", `"addresses":["192.0.2.10"]`, `"hostname":"fra.example.com"`)})
	w.refused(w.drain("service/shop@fra"), "the last healthy site of shop (IPv6, which its hostname is taken to have)")
}

// TestHostnamesObserved: a freeze keeps a hostname's subjects, and a readmission ends
// the waits of them.
func TestHostnamesObserved(t *testing.T) {
	w := newWorld(t)
	w.do(Command{Verb: Apply, Objects: named(t)})
	svc := w.s.Spec.Service("shop")
	standIn := svc.Endpoint("fra").Watched()[0]
	for _, s := range watched(svc, "fra") {
		w.s.States[s] = health.Down
	}
	w.do(Command{Verb: Freeze, Reason: "x", For: time.Hour})
	down := w.s.Plan.Plan.GetOverrides()[0].GetDown()
	if len(down) != 2 || !strings.Contains(down[0], standIn.String()) {
		t.Errorf("the freeze holds %v as down", down)
	}
	clear(w.s.States)
	if got := w.serving("shop"); got != "nyc" {
		t.Errorf("frozen: %s serves", got)
	}
	w.do(Command{Verb: Readmit, Scope: "service/shop@fra"})
	readmitted := Readmitted(w.s.Plan.Plan, w.s.Spec)
	for _, s := range watched(svc, "fra") {
		if readmitted[s] == nil {
			t.Errorf("%s is not readmitted", s)
		}
	}
	if len(readmitted) != 3 { // and the gray failure at that address and port
		t.Errorf("got %v", readmitted)
	}
}

// TestDiffShowsHostnames: a preview names them as they were written.
func TestDiffShowsHostnames(t *testing.T) {
	w := newWorld(t)
	got, err := w.try(Command{Verb: Apply, Objects: named(t), DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, c := range got.Preview.Changes {
		text = append(text, c.Path+" "+c.Old+" "+c.New)
	}
	all := strings.Join(text, "\n")
	if !strings.Contains(all, "fra.example.com") || strings.Contains(all, "100::") || slices.ContainsFunc(got.Preview.Warnings, func(s string) bool { return strings.Contains(s, "100::") }) {
		t.Errorf("got %s, %v", all, got.Preview.Warnings)
	}
}

// TestProbesRaiseTheReader: what an older director would refuse, or count otherwise,
// raises what a plan takes of its readers as long as it is there.
func TestProbesRaiseTheReader(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct{ name, object, from, to string }{
		{"a rule", "GlobalService/shop", `"probes":`, `"combine":{"mode":"any"},"probes":`},
		{"a soft probe", "GlobalService/shop", `"probes":[`, `"probes":[{"prometheus":{"url":"https://prometheus.example.net","query":"up","below":1}},`},
		{"a weight", "GlobalService/shop", `"probes":[{`, `"probes":[{"weight":2,`},
		{"a kind of probe", "GlobalService/shop", `"probes":[`, `"probes":[{"tls":{"port":443}},`},
		{"an option", "GlobalService/shop", `"path":"/healthz"`, `"path":"/healthz","bodyRegexp":"ok"`},
		{"a ramp", "GlobalService/shop", `"steering":{`, `"steering":{"ramp":"0s",`},
		{"a shared dependency", "Cluster/fra", `"location":`, `"via":"tunnel","location":`},
	} {
		w.do(Command{Verb: Apply, Objects: edit(t, raws(t, fleetYAML), tc.object, tc.from, tc.to)})
		if got := w.s.Plan.Plan.GetMinReader(); got != plan.ReaderProbes {
			t.Errorf("%s: a plan takes a reader of %d", tc.name, got)
		}
		w.do(Command{Verb: Apply, Objects: raws(t, fleetYAML)})
		if got := w.s.Plan.Plan.GetMinReader(); got != plan.ReaderFirst {
			t.Errorf("without %s: a plan takes a reader of %d", tc.name, got)
		}
	}
}
