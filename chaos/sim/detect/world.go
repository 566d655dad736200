package detect

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/divertdns/divert/health"
)

// Rhythm is when one subject is probed, and when a probe without an answer counts:
// what health/probe does.
type Rhythm struct {
	Idle, Doubt time.Duration // between starts; ± 20 %
	Least, Most time.Duration // a probe is missed after twice the slowest recent answer, within these
	Late        time.Duration // it is a reason for doubt after so long at least …
	LateBy      int           // … and so many usual round trips
	Out         int           // so many at once in doubt
	At          bool          // doubt starts two at once
	Turns       bool          // the observers' are spread over the interval
}

// FastSignal is the rhythm of a TCP connect.
func FastSignal() Rhythm {
	return Rhythm{
		Idle: 100 * time.Millisecond, Doubt: 50 * time.Millisecond, Least: 300 * time.Millisecond, Most: time.Second,
		Late: 30 * time.Millisecond, LateBy: 2, Out: 32,
	}
}

// DeepProbe is the rhythm of a check each second.
func DeepProbe() Rhythm {
	return Rhythm{
		Idle: time.Second, Doubt: 125 * time.Millisecond, Least: time.Second, Most: time.Second,
		Late: 150 * time.Millisecond, LateBy: 3, Out: 4, At: true, Turns: true,
	}
}

const (
	jitter     = 0.2
	doubtFor   = 2 * time.Second
	stallLimit = 100 * time.Millisecond
	never      = time.Duration(1<<63 - 1)
	lie        = 9999 // the most that a vote can say
)

// Model is one target and those who probe it.
type Model struct {
	Observers int
	Sites     int // fault domains, taken by turns; 0 = each its own
	Rhythm    Rhythm
	Weather   Weather
	VoteDelay time.Duration // of what observers tell each other
	VoteLoss  float64
	Rule      Rule // zero: health's
}

// pauses are the publisher's, between repeats of a vote that was lost.
var pauses = [...]time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type world struct {
	Model
	now       time.Duration
	sites     []int
	observers []*observer
	mail      []letter // by due
	moves     []Move
	peak      int // of the sum, in hundredths
	fell      []time.Duration
	rnd       *rand.Rand
}

// Move is one transition to failed.
type Move struct {
	At time.Duration
	By int
}

// letter is an observer's word under way to another.
type letter struct {
	due      time.Duration
	from, to int
	seq      uint64
	word     uint16
	message  *message // of a whole director
}

type observer struct {
	index    int
	path     path
	suspects health.Suspicion
	out      []sent
	next     time.Duration
	doubt    time.Duration // until then
	again    bool          // start another beside the next
	tardy    bool          // nothing heard where there usually is something
	word     uint16
	seq      uint64
	usual    time.Duration
	slowest  time.Duration
	words    []uint16 // what it knows of all
	seqs     []uint64
	starved  *bursts
	fallen   bool
	director *director // nil: suspicion alone; see Whole
}

// sent is a probe without an answer so far.
type sent struct {
	at, back     time.Duration // back: never = lost
	late, missed bool
	lateAt, ends time.Duration
}

func newWorld(m Model, seed uint64) *world {
	if m.Sites == 0 {
		m.Sites = m.Observers
	}
	if m.Rule.Quorum.Directors == 0 {
		m.Rule.Quorum = RuleOf(m.Observers, m.Sites).Quorum
	}
	w := &world{Model: m, rnd: rand.New(rand.NewPCG(seed, 0)), fell: make([]time.Duration, m.Observers)}
	common := newBursts(m.Weather.Common, rand.New(rand.NewPCG(seed, 1)))
	swell := newBursts(m.Weather.SwellCommon, rand.New(rand.NewPCG(seed, 2)))
	for i := range m.Observers {
		rnd := rand.New(rand.NewPCG(seed, uint64(10+i)))
		o := &observer{
			index: i, words: make([]uint16, m.Observers), seqs: make([]uint64, m.Observers),
			path: path{
				w: &w.Weather, rnd: rnd, blind: slices.Contains(m.Weather.Blind, i), common: common, swells: swell,
				bursts: newBursts(m.Weather.Bursts, rand.New(rand.NewPCG(seed, uint64(100+i)))),
				swell:  newBursts(m.Weather.Swell, rand.New(rand.NewPCG(seed, uint64(200+i)))),
			},
			starved: newBursts(m.Weather.Starved, rand.New(rand.NewPCG(seed, uint64(300+i)))),
			next:    time.Duration(rnd.Int64N(int64(m.Rhythm.Idle))),
		}
		w.observers, w.sites = append(w.observers, o), append(w.sites, i%m.Sites)
	}
	return w
}

