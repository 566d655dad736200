package fleet

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
)

// The rhythm of director's emergencies.
const (
	urgentTick    = 250 * time.Millisecond
	urgentSummary = 2 * time.Second
	operatorName  = "oncall"
)

// urgent is what a director holds of operators' words, as director's emergencies does; lost
// with the process, but for its journal.
type urgent struct {
	held    core.Emergencies
	judged  []core.Emergency
	spread  core.Spread
	version int
	by      judgedBy
	saved   time.Duration // when the journal was written last
	unsaved bool          // it does not hold what is held
	dirty   bool
	told    time.Duration
	tell    bool
}

// judgedBy is what a judgement depends on.
type judgedBy struct {
	plan          plan.Identity
	version, over int
	decide        uint64
}

// hasOperators tells whether a scenario has people with an operator's key: only those in
// whose events they come, so that all others are what they were.
func (s Scenario) hasOperators() bool {
	return slices.ContainsFunc(s.Events, func(e Event) bool { return slices.Contains(urgentVerbs, e.What) })
}

var urgentVerbs = []string{"emergency", "end-emergency", "forge", "rewrite", "replay"}

// listed are the operators that the first plan lists.
func listed() []*plan.Operator {
	key := keyOf(operatorName)
	return []*plan.Operator{{
		Name: operatorName, Key: key.Public().(ed25519.PublicKey), Author: "alice", Reason: "on call", Since: timestamppb.New(epoch), Revision: 1,
	}}
}

// readJournal takes what the disk holds, so that the first table goes by it (S12).
func (p *director) readJournal() {
	raw, now := p.disk.journal, p.w.time()
	if raw == nil {
		return
	}
	if p.downed > 0 {
		p.w.ledger.off = append(p.w.ledger.off, p.w.now-p.downed)
	}
	inForce, err := p.words.held.Decode(raw, now, p.wallTime())
	p.must(err)
	for _, t := range p.words.held.Told(now) {
		if inForce[t.Word.Sum] && t.Left > 0 {
			p.words.judged = append(p.words.judged, core.Emergency{Word: t.Word, State: core.EmergencyInForce, Left: t.Left, Until: now.Add(t.Left)})
		}
	}
	p.words.dirty, p.words.tell = true, true
}

// urge does all that is due, as the step of director's emergencies.
func (p *director) urge(ticked bool) {
	u, now := &p.words, p.w.time()
	if p.force == nil || !p.w.s.hasOperators() {
		return
	}
	if p.ids.Saved == p.ids.Force && u.held.Forget(p.force.sealed.Plan) {
		u.touch()
	}
	p.judgeWords(now)
	if u.dirty || u.held.Len() > 0 && p.w.now-u.saved >= core.EmergencyPenalty {
		p.saveWords()
	}
	if p.w.now-u.told >= urgentSummary || u.tell && ticked {
		u.told, u.tell = p.w.now, false
		p.sendUrgent("", kindHoldings, core.Holding{}, p.holdings(now), nil)
	}
	if !ticked {
		return
	}
	others := core.Others(core.Voters(p.force.sealed.Plan), p.name)
	u.spread.Keep(others)
	for _, name := range others {
		for _, word := range u.spread.Give(&u.held, name, now) {
			p.sendUrgent(name, kindWord, core.Holding{Age: u.held.Age(word.Sum, now)}, nil, word.Raw)
		}
	}
}

func (u *urgent) touch() {
	u.version++
	u.dirty, u.tell = true, true
}

func (p *director) holdings(now time.Time) []core.Holding {
	return p.words.held.Holdings(p.words.judged, !p.dirty && !p.words.unsaved, now)
}

// sendUrgent sends a word, or a summary of those that are held.
func (p *director) sendUrgent(to string, k kind, of core.Holding, list []core.Holding, raw []byte) {
	p.seq++
	m := message{from: p.name, boot: p.boot, seq: p.seq, kind: k, payload: raw, age: of.Age, holdings: list}
	for _, peer := range p.w.directors {
		if peer != p && (to == "" || to == peer.name) {
			p.w.carry(m, p.name, peer)
		}
	}
}

