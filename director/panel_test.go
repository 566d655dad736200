package director

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/probe"
)

// seats is a mesh in which every node has a panel, whose probes come to what the test
// says, whatever the loops' own find.
type seats struct {
	*mesh
	panels []*panel
	took   time.Duration // of each probe
	reason string        // of those that fail

	mu     sync.Mutex
	fails  map[string]bool // "d1 192.0.2.1"
	sent   []string        // "d1 signal/192.0.2.1:8080"
	out    int
	most   int // probes that were out at once
	octets int // of the longest datagram
}

// seated runs a test at them, on virtual time.
func seated(t *testing.T, f func(t *testing.T, b *seats)) {
	t.Helper()
	table := geo.Default()
	synctest.Test(t, func(t *testing.T) {
		b := &seats{mesh: meshOf(t, table), took: 2 * time.Millisecond, reason: "connection refused", fails: map[string]bool{}}
		for _, n := range b.nodes {
			p := b.panel(n)
			b.panels = append(b.panels, p)
			n.loop.panel = func(m gossip.Message) { p.deliver(m) }
			go func() { _ = p.run(b.ctx) }()
		}
		b.begin()
		time.Sleep(3 * time.Second) // virtual
		f(t, b)
	})
}

func (b *seats) panel(n *node) *panel {
	return (&panel{
		name: n.name, courier: n.courier, horizon: n.horizon, log: slog.New(slog.DiscardHandler), shown: newPanelMetrics(prometheus.NewRegistry()),
		send: func(to string, kind uint8, payload []byte) (m gossip.Message, err error) {
			b.mu.Lock()
			b.octets = max(b.octets, len(payload)+gossip.Overhead(n.name))
			b.mu.Unlock()
			_ = n.inspect(b.ctx, func(time.Time) { m, err = n.Send(to, kind, payload) })
			return m, err
		},
		probe: func(ctx context.Context, t probe.Target) health.Report { return b.probe(ctx, n.name, t) },
		soft: func(s health.Subject) health.Report {
			return health.Report{Subject: s, OK: n.name == "d1", Void: n.name == "d3", Reason: "asked 2s ago"}
		},
		peers: func(ctx context.Context) (out []peerView) {
			_ = n.inspect(ctx, func(now time.Time) {
				for _, o := range b.nodes {
					_, at, ok := n.book.Peer(o.name)
					out = append(out, peerView{name: o.name, self: o == n, heard: ok, silent: now.Sub(at)})
				}
			})
			return out
		},
	}).prepare()
}

func (b *seats) probe(ctx context.Context, who string, t probe.Target) health.Report {
	b.mu.Lock()
	b.sent = append(b.sent, who+" "+t.Subject.String())
	b.out++
	b.most = max(b.most, b.out)
	r := health.Report{Subject: t.Subject, OK: !b.fails[who+" "+t.Subject.Addr.Addr().String()], Latency: b.took}
	b.mu.Unlock()
	if !r.OK {
		r.Reason = b.reason
	}
	select {
	case <-time.After(b.took):
	case <-ctx.Done():
		r = health.Report{Subject: t.Subject, Void: true, Reason: "called off"}
	}
	b.mu.Lock()
	b.out--
	b.mu.Unlock()
	return r
}

func (b *seats) fail(who, addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fails[who+" "+addr] = true
}

// of counts the probes that a director has sent for its panel.
func (b *seats) of(who string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, s := range b.sent {
		if strings.HasPrefix(s, who+" ") {
			n++
		}
	}
	return n
}

// ask has d1 put a question.
func (b *seats) ask(target string, wait time.Duration) (api.Probing, error) {
	ctx, cancel := context.WithTimeout(b.ctx, wait)
	defer cancel()
	return b.panels[0].ask(ctx, b.nodes[0].horizon.current(), target, func(api.Probing) {})
}

// drawn writes a matrix down: a line for each subject, and + - or ? for each director
// that answered.
func drawn(p api.Probing) string {
	var lines []string
	for _, t := range p.Targets {
		line := t.Address + " " + t.Probe + ": "
		for _, r := range t.Results {
			line += r.Director + map[string]string{"ok": "+", "failed": "-", "void": "?"}[r.Outcome] + " "
		}
		lines = append(lines, line+t.Verdict)
	}
	return strings.Join(lines, "\n")
}

// standings writes down how each director stands to a question.
func standings(p api.Probing) string {
	var out []string
	for _, o := range p.Observers {
		out = append(out, o.Name+" "+o.State)
	}
	return strings.Join(out, ", ")
}

