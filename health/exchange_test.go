package health

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// fleet is several directors, whole but for sockets: observers, books and
// publishers that probe a made-up world and talk over a made-up network, on one
// made-up clock.
type fleet struct {
	t       *testing.T
	rnd     *rand.Rand
	now     time.Duration
	roster  []Director
	targets int
	nodes   []*node
	flying  []parcel

	loss   float64
	delay  time.Duration // each message takes up to this
	cut    func(from, to string) bool
	dead   func(node string, target int) bool
	silent map[string]bool // crashed
	probes func(n *node)   // nil: see probe
	states map[string]map[Subject]State
	moves  []string // "d1 signal/… down@1.2s", as each director saw them
}

type node struct {
	name   string
	boot   uint64
	seq    uint64
	phase  time.Duration
	doubt  map[netip.AddrPort]time.Duration // until when
	out    []time.Duration                  // when signals were sent that get no answer, …
	silent []int                            // … and to which targets
	o      *Observer
	b      *Book
	p      *Publisher
	disk   []byte
}

// parcel is one message under way.
type parcel struct {
	due      time.Duration
	from, to string
	boot     uint64
	seq      uint64
	kind     string
	payload  []byte
}

func newFleet(t *testing.T, seed uint64, directors, targets int) *fleet {
	f := &fleet{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), roster: rosterOf(directors), targets: targets,
		cut: func(string, string) bool { return false }, dead: func(string, int) bool { return false },
		silent: map[string]bool{}, states: map[string]map[Subject]State{},
	}
	for i, d := range f.roster {
		f.nodes = append(f.nodes, &node{name: d.Name, phase: time.Duration(i*7) * ms})
		f.start(d.Name)
	}
	return f
}

// start boots a director, from its disk if it has one.
func (f *fleet) start(name string) {
	n := f.node(name)
	n.boot, n.seq, n.doubt, n.out, n.silent = n.boot+1, 0, map[netip.AddrPort]time.Duration{}, nil, nil
	n.o, n.b = NewObserver(at(f.now)), NewBook(name, f.roster, 0)
	if n.disk != nil {
		if err := n.b.Restore(n.disk, at(f.now)); err != nil {
			f.t.Fatal(err)
		}
	}
	var watched []Watched
	var subjects []Subject
	for i := range f.targets {
		watched = append(watched, Watched{Subject: signal(i + 1), Interval: 100 * ms}, Watched{Subject: check(i + 1), Signal: signal(i + 1), Interval: time.Second})
		subjects = append(subjects, signal(i+1), check(i+1))
	}
	n.o.Set(watched)
	n.b.SetSubjects(subjects, at(f.now))
	var names []string
	for _, d := range f.roster {
		names = append(names, d.Name)
	}
	n.p = NewPublisher(name, n.boot, names)
	delete(f.silent, name)
}

func (f *fleet) crash(name string) {
	n := f.node(name)
	n.disk = n.b.Save(at(f.now))
	f.silent[name] = true
}

func (f *fleet) node(name string) *node {
	return f.nodes[slices.IndexFunc(f.nodes, func(n *node) bool { return n.name == name })]
}

func (f *fleet) send(n *node, to, kind string, payload []byte) {
	n.seq++
	if kind == "ballot" {
		_, _ = n.b.Ballot(signPayload(n.name, n.boot, n.seq, payload), at(f.now))
		if len(payload) > maxPayload {
			f.t.Fatalf("a ballot of %d octets", len(payload))
		}
	}
	for _, d := range f.roster {
		if d.Name == n.name || (to != "" && to != d.Name) || f.cut(n.name, d.Name) || f.silent[d.Name] {
			continue
		}
		if (kind == "ballot" || kind == "beat") && f.rnd.Float64() < f.loss {
			continue
		}
		due := f.now + time.Duration(f.rnd.Int64N(int64(f.delay)+1))
		f.flying = append(f.flying, parcel{due, n.name, d.Name, n.boot, n.seq, kind, payload})
	}
}