// run goes on until then.
func (w *world) run(until time.Duration) {
	for {
		first, at := -1, until
		for i, o := range w.observers {
			if t := o.due(); t < at {
				first, at = i, t
			}
		}
		if len(w.mail) > 0 && w.mail[0].due <= at {
			if w.now = w.mail[0].due; w.now >= until {
				break
			}
			w.deliver()
			continue
		}
		if first < 0 {
			break
		}
		w.now = at
		w.act(w.observers[first])
	}
	w.now = until
}

// due is when the observer has something to do.
func (o *observer) due() time.Duration {
	at := o.next
	if o.director != nil {
		at = min(at, o.director.tick)
	}
	for i := range o.out {
		at = min(at, o.out[i].due())
	}
	if end, stalled := o.starved.at(at); stalled {
		return end
	}
	return at
}

func (p *sent) due() time.Duration {
	switch {
	case p.missed:
		return p.back
	case !p.late:
		return min(p.back, p.lateAt)
	default:
		return min(p.back, p.ends)
	}
}

// act does all that is due: answers are read before anything is held against the
// target (F12), and what was under way while the process did not run says nothing.
func (w *world) act(o *observer) {
	t := w.now
	for i := 0; i < len(o.out); i++ {
		if p := o.out[i]; p.back <= t {
			o.out = append(o.out[:i], o.out[i+1:]...)
			i--
			w.answered(o, p)
		}
	}
	if _, starving := o.starved.at(t - 1); starving {
		if began := o.began(t - 1); t-began > stallLimit {
			o.out, o.tardy = o.out[:0], false
		}
	}
	for i := 0; i < len(o.out); i++ {
		p := &o.out[i]
		if !p.late && p.lateAt <= t {
			p.late, o.tardy = true, true
			w.doubts(o)
			w.late(o, p)
		}
		if !p.missed && p.ends <= t {
			p.missed = true
			w.missed(o, p)
			w.doubts(o)
			if p.back == never || p.back > p.at+time.Second {
				o.out = append(o.out[:i], o.out[i+1:]...)
				i--
			}
		}
	}
	if o.next <= t {
		w.send(o)
	}
	w.say(o)
}

func (o *observer) began(t time.Duration) time.Duration {
	for _, s := range o.starved.spans {
		if s[0] <= t && t < s[1] {
			return s[0]
		}
	}
	return t
}

// sign is what a missed probe met.
func (w *world) sign() health.Sign {
	if w.Weather.Jam && w.Weather.Dead > 0 && w.now > w.Weather.Dead {
		return health.SignMute // connections are taken
	}
	return health.SignSilent // where packets are lost, the SYN is first
}

func (w *world) answered(o *observer, p sent) {
	rtt := p.back - p.at
	if o.usual == 0 {
		o.usual = rtt
	}
	o.usual += (rtt - o.usual) / 8
	o.slowest = max(rtt, o.slowest-o.slowest/64)
	o.tardy = false
	switch {
	case o.director != nil:
		o.director.report(health.Report{OK: true, Late: p.missed, At: epoch.Add(w.now), Latency: w.now - p.at})
	case p.missed:
		o.suspects.AnsweredLate(epoch.Add(p.at), epoch.Add(p.back))
	default:
		o.suspects.Answered(epoch.Add(p.at), epoch.Add(p.back))
	}
}

// late is a probe without an answer where there usually is one.
func (w *world) late(o *observer, p *sent) {
	switch {
	case o.director != nil:
		o.director.report(health.Report{Late: true, At: epoch.Add(w.now), Latency: w.now - p.at, Reason: "late"})
	case w.Rule.lateIsMiss:
		o.suspects.Missed(epoch.Add(p.at), epoch.Add(w.now), health.SignSilent)
	}
}

