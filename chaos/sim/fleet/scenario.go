package fleet

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Scenario is all that a run depends on. The seed is of what is not worth a line:
// delays on the way, what is lost, jitter.
type Scenario struct {
	Seed      uint64
	Directors int
	Clusters  int
	Length    time.Duration // of the faults; then all is mended, and quiet follows
	Events    []Event
}

// Event is one fault, or one thing that a person does.
type Event struct {
	At   time.Duration
	What string
	Args []string
	For  time.Duration // 0: for ever, or at once
}

func (e Event) String() string {
	words := append([]string{e.At.String(), e.What}, e.Args...)
	if e.For > 0 {
		words = append(words, "for", e.For.String())
	}
	return strings.Join(words, " ")
}

func (s Scenario) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d; directors %d; clusters %d; length %s\n", s.Seed, s.Directors, s.Clusters, s.Length)
	for _, e := range s.Events {
		b.WriteString(e.String() + "\n")
	}
	return b.String()
}

// Parse reads what String wrote. Lines that begin with # are for people.
func Parse(text string) (Scenario, error) {
	var s Scenario
	first := true
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if first {
			first = false
			var length string
			if _, err := fmt.Sscanf(line, "seed %d; directors %d; clusters %d; length %s", &s.Seed, &s.Directors, &s.Clusters, &length); err != nil {
				return s, fmt.Errorf("line %d: %w", n+1, err)
			}
			var err error
			if s.Length, err = time.ParseDuration(length); err != nil {
				return s, fmt.Errorf("line %d: %w", n+1, err)
			}
			continue
		}
		e, err := parseEvent(strings.Fields(line))
		if err != nil {
			return s, fmt.Errorf("line %d: %w", n+1, err)
		}
		s.Events = append(s.Events, e)
	}
	if s.Directors < 1 || s.Directors > 9 || s.Clusters < 2 || s.Clusters > len(clusters) {
		return s, fmt.Errorf("%d directors and %d clusters: want 1 to 9, and 2 to %d", s.Directors, s.Clusters, len(clusters))
	}
	return s, nil
}

func parseEvent(words []string) (e Event, err error) {
	if len(words) < 2 {
		return e, fmt.Errorf("%q: want a time and what happens then", strings.Join(words, " "))
	}
	if n := len(words); n > 3 && words[n-2] == "for" {
		if e.For, err = time.ParseDuration(words[n-1]); err != nil {
			return e, err
		}
		words = words[:n-2]
	}
	if e.At, err = time.ParseDuration(words[0]); err != nil {
		return e, err
	}
	e.What, e.Args = words[1], words[2:]
	if _, known := verbs[e.What]; !known {
		return e, fmt.Errorf("nothing is called %q", e.What)
	}
	return e, nil
}

// draw makes scenarios.
type draw struct {
	*rand.Rand
	s Scenario
}

func (d *draw) director() string { return "d" + strconv.Itoa(1+d.IntN(d.s.Directors)) }
func (d *draw) cluster() string  { return clusters[d.IntN(d.s.Clusters)].name }

func (d *draw) directors(n int) string { return d.some(n, d.s.Directors, nameOf) }
func (d *draw) clusters(n int) string {
	return d.some(n, d.s.Clusters, func(i int) string { return clusters[i].name })
}