func (f *fleet) receive(m parcel) {
	n := f.node(m.to)
	if f.silent[m.to] {
		return
	}
	now := at(f.now)
	switch m.kind {
	case "ballot":
		_, _ = n.b.Ballot(signPayload(m.from, m.boot, m.seq, m.payload), now)
	case "beat":
		h, err := DecodeHeartbeat(m.payload)
		if err != nil {
			f.t.Fatal(err)
		}
		h.Director, h.Boot, h.Seq = m.from, m.boot, m.seq
		_ = n.b.Heartbeat(h, now)
		n.p.Acknowledged(h, now)
	case "summary":
		s, err := DecodeSummary(m.payload)
		if err != nil {
			f.t.Fatal(err)
		}
		f.moved(n, n.b.MergeSummary(m.from, s, now))
		for _, payload := range EncodeCertificates(n.b.Lacking(s)) {
			f.send(n, m.from, "certificates", payload)
		}
	case "certificates":
		c, err := DecodeCertificates(m.payload)
		if err != nil {
			f.t.Fatal(err)
		}
		applied, _ := n.b.Merge(c, verifyFor(f.roster), now)
		f.moved(n, applied)
	}
}

func (f *fleet) moved(n *node, certs []Certificate) {
	for _, c := range certs {
		f.moves = append(f.moves, fmt.Sprintf("%s %s %s@%s (%s)", n.name, c.Subject, c.To(), f.now, c.Reason))
	}
}

// advance runs the fleet for a while, 10 ms at a time.
func (f *fleet) advance(d time.Duration) {
	for end := f.now + d; f.now < end; {
		f.now += 10 * ms
		var rest []parcel
		flying := f.flying
		f.flying = nil
		for _, m := range flying {
			if m.due <= f.now {
				f.receive(m)
			} else {
				rest = append(rest, m)
			}
		}
		f.flying = append(rest, f.flying...)
		for _, n := range f.nodes {
			if !f.silent[n.name] {
				f.tick(n)
			}
		}
	}
}

func (f *fleet) tick(n *node) {
	now := at(f.now)
	each := func(interval time.Duration, i int) bool {
		return (f.now+n.phase+time.Duration(i*30)*ms)/(10*ms)%(interval/(10*ms)) == 0
	}
	for _, s := range n.b.Pending() { // doubt, one's own and others'
		n.doubt[s.Addr] = f.now + 2*time.Second
	}
	if f.probes != nil {
		f.probes(n)
	} else {
		f.probe(n, each)
	}
	n.p.Cast(n.o.Votes(n.b, now), now)
	for _, o := range n.p.Due(now) {
		f.send(n, o.To, "ballot", o.Payload)
	}
	f.moved(n, n.b.Judge(now))
	if each(250*ms, 0) {
		f.send(n, "", "beat", EncodeHeartbeat(Heartbeat{Votes: n.p.Digest(), Certificates: n.b.Digest(), Heard: n.b.Heard(), Abstaining: n.b.Isolated(now)}))
	}
	for _, peer := range n.b.Differing(now) {
		f.send(n, peer, "summary", EncodeSummary(n.b.Summary()))
	}
}

// probe is a director's probing of all targets, each told at once of its fate but for
// signals without an answer.
func (f *fleet) probe(n *node, each func(time.Duration, int) bool) {
	now := at(f.now)
	for i := 1; i <= f.targets; i++ {
		doubted := n.doubt[site(i)] > f.now
		fast, deep := 100*ms, time.Second
		if doubted {
			fast, deep = 50*ms, 250*ms
		}
		dead := f.dead(n.name, i)
		if each(fast, i) {
			switch {
			case f.rnd.Float64() < f.loss*f.loss, dead && i%2 == 0:
				n.out = append(n.out, f.now)
				n.silent = append(n.silent, i)
			default:
				n.o.Report(Report{Subject: signal(i), OK: !dead, At: now, Sign: SignRefused, Reason: "connection refused"})
			}
		}
		if each(deep, i) { // TCP repeats what is lost
			n.o.Report(Report{Subject: check(i), OK: !dead && f.rnd.Float64() >= f.loss*f.loss*f.loss, At: now, Sign: SignWrong, Reason: "status 503"})
		}
	}
	for j, sent := range n.out { // signals without an answer: late, and then missed
		r := Report{Subject: signal(n.silent[j]), Late: true, At: now, Latency: f.now - sent, Reason: "no answer"}
		switch r.Latency {
		case 30 * ms:
			n.o.Report(r)
		case 300 * ms:
			r.Late = false
			n.o.Report(r)
		}
	}
	for len(n.out) > 0 && f.now-n.out[0] >= 300*ms {
		n.out, n.silent = n.out[1:], n.silent[1:]
	}
}

