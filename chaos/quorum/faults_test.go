package quorum

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/divertdns/divert/chaos/relay"
)

// fault is something that befalls the members, until they are mended.
type fault struct {
	name   string
	strike func(e *etcd, r *rand.Rand)
	least  time.Duration // it lasts so long, and up to three times as long
}

func any3(r *rand.Rand) int { return 1 + r.IntN(members) }

var faults = []fault{
	{"kill one", func(e *etcd, r *rand.Rand) { e.kill(any3(r)) }, 100 * time.Millisecond},
	{"kill one", func(e *etcd, r *rand.Rand) { e.kill(any3(r)) }, time.Second},
	{"kill two", func(e *etcd, r *rand.Rand) { // no quorum (F10)
		i := any3(r)
		e.kill(i)
		e.kill(i%members + 1)
	}, 200 * time.Millisecond},
	{"kill all", func(e *etcd, _ *rand.Rand) {
		for i := 1; i <= members; i++ {
			e.kill(i)
		}
	}, 10 * time.Millisecond},
	{"pause one", func(e *etcd, r *rand.Rand) { e.signal(any3(r), syscall.SIGSTOP) }, 500 * time.Millisecond},
	{"pause two", func(e *etcd, r *rand.Rand) {
		i := any3(r)
		e.signal(i, syscall.SIGSTOP)
		e.signal(i%members+1, syscall.SIGSTOP)
	}, 300 * time.Millisecond},
	{"part one from the members", func(e *etcd, r *rand.Rand) { // and directors go on asking it
		i := any3(r)
		for j := 1; j <= members; j++ {
			e.Cut(member(i), member(j))
			e.Cut(member(j), member(i))
		}
	}, 700 * time.Millisecond},
	{"part one from all", func(e *etcd, r *rand.Rand) {
		i := any3(r)
		e.Cut(member(i), relay.Any)
		e.Cut(relay.Any, member(i))
	}, 700 * time.Millisecond},
	{"part one way", func(e *etcd, r *rand.Rand) { // what this one opens: it hears less than it says
		e.Cut(member(any3(r)), relay.Any)
	}, 700 * time.Millisecond},
	{"part two one way", func(e *etcd, r *rand.Rand) {
		i := any3(r)
		e.Cut(member(i), member(i%members+1))
	}, 700 * time.Millisecond},
	{"part a director from all", func(e *etcd, r *rand.Rand) { e.Cut(named(1+r.IntN(directors)), relay.Any) }, 700 * time.Millisecond},
	{"part a director from one", func(e *etcd, r *rand.Rand) { e.Cut(named(1+r.IntN(directors)), member(any3(r))) }, 500 * time.Millisecond},
}

// befall strikes again and again until ctx ends, mends all, and says what it did.
func (e *etcd) befall(ctx context.Context, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 0))
	struck := map[string]int{}
	for ctx.Err() == nil {
		pause(ctx, 300*time.Millisecond+time.Duration(r.Int64N(int64(700*time.Millisecond))))
		if ctx.Err() != nil {
			break
		}
		f := faults[r.IntN(len(faults))]
		f.strike(e, r)
		struck[f.name]++
		pause(ctx, f.least+time.Duration(r.Int64N(int64(2*f.least))))
		e.mend()
	}
	e.mend()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(struck)) {
		out = append(out, fmt.Sprintf("%s %d", name, struck[name]))
	}
	return strings.Join(out, ", ")
}
