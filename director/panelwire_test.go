package director

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/health"
)

var (
	panelSignal = health.Subject{Kind: health.KindSignal, Addr: netip.MustParseAddrPort("192.0.2.1:8080")}
	panelCheck  = health.Subject{Kind: health.KindCheck, Def: "0123456789abcdef", Addr: netip.MustParseAddrPort("[2001:db8::1]:443")}
)

// TestPanelWire: what is written is read, and what a later version adds is passed over.
func TestPanelWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.StringMatching(`[a-z0-9 :/.]{0,60}`)
		q := question{
			number: rapid.Uint64Min(1).Draw(t, "number"), target: words.Draw(t, "target"),
			wait: time.Duration(rapid.IntRange(0, 120_000).Draw(t, "wait")) * time.Millisecond,
		}
		later := protowire.AppendString(protowire.AppendTag(q.encode(), 99, protowire.BytesType), "new")
		if got, err := decodeQuestion(later); err != nil || got != q {
			t.Fatalf("got %+v, %v, want %+v", got, err, q)
		}
		a := panelAnswer{
			number: q.number, state: answerState(rapid.IntRange(1, 3).Draw(t, "state")), why: words.Draw(t, "why"),
			plan: rapid.StringMatching(`[0-9]{1,20}\.[0-9]{1,20}`).Draw(t, "plan"),
		}
		for range rapid.IntRange(0, 9).Draw(t, "seen") {
			a.seen = append(a.seen, seen{
				subject: rapid.SampledFrom([]health.Subject{panelSignal, panelCheck}).Draw(t, "subject"),
				outcome: outcome(rapid.IntRange(1, 3).Draw(t, "outcome")), why: words.Draw(t, "reason"),
				took: time.Duration(rapid.IntRange(0, 1e8).Draw(t, "took")) * time.Microsecond,
			})
		}
		later = protowire.AppendFixed64(protowire.AppendTag(a.encode(), 98, protowire.Fixed64Type), 7)
		if got, err := decodeAnswer(later); err != nil || !reflect.DeepEqual(got, a) {
			t.Fatalf("got %+v, %v, want %+v", got, err, a)
		}
	})
}

// TestPanelRefused: what is of a later format, not canonical or too large is refused
// whole.
func TestPanelRefused(t *testing.T) {
	good := panelAnswer{number: 1, state: answerDone, seen: []seen{{subject: panelSignal, outcome: outcomeOK}}}
	with := func(change func(*panelAnswer)) []byte {
		a := good
		change(&a)
		return a.encode()
	}
	many := make([]seen, maxAimed+1)
	for i := range many {
		many[i] = good.seen[0]
	}
	answers := map[string][]byte{
		"nothing":          nil,
		"no number":        with(func(a *panelAnswer) { a.number = 0 }),
		"no state":         with(func(a *panelAnswer) { a.state = answerUnknown }),
		"unknown state":    with(func(a *panelAnswer) { a.state = 9 }),
		"unknown outcome":  with(func(a *panelAnswer) { a.seen = []seen{{subject: panelSignal}} }),
		"no subject":       with(func(a *panelAnswer) { a.seen = []seen{{outcome: outcomeOK}} }),
		"too many results": with(func(a *panelAnswer) { a.seen = many }),
		"long plan":        with(func(a *panelAnswer) { a.plan = strings.Repeat("1", maxPlanName+1) }),
		"later format":     putVarint(good.encode(), 1, panelFormat+1),
		"cut":              good.encode()[:len(good.encode())-3],
	}
	for name, payload := range answers {
		if got, err := decodeAnswer(payload); err == nil {
			t.Errorf("answer with %s: got %+v", name, got)
		}
	}
	questions := map[string][]byte{
		"nothing":      nil,
		"no number":    question{target: "shop"}.encode(),
		"long target":  question{number: 1, target: strings.Repeat("a", maxAim+1)}.encode(),
		"later format": putVarint(question{number: 1, target: "shop"}.encode(), 1, panelFormat+1),
	}
	for name, payload := range questions {
		if got, err := decodeQuestion(payload); err == nil {
			t.Errorf("question with %s: got %+v", name, got)
		}
	}
	if got, err := decodeQuestion(question{number: 1, target: "shop", wait: time.Hour}.encode()); err != nil || got.wait != maxAsked {
		t.Errorf("an hour: got %s, %v; want %s", got.wait, err, maxAsked)
	}
}

// TestPanelFits: the longest question fits a datagram, and the longest answer a stream.
func TestPanelFits(t *testing.T) {
	name := strings.Repeat("n", gossip.MaxName)
	q := question{number: 1 << 63, target: strings.Repeat("t", maxAim), wait: maxAsked}
	if n := len(q.encode()) + gossip.Overhead(name); n > gossip.MaxDatagram {
		t.Errorf("the longest question has %d octets", n)
	}
	a := panelAnswer{number: 1 << 63, state: answerDone, plan: strings.Repeat("1", maxPlanName)}
	for range maxAimed {
		a.seen = append(a.seen, seen{
			subject: health.Subject{Kind: health.KindCheck, Def: panelCheck.Def, Addr: netip.MustParseAddrPort("[2001:db8:1111:1111:1111:1111:1111:1111]:44333")},
			outcome: outcomeFailed, took: maxAsked, why: strings.Repeat("w", 2*maxWhy),
		})
	}
	if n := len(a.encode()) + gossip.Overhead(name); n > gossip.MaxReliable {
		t.Errorf("the longest answer has %d octets", n)
	}
}

// TestLegible: another director's words can neither draw on a terminal nor fill it.
func TestLegible(t *testing.T) {
	a := panelAnswer{number: 1, state: answerRefused, why: "\x1b[31mred\n\xff" + strings.Repeat("é", maxWhy)}
	got, err := decodeAnswer(a.encode())
	if err != nil || len(got.why) > maxWhy || strings.ContainsAny(got.why, "\x1b\n") || !utf8.ValidString(got.why) || !strings.HasPrefix(got.why, " [31mred ?é") {
		t.Errorf("got %q, %v", got.why, err)
	}
}

func FuzzDecodeQuestion(f *testing.F) {
	f.Add(question{number: 7, target: "service/shop@fra", wait: time.Second}.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		q, err := decodeQuestion(payload)
		if err == nil && (q.number == 0 || len(q.target) > maxAim || q.wait < 0 || q.wait > maxAsked) {
			t.Errorf("got %+v", q)
		}
	})
}

func FuzzDecodeAnswer(f *testing.F) {
	f.Add(panelAnswer{number: 7, state: answerDone, plan: "1.2", seen: []seen{{panelSignal, outcomeFailed, time.Second, "refused"}, {panelCheck, outcomeOK, 0, ""}}}.encode())
	f.Add(panelAnswer{number: 7, state: answerRefused, why: "busy"}.encode())
	f.Fuzz(func(t *testing.T, payload []byte) {
		a, err := decodeAnswer(payload)
		if err != nil {
			return
		}
		again, err := decodeAnswer(a.encode())
		if err != nil || !reflect.DeepEqual(a, again) {
			t.Errorf("got %+v, %v, want %+v", again, err, a)
		}
	})
}