// agree checks L2 and what the directors named (all, if none) hold of a target.
func (f *fleet) agree(target int, want State, names ...string) {
	f.t.Helper()
	for _, n := range f.nodes {
		if f.silent[n.name] || (len(names) > 0 && !slices.Contains(names, n.name)) {
			continue
		}
		got := n.b.States()[signal(target)]
		if got == Unknown {
			got = Up // never seen: served as healthy
		}
		if got != want {
			f.t.Errorf("at %s %s holds %s for target %d, want %s", f.now, n.name, got, target, want)
		}
	}
}

func (f *fleet) same() {
	f.t.Helper()
	for _, n := range f.nodes[1:] {
		if !maps.Equal(n.b.States(), f.nodes[0].b.States()) || n.b.Digest() != f.nodes[0].b.Digest() {
			f.t.Errorf("at %s %s and %s differ", f.now, n.name, f.nodes[0].name)
		}
	}
}

func (f *fleet) still() {
	f.t.Helper()
	if len(f.moves) > 0 {
		f.t.Errorf("moved: %v", f.moves)
	}
}

func onlyFor(target int, names ...string) func(string, int) bool {
	return func(node string, i int) bool { return i == target && slices.Contains(names, node) }
}

// TestF1DeathConvergesUnderLossAndReordering (L2): 10 % loss, delays of up to
// 300 ms, so that messages overtake each other.
func TestF1DeathConvergesUnderLossAndReordering(t *testing.T) {
	for seed := range uint64(5) {
		f := newFleet(t, seed, 5, 4)
		f.loss, f.delay = 0.1, 300*ms
		f.advance(5 * time.Second)
		f.still() // F4, F14
		f.dead = onlyFor(2, "d1", "d2", "d3", "d4", "d5")
		f.advance(2 * time.Second)
		f.agree(2, Down)
		f.agree(1, Up)
		f.advance(3 * time.Second)
		f.same()
		f.dead = onlyFor(0)
		f.advance(9 * time.Second)
		f.agree(2, Down) // the hold
		f.advance(4 * time.Second)
		f.agree(2, Up)
		f.advance(2 * time.Second)
		f.same()
	}
}

// TestF6OneThatCannotReachMovesNothing, and two of three do.
func TestF6OneThatCannotReachMovesNothing(t *testing.T) {
	f := newFleet(t, 1, 3, 3)
	f.delay = 20 * ms
	f.advance(3 * time.Second)
	f.dead = onlyFor(2, "d1")
	f.advance(time.Minute)
	f.still()
	f.dead = onlyFor(2, "d1", "d3")
	f.advance(time.Second)
	f.agree(2, Down)
	f.same()
}

// TestF8PartitionFreezesTheMinority: 2 of 5 freeze, 3 act, all rejoin.
func TestF8PartitionFreezesTheMinority(t *testing.T) {
	minority := []string{"d1", "d2"}
	f := newFleet(t, 2, 5, 3)
	f.loss, f.delay = 0.02, 30*ms
	f.advance(3 * time.Second)
	f.cut = func(from, to string) bool { return slices.Contains(minority, from) != slices.Contains(minority, to) }
	f.advance(2 * time.Second)
	for _, n := range f.nodes {
		if got := n.b.Isolated(at(f.now)); got != slices.Contains(minority, n.name) {
			t.Errorf("%s isolated: %v", n.name, got)
		}
	}
	f.dead = onlyFor(1, "d1", "d2", "d3", "d4", "d5")
	f.advance(time.Minute)
	f.agree(1, Up, minority...)
	f.agree(1, Down, "d3", "d4", "d5")
	f.cut = func(string, string) bool { return false }
	f.advance(5 * time.Second)
	f.agree(1, Down)
	f.same()
}

