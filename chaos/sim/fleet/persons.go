package fleet

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
)

// pairedVerbs are those of people who say the second word.
var pairedVerbs = []string{"agree", "deny", "acknowledge"}

// paired tells whether what is dangerous takes two persons in a scenario (S16): only where
// people say the second word in it, or break the glass, so that all others are what they were.
func (s Scenario) paired() bool {
	return slices.ContainsFunc(s.Events, func(e Event) bool {
		return slices.Contains(pairedVerbs, e.What) || slices.Contains(e.Args, "glass")
	})
}

const byPrefix = "by="

// by is who does it, as he is authenticated: "by=cert:bob".
func (e Event) by() string {
	for _, a := range e.Args {
		if who, ok := strings.CutPrefix(a, byPrefix); ok {
			return who
		}
	}
	return "alice"
}

// second is a person's word on what waits for a second one, or was done without. Which of
// them is counted from the newest that the plan of the director holds whom he asks; "waits"
// is the newest that nobody has answered.
func (w *world) second(e Event) {
	p := w.director(e.Args[0])
	if p == nil || !p.up || p.force == nil {
		return
	}
	in := p.force.sealed.Plan
	var ids []string
	for _, r := range in.GetRequests() {
		if e.What != "acknowledge" && (e.Args[1] != "waits" || r.GetState() == plan.Request_OPEN) {
			ids = append(ids, r.GetId())
		}
	}
	for _, g := range in.GetGlass() {
		if e.What == "acknowledge" {
			ids = append(ids, g.GetId())
		}
	}
	n, _ := strconv.Atoi(e.Args[1]) // "waits" is the newest as well
	if n < 0 || n >= len(ids) {
		return // there is none to speak of
	}
	verb := map[string]core.Verb{"agree": core.Approve, "deny": core.Deny, "acknowledge": core.Acknowledge}[e.What]
	w.order(e, core.Command{Verb: verb, Scope: ids[len(ids)-1-n]})
}

// meaning is the command that a write carries out: of a second person's word the one that
// was asked for, as whoever asked gave it; of what is only asked for, none.
func (w *world) meaning(c *commit) core.Command {
	switch {
	case c.cmd.Verb == core.Approve:
		for _, op := range w.people {
			if op.cmd.ID == c.cmd.Scope {
				return op.cmd
			}
		}
	case c.asks():
		return core.Command{Verb: "ask"}
	}
	return c.cmd
}

// asks tells whether a write brings a request, and nothing else.
func (c *commit) asks() bool {
	return c.change.Request.GetState() == plan.Request_OPEN && c.cmd.Verb != core.Approve
}

// recorded is the ID under which the audit log has it, and the store its result.
func (c *commit) recorded() string { return cmp.Or(c.change.Kept, c.cmd.ID) }

// The people: two of them have two credentials, and a program has one, which is nobody's.
func asker(d *draw) string {
	return byPrefix + pick("unix:alice", "cert:alice", "unix:bob", "token:ci")(d)
}

func answerer(d *draw) string {
	return byPrefix + pick("unix:alice", "cert:alice", "oidc:alice", "unix:bob", "cert:bob", "cert:bob", "unix:carol", "cert:carol", "token:ci")(d)
}

// secondly is people who ask for what takes two persons, and others who say yes or no to it,
// who may be the same, come too late, or when it does something else than was asked for.
func secondly(d *draw) []Event {
	var out []Event
	add := func(at time.Duration, what string, lasts time.Duration, args ...string) {
		out = append(out, Event{At: min(at, d.s.Length), What: what, Args: args, For: lasts})
	}
	// Two that are no danger each, and are one together: what else is asked for after is.
	gone := d.Perm(d.s.Clusters)
	begin := d.span(2*time.Second, d.s.Length/3)
	add(begin, "drain", d.span(20*time.Second, 60*time.Second), someone(d), "cluster/"+clusters[gone[0]].name, asker(d))
	for range 4 + d.IntN(5) {
		at := d.span(begin, d.s.Length)
		asks(d, add, at)
		for range 1 + d.IntN(3) {
			word := at + d.span(500*time.Millisecond, 12*time.Second)
			which := pick("waits", "waits", "0", "0", "1", "2")(d)
			switch d.IntN(6) {
			case 0: // nobody says anything
			case 1:
				add(word, "deny", 0, someone(d), which, answerer(d))
			case 2: // it does something else then
				add(word, pick("drain", "undrain")(d), 40*time.Second, someone(d), pick("service/pay@", "service/shop@")(d)+d.cluster(), asker(d))
				add(word+d.span(500*time.Millisecond, 3*time.Second), "agree", 0, someone(d), which, answerer(d))
			default:
				add(word, "agree", 0, someone(d), which, answerer(d))
			}
		}
	}
	for range d.IntN(3) {
		add(d.span(begin, d.s.Length), "acknowledge", 0, someone(d), pick("0", "0", "1")(d), answerer(d))
	}
	if d.IntN(3) == 0 {
		out = append(out, d.killed(d.span(begin, d.s.Length))...)
	}
	if d.IntN(6) == 0 { // it is answered when it has expired, or just before
		at := d.s.Length
		d.s.Length += core.RequestLasts + 20*time.Second
		asks(d, add, at)
		for range 2 {
			add(at+core.RequestLasts+d.span(-10*time.Second, 10*time.Second), "agree", 0, d.director(), pick("0", "waits")(d), answerer(d))
		}
	}
	if d.s.Directors > 1 && d.IntN(2) == 0 {
		out = append(out, usurping(d)...)
	}
	if !(Scenario{Events: out}).paired() {
		add(d.s.Length, "agree", 0, d.director(), "waits", answerer(d))
	}
	return out
}

// asks is a command that takes two persons, or may.
func asks(d *draw, add func(time.Duration, string, time.Duration, ...string), at time.Duration) {
	args := []string{someone(d)}
	what, lasts := "drain", d.span(10*time.Second, 60*time.Second)
	switch d.IntN(8) {
	case 0, 1, 2:
		args = append(args, pick("cluster/", "cluster/", "service/shop@")(d)+d.cluster())
	case 3:
		args = append(args, "cluster/"+d.cluster(), pick("force", "force,last", "paced,force")(d))
	case 4:
		what, lasts = pick("remove", "approve")(d), 0
		args = append(args, d.director())
	case 5:
		what, lasts = "apply", 0
		args = append(args, pick("3", "4", "4", strconv.Itoa(alone))(d))
	case 6:
		what = "canary"
		args = append(args, pick("2", "4")(d), minor(d))
	default:
		args = append(args, "domain/"+clusters[d.IntN(d.s.Clusters)].domain, "last")
	}
	if args = append(args, asker(d)); d.IntN(4) == 0 {
		args = append(args, "glass")
	}
	add(at, what, lasts, args...)
}
