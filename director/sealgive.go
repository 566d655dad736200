package director

import (
	"cmp"
	"context"
	"encoding/binary"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
)

// maxGiven is what one message holds of records, in octets.
const maxGiven = 400 << 10

// inquiry is whom this director asks for records, one after another.
type inquiry struct {
	asked   string // who is asked now; "" = nobody
	at      time.Time
	without map[string]bool // who did not answer, or had nothing that holds
}

// next asks one more, from a place on; false: one is asked, or there is nobody left.
func (a *inquiry) next(s *sealer, now time.Time, from int64) bool {
	if a.asked != "" && now.Sub(a.at) < sealTick+sealTick/2 {
		return false
	}
	if a.without == nil {
		a.without = map[string]bool{}
	}
	if a.asked != "" {
		a.without[a.asked] = true // it did not answer
		a.asked = ""
	}
	said, _ := s.witness.Said()
	for _, o := range said {
		if o.Head.Size > from && (o.Fault == "" || s.lost != "") && !a.without[o.Director] { // who is wrong while this log is? What comes is proved
			a.asked, a.at = o.Director, now
			own := int64(0)
			if s.head != nil {
				own = s.headOf.Size
			}
			s.ask(o.Director, kindAuditWant, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(from)), uint64(own)))
			return true
		}
	}
	return false
}

// seek asks the others, one after another, for records that the store does not have as
// they were.
func (s *sealer) seek(odd oddRecord, now time.Time) {
	if odd.what == "" {
		s.odd = oddRecord{}
		return
	}
	if s.odd.until != odd.until || s.odd.what != odd.what {
		odd.since = now
		s.odd = odd
		s.log.Warn("an audit record is missing or odd: the other directors are asked", slog.String("what", odd.what))
	}
	if !s.odd.asking.next(s, now, s.tiles.Size()) && s.odd.asking.asked == "" && now.Sub(s.odd.since) >= sealGrace {
		clear(s.odd.asking.without) // somebody may have sealed it meanwhile
	}
}

// give sends another director records from a place on, with the proofs that they are
// under what this one, those that agree with it and the asker itself have signed.
func (s *sealer) give(m gossip.Message) {
	if len(m.Payload) < 16 || len(m.Payload) > 16+253 {
		s.shown.refused.Inc()
		return
	}
	from, own := int64(binary.BigEndian.Uint64(m.Payload)), int64(binary.BigEndian.Uint64(m.Payload[8:]))
	owner, want := string(m.Payload[16:]), " want"
	if owner != "" {
		want = " want transitions" // neither keeps the other waiting
	}
	if !s.allows(m.From+want) || from < 0 || own < 0 {
		return
	}
	if owner != "" {
		s.giveAuto(m, from, owner)
		return
	}
	if s.lost != "" {
		return
	}
	g := audit.Given{From: from}
	if from < s.tiles.Size() {
		found, err := s.tiles.Records(from / audit.TileWidth)
		if err != nil {
			return
		}
		octets := 0
		for _, raw := range found[min(from%audit.TileWidth, int64(len(found))):] {
			if octets += len(raw); octets > maxGiven {
				break
			}
			g.Records = append(g.Records, raw)
		}
	}
	if len(g.Records) > 0 {
		g.Under = s.proofs(from, from+int64(len(g.Records)), own)
	}
	s.post(m.From, kindAuditRecords, g.Encode())
}

// proofs shows that records are under heads: that which the asker has signed, this
// director's, and those of others, the longest first.
func (s *sealer) proofs(from, to, own int64) (out []audit.Under) {
	tree, held := s.tiles.Tree(), map[int64][]tlog.Hash{}
	leaves := func(tile int64) ([]tlog.Hash, error) {
		if held[tile] != nil {
			return held[tile], nil
		}
		found, err := s.tiles.Leaves(tile)
		if err == nil {
			held[tile] = found
		}
		return found, err
	}
	add := func(head []byte, size int64) {
		if size <= from || size > tree.Size() || len(out) == audit.MaxUnder {
			return
		}
		u, err := audit.Prove(tree, leaves, head, size, from, min(to, size))
		if err != nil {
			s.log.Debug("audit records are given without a proof", slog.Any("err", err))
			return
		}
		out = append(out, u)
	}
	add(nil, own)
	if s.head != nil {
		add(s.head, s.headOf.Size)
	}
	said, _ := s.witness.Said()
	slices.SortStableFunc(said, func(a, b audit.Said) int { return cmp.Compare(b.Head.Size, a.Head.Size) })
	for _, o := range said {
		if o.Sides == audit.Agrees && o.Fault == "" {
			add(o.Raw, o.Head.Size)
		}
	}
	return out
}