// TestProbeMatrix: what one director alone cannot reach is one row of the matrix (F6),
// what none reaches fails everywhere, and no probe of it is a vote (S7).
func TestProbeMatrix(t *testing.T) {
	seated(t, func(t *testing.T, b *seats) {
		p, err := b.ask("pay", 10*time.Second)
		if err != nil || p.Code != 0 || standings(p) != "d1 answered, d2 answered, d3 answered" || p.Took > 0.1 {
			t.Errorf("all well: got code %d, %s in %g s, %v", p.Code, standings(p), p.Took, err)
		}
		b.fail("d2", "192.0.2.1")
		for _, name := range []string{"d1", "d2", "d3"} {
			b.fail(name, "192.0.2.2")
		}
		want := strings.TrimSpace(`
192.0.2.1 fast :8080: d1+ d2- d3+ disagree
192.0.2.1 http :8080/healthz: d1+ d2- d3+ disagree
192.0.2.2 fast :8080: d1- d2- d3- fail
192.0.2.2 http :8080/healthz: d1- d2- d3- fail`)
		for range 5 { // often enough for a fall, were they votes
			p, err = b.ask("pay", 10*time.Second)
			if err != nil || p.Code != 1 || drawn(p) != want {
				t.Fatalf("got code %d, %v\n%s\nwant\n%s", p.Code, err, drawn(p), want)
			}
		}
		for _, target := range p.Targets {
			if target.Quorum != (target.Verdict == "fail") || !strings.Contains(target.Summary, "fail") {
				t.Errorf("%s: got quorum %v, %q", target.Subject, target.Quorum, target.Summary)
			}
			for _, r := range target.Results {
				if (r.Reason == "connection refused") != (r.Outcome == "failed") || r.Took != b.took.Seconds() {
					t.Errorf("%s: got %+v", target.Subject, r)
				}
			}
		}
		for _, n := range b.nodes {
			_ = n.inspect(b.ctx, func(time.Time) {
				for s, state := range n.book.States() {
					if state == health.Down {
						t.Errorf("%s holds %s for down by what people had probed", n.name, s)
					}
				}
				if len(n.reports) > 0 {
					t.Errorf("%s has reports of the panel", n.name)
				}
			})
		}
	})
}

// TestProbeAbsent: whoever does not answer is named, with why, and ends nobody else's
// word: one that is cut off, one of a version that does not know the question, and one
// that does not answer in time.
func TestProbeAbsent(t *testing.T) {
	tests := []struct {
		name    string
		do      func(b *seats)
		want    string
		why     string
		code    int
		atMost  time.Duration
		atLeast time.Duration
	}{
		{"cut off", func(b *seats) { b.nodes[2].cut.Store(true) }, "silent", "silent for", 3, 4 * time.Second, panelPatience},
		{"of an older version", func(b *seats) {
			n := b.nodes[2]
			_ = n.inspect(b.ctx, func(time.Time) { n.loop.panel = func(gossip.Message) {} })
		}, "old", "too old", 3, 4 * time.Second, panelPatience},
		{"without its spec", func(b *seats) {
			n, f := b.nodes[2], b.mesh.planOf(strings.ReplaceAll(meshSpec, "name: pay}", "name: buy}"), nil, 1, b.nodes[0])
			_ = n.inspect(b.ctx, func(now time.Time) { n.takeForce(f, now) })
		}, "refused", "no service", 3, time.Second, 0},
		{
			"slow", func(b *seats) {
				b.panels[2].probe = func(ctx context.Context, t probe.Target) health.Report { <-b.ctx.Done(); return health.Report{} }
			},
			"late", "did not answer in time", 3, 10 * time.Second, 9 * time.Second,
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			seated(t, func(t *testing.T, b *seats) {
				tc.do(b)
				time.Sleep(2 * time.Second)
				p, err := b.ask("pay@fra", 10*time.Second)
				last := p.Observers[len(p.Observers)-1]
				if err != nil || last.State != tc.want || !strings.Contains(last.Why, tc.why) || p.Code != tc.code {
					t.Errorf("got code %d, %+v, %v; want %s: %s", p.Code, last, err, tc.want, tc.why)
				}
				if p.Took > tc.atMost.Seconds() || p.Took < tc.atLeast.Seconds() {
					t.Errorf("took %g s, want %s to %s", p.Took, tc.atLeast, tc.atMost)
				}
				if got := "192.0.2.1 fast :8080: d1+ d2+ pass\n192.0.2.1 http :8080/healthz: d1+ d2+ pass"; drawn(p) != got {
					t.Errorf("got\n%s\nwant\n%s", drawn(p), got)
				}
			})
		})
	}
}

