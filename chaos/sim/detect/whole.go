package detect

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/divertdns/divert/health"
)

// Whole simulates whole directors in the place of their suspicion alone: health's
// observer, publisher and book, with every ballot and heartbeat encoded, sent, lost
// and repeated as they are. It costs a hundred times as much, and tells whether the
// simpler model says the same.
func Whole(m Model, hours float64, seed uint64) Result {
	w := newWorld(m, seed)
	w.whole()
	w.run(time.Duration(hours * float64(time.Hour)))
	return Result{Hours: hours, Moves: len(w.moves), Peak: float64(w.peak) / 100}
}

// WholeDeaths is Deaths with whole directors.
func WholeDeaths(m Model, rounds int, seed uint64) Times {
	return deaths(m, rounds, seed, (*world).whole)
}

const (
	loopTick  = 25 * time.Millisecond
	heartbeat = 250 * time.Millisecond
)

// subject is what all probe.
func (m Model) subject() health.Subject {
	s := health.Subject{Kind: health.KindSignal, Addr: netip.MustParseAddrPort("192.0.2.1:443")}
	if m.Rhythm.At {
		s.Kind, s.Def = health.KindCheck, "0123456789abcdef"
	}
	return s
}

// director is health's part of a director.
type director struct {
	subject  health.Subject
	name     string
	seq      uint64
	observer *health.Observer
	book     *health.Book
	publish  *health.Publisher
	tick     time.Duration
	beat     time.Duration
}

// message is a ballot, or a heartbeat.
type message struct {
	beat    bool
	payload []byte
}

func (w *world) whole() {
	roster := rosterOf(w.Observers, w.Sites)
	var names []string
	for _, d := range roster {
		names = append(names, d.Name)
	}
	for i, o := range w.observers {
		d := &director{
			subject: w.subject(), name: names[i], observer: health.NewObserver(epoch), book: health.NewBook(names[i], roster, 0),
			publish: health.NewPublisher(names[i], 1, names), tick: time.Duration(i) * 3 * time.Millisecond,
		}
		d.observer.Set([]health.Watched{{Subject: d.subject, Interval: w.Rhythm.Idle}})
		d.book.SetSubjects([]health.Subject{d.subject}, epoch)
		o.director = d
	}
}

func (d *director) report(r health.Report) {
	r.Subject = d.subject
	d.observer.Report(r)
}

// step is the director's loop, once.
func (w *world) step(o *observer) {
	d, now := o.director, epoch.Add(w.now)
	if w.now >= d.tick {
		d.tick = w.now + loopTick
	}
	d.publish.Cast(d.observer.Votes(d.book, now), now)
	for _, out := range d.publish.Due(now) {
		w.spread(o, out.To, &message{payload: out.Payload})
	}
	w.certify(o, d.book.Judge(now))
	if w.now-d.beat >= heartbeat {
		d.beat = w.now
		w.spread(o, "", &message{beat: true, payload: health.EncodeHeartbeat(health.Heartbeat{
			Votes: d.publish.Digest(), Certificates: d.book.Digest(), Heard: d.book.Heard(), Abstaining: d.book.Isolated(now),
		})})
	}
}

// spread sends a message to one, or to all and to its author's own book.
func (w *world) spread(o *observer, to string, m *message) {
	o.director.seq++
	l := letter{due: w.now + w.VoteDelay, from: o.index, seq: o.director.seq, message: m}
	if to == "" && !m.beat {
		_, _ = o.director.book.Ballot(w.open(l), epoch.Add(w.now))
	}
	for _, peer := range w.observers {
		if peer == o || to != "" && to != peer.director.name || w.rnd.Float64() < w.VoteLoss {
			continue
		}
		l.to = peer.index
		w.post(l)
	}
}

// open reads a ballot. What stands for the signed bytes is who sent which.
func (w *world) open(l letter) health.Ballot {
	b, err := health.DecodeVotes(l.message.payload)
	if err != nil {
		panic(err) // what was encoded here
	}
	b.Director, b.Boot, b.Seq = w.observers[l.from].director.name, 1, l.seq
	b.Raw = append(binary.BigEndian.AppendUint64([]byte(b.Director), l.seq), l.message.payload...)
	return b
}

func (w *world) receive(o *observer, l letter) {
	d, now := o.director, epoch.Add(w.now)
	if l.message.beat {
		h, err := health.DecodeHeartbeat(l.message.payload)
		if err != nil {
			panic(err) // what was encoded here
		}
		h.Director, h.Boot, h.Seq = w.observers[l.from].director.name, 1, l.seq
		if d.book.Heartbeat(h, now) == nil {
			d.publish.Acknowledged(h, now)
		}
		return
	}
	b := w.open(l)
	_, _ = d.book.Ballot(b, now) // late ones are refused, as they should be
	if slices.ContainsFunc(b.Votes, func(v health.Vote) bool { return v.To == health.Down || v.Leans() }) {
		w.doubts(o)
	}
	w.certify(o, d.book.Judge(now))
}

func (w *world) certify(o *observer, certs []health.Certificate) {
	for _, c := range certs {
		switch {
		case c.To() != health.Down || o.fallen:
		case w.Weather.Dead > 0 && w.now >= w.Weather.Dead:
			o.fallen, w.fell[o.index] = true, w.now
		default:
			w.moves = append(w.moves, Move{At: w.now, By: o.index})
		}
	}
}
