package health

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// hb is a heartbeat of a peer that says what it holds of d1's votes.
func hb(from string, boot, seq, holds uint64) Heartbeat {
	return Heartbeat{Director: from, Boot: boot, Seq: seq, Heard: []Heard{{"d1", 1, holds}}}
}

// sends gives to whom and when, from 0 up to a second and a half.
func sends(p *Publisher, before func(time.Duration)) (out []string) {
	for d := time.Duration(0); d <= 1500*ms; d += 10 * ms {
		if before != nil {
			before(d)
		}
		for _, o := range p.Due(at(d)) {
			out = append(out, o.To+"@"+d.String())
		}
	}
	return out
}

func TestPublisherRepeatsUntilAcknowledged(t *testing.T) {
	cast := func(p *Publisher) { p.Cast([]Vote{{Subject: signal(1), N: 1, To: Down}}, epoch) }
	tests := []struct {
		name  string
		peers []string
		live  []string
		ack   func(p *Publisher, d time.Duration)
		want  []string
	}{
		{"alone, once", nil, nil, nil, []string{"@0s"}},
		{"to who never answered, once", []string{"d2"}, nil, nil, []string{"@0s"}},
		{"to one until it knows", []string{"d2"}, []string{"d2"}, func(p *Publisher, d time.Duration) {
			if d == 500*ms {
				p.Acknowledged(hb("d2", 1, 9, p.Digest()), at(d))
			}
		}, []string{"@0s", "d2@50ms", "d2@150ms", "d2@400ms"}},
		{"to the one that lacks it", []string{"d2", "d3"}, []string{"d2", "d3"}, func(p *Publisher, d time.Duration) {
			if d == 40*ms {
				p.Acknowledged(hb("d3", 1, 9, p.Digest()), at(d))
			}
			if d == 200*ms {
				p.Acknowledged(hb("d2", 1, 9, p.Digest()), at(d))
			}
		}, []string{"@0s", "d2@50ms", "d2@150ms"}},
		{"to all at once if all lack it", []string{"d2", "d3"}, []string{"d2", "d3"}, func(p *Publisher, d time.Duration) {
			if d == 160*ms {
				p.Acknowledged(hb("d2", 1, 9, p.Digest()), at(d))
				p.Acknowledged(hb("d3", 1, 9, p.Digest()), at(d))
			}
		}, []string{"@0s", "@50ms", "@150ms"}},
		{"no more to one that is gone", []string{"d2"}, []string{"d2"}, nil, []string{"@0s", "d2@50ms", "d2@150ms", "d2@400ms", "d2@650ms", "d2@900ms", "d2@1.15s"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			p := NewPublisher("d1", 1, tc.peers)
			for _, name := range tc.live {
				p.Acknowledged(hb(name, 1, 1, 0), at(-750*ms))
			}
			cast(p)
			if got := sends(p, func(d time.Duration) {
				if tc.ack != nil {
					tc.ack(p, d)
				}
			}); !slices.Equal(got, tc.want) {
				t.Errorf("sent %v, want %v", got, tc.want)
			}
		})
	}
}

func TestPublisherSaysNothingTwice(t *testing.T) {
	p := NewPublisher("d1", 1, []string{"d2"})
	p.Acknowledged(hb("d2", 1, 1, 0), epoch)
	p.Cast([]Vote{{Subject: signal(1), N: 1, To: Up}, {Subject: signal(2), N: 1, To: Unknown}}, epoch)
	out := p.Due(epoch)
	if len(out) != 1 || len(out[0].Votes) != 1 {
		t.Fatalf("Due = %+v", out)
	}
	p.Acknowledged(hb("d2", 1, 2, p.Digest()), epoch)
	p.Cast([]Vote{{Subject: signal(1), N: 1, To: Up}}, epoch)
	if out := p.Due(at(time.Second)); len(out) != 0 || !p.Next(at(time.Second)).IsZero() {
		t.Errorf("Due = %+v", out)
	}
}

