package main

import (
	"bytes"
	"encoding/json"
	"math"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The prefixes may not overlap: a server that takes the first and one that takes
// the longest must agree.
func TestWorld(t *testing.T) {
	w := newWorld()
	if len(w.nets) != prefixes || len(w.subnets) != subnets {
		t.Fatalf("%d prefixes, %d subnets", len(w.nets), len(w.subnets))
	}
	for i, a := range w.nets {
		for _, b := range w.nets[i+1:] {
			if a.prefix.Overlaps(b.prefix) {
				t.Errorf("%s and %s overlap", a.prefix, b.prefix)
			}
		}
	}
	held := 0
	for _, s := range w.subnets {
		addr := netip.AddrFrom4([4]byte{s.octets[0], s.octets[1], s.octets[2], 0})
		if special(addr) {
			t.Errorf("%s means something else", addr)
		}
		if s.site >= 0 {
			held++
		}
	}
	if held < subnets/2 || held == subnets {
		t.Errorf("%d of %d subnets lie in the prefixes", held, subnets)
	}
	seen := map[netip.Addr]bool{}
	for s := range services {
		for i := range siteNames {
			seen[address(s, i)] = true
		}
	}
	if len(seen) != services*len(siteNames) {
		t.Errorf("%d addresses for %d sites", len(seen), services*len(siteNames))
	}
}

func TestQueries(t *testing.T) {
	for k := plain; k <= perf; k++ {
		for i, q := range templates(k) {
			var m dns.Msg
			if err := m.Unpack(q); err != nil {
				t.Fatalf("%s: %v", kindNames[k], err)
			}
			if got, want := m.Question[0].Name, fullHost(i)+"."; got != want {
				t.Errorf("%s asks for %s, not for %s", kindNames[k], got, want)
			}
			if opt := m.IsEdns0(); (opt != nil) != (k == edns || k == ecs) || opt != nil && (len(opt.Option) == 1) != (k == ecs) {
				t.Errorf("%s: OPT is %v", kindNames[k], opt)
			}
			if len(q) > 128 {
				t.Errorf("%s: %d octets are more than a socket of the load has room for", kindNames[k], len(q))
			}
		}
	}
}

func TestAnswers(t *testing.T) {
	q := query(fullHost(7), plain)
	end := questionEnd(q)
	m := new(dns.Msg)
	if err := m.Unpack(q); err != nil {
		t.Fatal(err)
	}
	reply := func(change func(*dns.Msg)) []byte {
		r := new(dns.Msg)
		r.SetReply(m)
		r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: fullHost(7) + ".", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 1)}}
		change(r)
		raw, err := r.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for _, tc := range []struct {
		name   string
		change func(*dns.Msg)
		want   bool
	}{
		{"an answer", func(*dns.Msg) {}, true},
		{"a query", func(r *dns.Msg) { r.Response = false }, false},
		{"truncated", func(r *dns.Msg) { r.Truncated = true }, false},
		{"an error", func(r *dns.Msg) { r.Rcode = dns.RcodeRefused }, false},
		{"nothing", func(r *dns.Msg) { r.Answer = nil }, false},
		{"to another question", func(r *dns.Msg) { r.Question[0].Name = fullHost(8) + "." }, false},
	} {
		if got := answers(reply(tc.change), q, end, false); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
	if answers(q[:10], q, end, true) || !answers(q, q, end, true) {
		t.Error("an echo is that of the query, whole")
	}
}

