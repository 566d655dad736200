package director

import (
	"bytes"
	"context"
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
		// What was collected is on others' disks, and is waited for.
		return s.kept.store == nil || !s.kept.at.Before(s.odd.since) && s.last >= s.kept.head.Collected
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

// message takes in what another director says.
func (s *sealer) message(ctx context.Context, m gossip.Message) {
	if s.tiles == nil {
		return
	}
	switch m.Kind {
	case kindAuditHead:
		if !s.allows(m.From + " head " + headKind(m.Payload)) {
			return // each costs a signature and a tile's reading; it is said again
		}
		signed, err := audit.OpenHead(m.Payload, audit.Keys{m.From: m.Key})
		if err == nil && signed.Fleet == s.fleet+autosFleet && len(signed.Strangers) == 0 {
			s.hearAuto(m, signed)
			return
		}
		if err != nil || signed.Fleet != s.fleet || len(signed.Strangers) > 0 {
			s.shown.refused.Inc()
			return
		}
		s.heardAt[m.From] = s.now()
		if s.witness.Hear(m.From, signed) {
			s.unsaved, s.heard = true, true
			s.wanted.up()
		}
	case kindAuditWant:
		s.give(m)
	case kindAuditRecords:
		if err := s.given(ctx, m); err != nil {
			s.fails(s.now(), err)
			s.publish()
			return
		}
		s.step(ctx)
	}
}

// headKind tells a head of transitions from one of the log, by its looks alone.
func headKind(payload []byte) string {
	if first, _, _ := bytes.Cut(payload, []byte("\n")); bytes.HasSuffix(first, []byte(autosFleet)) {
		return autosFleet
	}
	return ""
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