// given takes records that were asked for.
func (s *sealer) given(ctx context.Context, m gossip.Message) error {
	g, err := audit.DecodeGiven(m.Payload)
	if err != nil {
		s.shown.refused.Inc()
		return nil
	}
	if l, signed := s.autoOf(g); l != nil {
		s.takeAuto(m, l, signed, g)
		return nil
	}
	if s.repair.asking.asked == m.From && g.From == s.repair.from {
		s.repair.asking.asked = ""
		return s.repaired(ctx, m.From, g)
	}
	if s.odd.asking.asked != m.From || g.From != s.tiles.Size() {
		return nil
	}
	s.odd.asking.asked = ""
	proved, n := s.believed(g)
	var batch [][]byte
	var records []*plan.Audit
	chain := s.chain.Clone()
	for _, raw := range g.Records[:n] {
		a, err := audit.ReadRecord(raw)
		if err != nil || a.GetRevision() > s.odd.until || a.GetRevision() <= s.last {
			break
		}
		if p := s.plan(); p == nil || a.GetRevision() == p.Identity.Revision && hashOr(a.GetPlan()) != p.Identity.Hash {
			break
		}
		if f := chain.Judge(a); f != nil && !f.Harmless && !proved {
			break // one director's word is not enough for what does not follow
		}
		chain.Add(a)
		batch, records = append(batch, raw), append(records, a)
	}
	if len(batch) == 0 {
		s.odd.asking.without[m.From] = true
		return nil
	}
	how := "proved under what was signed before"
	if !proved {
		how = "on its word alone: nobody else who has them is there"
	}
	s.log.Warn("audit records that the store does not have were taken from another director",
		slog.String("director", m.From), slog.Int("records", len(batch)), slog.Uint64("from", records[0].GetRevision()), slog.String("how", how))
	return s.seal(batch, records)
}

// aloneAfter is for how long two directors' signatures are looked for, before the word of
// one is taken for records that follow.
const aloneAfter = sealGrace / 2

// believed says how many of what was given, from the first on, count as the log's: they
// are under a head that this director has itself signed once, or under heads of two
// others, or of all where there is one. When no second one was found for long, those
// under one's head count, too, and proved is false.
func (s *sealer) believed(g audit.Given) (proved bool, n int64) {
	p := s.plan()
	if p == nil {
		return false, 0
	}
	keys, signers := keysFor(p), make([][]string, len(g.Under))
	places := g.Proven(s.tiles.Tree(), func() func(audit.Under) (audit.Head, bool) {
		i := -1
		return func(u audit.Under) (audit.Head, bool) {
			i++
			if len(u.Head) == 0 {
				signers[i] = []string{s.name}
				return s.headOf, s.head != nil
			}
			signed, err := audit.OpenHead(u.Head, keys)
			if err != nil || signed.Fleet != s.fleet {
				return audit.Head{}, false
			}
			signers[i] = signed.Directors
			return signed.Head, true
		}
	}())
	count := func(least int) (most int64) {
		for _, place := range places {
			who := map[string]bool{}
			for j, other := range places {
				if place > 0 && other >= place {
					for _, name := range signers[j] {
						who[name] = true
					}
				}
			}
			if len(who) >= least || who[s.name] {
				most = max(most, place)
			}
		}
		return most
	}
	need := min(2, max(1, len(core.Others(core.Voters(p.Plan), s.name))))
	if n = count(need); n > 0 {
		return true, n
	}
	if s.now().Sub(s.odd.since) >= aloneAfter {
		return false, count(1)
	}
	return false, 0
}