// hearUrgent takes in what another director says of words.
func (p *director) hearUrgent(m message) {
	u, now := &p.words, p.w.time()
	if m.kind == kindHoldings {
		u.spread.Note(&u.held, m.from, m.boot, m.holdings, now)
		return
	}
	sum, err := plan.WordSum(m.payload)
	if err != nil {
		return
	}
	if u.held.Word(sum) == nil {
		if _, err := u.held.Hear(p.force.sealed.Plan, m.payload, now, p.wallTime()); err != nil {
			return
		}
		u.touch()
	}
	u.held.Claim(sum, m.from, m.age, now)
	p.urge(false)
}

// judgeWords finds what each word comes to, where that may have changed.
func (p *director) judgeWords(now time.Time) {
	u := &p.words
	list := u.held.Told(now)
	by := judgedBy{plan: p.ids.Force, version: u.version, decide: p.decided}
	for _, t := range list {
		if t.Left <= 0 {
			by.over++
		}
	}
	if by == u.by || len(list) == 0 && len(u.judged) == 0 {
		return
	}
	u.by = by
	next := p.judgement(list)
	if slices.EqualFunc(next, u.judged, func(a, b core.Emergency) bool {
		return a.Word.Sum == b.Word.Sum && a.State == b.State && a.Why == b.Why && a.Until.Sub(b.Until).Abs() < 2*time.Second
	}) {
		return
	}
	for _, j := range next {
		p.tell("emergency %s %s %s: %s", j.Word.GetId(), j.Word.GetScope(), j.State, j.Why)
	}
	u.judged, u.dirty, u.tell, p.dirty = next, true, true, true
	p.step()
}

func (p *director) judgement(list []core.Told) []core.Emergency {
	if len(list) == 0 {
		return nil
	}
	return core.Judge(p.urgentState(), list)
}

// urgentState is what a judgement depends on: no wall clock of anybody.
func (p *director) urgentState() core.State {
	s := p.state(p.force, false, "")
	s.Now, s.Memo = p.w.time(), &core.Memo{}
	return s
}

// saveWords writes the journal, at once: what is not on it is not said.
func (p *director) saveWords() {
	u := &p.words
	u.saved, u.dirty = p.w.now, false
	if u.unsaved = p.w.any("disk-full", p.name); !u.unsaved {
		p.disk.journal = u.held.Encode(u.judged, p.w.time())
	}
}

// due gives the words as they are judged now, with what each has left: what the leader is
// to write of them.
func (p *director) wordsDue() (out []core.Emergency) {
	left := map[plan.Hash]time.Duration{}
	for _, t := range p.words.held.Told(p.w.time()) {
		left[t.Word.Sum] = t.Left
	}
	for _, j := range p.words.judged {
		j.Left = left[j.Word.Sum]
		out = append(out, j)
	}
	return out
}

// overlaid is the plan that a table is made by.
func (p *director) overlaid(f *inForce) *plan.Plan {
	return core.Overlay(f.sealed.Plan, p.words.judged)
}

// emergency is an operator who drains through one director, or who ends there what is in
// force, as director's Emergency does.
func (w *world) emergency(e Event) {
	p := w.director(e.Args[0])
	if p == nil || !p.up || p.force == nil || p.paused > w.now {
		return
	}
	u, now := &p.words, w.time()
	w.urgentN++
	said := &plan.Emergency{
		Id: fmt.Sprintf("e%d", w.urgentN), Operator: operatorName, Enrolled: 1, Counter: max(p.force.sealed.Plan.Counted(), u.held.Counted()) + 1,
		Scope: e.Args[1], Reason: "INC-9", Said: timestamppb.New(p.wallTime()), Lasts: durationpb.New(e.For),
	}
	if e.For <= 0 {
		said.Lasts = durationpb.New(time.Hour)
	}
	if e.What == "end-emergency" {
		i := slices.IndexFunc(u.judged, func(j core.Emergency) bool {
			return j.Word.GetScope() == e.Args[1] && (j.State == core.EmergencyInForce || j.State == core.EmergencySkipped)
		})
		if i < 0 {
			return
		}
		said.Ends, said.Lasts = u.judged[i].Word.GetId(), nil
	} else if !w.any("etcd-down", "") && !w.any("etcd-cut", p.name) && p.store.problem == "" {
		return // no emergency: the store is there
	}
	word, err := plan.SignWord(p.force.sealed.Plan.GetFleet(), said, keyOf(operatorName))
	p.must(err)
	err = p.say(word, now)
	p.tell("the operator says %s %s %s %s: %v", e.What, said.GetId(), said.GetScope(), said.GetEnds(), err)
}