func TestScenarios(t *testing.T) {
	for _, text := range []string{"plain/1", "ecs/8", "ecs/ports", "plain/8+changes", "dnsperf/8", "idle", "idle+changes"} {
		if s, err := parseScenario(text); err != nil || s.String() != text {
			t.Errorf("%q became %q, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "plain", "plain/0", "plain/x", "tcp/1", "tcp/ports", "dnsperf/ports", "plain/8+change"} {
		if s, err := parseScenario(text); err == nil {
			t.Errorf("%q became %q", text, s)
		}
	}
}

// Ratios are of what was measured in the same round, not of medians: here every
// round says 2, whatever the machine did meanwhile.
func TestReport(t *testing.T) {
	r := &report{Servers: []described{{Name: "echo"}, {Name: divertName}, {Name: "gdnsd", Peer: true}, {Name: "nsd", Peer: true}}}
	for _, text := range []string{"plain/8", "plain/8+changes", "idle+changes"} {
		s, err := parseScenario(text)
		if err != nil {
			t.Fatal(err)
		}
		r.Scenarios = append(r.Scenarios, s)
	}
	for round, slow := range []float64{1, 3, 2} {
		put := func(server, scenario string, answers uint64, cpu, changes float64) {
			r.Measured = append(r.Measured, measured{Round: round, Server: server, Scenario: scenario, Answers: answers, Seconds: 1, CPU: cpu * slow, Changes: changes})
		}
		put("echo", "plain/8", 1e6, 1, 0)
		put(divertName, "plain/8", 1e6, 2, 0)
		put("gdnsd", "plain/8", 1e6, 4, 0)
		put("nsd", "plain/8", 1e6, 5, 0)
		put(divertName, "idle+changes", 0, 0.5, 10)
		put(divertName, "plain/8+changes", 1e6, 2.5, 10)
	}
	var text, raw bytes.Buffer
	if err := r.writeText(&text); err != nil {
		t.Fatal(err)
	}
	if err := r.writeJSON(&raw); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(raw.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Rows) != 6 {
		t.Errorf("%d rows", len(back.Rows))
	}
	want := map[string]float64{
		"plain/8, to the echo floor": 2,
		"plain/8, to gdnsd":          0.5,
		"plain/8+changes, to the same without, all that a change costs included":             1.25,
		"plain/8+changes, to the same without, less what the changes cost while nobody asks": 1,
		"plain/8+changes, lost": 0,
	}
	for _, b := range back.Bounds {
		value, known := want[b.What]
		if !known || math.Abs(b.Got.Least-value) > 1e-9 || math.Abs(b.Got.Most-value) > 1e-9 || b.Holds != (value <= b.Limit) {
			t.Errorf("%+v of %v", b, b.Got)
		}
		delete(want, b.What)
	}
	if len(want) > 0 {
		t.Errorf("no word of %v in\n%s", want, text.String())
	}
}

// What cannot be done is said before anything is started.
func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-servers", "bind"}, {"-scenarios", "tcp/1"}, {"-o", "xml"}, {"-rounds", "0"}, {"-time", "1h"}, {"more"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
	s, err := parse([]string{"-servers", "nsd,echo", "-scenarios", "ecs/8", "-o", "json"})
	if err != nil || !slices.Equal(s.servers, []string{"nsd", "echo"}) || len(s.scenarios) != 1 || !s.json {
		t.Errorf("got %+v, %v", s, err)
	}
}

// A missing server is named with the packages that hold it.
func TestMissing(t *testing.T) {
	a := absent{server{name: "knot", program: "no-such-program", debian: []string{"knot", "knot-module-geoip"}}, nil}
	if a.why = a.installed(); a.why == nil {
		t.Fatal("it is installed")
	}
	if got := a.String(); !strings.Contains(got, "no-such-program is not installed") || !strings.Contains(got, "knot knot-module-geoip") {
		t.Errorf("got %q", got)
	}
}

// The plain handler, and through it the load, on a socket: every query is
// answered, each reply is checked, none is lost.
func TestLoad(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the load needs Linux")
	}
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	handler := &dns.Server{PacketConn: conn, Handler: newPlainHandler(w)}
	ended := make(chan error)
	go func() { ended <- handler.ActivateAndServe() }()
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	to := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, clients := range []int{2, 0} {
		l := &load{to: to, world: w, kind: ecs, clients: clients, core: -1}
		var o outcome
		for range 20 { // on a busy machine a short run may pass without the load
			o, err = l.run(t.Context(), 100*time.Millisecond, func() (time.Duration, error) { return 0, nil })
			if err != nil || o.wrong > 0 {
				t.Fatalf("%d clients: %+v, %v", clients, o, err)
			}
			if o.answers > 0 {
				break
			}
		}
		if o.answers == 0 {
			t.Errorf("%d clients: no answers: %+v", clients, o)
		}
	}
	p := &process{server: server{name: "miekg"}, place: place{addr: to, world: w}}
	if err := p.check(); err != nil {
		t.Error(err)
	}
}