// TestProbeFailureBeatsAbsence: a failure that was seen is worth more than the word of
// who is away.
func TestProbeFailureBeatsAbsence(t *testing.T) {
	seated(t, func(t *testing.T, b *seats) {
		b.nodes[2].cut.Store(true)
		b.fail("d2", "192.0.2.1")
		if p, err := b.ask("pay@fra", 10*time.Second); err != nil || p.Code != 1 {
			t.Errorf("got code %d, %v", p.Code, err)
		}
	})
}

// TestProbeLossyPath: questions and answers are repeated, and nothing is probed twice
// for it.
func TestProbeLossyPath(t *testing.T) {
	seated(t, func(t *testing.T, b *seats) {
		lost := map[uint8]int{}
		for _, p := range b.panels {
			send := p.send
			p.send = func(to string, kind uint8, payload []byte) (gossip.Message, error) {
				b.mu.Lock()
				lost[kind]++
				drop := lost[kind]%3 != 0 // two of three
				b.mu.Unlock()
				if drop {
					return gossip.Message{}, nil
				}
				return send(to, kind, payload)
			}
		}
		p, err := b.ask("pay", 20*time.Second)
		if err != nil || p.Code != 0 || standings(p) != "d1 answered, d2 answered, d3 answered" {
			t.Errorf("got code %d, %s, %v", p.Code, standings(p), err)
		}
		for _, name := range []string{"d1", "d2", "d3"} {
			if n := b.of(name); n != 4 {
				t.Errorf("%s sent %d probes, want 4", name, n)
			}
		}
	})
}

// TestProbeSoft: soft probes are shown beside the others, by what each director last heard;
// nobody else is asked for a question.
func TestProbeSoft(t *testing.T) {
	seated(t, func(t *testing.T, b *seats) {
		f := b.planOf(aimSpec, nil, 2, b.nodes[0])
		for _, n := range b.nodes {
			_ = n.inspect(b.ctx, func(now time.Time) { n.takeForce(f, now) })
		}
		p, err := b.ask("soft", 10*time.Second)
		want := "192.0.2.1 fast :9090: d1+ d2+ d3+ pass\n192.0.2.1 tcp :9090: d1+ d2+ d3+ pass\n192.0.2.1 prometheus up: d1+ d2- d3? disagree"
		if err != nil || drawn(p) != want {
			t.Fatalf("got %v\n%s\nwant\n%s", err, drawn(p), want)
		}
		for _, r := range p.Targets[2].Results {
			if r.Reason != "asked 2s ago" {
				t.Errorf("%s does not say when: %+v", r.Director, r)
			}
		}
		if n := b.of("d1") + b.of("d2") + b.of("d3"); n != 6 {
			t.Errorf("%d probes were sent, want 6", n)
		}
	})
}

