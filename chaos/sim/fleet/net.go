package fleet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/health"
)

// kind is of what directors tell each other.
type kind uint8

const (
	kindHeartbeat kind = iota
	kindBallot
	kindSummary
	kindCertificates
	kindPlanWant
	kindPlan
	kindChunkWant
	kindChunk
	kindWord     // an operator's
	kindHoldings // which of those a director has
)

// datagram tells what is lost where packets are; the rest goes by streams, which repeat.
func (k kind) datagram() bool { return k <= kindBallot || k >= kindWord }

// message is what was signed by a director. Nobody in here can forge another's.
type message struct {
	from    string
	boot    uint64
	seq     uint64
	kind    kind
	payload []byte

	age      time.Duration // of an operator's word
	holdings []core.Holding
}

// send sends to one, or to all of the roster in force.
func (p *director) send(to string, k kind, payload []byte) message {
	p.seq++
	m := message{from: p.name, boot: p.boot, seq: p.seq, kind: k, payload: payload}
	for _, peer := range p.w.directors {
		if peer == p || to != "" && to != peer.name {
			continue
		}
		p.w.carry(m, p.name, peer)
		if k.datagram() && p.w.rnd.IntN(200) == 0 {
			p.w.carry(m, p.name, peer) // twice
		}
	}
	return m
}

func (w *world) carry(m message, from string, to *director) {
	if w.parted(from, to.name) || m.kind.datagram() && w.lost() {
		return
	}
	w.after(w.way(), func() {
		if !to.up || w.parted(from, to.name) {
			return
		}
		w.push(w.now, to, func() { to.receive(m) })
	})
}

// ballot sends votes, and counts this director's own by what it has signed.
func (p *director) ballot(out health.Outgoing) {
	m := p.send(out.To, kindBallot, out.Payload)
	if out.To != "" {
		return
	}
	own := health.Ballot{Director: p.name, Boot: m.boot, Seq: m.seq, Votes: out.Votes, Cover: out.Cover, Raw: sealBallot(m)}
	_, _ = p.book.Ballot(own, p.w.time()) // not in the roster: it counts for nobody
}

// sealBallot gives what stands for the signed bytes.
func sealBallot(m message) []byte {
	raw := append([]byte{byte(len(m.from))}, m.from...)
	raw = binary.BigEndian.AppendUint64(raw, m.boot)
	raw = binary.BigEndian.AppendUint64(raw, m.seq)
	return append(raw, m.payload...)
}

// verify opens the ballots of a proof, of whoever is in the roster in force.
func (p *director) verify() health.Verify {
	return func(raw []byte) (health.Ballot, error) {
		n := int(raw[0])
		name, rest := string(raw[1:1+n]), raw[1+n:]
		if p.force == nil || p.force.sealed.Plan.Director(name).GetStanding() != plan.Director_ACTIVE {
			return health.Ballot{}, errors.New("not in the roster")
		}
		b, err := health.DecodeVotes(rest[16:])
		b.Director, b.Raw = name, raw
		b.Boot, b.Seq = binary.BigEndian.Uint64(rest), binary.BigEndian.Uint64(rest[8:])
		return b, err
	}
}

// receive takes in one message, as director's inbox does.
func (p *director) receive(m message) {
	if p.force == nil || p.force.sealed.Plan.Director(m.from).GetStanding() != plan.Director_ACTIVE {
		return // of nobody known, or nobody who counts
	}
	now := p.w.time()
	p.heard[m.from] = p.w.now
	switch m.kind {
	case kindHeartbeat:
		h, err := health.DecodeHeartbeat(m.payload)
		p.must(err)
		h.Director, h.Boot, h.Seq = m.from, m.boot, m.seq
		p.clocks.Note(m.from, h.Wall.Add(-p.w.wall(p)), now)
		if p.book.Heartbeat(h, now) != nil {
			return
		}
		p.publish.Acknowledged(h, now)
		if id, err := plan.ParseIdentity(h.Highest); err == nil {
			p.ids.SetPeer(m.from, id)
			if p.force != nil && id.Compare(p.ids.Force) > 0 {
				p.fetch()
			}
		}
	case kindBallot:
		b, err := health.DecodeVotes(m.payload)
		p.must(err)
		b.Director, b.Boot, b.Seq, b.Raw = m.from, m.boot, m.seq, sealBallot(m)
		if _, err := p.book.Ballot(b, now); err != nil {
			return
		}
		for _, v := range b.Votes {
			if v.To == health.Down || v.Leans() {
				p.prober.doubt(p, v.Subject)
			}
		}
		p.step()
	case kindSummary:
		s, err := health.DecodeSummary(m.payload)
		p.must(err)
		if adopted := p.book.MergeSummary(m.from, s, now); len(adopted) > 0 {
			p.transitions(adopted, false)
		}
		if payloads := health.EncodeCertificates(p.book.Lacking(s)); len(payloads) > 0 {
			p.send(m.from, kindCertificates, payloads[0])
		}
		p.step()
	case kindCertificates:
		certs, err := health.DecodeCertificates(m.payload)
		p.must(err)
		if applied, _ := p.book.Merge(certs, p.verify(), now); len(applied) > 0 {
			p.transitions(applied, false)
		}
		p.step()
	case kindWord, kindHoldings:
		p.hearUrgent(m)
	default:
		p.library(m)
	}
}