// missed is a probe whose deadline has passed.
func (w *world) missed(o *observer, p *sent) {
	if o.director != nil {
		o.director.report(health.Report{At: epoch.Add(w.now), Latency: w.now - p.at, Sign: w.sign(), Reason: "no answer"})
		return
	}
	o.suspects.Missed(epoch.Add(p.at), epoch.Add(w.now), w.sign())
}

func (w *world) send(o *observer) {
	t, r := w.now, w.Rhythm
	pace, most := r.Idle, 1
	if t < o.doubt {
		pace, most = r.Doubt, r.Out
	}
	if r.Least < r.Most { // fast signals overlap always
		most = r.Out
	}
	again := o.again
	o.again = false
	open := 0
	for i := range o.out {
		if !o.out[i].missed {
			open++
		}
	}
	o.next = t + time.Duration(float64(pace)*(1-jitter+2*jitter*o.path.rnd.Float64()))
	if r.Turns && t >= o.doubt {
		past := (t - pace*time.Duration(o.index)/time.Duration(w.Observers)) % pace
		if past >= time.Duration((1-jitter/2)*float64(pace)) {
			past -= pace
		}
		o.next = t + pace - past + time.Duration(jitter*float64(pace)*(o.path.rnd.Float64()-0.5))
	}
	if open >= most {
		return
	}
	if again {
		o.next = t
	}
	p := sent{at: t, back: never}
	p.ends = t + min(max(r.Least, 2*o.slowest), r.Most)
	p.lateAt = t + min(max(r.Late, time.Duration(r.LateBy)*o.usual), r.Most*4/5)
	if rtt, ok := o.path.ask(t); ok && rtt < time.Second {
		p.back = t + rtt
	}
	o.out = append(o.out, p)
}

func (w *world) doubts(o *observer) {
	began := w.now >= o.doubt
	o.doubt = w.now + doubtFor
	switch left := o.next - w.now; {
	case !began || left <= 0:
	case w.Rhythm.At:
		o.next, o.again = w.now, true
	default:
		o.next = w.now + left/2
	}
}

// say tells the others where an observer's word has changed.
func (w *world) say(o *observer) {
	if o.director != nil {
		w.step(o)
		return
	}
	word := o.suspects.Hundredths()
	switch {
	case w.Weather.Liar && o.index == len(w.observers)-1:
		word = lie
	case word == 0 && o.tardy:
		word = 1
	}
	if word == o.word {
		return
	}
	o.word = word
	o.seq++
	o.words[o.index] = word
	for j := range w.observers {
		if j == o.index {
			continue
		}
		due := w.now + w.VoteDelay
		for i := 0; w.VoteLoss > 0 && w.rnd.Float64() < w.VoteLoss; i++ {
			due += pauses[min(i, len(pauses)-1)]
		}
		w.post(letter{due: due, from: o.index, to: j, seq: o.seq, word: word})
	}
	w.judge(o)
}

func (w *world) post(l letter) {
	i := len(w.mail)
	w.mail = append(w.mail, l)
	for ; i > 0 && w.mail[i-1].due > l.due; i-- {
		w.mail[i] = w.mail[i-1]
	}
	w.mail[i] = l
}

func (w *world) deliver() {
	l := w.mail[0]
	w.mail = append(w.mail[:0], w.mail[1:]...)
	o := w.observers[l.to]
	if l.message != nil {
		w.receive(o, l)
		return
	}
	if l.seq <= o.seqs[l.from] {
		return
	}
	o.seqs[l.from], o.words[l.from] = l.seq, l.word
	if l.word > 0 {
		w.doubts(o)
	}
	w.judge(o)
}

// judge lets one director decide by what it knows.
func (w *world) judge(o *observer) {
	if o.fallen {
		return
	}
	sum, falls := w.Rule.sum(o.words, w.sites)
	w.peak = max(w.peak, sum)
	if !falls {
		return
	}
	if w.Weather.Dead > 0 && w.now >= w.Weather.Dead {
		o.fallen, w.fell[o.index] = true, w.now
		return
	}
	w.moves = append(w.moves, Move{At: w.now, By: o.index})
	w.mail = w.mail[:0]
	for _, o := range w.observers { // all begin again
		o.suspects.Forget()
		o.tardy = false
		for i := range o.words {
			o.words[i], o.seqs[i] = 0, w.observers[i].seq
		}
		o.word = 0
	}
}
