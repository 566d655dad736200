package director

import (
	"errors"
	"time"

	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/health"
)

var errNotBallot = errors.New("not a ballot")

// message takes in one signed message of a peer.
func (l *loop) message(m gossip.Message) {
	if m.Kind == kindEnrol {
		l.claims(m)
		return
	}
	if !m.Pinned {
		return // a hint for enrolment at most, never a vote
	}
	now := l.now()
	switch m.Kind {
	case kindHeartbeat:
		l.peerHeartbeat(m, now)
	case kindBallot:
		b, err := health.DecodeVotes(m.Payload)
		if err != nil {
			l.drop("malformed")
			return
		}
		b.Director, b.Boot, b.Seq, b.Raw = m.From, m.Boot, m.Seq, m.Raw
		unknown, err := l.book.Ballot(b, now)
		if err != nil {
			l.drop(dropReason(err))
			return
		}
		l.shown.foreignVotes.Add(float64(unknown))
		l.doubt(b.Votes)
	case kindSummary:
		s, err := health.DecodeSummary(m.Payload)
		if err != nil {
			l.drop("malformed")
			return
		}
		if adopted := l.book.MergeSummary(m.From, s, now); len(adopted) > 0 {
			l.transitions(adopted, "reported")
		}
		// A peer that lacks more than one message holds asks again.
		if payload := health.EncodeSomeCertificates(l.book.Lacking(s)); payload != nil {
			l.courier.post(m.From, kindCertificates, payload)
		}
	case kindCertificates:
		certs, err := health.DecodeCertificates(m.Payload)
		if err != nil {
			l.drop("malformed")
			return
		}
		applied, refused := l.book.Merge(certs, l.verify(), now)
		l.shown.refusedCertificates.Add(float64(refused))
		if len(applied) > 0 {
			l.transitions(applied, "proved")
		}
	case kindPlanWant, kindPlan, kindChunkWant, kindChunk:
		l.plans(m)
	case kindProbeWant, kindProbeSeen:
		l.panel(m)
	case kindLoad:
		l.loads(m)
	case kindEmergency, kindEmergencies:
		l.words(m)
	case kindAuditHead, kindAuditWant, kindAuditRecords:
		l.sealed(m)
	case kindKeyRing, kindKey:
		l.keys(m)
	case kindSecrets:
		l.secrets(m)
	default:
		l.drop("kind")
	}
}

func (l *loop) peerHeartbeat(m gossip.Message, now time.Time) {
	h, err := health.DecodeHeartbeat(m.Payload)
	if err != nil {
		l.drop("malformed")
		return
	}
	h.Director, h.Boot, h.Seq = m.From, m.Boot, m.Seq
	l.clocks.Note(m.From, h.Wall, now)
	before, _, _ := l.book.Peer(m.From)
	if err := l.book.Heartbeat(h, now); err != nil {
		l.drop(dropReason(err))
		return
	}
	l.publish.Acknowledged(h, now)
	if id, err := plan.ParseIdentity(h.Highest); err == nil {
		l.horizon.setPeer(m.From, id)
		if f := l.horizon.current(); f != nil && id.Compare(f.sealed.Identity) > 0 {
			l.newer.up()
		}
	}
	if before.Plan != h.Plan || before.Abstaining != h.Abstaining {
		l.changed() // a command may wait for it
	}
}

// doubt probes at once what a peer doubts, be it that it only has not heard yet.
func (l *loop) doubt(votes []health.Vote) {
	var doubted, awaited []health.Subject
	for _, v := range votes {
		switch {
		case v.To != health.Down && !v.Leans() || l.book.Chain(v.Subject).State() == health.Down:
		case v.Waits():
			awaited = append(awaited, v.Subject)
		default:
			doubted = append(doubted, v.Subject)
		}
	}
	l.prober.Doubt(doubted...)
	l.prober.Awaited(awaited...)
}

func (l *loop) drop(reason string) { l.shown.dropped.WithLabelValues(reason).Inc() }

// verify opens the ballots of a proof with the keys of the roster in force.
func (l *loop) verify() health.Verify {
	var of *plan.Sealed
	if f := l.horizon.current(); f != nil {
		of = f.sealed
	}
	return verifyBy(of)
}

// verifyBy opens the ballots of the directors of a plan's roster.
func verifyBy(of *plan.Sealed) health.Verify {
	return func(raw []byte) (health.Ballot, error) {
		if of == nil {
			return health.Ballot{}, errNoPlan
		}
		m, err := gossip.Open(of.Identity.Fleet, raw, keysOf(of.Plan))
		if err != nil {
			return health.Ballot{}, err
		}
		if m.Kind != kindBallot {
			return health.Ballot{}, errNotBallot // another kind's bytes must not be read as votes
		}
		b, err := health.DecodeVotes(m.Payload)
		b.Director, b.Boot, b.Seq, b.Raw = m.From, m.Boot, m.Seq, m.Raw
		return b, err
	}
}

// dropReason names why health refused a message, for the metric.
func dropReason(err error) string {
	switch {
	case errors.Is(err, health.ErrOvertaken):
		return "overtaken"
	case errors.Is(err, health.ErrStale):
		return "stale"
	case errors.Is(err, health.ErrForeign):
		return "foreign"
	default:
		return "malformed"
	}
}