func (p *director) must(err error) {
	if err != nil {
		panic(fmt.Sprintf("%s cannot read what was written here: %v", p.name, err))
	}
}

// prober is the probing of what is assigned to this director.
type prober struct {
	targets []*target
	doubted map[health.Subject]time.Duration // until then
}

type target struct {
	health.Subject
	next time.Duration
	out  []time.Duration // when those were sent that get no answer
	late []bool
}

func (b *prober) set(p *director, f *inForce, roster []health.Director) {
	old := b.targets
	b.targets = nil
	if b.doubted == nil {
		b.doubted = map[health.Subject]time.Duration{}
	}
	assignment := health.NewAssignment(roster)
	var watched []health.Watched
	for _, s := range f.watched() {
		if len(roster) > 0 && !assignment.Observes(p.name, s.Addr) {
			continue
		}
		watch := health.Watched{Subject: s, Interval: time.Second}
		switch s.Kind {
		case health.KindSignal:
			watch.Interval = 100 * time.Millisecond
		case health.KindCheck:
			watch.Signal = health.Subject{Kind: health.KindSignal, Addr: s.Addr}
		}
		watched = append(watched, watch)
		if i := slices.IndexFunc(old, func(t *target) bool { return t.Subject == s }); i >= 0 {
			b.targets = append(b.targets, old[i])
			continue
		}
		b.targets = append(b.targets, &target{Subject: s, next: p.w.now + p.w.some(0, 200*time.Millisecond)})
	}
	p.observer.Set(watched)
}

func (b *prober) doubt(p *director, s health.Subject) {
	if b.doubted != nil && p.book.Chain(s).State() != health.Down {
		b.doubted[health.Subject{Addr: s.Addr}] = p.w.now + 2*time.Second
	}
}

// probe sends what is due and reads what has come back, in a loop of 50 ms.
func (p *director) probe() {
	w, now := p.w, p.w.now
	for _, s := range p.book.Pending() {
		p.prober.doubt(p, s)
	}
	for _, t := range p.prober.targets {
		deadline := 300 * time.Millisecond
		if t.Kind == health.KindCheck {
			deadline = time.Second
		}
		for i := 0; i < len(t.out); i++ {
			waited := now - t.out[i]
			r := health.Report{Subject: t.Subject, At: w.time(), Latency: waited, Reason: "no answer"}
			if waited >= deadline {
				t.out, t.late = slices.Delete(t.out, i, i+1), slices.Delete(t.late, i, i+1)
				i--
				p.observer.Report(r)
			} else if !t.late[i] && waited >= deadline/6 {
				t.late[i], r.Late = true, true
				p.observer.Report(r)
			}
		}
		if now < t.next {
			continue
		}
		pace := time.Second
		if t.Kind == health.KindSignal {
			pace = 200 * time.Millisecond
		}
		if now < p.prober.doubted[health.Subject{Addr: t.Addr}] {
			pace = 50 * time.Millisecond
			if t.Kind != health.KindSignal {
				pace = 250 * time.Millisecond
			}
		}
		t.next = now + w.some(pace*4/5, pace*6/5)
		p.ask(t)
	}
}

func (p *director) ask(t *target) {
	w := p.w
	r := health.Report{Subject: t.Subject, OK: true, At: w.time(), Latency: 5 * time.Millisecond}
	if t.Kind == health.KindSoft {
		if r.OK = !w.any("gray", clusterOf(t.Addr.Addr())); !r.OK {
			r.Reason = "a connection that stands and a new one disagree"
		}
		p.observer.Report(r)
		return
	}
	met := w.meets(p, t.Addr.Addr(), t.Kind, w.now)
	if met == answered && shut(t.Addr) {
		met = refused
	}
	if met == answered && t.Kind == health.KindSignal {
		if there := w.lost(); there || w.lost() { // or on its way back
			met = silent // TCP repeats what is lost of a deep probe
		}
	}
	switch met {
	case answered:
		p.observer.Report(r)
	case silent:
		t.out, t.late = append(t.out, w.now), append(t.late, false)
	default:
		r.OK, r.Sign, r.Reason = false, health.SignRefused, "connection refused"
		p.observer.Report(r)
	}
}