// TestProbeAnswerAgain: however often a director asks for an answer again, it is not said
// again more often than it can be needed: it is far longer than the question (C3).
func TestProbeAnswerAgain(t *testing.T) {
	seated(t, func(t *testing.T, b *seats) {
		p := b.panels[0]
		said, send := 0, p.send
		p.send = func(to string, kind uint8, payload []byte) (gossip.Message, error) {
			b.mu.Lock()
			said++
			b.mu.Unlock()
			return send(to, kind, payload)
		}
		for range 1000 {
			_, _ = b.panels[1].send("d1", kindProbeWant, question{number: 7, target: "pay", wait: time.Second}.encode())
			time.Sleep(time.Millisecond)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if said < 8 || said > 20 {
			t.Errorf("1000 copies of a question within 1 s have %d answers", said)
		}
	})
}

// TestProbeLasting: a director that asks for much again and again has it once, and then a
// rate that costs little (C3).
func TestProbeLasting(t *testing.T) {
	seated(t, func(t *testing.T, b *seats) {
		text := meshSpec
		for i := range 300 {
			text += strings.NewReplacer("name: pay}", "name: pay"+utoa(uint64(i))+"}", "pay.example.org", "pay"+utoa(uint64(i))+".example.org", "8080", utoa(uint64(9000+i))).Replace(meshSpec[strings.LastIndex(meshSpec, "---"):])
		}
		f := b.planOf(text, nil, 2, b.nodes[0])
		_ = b.nodes[0].inspect(b.ctx, func(now time.Time) { b.nodes[0].takeForce(f, now) })
		const lasts = 30
		for i := range lasts {
			_, _ = b.panels[1].send("d1", kindProbeWant, question{number: uint64(i + 1), target: "cluster/fra", wait: time.Minute}.encode())
			time.Sleep(time.Second + time.Millisecond)
		}
		if n, most := b.of("d1"), maxAimed+panelLasting*(lasts+1); n > most || n < maxAimed {
			t.Errorf("sent %d probes for %d questions, want at most %d", n, lasts, most)
		}
	})
}

// TestProbeLongAnswer: an answer that no datagram has room for goes by a stream, and
// however many probes there are, few are out at once.
func TestProbeLongAnswer(t *testing.T) {
	seated(t, func(t *testing.T, b *seats) {
		text := meshSpec
		for i := range 200 {
			text += strings.NewReplacer("name: pay}", "name: pay"+utoa(uint64(i))+"}", "pay.example.org", "pay"+utoa(uint64(i))+".example.org").Replace(meshSpec[strings.LastIndex(meshSpec, "---"):])
		}
		f := b.planOf(text, nil, 2, b.nodes[0])
		for _, n := range b.nodes {
			_ = n.inspect(b.ctx, func(now time.Time) { n.takeForce(f, now) })
		}
		b.took, b.reason = 300*time.Millisecond, strings.Repeat("no ", 50)
		b.fail("d2", "192.0.2.1")
		p, err := b.ask("cluster/fra", 20*time.Second)
		if err != nil || standings(p) != "d1 answered, d2 answered, d3 answered" || len(p.Targets) < 200 {
			t.Fatalf("got %s, %d targets, %v", standings(p), len(p.Targets), err)
		}
		for _, target := range p.Targets {
			if target.Verdict != "disagree" {
				t.Fatalf("%s: %s", target.Subject, target.Summary)
			}
		}
		if b.octets > gossip.MaxDatagram {
			t.Errorf("a datagram has %d octets", b.octets)
		}
		if most := 3 * panelProbes; b.most > most || b.most < panelProbes {
			t.Errorf("%d probes were out at once, want at most %d of each", b.most, panelProbes)
		}
	})
}

// TestProbeMalicious: a director of the roster that asks for what nobody wrote down, or
// too often, or for long, has no more of it than the bounds say (C12, C3); and one that
// is not in the roster has nothing.
func TestProbeMalicious(t *testing.T) {
	seated(t, func(t *testing.T, b *seats) {
		number := uint64(1000)
		say := func(payload []byte) {
			_, _ = b.panels[1].send("d1", kindProbeWant, payload)
			time.Sleep(10 * time.Millisecond)
		}
		for _, target := range []string{"169.254.169.254", "127.0.0.1:22", "http://192.0.2.1/", "signal/198.51.100.1:22", ""} {
			number++
			say(question{number: number, target: target, wait: time.Second}.encode())
		}
		say([]byte("\xff\xff\xff"))
		if n := b.of("d1"); n != 0 {
			t.Errorf("sent %d probes for targets that no spec has", n)
		}
		time.Sleep(20 * time.Second)
		for range 200 { // 2 s of them
			number++
			say(question{number: number, target: "pay", wait: time.Hour}.encode())
		}
		if n, most := b.of("d1"), 4*(panelBurst+3); n > most || n == 0 {
			t.Errorf("sent %d probes for 200 questions, want at most %d", n, most)
		}
		before := b.of("d1")
		say(question{number: 5, target: "pay", wait: time.Second}.encode()) // an old one, played again
		_ = b.nodes[0].inspect(b.ctx, func(time.Time) {                     // not Pinned: of a key that the roster does not have
			b.nodes[0].message(gossip.Message{Kind: kindProbeWant, From: "d3", Boot: 1, Seq: 1, Payload: question{number: 1, target: "pay", wait: time.Second}.encode()})
		})
		time.Sleep(time.Second)
		if n := b.of("d1"); n != before {
			t.Errorf("sent %d probes for a question played again, or a stranger's", n-before)
		}
		if len(b.panels[0].askers) > 1 {
			t.Errorf("remembers %d askers", len(b.panels[0].askers))
		}
	})
}

// TestProbeOneAtATime: people at one director take turns, a few wait, and the rest are
// told.
func TestProbeOneAtATime(t *testing.T) {
	seated(t, func(t *testing.T, b *seats) {
		b.took = 500 * time.Millisecond
		var all sync.WaitGroup
		var mu sync.Mutex
		var refusals []string
		for range 12 {
			all.Go(func() {
				_, err := b.ask("pay@fra", 30*time.Second)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					refusals = append(refusals, err.Error())
				}
			})
		}
		all.Wait()
		if len(refusals) != 12-panelWaiting-1 || slices.ContainsFunc(refusals, func(s string) bool { return !strings.Contains(s, "already") }) {
			t.Errorf("got %d refusals: %q", len(refusals), refusals)
		}
		if b.most > 3*2 {
			t.Errorf("%d probes were out at once, want those of one question", b.most)
		}
	})
}
