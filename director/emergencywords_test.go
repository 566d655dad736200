package director

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
)

// TestEmergencyRewritten: a director that passes an operator's word on in other octets adds
// none: it would have the drain go on for ever, each with an hour of its own, and put out
// the operator's others.
func TestEmergencyRewritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t)
		if err := errors.Join(w.say(0, w.word(1, "e1")), w.say(0, w.word(2, "e2", func(e *plan.Emergency) { e.Lasts = durationpb.New(time.Minute) }))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		n, raw := w.nodes[2], w.word(2, "e2", func(e *plan.Emergency) { e.Lasts = durationpb.New(time.Minute) }).Raw
		before := n.comes()
		rewrite := func() {
			for i := range 2 * core.MaxWords {
				b := protowire.AppendVarint(protowire.AppendTag(bytes.Clone(raw), 99, protowire.VarintType), uint64(i))
				n.deliver(gossip.Message{Kind: kindEmergency, From: "d2", Payload: encodeWord(b, 0)})
			}
			time.Sleep(time.Second)
		}
		rewrite()
		if got := n.comes(); got != before || before != "e1 in force, e2 in force" {
			t.Errorf("first %q, then %q", before, got)
		}
		time.Sleep(time.Minute)
		rewrite()
		if got := n.comes(); got != "e1 in force, e2 over" {
			t.Errorf("after its time: %q", got)
		}
	})
}

// TestEmergencyDisplaced: no word is taken that puts out one on which depends what is gone
// by: a drain, or the end of another operator's, which would be in force again. The end of
// a drain is, though it puts that one out.
func TestEmergencyDisplaced(t *testing.T) {
	for _, tc := range []struct {
		name   string
		first  []func(*plan.Emergency) // a word each
		others int                     // of them another operator's
		last   func(*plan.Emergency)
		bad    string
		comes  string
	}{
		{"a drain", []func(*plan.Emergency){func(*plan.Emergency) {}}, 0, func(*plan.Emergency) {}, "the drain of cluster/fra, is in force", "in force"},
		{"its own end", []func(*plan.Emergency){func(*plan.Emergency) {}}, 0, func(e *plan.Emergency) { e.Ends = "w1" }, "", ""},
		{"the end of another's", []func(*plan.Emergency){
			func(e *plan.Emergency) { e.Operator = "two" },
			func(e *plan.Emergency) { e.Ends = "w1" },
		}, 1, func(*plan.Emergency) {}, "the end of the drain of cluster/fra", "undrained"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWard(t)
				seed := sha256.Sum256([]byte("two"))
				ops, two := w.key, ed25519.NewKeyFromSeed(seed[:])
				w.f.sealed.Plan.Operators = append(w.f.sealed.Plan.Operators, &plan.Operator{Name: "two", Key: two.Public().(ed25519.PublicKey), Revision: 1})
				n := uint64(0)
				next := func(change func(*plan.Emergency)) *plan.Word {
					n++
					w.key = ops
					var e plan.Emergency
					if change(&e); e.GetOperator() == "two" {
						w.key = two
					}
					return w.word(n, fmt.Sprintf("w%d", n), change)
				}
				for len(tc.first) < core.MaxWords+tc.others {
					tc.first = append(tc.first, func(e *plan.Emergency) { e.Lasts = durationpb.New(time.Second) })
				}
				var words []*plan.Word
				for _, change := range tc.first {
					words = append(words, next(change))
				}
				for _, p := range w.nodes {
					_ = p.inspect(t.Context(), func(now time.Time) {
						for _, word := range words {
							p.held.Add(word, now)
						}
						p.touch()
					})
				}
				time.Sleep(2 * time.Second)
				err := w.say(0, next(tc.last))
				if tc.bad == "" && err != nil || tc.bad != "" && (err == nil || !strings.Contains(err.Error(), tc.bad)) {
					t.Errorf("got %v, want %q", err, tc.bad)
				}
				time.Sleep(time.Second)
				first, _, _ := strings.Cut(w.nodes[1].comes(), ", ")
				if want := strings.TrimSpace("w1 " + tc.comes); tc.comes != "" && first != want {
					t.Errorf("on another the first is %q, want %q", first, want)
				}
			})
		})
	}
}

// TestUndrainBeside: an undrain ends what the plan holds, and does not say that all is well
// while a drain of the same scope that was said in an emergency goes on, be it that the
// leader has taken it over meanwhile.
func TestUndrainBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t)
		if err := w.say(0, w.word(1, "e1")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		p := w.f.sealed.Plan
		drains := func(p *plan.Plan, scope string) (ids []string) {
			_ = w.nodes[1].inspect(t.Context(), func(time.Time) { ids = w.nodes[1].drains(p, scope) })
			return ids
		}
		before := drains(p, "cluster/fra")
		if len(before) != 1 || before[0] != "e1" || len(drains(p, "cluster/nyc")) > 0 {
			t.Fatalf("got %v", before)
		}
		if !stillDrained(p, before, before) {
			t.Error("no plan holds it, and it is over")
		}
		took := proto.CloneOf(p)
		took.Overrides = append(took.Overrides, &plan.Override{Id: "e1", Kind: plan.Override_DRAIN, Scope: "cluster/fra"})
		if now := drains(took, "cluster/fra"); len(now) > 0 || !stillDrained(took, before, now) {
			t.Errorf("taken over: %v", now)
		}
		ended := proto.CloneOf(p)
		ended.Operators[0].Settled = []*plan.Settled{{Id: "e1", Counter: 1}}
		if now := drains(ended, "cluster/fra"); stillDrained(ended, before, now) {
			t.Errorf("taken over and ended: %v", now)
		}
	})
}
