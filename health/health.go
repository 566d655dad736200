// Package health owns the opinion of who is up: reports become votes, votes of
// a quorum become certificates, certificates become verdicts. It is pure: no
// goroutine, clock, socket or logger; time is an argument. It never decides who
// should serve whom.
package health

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Kind says what a subject stands for.
type Kind uint8

// The kinds of subject.
const (
	KindUnknown Kind = iota
	KindSignal       // one address:port, by the fast signal
	KindCheck        // one probe as now defined, against one address
	KindSoft         // readiness, thresholds, gray failure: down means degraded, never failed
)

// Subject is what directors vote on. It is comparable; services that share an
// address and a probe share the subject.
type Subject struct {
	Kind Kind
	Addr netip.AddrPort
	Def  string // checks and soft subjects: hash of the definition, 16 hexadecimal digits
}

// String gives "signal/192.0.2.1:443", "check/0123456789abcdef@192.0.2.1:443"
// or "soft/…@…": what is gossiped, stored and shown.
func (s Subject) String() string {
	switch s.Kind {
	case KindSignal:
		return "signal/" + s.Addr.String()
	case KindCheck:
		return "check/" + s.Def + "@" + s.Addr.String()
	case KindSoft:
		return "soft/" + s.Def + "@" + s.Addr.String()
	default:
		return "unknown/"
	}
}

// ParseSubject reads what String wrote.
func ParseSubject(s string) (Subject, error) {
	kind, rest, _ := strings.Cut(s, "/")
	out := Subject{}
	switch kind {
	case "signal":
		out.Kind = KindSignal
	case "check":
		out.Kind = KindCheck
	case "soft":
		out.Kind = KindSoft
	default:
		return Subject{}, fmt.Errorf("subject %q is of no known kind", s)
	}
	if out.Kind != KindSignal {
		def, addr, ok := strings.Cut(rest, "@")
		if !ok || len(def) != 16 || strings.Trim(def, "0123456789abcdef") != "" {
			return Subject{}, fmt.Errorf("subject %q has no definition hash", s)
		}
		out.Def, rest = def, addr
	}
	addr, err := netip.ParseAddrPort(rest)
	if err != nil {
		return Subject{}, fmt.Errorf("subject %q: %w", s, err)
	}
	if addr.String() != rest {
		return Subject{}, fmt.Errorf("subject %q is not in canonical form", s)
	}
	out.Addr = addr
	return out, nil
}

// State is what a subject is agreed, or thought, to be.
type State uint8

// The states of a subject.
const (
	Unknown State = iota
	Up
	Down
)

func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Down:
		return "down"
	default:
		return "unknown"
	}
}

// After gives the state that transition n of a subject brings about. A subject
// begins at 0, taken for up until the first full round, so odd transitions are
// falls and even ones returns: (subject, n) alone names a transition, and two
// certificates can never disagree about where the same one leads.
func After(n uint64) State {
	switch {
	case n == 0:
		return Unknown
	case n%2 == 1:
		return Down
	default:
		return Up
	}
}

// Report is the outcome of one probe, or that it is late.
type Report struct {
	Subject Subject
	OK      bool
	Void    bool // says nothing: no route to the family, or a stall of our own
	// Late and not OK: there is no answer when there usually is one, and there may
	// still be one; a reason to look harder, no evidence yet. Late and OK: the answer
	// to a probe that was reported as missed. It is alive, and no probe of its own.
	Late    bool
	At      time.Time
	Latency time.Duration // At less this is when the probe was sent
	Sign    Sign          // of a failure: what it met
	Reason  string        // "connection refused", "status 503", …; "" when OK
}

// Sign is what a failed probe met. How likely a live target shows it is what the
// failure weighs.
type Sign uint8

// The signs of failure.
const (
	SignSilent  Sign = iota // nothing came back, as when packets are lost
	SignRefused             // refused, reset, or unreachable as somebody on the way says
	SignMute                // connected, and then no whole answer in time, though TCP repeats what is lost
	SignWrong               // an answer, and not the wanted one
)

func (s Sign) String() string {
	switch s {
	case SignSilent:
		return "silent"
	case SignRefused:
		return "refused"
	case SignMute:
		return "mute"
	case SignWrong:
		return "wrong"
	default:
		return "unknown"
	}
}

// Vote is one director's opinion of one subject. N is the number of the
// transition that the subject is at, plus one: the vote serves in no other. To
// equal to After(N) is a vote for that transition, the opposite state one
// against it, and Unknown withdraws the director's vote (abstains).
type Vote struct {
	Subject   Subject
	N         uint64
	To        State
	Suspicion uint16 // on a fall: what its author holds against the subject, in hundredths; see Quorum.Weight
}

// Ballot is what a director sends: some votes, new or repeated, under one
// signature. Raw is the signed message as received, kept for the proof.
type Ballot struct {
	Director string
	Boot     uint64
	Seq      uint64
	Votes    []Vote
	Cover    *Range // nil: only the votes named; else all of the author's votes in this range
	Raw      []byte
}

// Range is an interval of subject hashes, both ends included. A ballot that
// covers one says that its author has no other votes there, so that what a
// peer missed long ago is cleared too.
type Range struct{ Low, High uint64 }

// Heartbeat renews what has not changed, each 250 ms.
type Heartbeat struct {
	Director     string
	Boot         uint64
	Seq          uint64
	Votes        uint64 // digest of the sender's own votes in force
	Certificates uint64 // digest of the transitions that it holds in force
	Heard        []Heard
	Plan         string // identity of the plan on disk and in the table
	Highest      string // highest plan that it knows of
	Wall         time.Time
	Abstaining   bool
}

// Heard acknowledges: the digest of the votes that the sender holds from one
// peer, of boot 0 if it never heard it. A peer whose own digest differs sends
// again; one that is not named in a heartbeat learns nothing from it.
type Heard struct {
	Director string
	Boot     uint64
	Votes    uint64
}

// Certificate is a transition with an attached proof. Its identity is
// (Subject, N); any valid proof will do.
type Certificate struct {
	Subject Subject
	N       uint64
	Proof   [][]byte // signed ballots, ordered by author
	Reason  string   // what the maker saw; for people, not signed
}

// To gives the state that the certificate brings about.
func (c Certificate) To() State { return After(c.N) }

// Director is one roster entry as the quorum rules see it.
type Director struct {
	Name string
	Site string // fault domain
}

// Verify opens a signed ballot: its author must be in the roster and the
// signature good. It is pure over the roster that it was made for.
type Verify func(raw []byte) (Ballot, error)

// Transition is a certificate in force on this director.
type Transition struct {
	Certificate
	Since time.Time // first receipt; over a restart the age goes on without the time off
}
