package health

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxSaved bounds the chains that Restore reads.
const maxSaved = maxStandings + maxRetired

// Save writes the chains with their proofs, and each director's last known
// boot, for the disk. Ages are written instead of times, so that they go on
// after a restart without the time that the director was off. Equal books give
// equal bytes. A subject that is not in the spec is kept without its proof: what
// counts is where its numbering goes on, and should it come back, that a quorum
// reports it in force is enough.
func (b *Book) Save(now time.Time) []byte { return b.Image(now).Bytes() }

// Image is what Save writes, taken at one instant. It shares what never changes with
// the book, so that taking it costs little, and the work of writing, which grows with
// all that has ever fallen, may be done elsewhere.
type Image struct {
	now    time.Time
	chains []imaged
	boots  map[string]mark
}

// imaged is one chain of an image. Chains and proofs are never changed, but replaced.
type imaged struct {
	chain   Chain
	cert    Certificate
	known   bool
	retired time.Time
}

// Image takes an image of the book.
func (b *Book) Image(now time.Time) *Image {
	i := &Image{now: now, chains: make([]imaged, 0, len(b.topics)), boots: maps.Clone(b.boots)}
	for _, t := range b.topics {
		if t.chain.N > 0 {
			i.chains = append(i.chains, imaged{chain: t.chain, cert: t.cert, known: t.known, retired: t.retired})
		}
	}
	for _, a := range b.authors {
		i.boots[a.Name] = mark{boot: a.boot, seq: a.seq}
	}
	delete(i.boots, b.self)
	return i
}

// Bytes writes the image; it may be called by another goroutine than the book's, once.
func (i *Image) Bytes() []byte {
	slices.SortFunc(i.chains, func(x, y imaged) int { return x.chain.Subject.Compare(y.chain.Subject) })
	w := newCertWriter()
	for _, t := range i.chains {
		c := t.cert
		c.Subject, c.N = t.chain.Subject, t.chain.N
		var more []byte
		for _, m := range t.chain.Past {
			one := appendVarint(nil, 1, m.N)
			one = appendVarint(one, 2, uint64(max(i.now.Sub(m.Since), 0)))
			more = appendBytes(more, 5, one)
		}
		if !t.known {
			c.Proof, c.Reason = nil, ""
			more = appendVarint(more, 6, uint64(max(i.now.Sub(t.retired), 0)))
		}
		w.add(c, more)
	}
	out := w.bytes()
	for _, name := range slices.Sorted(maps.Keys(i.boots)) {
		m := i.boots[name]
		if m.boot == 0 {
			continue
		}
		one := appendBytes(nil, 1, name)
		one = appendVarint(one, 2, m.boot)
		one = appendVarint(one, 3, m.seq)
		out = appendBytes(out, 4, one)
	}
	return out
}

// saved is one chain as read back.
type saved struct {
	cert    Certificate
	past    []Moment
	retired time.Duration
}

// Restore puts what Save wrote into a new book, before any message. The bytes
// are this director's own, whole by their checksum: proofs are not verified
// again, since a transition in force survives changes of the roster.
func (b *Book) Restore(data []byte, now time.Time) error {
	var chains []saved
	boots := map[string]mark{}
	err := readCertificates(data, maxSaved, func(c Certificate, raw []byte) error {
		s := saved{cert: c}
		if err := s.read(raw, now); err != nil {
			return err
		}
		chains = append(chains, s)
		return nil
	}, func(f field) error {
		if !f.is(4, protowire.BytesType) {
			return nil
		}
		name, m, err := decodeMark(f.data)
		boots[name] = m
		return err
	})
	if err != nil {
		return fmt.Errorf("reading saved health: %w", err)
	}
	for _, s := range chains {
		b.restore(s, now)
	}
	for name, m := range boots {
		b.boots[name] = m
		if a := b.byName[name]; a != nil && m.boot > a.boot {
			a.boot, a.seq, a.floor = m.boot, m.seq, mark{seq: m.seq}
		}
	}
	b.forgetStates()
	return nil
}

func (b *Book) restore(s saved, now time.Time) {
	t := b.topics[s.cert.Subject]
	if t == nil {
		t = b.open(s.cert.Subject)
		t.retired = now.Add(-s.retired) // until SetSubjects knows better
	}
	if s.cert.N <= t.chain.N {
		return
	}
	if t.known {
		b.digest ^= transitionHash(t.hash, t.chain.N) ^ transitionHash(t.hash, s.cert.N)
	}
	t.chain = Chain{Subject: t.subject, N: s.cert.N, Past: s.past}
	t.cert = s.cert
	b.moved = append(b.moved, t.subject)
	b.consider(t)
}

// read takes the fields that Save added to a certificate.
func (s *saved) read(raw []byte, now time.Time) error {
	err := eachField(raw, func(f field) error {
		switch {
		case f.is(5, protowire.BytesType):
			m, err := decodeMoment(f.data, now)
			if err != nil {
				return err
			}
			if last := len(s.past) - 1; len(s.past) >= chainLength || (last >= 0 && (m.N <= s.past[last].N || m.Since.Before(s.past[last].Since))) {
				return errWire
			}
			s.past = append(s.past, m)
		case f.is(6, protowire.VarintType):
			s.retired = age(f.n)
		}
		return nil
	})
	if err == nil && (len(s.past) == 0 || s.past[len(s.past)-1].N != s.cert.N) {
		err = errWire
	}
	return err
}

// age bounds what was read to a year, past which nothing asks for more.
func age(n uint64) time.Duration {
	const most = 365 * 24 * time.Hour
	return time.Duration(min(n, uint64(most)))
}

func decodeMoment(b []byte, now time.Time) (Moment, error) {
	var m Moment
	err := eachField(b, func(f field) error {
		switch {
		case f.is(1, protowire.VarintType):
			m.N = f.n
		case f.is(2, protowire.VarintType):
			m.Since = now.Add(-age(f.n))
		}
		return nil
	})
	if err == nil && (m.N == 0 || m.Since.IsZero()) {
		err = errWire
	}
	return m, err
}

func decodeMark(b []byte) (string, mark, error) {
	var name string
	var m mark
	err := eachField(b, func(f field) (err error) {
		switch {
		case f.is(1, protowire.BytesType):
			name, err = f.text(maxName)
		case f.is(2, protowire.VarintType):
			m.boot = f.n
		case f.is(3, protowire.VarintType):
			m.seq = f.n
		}
		return err
	})
	if err == nil && name == "" {
		err = errWire
	}
	return name, m, err
}
