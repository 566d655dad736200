package fleet

import (
	"net/netip"
	"slices"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store/model"
	"github.com/divertdns/divert/health"
)

// verbs are what an event may be.
var verbs = map[string]func(*world, Event){
	"crash":         (*world).crash,
	"pause":         (*world).pause,
	"cut":           (*world).lasting, // these from the others, both ways
	"mute":          (*world).lasting, // what it says to the others is lost
	"deaf":          (*world).lasting, // what the others say to it is lost; its DNS is not
	"etcd-down":     (*world).lasting,
	"etcd-cut":      (*world).lasting, // these from etcd
	"etcd-flaky":    (*world).lasting, // a third of its answers are lost
	"etcd-deaf":     (*world).lasting, // these hear no answer of etcd's, which does what they ask
	"die":           (*world).lasting, // a cluster: silent, refused, hang
	"flap":          (*world).lasting, // a cluster: dead for half of each second
	"gray":          (*world).lasting, // clusters: its standing connections disagree
	"blind":         (*world).lasting, // a director of a cluster
	"lossy":         (*world).lasting, // a tenth each way
	"slow":          (*world).lasting, // up to 300 ms each way
	"busy":          (*world).lasting, // a cluster has twice the clients that it can bear
	"clock":         (*world).lasting, // a director's wall clock is off by so much
	"disk-full":     (*world).lasting,
	"lie":           (*world).lasting, // a director votes all that it probes down
	"stop-write":    (*world).lasting, // who is about to write a plan, or to collect, is paused for seven seconds; or these alone, always, for so long
	"backup":        func(w *world, _ Event) { i := w.etcd.Snapshot(); w.backup = &i },
	"restore":       func(w *world, _ Event) { w.swapStore(w.backup) },
	"empty":         func(w *world, _ Event) { w.swapStore(new(model.Image)) },
	"recover":       (*world).recover,
	"usurp":         (*world).usurp, // a rogue director writes a plan that it may not
	"drain":         (*world).override,
	"undrain":       (*world).override,
	"freeze":        (*world).override,
	"thaw":          (*world).override,
	"readmit":       (*world).override,
	"apply":         (*world).apply,
	"canary":        (*world).canary,
	"revert":        func(w *world, e Event) { w.order(e, core.Command{Verb: core.Revert}) },
	"go-on":         func(w *world, e Event) { w.order(e, core.Command{Verb: core.GoOn}) },
	"abort":         func(w *world, e Event) { w.order(e, core.Command{Verb: core.Abort}) },
	"switch":        (*world).turn,
	"folder":        (*world).folder,
	"remove":        (*world).roster,
	"approve":       (*world).roster,
	"emergency":     (*world).emergency, // an operator drains through a director, while the store is away
	"end-emergency": (*world).emergency,
	"forge":         (*world).rogue,  // a director sends a word that no operator signed
	"rewrite":       (*world).rogue,  // … all that were said, in other octets
	"replay":        (*world).rogue,  // … as if they were said now
	"agree":         (*world).second, // a person approves what waits for a second one
	"deny":          (*world).second, // … says no to it
	"acknowledge":   (*world).second, // … has looked at what was done by break-glass
}

// verbRecover is `divert store recover`, which is no command of core's.
const verbRecover = core.RecoverStore

func (w *world) lasting(e Event) {
	if len(e.Args) > 0 && e.Args[0] == whoLeads {
		e.Args = append([]string{w.leader()}, e.Args[1:]...)
	}
	f := &fault{Event: e, until: w.s.Length}
	if e.For > 0 {
		f.until = min(f.until, e.At+e.For)
	}
	w.faults = append(w.faults, f)
}

// whoLeads stands in an event for the director that leads then.
const whoLeads = "leader"

// leader gives the first director that believes that it leads; else the first at all.
func (w *world) leader() string {
	for _, p := range w.directors {
		if p.up && p.leads() {
			return p.name
		}
	}
	return w.directors[0].name
}

func (w *world) crash(e Event) {
	p := w.director(e.Args[0])
	if p == nil || !p.up {
		return
	}
	p.crash()
	if len(e.Args) > 1 {
		p.disk.hurt(e.Args[1], w.now)
	}
	life := p.life
	if e.For > 0 {
		w.after(e.For, func() {
			if p.life == life && !p.up {
				p.start()
			}
		})
	}
}

func (w *world) pause(e Event) {
	if p := w.director(e.Args[0]); p != nil && p.up {
		p.paused = max(p.paused, w.now+e.For)
	}
}

func (w *world) swapStore(i *model.Image) {
	if i == nil {
		return
	}
	w.etcd.Restore(*i)
	w.ledger.swapped(w)
}