func TestPublisherFitsADatagram(t *testing.T) {
	p := NewPublisher("d1", 1, nil)
	var votes []Vote
	for i := range 700 {
		s := Subject{Kind: KindCheck, Addr: netipFrom([16]byte{0x20, 1, 0x0d, 0xb8, 14: byte(i >> 8), 15: byte(i)}, 443), Def: "0123456789abcdef"}
		votes = append(votes, Vote{Subject: s, N: 1 << 40, To: Up})
	}
	p.Cast(votes, epoch)
	seen := 0
	for _, o := range p.Due(epoch) {
		if len(o.Payload) > maxPayload || len(o.Votes) > maxBallotVotes {
			t.Errorf("a ballot of %d octets, %d votes", len(o.Payload), len(o.Votes))
		}
		b, err := DecodeVotes(o.Payload)
		if d := diff(b.Votes, o.Votes); d != "" || err != nil {
			t.Errorf("payload: %v %s", err, d)
		}
		seen += len(o.Votes)
	}
	if seen != 700 {
		t.Errorf("%d votes sent of 700", seen)
	}
}

// TestPublisherFillsARestartedPeer: who holds nothing, or something unknown for
// a second, is sent everything, with cover.
func TestPublisherFillsARestartedPeer(t *testing.T) {
	for _, holds := range []uint64{0, 12345} {
		p := NewPublisher("d1", 1, []string{"d2"})
		p.Cast([]Vote{{Subject: signal(1), N: 1, To: Up}, {Subject: signal(2), N: 1, To: Up}}, epoch)
		p.Due(epoch)
		p.Acknowledged(hb("d2", 1, 1, p.Digest()), epoch)
		if out := p.Due(at(time.Second)); len(out) != 0 {
			t.Fatalf("Due = %+v", out)
		}
		var full []Outgoing
		for i := range 8 {
			now := at(time.Second + time.Duration(i)*250*ms)
			p.Acknowledged(hb("d2", 2, uint64(i+1), holds), now)
			full = append(full, p.Due(now)...)
		}
		if len(full) == 0 || full[len(full)-1].To != "d2" {
			t.Fatalf("holding %d: sent %+v", holds, full)
		}
		last := full[len(full)-1]
		if len(last.Votes) != 2 || last.Cover == nil || *last.Cover != (Range{0, ^uint64(0)}) {
			t.Errorf("holding %d: sent %+v", holds, last)
		}
	}
}

// TestPublisherEndsAFill: votes that change all the time, as under loss, leave a peer a
// version behind. That it holds all of one since it was sent everything is enough to go back
// to differences; that it holds one of before is not.
func TestPublisherEndsAFill(t *testing.T) {
	for _, tc := range []struct {
		name  string
		holds func(before, behind uint64) uint64
		whole bool
	}{
		{"what it held before", func(before, _ uint64) uint64 { return before }, true},
		{"all of the version before", func(_, behind uint64) uint64 { return behind }, false},
		{"something unknown", func(_, _ uint64) uint64 { return 12345 }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := NewPublisher("d1", 1, []string{"d2"})
			change := func(now time.Duration, suspicion uint16) uint64 {
				p.Cast([]Vote{{Subject: signal(1), N: 1, To: Up, Suspicion: suspicion}, {Subject: signal(2), N: 1, To: Up}}, at(now))
				return p.Digest()
			}
			seq, now := uint64(0), time.Duration(0)
			for end := 2 * time.Second; now < end; now += 250 * ms { // nothing known: it is sent everything
				seq++
				p.Acknowledged(hb("d2", 1, seq, 12345), at(now))
				p.Due(at(now))
				if now == 0 {
					change(now, 1)
				}
			}
			before := change(now, 2)
			whole := 0
			for end := now + 8*time.Second; now < end; now += 250 * ms { // until a set is sent again
				seq++
				p.Acknowledged(hb("d2", 1, seq, 12345), at(now))
				if out := p.Due(at(now)); len(out) > 0 && out[len(out)-1].Cover != nil {
					break
				}
			}
			behind := change(now, 3)
			change(now, 4)
			p.Due(at(now))
			for end := now + 20*time.Second; now < end; now += 250 * ms {
				seq++
				p.Acknowledged(hb("d2", 1, seq, tc.holds(before, behind)), at(now))
				behind = p.Digest()
				change(now, uint16(seq))
				for d := time.Duration(0); d < 250*ms; d += 50 * ms {
					for _, out := range p.Due(at(now + d)) {
						if out.Cover != nil {
							whole++
						}
					}
				}
			}
			if (whole > 0) != tc.whole {
				t.Errorf("%d whole sets in 20 s", whole)
			}
		})
	}
}

