package core

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
)

// What the leader writes by itself must leave room in the manifest for what people say. How
// much its lists take at most, in octets; beside them are how drains went (keptScopes), the
// settled words of operators (maxSettled of maxOperators), and the reasons of what it stopped.
const (
	poolsRoom = 64 << 10
	tripsRoom = 48 << 10
	spareRoom = 48 << 10 // that loads never take, for people
	whyRoom   = 1 << 10  // of one sentence that lists what is wrong
)

// largest is the most that a plan may have before its writer adds the reference of the spec.
const largest = MaxManifest - slack

// fit gives as many of a list, from its beginning, as have room in so many octets.
func fit[M proto.Message](list []M, room int) []M {
	for i, m := range list {
		if room -= entrySize(m); room < 0 {
			return list[:i]
		}
	}
	return list
}

// entrySize is what an entry of a list takes: its tag and its length beside itself.
func entrySize(m proto.Message) int { return proto.Size(m) + 4 }

func sizeOf[M proto.Message](list []M) (n int) {
	for _, m := range list {
		n += entrySize(m)
	}
	return n
}

// spillRoom is what the next plan has left for loads, beside what is kept free for people.
func (w *work) spillRoom() int {
	all := proto.CloneOf(w.next)
	all.Spill, all.Paces = nil, nil // how drains went gives way to them
	return max(0, largest-spareRoom-proto.Size(all))
}

// giveWay drops what the leader wrote by itself until the next plan is no larger than it may
// be, the least needed first, and gives its size: how drains went, round trips (by place it
// is, then), loads (then nothing is balanced: a person's word comes first), requests that are over, and words of
// operators that were settled long ago (the floor says of them what the list said).
func (w *work) giveWay() int {
	size := proto.Size(w.next)
	for size > largest && len(w.next.GetPaces()) > 0 {
		w.next.Paces = w.next.Paces[1:]
		size = proto.Size(w.next)
	}
	if s := w.next.GetSpill(); s != nil && size > largest {
		s.Trips = fit(s.GetTrips(), sizeOf(s.GetTrips())-(size-largest))
		if size = proto.Size(w.next); size > largest {
			s.Pools = fit(s.GetPools(), sizeOf(s.GetPools())-(size-largest))
			size = proto.Size(w.next)
		}
	}
	for size > largest {
		i := slices.IndexFunc(w.next.GetRequests(), func(r *plan.Request) bool { return r.GetState() != plan.Request_OPEN })
		if i < 0 {
			break
		}
		w.next.Requests = slices.Delete(w.next.Requests, i, i+1)
		size = proto.Size(w.next)
	}
	for _, o := range w.next.GetOperators() {
		for size > largest && len(o.GetSettled()) > 0 {
			forget(o, 1)
			size = proto.Size(w.next)
		}
	}
	return size
}

// cut keeps a sentence to what a plan has room for.
func cut(text string) string {
	if len(text) <= whyRoom {
		return text
	}
	end := whyRoom - len("…")
	for end > 0 && text[end]&0xC0 == 0x80 { // not within a character
		end--
	}
	return text[:end] + "…"
}

// forget drops the eldest settled words of an operator; its floor says that they are.
func forget(o *plan.Operator, n int) {
	for _, s := range o.GetSettled()[:n] { // not in the order of their times, where a clock was wrong
		o.Floor = max(o.Floor, s.GetCounter())
	}
	o.Settled = o.Settled[n:]
}