// some lists n of so many.
func (d *draw) some(n, of int, name func(int) string) string {
	var out []string
	for _, i := range d.Perm(of)[:n] {
		out = append(out, name(i))
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// span is a duration in whole tenths of a second.
func (d *draw) span(least, most time.Duration) time.Duration {
	const unit = 100 * time.Millisecond
	return least + time.Duration(d.Int64N(int64((most-least)/unit)+1))*unit
}

// Urgent is the first seed of those with emergencies, Paired of those in which what is
// dangerous takes two persons: all below stay what they were.
const (
	Urgent = 100_000
	Paired = 200_000
)

// Random gives the scenario of a seed.
func Random(seed uint64) Scenario {
	d := &draw{Rand: rand.New(rand.NewPCG(seed, 77)), s: Scenario{Seed: seed}}
	d.s.Directors = []int{3, 3, 3, 3, 5, 5, 4, 4, 6, 7, 2, 1}[d.IntN(12)]
	d.s.Clusters = 3 + d.IntN(2)
	d.s.Length = d.span(30*time.Second, 70*time.Second)
	if d.s.sized() {
		d.s.Length += time.Minute // loads are written once a minute
	}
	// A run has a few kinds of trouble, so that they meet: all of them at once would
	// only ever show the same paralysis.
	kinds := d.kinds()
	for range 6 + d.IntN(14) {
		at := d.span(3*time.Second, d.s.Length)
		d.s.Events = append(d.s.Events, kinds[d.IntN(len(kinds))](d, at)...)
	}
	for range 3 + d.IntN(9) {
		d.s.Events = append(d.s.Events, d.order(d.span(2*time.Second, d.s.Length)))
	}
	if d.IntN(2) == 0 {
		plots := []maker{overtaken, behind, stepped, tried, greedy}
		d.s.Events = append(d.s.Events, plots[d.IntN(len(plots))](d, d.span(3*time.Second, d.s.Length/2))...)
	}
	if d.IntN(5) == 0 {
		d.s.Events = append(d.s.Events, d.swap()...)
	}
	if seed >= Urgent && (seed < Paired || d.IntN(3) == 0) {
		d.s.Events = append(d.s.Events, urged(d)...)
	}
	if seed >= Paired {
		d.s.Events = append(d.s.Events, secondly(d)...)
	}
	slices.SortStableFunc(d.s.Events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	return d.s
}

type maker func(*draw, time.Duration) []Event

func one(what string, length func(*draw) time.Duration, args ...func(*draw) string) maker {
	return func(d *draw, at time.Duration) []Event {
		e := Event{At: at, What: what}
		for _, a := range args {
			if v := a(d); v != "" {
				e.Args = append(e.Args, v)
			}
		}
		if length != nil {
			e.For = length(d)
		}
		return []Event{e}
	}
}

func short(d *draw) time.Duration { return d.span(100*time.Millisecond, 4*time.Second) }
func long(d *draw) time.Duration  { return d.span(2*time.Second, 25*time.Second) }

func pick(of ...string) func(*draw) string {
	return func(d *draw) string { return of[d.IntN(len(of))] }
}

var (
	someone = func(d *draw) string {
		if d.IntN(3) == 0 {
			return whoLeads
		}
		return d.director()
	}
	someday = (*draw).cluster
	minor   = func(d *draw) string { return d.directors(1 + d.IntN(max(1, d.s.Directors/2))) }
)

// kinds picks what kinds of trouble a run has.
func (d *draw) kinds() []maker {
	all := []maker{
		one("crash", short, someone, pick("", "", "", "torn", "lost")),
		one("crash", long, someone, pick("", "torn")),
		one("pause", func(d *draw) time.Duration { return d.span(200*time.Millisecond, 9*time.Second) }, someone),
		one("cut", long, minor),
		one("mute", long, someone),
		one("etcd-down", short),
		one("etcd-down", long),
		one("etcd-cut", long, minor),
		one("etcd-flaky", long),
		one("die", long, someday, pick("silent", "refused", "hang")),
		one("die", long, someday, pick("silent", "refused", "hang")),
		one("gray", long, someday),
		one("gray", long, func(d *draw) string { return d.clusters(2 + d.IntN(d.s.Clusters-1)) }),
		one("blind", long, someone, someday),
		one("lossy", long),
		one("slow", long),
		one("clock", long, someone, pick("1h", "-1h", "20s", "-2h")),
		one("disk-full", long, someone),
		// One director is a liar, and no more: so many the quorum bears.
		one("lie", long, func(d *draw) string { return nameOf(d.s.Directors - 1) }),
		one("flap", long, someday),
		one("stop-write", long),
		one("busy", func(d *draw) time.Duration { return d.span(20*time.Second, 80*time.Second) }, someday),
		overtaken,
		behind,
	}
	d.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return append(all[:3+d.IntN(4)], one("die", long, someday, pick("silent", "refused")))
}

// overtaken is a spec that is applied while whoever writes a plan, or collects, stops in
// the middle: blobs come and go.
func overtaken(d *draw, at time.Duration) []Event {
	out := []Event{{At: at, What: "stop-write", For: 25 * time.Second}}
	for range 3 + d.IntN(3) {
		out = append(out, Event{At: min(at+d.span(0, 20*time.Second), d.s.Length), What: "apply", Args: []string{d.director(), pick("0", "1", "2", "3")(d)}})
	}
	return out
}

// behind is a director that learns of no plan, while people command, and goes on saying
// what it has acknowledged.
func behind(d *draw, at time.Duration) []Event {
	who, length := d.director(), long(d)
	out := []Event{{At: at, What: "etcd-cut", Args: []string{who}, For: length}, {At: at, What: "deaf", Args: []string{who}, For: length}}
	for range 2 {
		out = append(out, d.order(min(at+d.span(time.Second, 5*time.Second), d.s.Length)))
	}
	return out
}

// killed is a leader that dies again and again.
func (d *draw) killed(at time.Duration) (out []Event) {
	for range 1 + d.IntN(4) {
		out = append(out, Event{At: min(at+d.span(0, 20*time.Second), d.s.Length), What: "crash", Args: []string{whoLeads}, For: short(d)})
	}
	return out
}

// stepped is a drain in steps: who takes over fails, the leader dies, or a person has
// nothing move.
func stepped(d *draw, at time.Duration) []Event {
	list := d.Perm(d.s.Clusters)
	out := []Event{{At: at, What: "drain", Args: []string{d.director(), "cluster/" + clusters[list[0]].name, "paced"}, For: 40 * time.Second}}
	next := min(at+d.span(0, 6*time.Second), d.s.Length)
	switch d.IntN(4) {
	case 0:
		out = append(out, Event{At: next, What: "die", Args: []string{clusters[list[1]].name, pick("silent", "refused")(d)}, For: long(d)})
	case 1:
		out = append(out, d.killed(at)...)
	case 2:
		out = append(out, Event{At: next, What: "freeze", Args: []string{d.director(), pick("fleet", "service/shop")(d)}, For: 20 * time.Second})
	default:
		out = append(out, behind(d, next)...)
	}
	return out
}

// tried is a spec that some directors try, which is worse, or is not learnt of, or whose
// leader dies.
func tried(d *draw, at time.Duration) []Event {
	out := []Event{{At: at, What: "canary", Args: []string{d.director(), pick("1", "2", "5", "5")(d), minor(d)}, For: d.span(6*time.Second, 15*time.Second)}}
	switch d.IntN(3) {
	case 0:
		out = append(out, d.killed(at)...)
	case 1:
		out = append(out, behind(d, max(at-time.Second, 0))...)
	}
	return append(out, Event{At: min(at+d.span(15*time.Second, 25*time.Second), d.s.Length), What: "revert", Args: []string{d.director()}})
}

// greedy is people who take away all that they may.
func greedy(d *draw, at time.Duration) []Event {
	out := []Event{{At: at, What: "switch", Args: []string{d.director(), pick("on", "on", "off")(d)}}}
	for _, i := range d.Perm(d.s.Clusters) {
		out = append(out, Event{At: min(at+d.span(time.Second, 5*time.Second), d.s.Length), What: "drain", Args: []string{d.director(), "cluster/" + clusters[i].name}, For: 20 * time.Second})
	}
	return out
}

// order is a person's command through any director.
func (d *draw) order(at time.Duration) Event {
	scope := func(d *draw) string {
		return pick("cluster/"+d.cluster(), "cluster/"+d.cluster(), "service/shop@"+d.cluster(), "domain/"+clusters[d.IntN(d.s.Clusters)].domain)(d)
	}
	end := func(d *draw) time.Duration { return d.span(4*time.Second, 40*time.Second) }
	flags := pick("", "", "force", "last", "force,last")
	makers := []maker{
		one("drain", end, someone, scope, flags),
		one("drain", end, someone, scope, flags),
		one("drain", end, someone, scope, flags),
		one("drain", func(d *draw) time.Duration { return d.span(30*time.Second, 60*time.Second) }, someone, scope, pick("paced", "paced,force")),
		one("undrain", nil, someone, scope),
		one("undrain", nil, someone, scope, pick("now")),
		one("freeze", end, someone, pick("fleet", "service/shop", "service/pay")),
		one("thaw", nil, someone, pick("fleet", "service/shop", "service/pay")),
		one("readmit", nil, someone, scope),
		one("apply", nil, someone, pick("1", "2", "3", "4")),
		one("canary", func(d *draw) time.Duration { return d.span(3*time.Second, 12*time.Second) }, someone, pick("1", "2", "3", "5", "5"), minor),
		one("canary", func(d *draw) time.Duration { return d.span(3*time.Second, 12*time.Second) }, someone, pick("1", "2", "3", "5", "5"), minor),
		one("revert", nil, someone),
		one(pick("go-on", "abort")(d), nil, someone),
		one("switch", nil, someone, pick("on", "on", "off")),
		one("folder", nil, someone, pick("0", "1", "2", "3", "4")),
		one("remove", nil, someone, someone),
		one("approve", nil, someone, someone),
	}
	return makers[d.IntN(len(makers))](d, at)[0]
}

// swap is a store that is brought back from an old backup, or comes back empty (F25),
// and the person who recovers it.
func (d *draw) swap() []Event {
	at := d.span(4*time.Second, d.s.Length/2)
	back := at + d.span(time.Second, d.s.Length/3)
	out := []Event{{At: at, What: "backup"}, {At: back, What: "restore"}}
	if d.IntN(4) == 0 {
		out = []Event{{At: back, What: "empty"}}
	}
	for range 2 {
		out = append(out, Event{At: back + d.span(time.Second, 15*time.Second), What: "recover", Args: []string{d.director()}})
	}
	return out
}
