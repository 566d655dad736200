package health

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// diff shows how two values differ; "" if they do not.
func diff(got, want any) string {
	return cmp.Diff(got, want, cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.EquateEmpty())
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return epoch.Add(d) }

// site gives the n-th test address with port 443.
func site(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 443)
}

func signal(n int) Subject { return Subject{Kind: KindSignal, Addr: site(n)} }

func check(n int) Subject {
	return Subject{Kind: KindCheck, Addr: site(n), Def: "0123456789abcdef"}
}

// rosterOf gives d1 … dn, each in a fault domain of its own.
func rosterOf(n int) []Director {
	out := make([]Director, n)
	for i := range out {
		out[i] = Director{Name: fmt.Sprintf("d%d", i+1), Site: fmt.Sprintf("dc%d", i+1)}
	}
	return out
}

// sign makes a ballot as gossip would hand it over. The stand-in for a
// signature is that tests only ever sign for whom they play.
func sign(director string, boot, seq uint64, votes ...Vote) Ballot {
	return signPayload(director, boot, seq, EncodeVotes(votes, nil))
}

func signPayload(director string, boot, seq uint64, payload []byte) Ballot {
	raw := append([]byte{byte(len(director))}, director...)
	raw = binary.BigEndian.AppendUint64(raw, boot)
	raw = binary.BigEndian.AppendUint64(raw, seq)
	raw = append(raw, payload...)
	b, err := openBallot(raw)
	if err != nil {
		panic(err)
	}
	return b
}

func openBallot(raw []byte) (Ballot, error) {
	if len(raw) < 1 || len(raw) < 1+int(raw[0])+16 {
		return Ballot{}, errors.New("short")
	}
	name, rest := string(raw[1:1+raw[0]]), raw[1+raw[0]:]
	b, err := DecodeVotes(rest[16:])
	if err != nil {
		return Ballot{}, err
	}
	b.Director, b.Raw = name, raw
	b.Boot, b.Seq = binary.BigEndian.Uint64(rest), binary.BigEndian.Uint64(rest[8:])
	return b, nil
}

// verifyFor opens ballots of the roster's directors only.
func verifyFor(roster []Director) Verify {
	return func(raw []byte) (Ballot, error) {
		b, err := openBallot(raw)
		if err != nil {
			return b, err
		}
		if !slices.ContainsFunc(roster, func(d Director) bool { return d.Name == b.Director }) {
			return Ballot{}, errors.New("not in the roster")
		}
		return b, nil
	}
}

// voice is one director as the others hear it: it numbers what it says and
// keeps the digest of its votes.
type voice struct {
	name   string
	boot   uint64
	seq    uint64
	votes  map[Subject]Vote
	ballot Ballot // the last
}

func newVoice(name string) *voice { return &voice{name: name, boot: 1, votes: map[Subject]Vote{}} }

func (v *voice) digest() uint64 {
	d := uint64(0)
	for s, vote := range v.votes {
		d ^= voteHash(subjectHash(s), vote.N, vote.To, vote.Suspicion)
	}
	return d
}

func (v *voice) cast(votes ...Vote) Ballot {
	v.seq++
	for _, vote := range votes {
		v.votes[vote.Subject] = vote
	}
	v.ballot = sign(v.name, v.boot, v.seq, votes...)
	return v.ballot
}

func (v *voice) beat() Heartbeat {
	v.seq++
	return Heartbeat{Director: v.name, Boot: v.boot, Seq: v.seq, Votes: v.digest()}
}

// certify makes a certificate with the votes of these directors.
func certify(s Subject, n uint64, boot, seq uint64, directors ...string) Certificate {
	c := Certificate{Subject: s, N: n}
	for _, d := range directors {
		c.Proof = append(c.Proof, sign(d, boot, seq, Vote{Subject: s, N: n, To: After(n)}).Raw)
	}
	return c
}

func subjectsOf(n int) []Subject {
	var out []Subject
	for i := range n {
		out = append(out, signal(i+1))
	}
	return out
}

// newTestBook is d1's book in a roster of n, with m signals in the spec.
func newTestBook(n, m int) *Book {
	b := NewBook("d1", rosterOf(n), 0)
	b.SetSubjects(subjectsOf(m), epoch)
	return b
}

// at4 gives a distinct address for each index.
func at4(i int, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), port)
}

func netipFrom(b [16]byte, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(b), port)
}

// digestOf gives what a director's heartbeat says that has these in force.
func digestOf(summary []Standing) uint64 {
	d := uint64(0)
	for _, s := range summary {
		d ^= transitionHash(subjectHash(s.Subject), s.N)
	}
	return d
}
