package director

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
)

// errEnough ends a reading of the store.
var errEnough = errors.New("enough for now")

// told is what people hear of an odd record, once it has been one for long.
func (o *oddRecord) told(now time.Time) string {
	if o.what == "" || now.Sub(o.since) < sealGrace {
		return ""
	}
	return o.what
}

// take seals what the store has of new records. Its error is the disk's.
func (s *sealer) take(ctx context.Context, p *plan.Sealed, now time.Time) error {
	if s.last >= p.Identity.Revision {
		s.odd = oddRecord{}
		return nil
	}
	if !s.usable() {
		return nil
	}
	var batch [][]byte
	var records []*plan.Audit
	octets, odd, full := 0, oddRecord{}, false
	chain := s.chain.Clone()
	err := s.records(ctx, s.last+1, func(revision uint64, raw []byte) error {
		if revision > p.Identity.Revision {
			return errEnough
		}
		if len(batch) >= sealBatch || octets >= sealOctets {
			full = true
			return errEnough
		}
		a, err := audit.ReadRecord(raw)
		if err == nil && a.GetRevision() != revision {
			err = fmt.Errorf("it says that it is of revision %d", a.GetRevision())
		}
		if err != nil {
			odd = oddRecord{
				what:  fmt.Sprintf("the audit record of revision %d in the store: %s, and nothing after it is sealed: `divert restore FILE --audit` puts it back from a backup", revision, err),
				until: revision, hopeless: true,
			}
			return errEnough
		}
		if revision == p.Identity.Revision && hashOr(a.GetPlan()) != p.Identity.Hash {
			odd = oddRecord{
				what:  fmt.Sprintf("the audit record of revision %d in the store is not that of the plan in force: it was altered", revision),
				until: revision, hopeless: true,
			}
			return errEnough
		}
		if f := chain.Judge(a); f != nil && !s.passes(now, f, revision) {
			odd = oddRecord{what: f.String(), until: revision}
			return errEnough
		}
		batch, records, octets = append(batch, raw), append(records, a), octets+len(raw)
		chain.Add(a)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		s.log.Debug("audit records cannot be read", slog.Any("err", err))
		return nil // it is said that the store is away
	}
	if err := s.seal(batch, records); err != nil {
		return err
	}
	if odd.what == "" && !full && s.last < p.Identity.Revision {
		odd = oddRecord{what: fmt.Sprintf("the store has no audit record of revision %d, which is in force", p.Identity.Revision), until: p.Identity.Revision, hopeless: true}
	}
	s.seek(odd, now)
	if full {
		s.wanted.up()
	}
	return nil
}

func hashOr(raw []byte) (h plan.Hash) {
	if len(raw) == len(h) {
		return plan.Hash(raw)
	}
	return h
}

// passes tells whether an odd record is sealed as it is: nobody who has more was found in
// all that time, and the log says for ever what is odd about it.
func (s *sealer) passes(now time.Time, f *audit.Finding, revision uint64) bool {
	if s.odd.until == revision && s.odd.what == f.String() && now.Sub(s.odd.since) >= sealGrace {
		return true
	}
	p := s.plan()
	return p != nil && len(core.Others(core.Voters(p.Plan), s.name)) == 0
}

// seal appends records that follow one another.
func (s *sealer) seal(batch [][]byte, records []*plan.Audit) error {
	if len(batch) == 0 {
		return nil
	}
	if err := s.tiles.Append(batch...); err != nil {
		return err
	}
	for _, a := range records {
		if f := s.chain.Add(a); f != nil {
			s.log.Log(context.Background(), levelOf(f), "a sealed audit record does not follow the one before", slog.String("what", f.String()))
			if len(s.findings) < maxFindings {
				s.findings = append(s.findings, *f)
			}
		}
		s.last = a.GetRevision()
	}
	return nil
}

func levelOf(f *audit.Finding) slog.Level {
	if f.Harmless {
		return slog.LevelInfo
	}
	return slog.LevelError
}

// seek asks the others, one after another, for records that the store does not have as
// they were.
func (s *sealer) seek(odd oddRecord, now time.Time) {
	if odd.what == "" {
		s.odd = oddRecord{}
		return
	}
	if s.odd.until != odd.until || s.odd.what != odd.what {
		odd.since, odd.without = now, map[string]bool{}
		s.odd = odd
		s.log.Warn("an audit record is missing or odd: the other directors are asked", slog.String("what", odd.what))
	}
	if s.odd.asked != "" && now.Sub(s.odd.askedAt) < sealTick+sealTick/2 {
		return
	}
	if s.odd.asked != "" {
		s.odd.without[s.odd.asked] = true // it did not answer
		s.odd.asked = ""
	}
	said, _ := s.witness.Said()
	for _, o := range said {
		if o.Head.Size > s.tiles.Size() && o.Fault == "" && !s.odd.without[o.Director] {
			s.odd.asked, s.odd.askedAt = o.Director, now
			s.ask(o.Director, kindAuditWant, binary.BigEndian.AppendUint64(nil, uint64(s.tiles.Size())))
			return
		}
	}
	if s.odd.hopeless && now.Sub(s.odd.since) >= sealGrace {
		clear(s.odd.without) // somebody may have sealed it meanwhile
	}
}

// message takes in what another director says.
func (s *sealer) message(ctx context.Context, m gossip.Message) {
	if s.tiles == nil {
		return
	}
	switch m.Kind {
	case kindAuditHead:
		if !s.allows(m.From + " head") {
			return // each costs a signature and a tile's reading; it is said again
		}
		signed, err := audit.OpenHead(m.Payload, audit.Keys{m.From: m.Key})
		if err != nil || signed.Fleet != s.fleet || len(signed.Strangers) > 0 {
			s.shown.refused.Inc()
			return
		}
		if s.witness.Hear(m.From, signed) {
			s.unsaved, s.heard = true, true
			s.wanted.up()
		}
	case kindAuditWant:
		s.give(m)
	case kindAuditRecords:
		if err := s.given(m); err != nil {
			s.fails(s.now(), err)
			s.publish()
			return
		}
		s.step(ctx)
	}
}

// allows bounds what is done for one director.
func (s *sealer) allows(what string) bool {
	l := s.limits[what]
	if l == nil {
		if len(s.limits) > 1000 {
			clear(s.limits)
		}
		l = rate.NewLimiter(sealAsked, 2*sealAsked)
		s.limits[what] = l
	}
	return l.AllowN(s.now(), 1)
}

// maxGiven is what one message holds of records, in octets.
const maxGiven = 400 << 10

// give sends another director records from a place on.
func (s *sealer) give(m gossip.Message) {
	if len(m.Payload) != 8 {
		s.shown.refused.Inc()
		return
	}
	from := int64(binary.BigEndian.Uint64(m.Payload))
	if !s.allows(m.From+" want") || from < 0 {
		return
	}
	var raws [][]byte
	octets := 0
	if from < s.tiles.Size() {
		found, err := s.tiles.Records(from / audit.TileWidth)
		if err != nil {
			return
		}
		for _, raw := range found[min(from%audit.TileWidth, int64(len(found))):] {
			if octets += len(raw); octets > maxGiven {
				break
			}
			raws = append(raws, raw)
		}
	}
	s.post(m.From, kindAuditRecords, encodeRecords(from, raws))
}

// given takes records that were asked for: those that follow the last one here, up to the
// one that the store lacks. Whether they are what all have is for the heads to show.
func (s *sealer) given(m gossip.Message) error {
	from, raws, err := decodeRecords(m.Payload)
	if err != nil {
		s.shown.refused.Inc()
		return nil
	}
	if s.odd.asked != m.From || from != s.tiles.Size() {
		return nil
	}
	s.odd.asked = ""
	var batch [][]byte
	var records []*plan.Audit
	chain := s.chain.Clone()
	for _, raw := range raws {
		a, err := audit.ReadRecord(raw)
		if err != nil || a.GetRevision() > s.odd.until || a.GetRevision() <= s.last {
			break
		}
		if p := s.plan(); p == nil || a.GetRevision() == p.Identity.Revision && hashOr(a.GetPlan()) != p.Identity.Hash {
			break
		}
		if f := chain.Judge(a); f != nil && !f.Harmless {
			break
		}
		chain.Add(a)
		batch, records = append(batch, raw), append(records, a)
	}
	if len(batch) == 0 {
		s.odd.without[m.From] = true
		return nil
	}
	s.log.Warn("audit records that the store does not have were taken from another director",
		slog.String("director", m.From), slog.Int("records", len(batch)), slog.Uint64("from", records[0].GetRevision()))
	return s.seal(batch, records)
}

// encodeRecords writes a place and the records from it on.
func encodeRecords(from int64, raws [][]byte) []byte {
	out := binary.BigEndian.AppendUint64(nil, uint64(from))
	for _, raw := range raws {
		out = binary.BigEndian.AppendUint32(out, uint32(len(raw)))
		out = append(out, raw...)
	}
	return out
}

var errRecords = errors.New("it is no list of audit records")

func decodeRecords(b []byte) (from int64, raws [][]byte, err error) {
	if len(b) < 8 {
		return 0, nil, errRecords
	}
	if from = int64(binary.BigEndian.Uint64(b)); from < 0 {
		return 0, nil, errRecords
	}
	for b = b[8:]; len(b) > 0; {
		if len(b) < 4 || len(raws) == audit.TileWidth {
			return 0, nil, errRecords
		}
		n := binary.BigEndian.Uint32(b)
		if n > audit.MaxRecord || int(n) > len(b)-4 {
			return 0, nil, errRecords
		}
		raws = append(raws, b[4:4+n])
		b = b[4+n:]
	}
	return from, raws, nil
}