// TestPublisherRepeatsAfterAFill: a vote that was lost while a peer was sent everything, at
// growing distances, is repeated as soon as the peer says that it holds all from before.
func TestPublisherRepeatsAfterAFill(t *testing.T) {
	p := NewPublisher("d1", 1, []string{"d2"})
	p.Cast([]Vote{{Subject: signal(1), N: 1, To: Up}, {Subject: signal(2), N: 1, To: Up}}, epoch)
	seq, now := uint64(0), time.Duration(0)
	for fills := 0; fills < 6; now += 250 * ms { // until they are 8 s apart
		if now > time.Minute {
			t.Fatalf("%d whole sets in a minute", fills)
		}
		seq++
		p.Acknowledged(hb("d2", 1, seq, 12345), at(now))
		for _, out := range p.Due(at(now)) {
			if out.Cover != nil {
				fills++
			}
		}
	}
	holds := p.Digest()
	lost := Vote{Subject: signal(1), N: 1, To: Up, Suspicion: 9}
	p.Cast([]Vote{lost}, at(now))
	p.Due(at(now))
	p.Acknowledged(hb("d2", 1, seq+1, holds), at(now))
	next := p.Next(at(now))
	if wait := next.Sub(at(now)); wait < 0 || wait > repeatThen {
		t.Fatalf("repeated after %v", wait)
	}
	out := p.Due(next)
	if len(out) != 1 || out[0].To != "d2" || out[0].Cover != nil || !slices.Equal(out[0].Votes, []Vote{lost}) {
		t.Errorf("repeated %+v", out)
	}
}

// TestPublisherAndBookAgree: over any loss, reordering, restart and partition,
// once messages pass the peer holds exactly the votes in force.
func TestPublisherAndBookAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roster := rosterOf(2)
		p := NewPublisher("d1", 1, []string{"d1", "d2"})
		peer := NewBook("d2", roster, 0)
		peer.SetSubjects(subjectsOf(4), epoch)
		want := map[Subject]Vote{}
		now, seq, peerSeq, peerBoot := time.Duration(0), uint64(0), uint64(0), uint64(1)
		beatAt := time.Duration(0)
		var flying []Ballot
		step := func(loss bool) {
			now += 50 * ms
			for _, o := range p.Due(at(now)) {
				seq++
				flying = append(flying, signPayload("d1", 1, seq, o.Payload))
			}
			if loss {
				i := len(flying)
				if i > 0 && rapid.Bool().Draw(t, "lost") {
					flying = flying[:i-1]
				}
				if rapid.Bool().Draw(t, "reordered") {
					slices.Reverse(flying)
				}
			}
			if !loss || rapid.Bool().Draw(t, "delivered") {
				for _, b := range flying {
					_, _ = peer.Ballot(b, at(now))
				}
				flying = nil
			}
			if now-beatAt >= 250*ms {
				beatAt = now
				if !loss || rapid.Bool().Draw(t, "acknowledged") {
					peerSeq++
					p.Acknowledged(Heartbeat{Director: "d2", Boot: peerBoot, Seq: peerSeq, Heard: peer.Heard()}, at(now))
				}
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0: // a partition
				now += time.Duration(rapid.IntRange(1, 5).Draw(t, "seconds")) * time.Second
				flying = nil
			case 1: // the peer restarts
				peer = NewBook("d2", roster, 0)
				peer.SetSubjects(subjectsOf(4), epoch)
				peerBoot, peerSeq = peerBoot+1, 0
			default:
				s := signal(rapid.IntRange(1, 5).Draw(t, "subject")) // 5 is not in the peer's spec
				v := Vote{Subject: s, N: uint64(rapid.IntRange(1, 3).Draw(t, "n")), To: State(rapid.IntRange(0, 2).Draw(t, "to"))}
				if v.To != Unknown {
					v.Suspicion = rapid.SampledFrom([]uint16{0, 0, late, 432, maxSuspicion}).Draw(t, "suspicion")
				}
				p.Cast([]Vote{v}, at(now))
				if want[s] = v; v.To == Unknown {
					delete(want, s)
				}
			}
			step(true)
		}
		for range 400 { // 20 s without faults
			step(false)
		}
		if got := peer.Heard(); (len(got) == 1 && got[0].Votes != p.Digest()) || (len(got) == 0 && p.Digest() != 0) {
			t.Fatalf("the peer holds %v, in force is %x", got, p.Digest())
		}
		for _, s := range subjectsOf(5) {
			state := Unknown
			if o := peer.Opinions(s, at(now)); len(o) > 0 {
				state = o[0].State
			}
			if state != want[s].To {
				t.Fatalf("the peer holds %s for %s, in force is %s", state, s, want[s].To)
			}
		}
		if out := p.Due(at(now)); len(out) != 0 || !p.Next(at(now)).IsZero() {
			t.Fatalf("still sending: %v, next %v", out, p.Next(at(now)))
		}
		if len(p.votes) != len(want) || p.gone != 0 {
			t.Fatalf("%d votes kept, %d of them withdrawals; %d are in force", len(p.votes), p.gone, len(want))
		}
	})
}