// any tells whether a fault of a kind lasts that a director has part in.
func (w *world) any(what, name string) bool {
	for _, f := range w.faults {
		if f.What == what && f.lasts(w.now) && (name == "" || f.of(name)) {
			return true
		}
	}
	return false
}

// parted tells whether nothing passes from one director to another.
func (w *world) parted(from, to string) bool {
	for _, f := range w.faults {
		if !f.lasts(w.now) {
			continue
		}
		if f.What == "cut" && f.of(from) != f.of(to) || f.What == "mute" && f.of(from) || f.What == "deaf" && f.of(to) {
			return true
		}
	}
	return false
}

// stops is for how long a director that is about to write stands still; 0: it does not.
func (w *world) stops(name string) time.Duration {
	for _, f := range w.faults {
		switch {
		case f.What != "stop-write" || !f.lasts(w.now):
		case len(f.Args) == 0:
			return 7 * time.Second * time.Duration(1-w.rnd.IntN(2))
		case f.of(name):
			long, _ := time.ParseDuration(f.Args[1])
			return long
		}
	}
	return 0
}

// cutOff tells whether not even DNS passes between two.
func (w *world) cutOff(a, b string) bool {
	return slices.ContainsFunc(w.faults, func(f *fault) bool { return f.What == "cut" && f.lasts(w.now) && f.of(a) != f.of(b) })
}

// lost tells whether one packet of a tenth is.
func (w *world) lost() bool { return w.any("lossy", "") && w.rnd.IntN(10) == 0 }

// slowest is how long something is under way at most (F14).
const slowest = 300 * time.Millisecond

// way is how long something is under way.
func (w *world) way() time.Duration {
	if w.any("slow", "") {
		return w.some(time.Millisecond, slowest)
	}
	return w.some(500*time.Microsecond, 8*time.Millisecond)
}

// fate is what becomes of a probe.
type fate int

const (
	answered fate = iota
	silent
	refused
	wrong
)

// meets says what a director's probe of an address meets at an instant, loss left out.
func (w *world) meets(p *director, a netip.Addr, kind health.Kind, t time.Duration) fate {
	cluster := clusterOf(a)
	for _, f := range w.faults {
		if !f.lasts(t) {
			continue
		}
		switch {
		case f.What == "die" && f.Args[0] == cluster:
			switch {
			case f.Args[1] == "refused":
				return refused
			case f.Args[1] == "silent" || kind == health.KindCheck:
				return silent
			}
		case f.What == "flap" && f.Args[0] == cluster && (t-f.At)%time.Second < time.Second/2:
			return silent
		case f.What == "blind" && f.of(p.name) && f.Args[1] == cluster:
			return silent
		}
	}
	return answered
}

// shut tells whether nobody listens at an address and port, ever.
func shut(a netip.AddrPort) bool {
	return a.Port() == badPort && clusterOf(a.Addr()) != clusters[0].name
}

// hurts tells whether something was wrong lately with what a director sees of an
// address: with nothing wrong, no director has reason to doubt it.
func (w *world) hurts(p *director, s health.Subject, since time.Duration) bool {
	if shut(s.Addr) {
		return true
	}
	cluster := clusterOf(s.Addr.Addr())
	return slices.ContainsFunc(w.faults, func(f *fault) bool {
		if f.At > w.now || f.until < since {
			return false
		}
		switch f.What {
		case "die", "flap":
			return f.Args[0] == cluster && s.Kind != health.KindSoft
		case "gray":
			return f.of(cluster) && s.Kind == health.KindSoft
		case "blind":
			return f.of(p.name) && f.Args[1] == cluster
		case "lie":
			return f.of(p.name)
		}
		return false
	})
}

// loads is what the samples of all directors come to.
func (w *world) loads() *core.Loads {
	if !w.s.sized() {
		return nil
	}
	out := &core.Loads{Pools: map[steer.Scope]float64{}}
	for i, c := range clusters[:w.s.Clusters] {
		load := 20.0
		if i == 0 {
			load = 60
		}
		if w.any("busy", c.name) {
			load = 180
		}
		out.Pools[steer.Scope{Kind: steer.ScopeCluster, Cluster: c.name}] = load
	}
	return out
}

// dead tells whether an address has been dead for everybody all the time since then.
func (w *world) dead(a netip.Addr, since time.Duration) bool {
	return slices.ContainsFunc(w.faults, func(f *fault) bool {
		return f.What == "die" && f.Args[0] == clusterOf(a) && f.At <= since && w.now < f.until
	})
}

func (w *world) wall(p *director) time.Duration {
	off := time.Duration(0)
	for _, f := range w.faults {
		if f.What == "clock" && f.lasts(w.now) && f.of(p.name) {
			d, _ := time.ParseDuration(f.Args[1])
			off += d
		}
	}
	return off
}