// TestF7CutOffRejoinsAfterManyTransitions: the one that was away verifies, or
// adopts, what has happened meanwhile.
func TestF7CutOffRejoinsAfterManyTransitions(t *testing.T) {
	f := newFleet(t, 3, 3, 2)
	f.delay = 20 * ms
	f.advance(3 * time.Second)
	f.cut = func(from, to string) bool { return from == "d3" || to == "d3" }
	f.dead = onlyFor(1, "d1", "d2", "d3")
	f.advance(10 * time.Second)
	f.dead = onlyFor(0)
	f.advance(30 * time.Second)
	f.agree(1, Up)
	if n := f.node("d1").b.Chain(signal(1)).N; n != 2 {
		t.Fatalf("d1 is at transition %d, want 2", n)
	}
	f.cut = func(string, string) bool { return false }
	f.advance(5 * time.Second)
	f.same()
	if n := f.node("d3").b.Chain(signal(1)).N; n != 2 {
		t.Errorf("d3 is at transition %d, want 2", n)
	}
}

// TestS17RestartIsNotDown: directors restart one by one and all at once; the
// last verdicts stand, and failover goes on.
func TestS17RestartIsNotDown(t *testing.T) {
	f := newFleet(t, 4, 3, 3)
	f.loss, f.delay = 0.05, 30*ms
	f.advance(3 * time.Second)
	f.dead = onlyFor(3, "d1", "d2", "d3")
	f.advance(4 * time.Second)
	f.agree(3, Down)
	f.moves = nil
	for _, d := range f.roster {
		f.crash(d.Name)
		f.advance(3 * time.Second)
		f.start(d.Name)
		f.advance(4 * time.Second)
	}
	for _, d := range f.roster {
		f.crash(d.Name)
	}
	for _, d := range f.roster {
		f.start(d.Name)
	}
	f.agree(3, Down) // from disk, at once
	f.advance(5 * time.Second)
	f.still()
	f.same()
	f.dead = func(_ string, i int) bool { return i == 3 || i == 2 }
	f.advance(2 * time.Second)
	f.agree(2, Down)
	f.agree(1, Up)
}

// TestF19FlappingIsDamped: a target that flaps at 1 Hz falls, and returns at
// most once in 10 minutes.
func TestF19FlappingIsDamped(t *testing.T) {
	f := newFleet(t, 5, 3, 1)
	f.delay = 10 * ms
	f.advance(3 * time.Second)
	for range 30 { // up for 12 s, long enough to return, then down for 3 s
		f.dead = onlyFor(1, "d1", "d2", "d3")
		f.advance(3 * time.Second)
		f.dead = onlyFor(0)
		f.advance(12 * time.Second)
	}
	if n := f.node("d1").b.Chain(signal(1)).N; n != 3 {
		t.Errorf("%d transitions in 7.5 min of flapping, want 3: fall, return, fall", n)
	}
	f.agree(1, Down)
	f.advance(6 * time.Minute)
	f.agree(1, Up)
	f.same()
}

// TestNewDirectorLearnsAll: one with an empty disk joins a fleet with history.
func TestNewDirectorLearnsAll(t *testing.T) {
	f := newFleet(t, 6, 3, 3)
	f.delay = 20 * ms
	f.advance(3 * time.Second)
	f.dead = onlyFor(2, "d1", "d2", "d3")
	f.advance(4 * time.Second)
	f.crash("d3")
	f.node("d3").disk = nil
	f.advance(3 * time.Second)
	f.start("d3")
	f.advance(5 * time.Second)
	f.agree(2, Down)
	f.same()
}
