package core

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
)

// long is a name of n octets that tells i.
func long(i, n int) string { return fmt.Sprintf("%0*d", n, i) }

// fill makes every list of a plan that grows by what the leader writes as long as it may be.
func fill(p *plan.Plan, now time.Time) {
	at := timestamppb.New(now)
	p.Spill = &plan.Spill{Number: 9, At: at}
	for i := range maxPools {
		p.Spill.Pools = append(p.Spill.Pools, &plan.Pool{Scope: "service/" + long(i, 63) + "@" + long(i, 63), Load: 1 << 40, Share: 50, Refuses: 50, Since: at})
	}
	for i := range maxTrips {
		p.Spill.Trips = append(p.Spill.Trips, &plan.Trip{Site: long(i, 63), Cluster: long(i, 63), Millis: 60_000})
	}
	p.Paces = nil
	for i := range keptScopes {
		h := &plan.PaceHistory{Scope: "cluster/" + long(i, 63), Wait: durationpb.New(longestWait)}
		for k := range keptSteps {
			h.Moves = append(h.Moves[:min(k, mostSteps-1):min(k, mostSteps-1)], 1000)
			s := &plan.StepHistory{Keep: uint32(k)}
			for range keptLate {
				s.Late = append(s.Late, 86_400_000)
			}
			h.Steps = append(h.Steps, s)
		}
		p.Paces = append(p.Paces, h)
	}
	p.Operators = nil
	for i := range maxOperators {
		o := &plan.Operator{Name: long(i, 63), Key: public(long(i, 30)), Author: "alice", Since: at, Revision: 1}
		for n := range maxSettled {
			o.Settled = append(o.Settled, &plan.Settled{Id: long(n, 128), Ends: long(n, 128), Counter: uint64(n + 1), At: at})
		}
		p.Operators = append(p.Operators, o)
	}
	p.Rollout = &plan.Rollout{State: plan.Rollout_STOPPED, Why: strings.Repeat("x", whyRoom), Revision: 1, Start: at, End: at}
}

// TestRoomForPeople: whatever the leader has written by itself, a person's drain has room in
// the plan, as have its steps and its end (S18; SEMANTICS section 4, The plan). Precedence:
// person > failure > balancing.
func TestRoomForPeople(t *testing.T) {
	w := newWorld(t)
	w.seen()
	brim := proto.CloneOf(w.s.Plan.Plan)
	fill(brim, w.s.Now)
	if n := proto.Size(brim); n < MaxManifest {
		t.Fatalf("all lists together have %d octets only: the test shows nothing", n)
	}
	sealed, err := plan.Sign(brim, "d1", keyOf("d1"))
	if err != nil {
		t.Fatal(err)
	}
	w.s.Plan = sealed
	w.seen()
	w.do(w.paced("cluster/fra", 10, 100))
	w.next(20 * time.Second)
	if w.at("cluster/fra") != "MOVING 900" {
		t.Fatalf("at %s", w.at("cluster/fra"))
	}
	w.do(w.drain("service/shop@sin"))
	w.do(Command{Verb: Freeze, Reason: "x", For: time.Minute})
	w.do(Command{Verb: Undrain, Scope: "service/shop@sin"})
	p := w.s.Plan.Plan
	if n := proto.Size(p); n > largest {
		t.Errorf("%d octets, want %d at most", n, largest)
	}
	if len(p.GetSpill().GetPools()) == 0 && len(p.GetOperators()[0].GetSettled()) == 0 {
		t.Error("more went than had to")
	}
}

// TestSettledGiveWay: where nothing else can, the eldest words of operators go, and the floor
// says of them that they are settled: none of them drains anything again (S7).
func TestSettledGiveWay(t *testing.T) {
	w := newWorld(t)
	sealed := proto.CloneOf(w.s.Plan.Plan)
	fill(sealed, w.s.Now)
	sealed.Spill, sealed.Paces = nil, nil
	sealed.Rollout.Reason = strings.Repeat("x", largest-proto.Size(sealed)+(4<<10))
	trial := &work{next: sealed}
	if n := trial.giveWay(); n > largest {
		t.Fatalf("%d octets", n)
	}
	o := sealed.GetOperators()[0]
	gone := maxSettled - len(o.GetSettled())
	if gone == 0 || o.GetFloor() != uint64(gone) || len(sealed.GetOperators()[maxOperators-1].GetSettled()) != maxSettled {
		t.Errorf("%d of the first went, floor %d", gone, o.GetFloor())
	}
}

// TestSpillLeavesRoom: what the leader writes of loads takes no more than its part, and
// nothing of what is kept free for people.
func TestSpillLeavesRoom(t *testing.T) {
	full := &plan.Plan{}
	fill(full, time.Unix(0, 0))
	if n := sizeOf(fit(full.GetSpill().GetPools(), poolsRoom)); n > poolsRoom || n < poolsRoom-200 {
		t.Errorf("pools take %d octets", n)
	}
	if got := fit(full.GetSpill().GetTrips(), 0); len(got) != 0 {
		t.Errorf("%d trips without room", len(got))
	}
	w := &work{next: &plan.Plan{Writer: strings.Repeat("x", 100<<10)}}
	if got, want := w.spillRoom(), largest-spareRoom-100<<10; got > want || got < want-16 {
		t.Errorf("room %d, want %d", got, want)
	}
	w.next.Writer = strings.Repeat("x", largest)
	if got := w.spillRoom(); got != 0 {
		t.Errorf("room %d in a full plan", got)
	}
	if rest := spareRoom + poolsRoom + tripsRoom; rest > largest {
		t.Errorf("the parts come to %d, more than the %d of a plan", rest, largest)
	}
}

// TestCut: a sentence in the plan has its bound, and ends with a whole character.
func TestCut(t *testing.T) {
	if got := cut("short"); got != "short" {
		t.Errorf("got %q", got)
	}
	for n := range 4 {
		got := cut(strings.Repeat("x", n) + strings.Repeat("ü", whyRoom))
		if len(got) > whyRoom || len(got) < whyRoom-4 || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
			t.Errorf("%d octets: %q", len(got), got[len(got)-8:])
		}
	}
}