// TestLargeFleetHeartbeatsFit: one that is too large is never sent, and a fleet
// without heartbeats is one of isolated directors.
func TestLargeFleetHeartbeatsFit(t *testing.T) {
	for _, size := range []int{1, 2, 9, 30, 200} {
		roster := make([]Director, size)
		for i := range roster {
			roster[i] = Director{Name: fmt.Sprintf("%0100d", i), Site: "dc"} // gossip's longest
		}
		b := NewBook(roster[0].Name, roster, 0)
		for _, d := range roster[1:] {
			_ = b.Heartbeat(Heartbeat{Director: d.Name, Boot: 1 << 32, Seq: 1}, epoch)
		}
		identity := strings.Repeat("x", 150)
		named := map[string]int{}
		for range size {
			h := Heartbeat{Heard: b.Heard(), Plan: identity, Highest: identity, Wall: epoch, Abstaining: true}
			payload := EncodeHeartbeat(h)
			if len(payload) > 1400-228 {
				t.Fatalf("%d directors: a heartbeat of %d octets", size, len(payload))
			}
			if _, err := DecodeHeartbeat(payload); err != nil {
				t.Fatal(err)
			}
			for _, heard := range h.Heard {
				named[heard.Director]++
			}
		}
		if len(named) != size-1 {
			t.Errorf("%d directors: %d peers are acknowledged", size, len(named))
		}
	}
}

// TestLiarIsNotSentAllEachTime: a peer that forgets all it held with each
// heartbeat, or claims another boot, costs no more than one that is slow.
func TestLiarIsNotSentAllEachTime(t *testing.T) {
	for _, lie := range []string{"forgets", "restarts", "restarts and talks nonsense"} {
		p := NewPublisher("d1", 1, []string{"d1", "d2"})
		var votes []Vote
		for i := range 200 {
			votes = append(votes, Vote{Subject: Subject{Kind: KindSignal, Addr: at4(i, 443)}, N: 1, To: Up})
		}
		p.Cast(votes, at(0))
		p.Due(at(0))
		sent := 0
		for i := range uint64(10000) {
			now := at(time.Duration(i) * ms)
			boot, holds := uint64(1), p.Digest()
			if i%2 == 0 {
				holds = 0
			}
			if lie != "forgets" {
				boot, holds = i+1, 0
			}
			if lie == "restarts and talks nonsense" {
				holds = i * 7919
			}
			p.Acknowledged(hb("d2", boot, i+1, holds), now)
			for _, out := range p.Due(now) {
				sent += len(out.Votes)
			}
		}
		if most := 25 * len(votes); sent > most {
			t.Errorf("%s: %d votes sent in 10 s, want at most %d", lie, sent, most)
		}
	}
}
