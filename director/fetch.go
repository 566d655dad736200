package director

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"time"

	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
)

// fetch asks one peer for the newest plan that any live peer names, while it is
// newer than ours.
func (l *librarian) fetch() {
	cur := l.horizon.current()
	if cur == nil {
		return
	}
	top, _ := l.horizon.named()
	if cur.sealed.Identity.Compare(top) >= 0 {
		l.wanted, l.chunks = nil, nil
		return
	}
	// Of one that looks dangerous over all that lies between, the next step is asked for.
	var want []byte
	between := l.refusals.lacking(top)
	if between {
		want = wantAfter(cur.sealed.Identity)
	}
	whole := l.wanted == nil || !between && l.wanted.Identity.Compare(top) < 0
	if whole && l.sought == top && time.Since(l.asked) < fetchTick*9/10 {
		return // heartbeats go on naming it; it is under way, or of no use here
	}
	for _, name := range l.horizon.holders(top) {
		if whole {
			if l.courier.post(name, kindPlanWant, want) {
				l.sought, l.asked = top, time.Now()
				return
			}
			continue
		}
		for _, h := range l.missing() {
			l.courier.post(name, kindChunkWant, h)
		}
		return
	}
}

func (l *librarian) missing() [][]byte {
	return lacking(chunksOf(l.wanted.Plan), l.chunks)
}

// chunksOf lists the hashes of all chunks that a plan needs.
func chunksOf(p *plan.Plan) [][]byte {
	var out [][]byte
	for _, ref := range p.Specs() {
		out = append(out, ref.GetChunks()...)
	}
	return out
}

// lacking gives the hashes that none of the chunks at hand has.
func lacking(hashes [][]byte, chunks map[plan.Hash][]byte) [][]byte {
	var out [][]byte
	for _, h := range hashes {
		if len(h) != len(plan.Hash{}) { // the store says what is wrong with it
			out = append(out, h)
		} else if _, ok := chunks[plan.Hash(h)]; !ok {
			out = append(out, h)
		}
	}
	return out
}

// message serves peers that want a plan, and takes what was wanted from them.
func (l *librarian) message(ctx context.Context, m gossip.Message) {
	cur := l.horizon.current()
	if cur == nil {
		return
	}
	switch m.Kind {
	case kindPlanWant:
		raw := l.missed.after(m.Payload, cur.sealed.Identity.Fleet)
		if raw == nil {
			raw = cur.sealed.Raw
		}
		l.courier.post(m.From, kindPlan, raw)
	case kindChunkWant:
		if len(m.Payload) == len(plan.Hash{}) {
			c, ok := l.vault.with(cur, cur.all())[plan.Hash(m.Payload)]
			if !ok {
				c = l.missed.chunk(plan.Hash(m.Payload))
			}
			if c != nil {
				l.courier.post(m.From, kindChunk, c)
			}
		}
	case kindPlan:
		l.received(ctx, cur, m.Payload)
	case kindChunk:
		l.vault.received(m.Payload)
		l.receivedChunk(ctx, m.Payload)
	}
}

func (l *librarian) received(ctx context.Context, cur *inForce, raw []byte) {
	s, err := plan.Open(raw)
	if err == nil {
		err = plan.Trusted(cur.sealed, s)
	}
	if err != nil {
		if l.said != err.Error() {
			l.said = err.Error()
			l.log.Warn("a peer's plan refused", slog.Any("err", err))
		}
		return
	}
	if s.Identity.Compare(cur.sealed.Identity) <= 0 || l.wanted != nil && s.Identity.Compare(l.wanted.Identity) <= 0 {
		return
	}
	l.wanted, l.chunks = s, maps.Clone(cur.all())
	l.complete(ctx)
	l.ask.up()
}

func (l *librarian) receivedChunk(ctx context.Context, c []byte) {
	if l.wanted == nil {
		return
	}
	sum := plan.Sum(c)
	for _, h := range chunksOf(l.wanted.Plan) {
		if bytes.Equal(h, sum[:]) { // which may be no hash at all: only the writer's signature was checked
			l.chunks[sum] = c
		}
	}
	l.complete(ctx)
	l.ask.up()
}

func (l *librarian) complete(ctx context.Context) {
	if len(l.missing()) > 0 {
		return
	}
	var docs [][]byte
	for _, ref := range l.wanted.Plan.Specs() {
		doc, err := store.Join(ref, l.chunks)
		if err != nil {
			l.log.Warn("a peer's plan is not whole", slog.Any("err", err))
			l.wanted, l.chunks = nil, nil
			return
		}
		docs = append(docs, doc)
	}
	l.offer(ctx, l.wanted, docs...)
	l.wanted, l.chunks = nil, nil
}