// say judges a word, journals it, goes by it and gives it to the others.
func (p *director) say(word *plan.Word, now time.Time) error {
	u := &p.words
	if err := u.held.Room(p.force.sealed.Plan, word, now, p.wallTime()); err != nil {
		return err
	}
	list := append(u.held.Told(now), core.Told{Word: word, Left: min(word.GetLasts().AsDuration(), plan.MaxEmergency)})
	for _, j := range p.judgement(list) {
		if j.Word.Sum == word.Sum && j.State != core.EmergencyInForce && j.State != core.EmergencyEnds {
			return errors.New(j.Why)
		}
	}
	if p.w.any("disk-full", p.name) {
		return errors.New("it could not be journalled")
	}
	u.held.Add(word, now)
	p.disk.journal = u.held.Encode(u.judged, now)
	u.touch()
	p.w.ledger.said(p, word)
	p.sendUrgent("", kindWord, core.Holding{}, nil, word.Raw)
	p.urge(false)
	return nil
}

// rogue is a director that sends the others words: one that nobody signed, or that was said
// already, in other octets or with no age.
func (w *world) rogue(e Event) {
	p := w.director(e.Args[0])
	if p == nil || !p.up || p.force == nil {
		return
	}
	if e.What == "forge" {
		env := &plan.Envelope{}
		w.urgentN++
		word, err := plan.SignWord(p.force.sealed.Plan.GetFleet(), &plan.Emergency{
			Id: fmt.Sprintf("forged%d", w.urgentN), Operator: operatorName, Enrolled: 1, Counter: 1 + p.force.sealed.Plan.Counted(), Scope: e.Args[1], Reason: "INC-9",
			Said: timestamppb.New(w.time()), Lasts: durationpb.New(time.Hour),
		}, p.key)
		p.must(err)
		p.must(proto.Unmarshal(word.Raw, env))
		if len(e.Args) > 2 { // with the operator's key, which did not make the signature
			env.Key = keyOf(operatorName).Public().(ed25519.PublicKey)
		}
		raw, err := proto.Marshal(env)
		p.must(err)
		p.sendUrgent("", kindWord, core.Holding{}, nil, raw)
		return
	}
	for i := range w.ledger.words {
		s := &w.ledger.words[i]
		s.repeated = w.now
		raw := s.word.Raw
		if e.What == "rewrite" { // a field that nobody knows
			raw = append(slices.Clone(raw), 0x98, 0x06, byte(1+w.urgentN%100))
			w.urgentN++
		}
		p.sendUrgent("", kindWord, core.Holding{}, nil, raw)
	}
}

// urged is the store that goes away, the fleet that parts, and operators who drain and end
// that through one director at a time, with a rogue one at times.
func urged(d *draw) []Event {
	at := d.span(3*time.Second, d.s.Length/3)
	away := d.span(10*time.Second, 30*time.Second)
	out := []Event{{At: at, What: "etcd-down", For: away}}
	within := func() time.Duration { return min(at+d.span(1500*time.Millisecond, away), d.s.Length) }
	if d.s.Directors > 1 && d.IntN(3) > 0 {
		out = append(out, Event{At: within(), What: "cut", Args: []string{d.directors(1 + d.IntN(d.s.Directors-1))}, For: d.span(2*time.Second, 15*time.Second)})
	}
	for range 2 + d.IntN(5) {
		scope := pick("cluster/"+d.cluster(), "service/shop@"+d.cluster(), "domain/"+clusters[d.IntN(d.s.Clusters)].domain)(d)
		began := within()
		out = append(out, Event{At: began, What: "emergency", Args: []string{d.director(), scope}, For: d.span(3*time.Second, 40*time.Second)})
		if d.IntN(2) == 0 {
			out = append(out, Event{At: min(began+d.span(500*time.Millisecond, 8*time.Second), d.s.Length), What: "end-emergency", Args: []string{d.director(), scope}})
		}
	}
	for range d.IntN(3) {
		out = append(out, Event{At: within(), What: "crash", Args: []string{d.director(), pick("torn", "lost", "torn")(d)}, For: short(d)})
	}
	for range d.IntN(3) {
		out = append(out, Event{At: within(), What: pick("forge", "rewrite", "replay")(d), Args: []string{d.director(), "cluster/" + d.cluster()}})
	}
	return out
}
