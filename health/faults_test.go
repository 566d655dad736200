package health

import (
	"testing"
	"time"
)

// wire is what becomes of one probe sent at a time: lost, refused, wrong, or
// answered after so long.
type wire struct {
	lost, refused, wrong bool
	after                time.Duration
}

// TestFaultsAsReports plays what the prober reports in the faults of INVARIANTS, by
// the rules of the prober (overlapping signals, a deadline, late answers, doubt),
// to several directors with 40 ms between them, and looks at what they agree on,
// and when.
func TestFaultsAsReports(t *testing.T) {
	const start = 5 * time.Second // the fault's
	rtt := 20 * ms
	well := wire{after: rtt}
	tests := []struct {
		name      string
		directors int
		fate      func(f *reporter, director int, deep bool, sent time.Duration) wire
		within    time.Duration // 0: nothing may move
		lasts     time.Duration
	}{
		{"F1 power loss, five", 5, func(_ *reporter, _ int, _ bool, sent time.Duration) wire {
			return wire{lost: sent >= start-rtt/2, after: rtt}
		}, time.Second, 2 * time.Second},
		{"F1 power loss, three", 3, func(_ *reporter, _ int, _ bool, sent time.Duration) wire {
			return wire{lost: sent >= start-rtt/2, after: rtt}
		}, 1300 * ms, 2 * time.Second},
		{"F2 process dead, five", 5, func(_ *reporter, _ int, _ bool, sent time.Duration) wire {
			return wire{refused: sent >= start-rtt/2, after: rtt}
		}, time.Second, 2 * time.Second},
		{"F3 hang, five", 5, func(_ *reporter, _ int, deep bool, sent time.Duration) wire {
			return wire{lost: deep && sent >= start-2*rtt, after: rtt}
		}, 2500 * ms, 4 * time.Second},
		{"F4 10 % loss each way", 5, func(f *reporter, _ int, deep bool, _ time.Duration) wire {
			return wire{lost: !deep && f.rnd.Float64() < 0.19, after: rtt}
		}, 0, 2 * time.Minute},
		{"F5 bursts of 200 ms", 5, func(_ *reporter, _ int, deep bool, sent time.Duration) wire {
			return wire{lost: !deep && sent%(2*time.Second) < 200*ms, after: rtt}
		}, 0, 2 * time.Minute},
		{"F6 one sees nothing", 5, func(_ *reporter, director int, _ bool, sent time.Duration) wire {
			return wire{lost: director == 2 && sent >= start, after: rtt}
		}, 0, time.Minute},
		{"F6 one of three sees nothing", 3, func(_ *reporter, director int, _ bool, sent time.Duration) wire {
			return wire{lost: director == 2 && sent >= start, after: rtt}
		}, 0, time.Minute},
		{"F12 one is starved, and is wrong about all", 5, func(_ *reporter, director int, _ bool, sent time.Duration) wire {
			return wire{lost: director == 0 && sent >= start && sent%time.Second < 900*ms, after: rtt}
		}, 0, time.Minute},
		{"F14 300 ms with jitter", 5, func(f *reporter, _ int, _ bool, sent time.Duration) wire {
			if sent < start {
				return well
			}
			return wire{after: 300*ms + time.Duration(f.rnd.Int64N(int64(150*ms)))}
		}, 0, 20 * time.Second},
		{"a listener that is restarted refuses for 200 ms", 5, func(_ *reporter, _ int, _ bool, sent time.Duration) wire {
			return wire{refused: sent >= start && sent < start+200*ms, after: rtt}
		}, 0, time.Minute},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := newReporter(t, tc.directors, func(f *reporter, d int, deep bool, sent time.Duration) wire { return tc.fate(f, d, deep, sent) })
			f.run(start + tc.lasts)
			first, last := time.Duration(0), time.Duration(0)
			for _, n := range f.nodes {
				when, fell := f.fell[n.name]
				if fell != (tc.within > 0) {
					t.Fatalf("%s: fell: %v (%v)", n.name, fell, f.moves)
				}
				if fell {
					last = max(last, when-start)
					if first == 0 || when-start < first {
						first = when - start
					}
				}
			}
			if tc.within > 0 && (first < 0 || last > tc.within) {
				t.Errorf("fell after %s to %s, want within %s", first, last, tc.within)
			}
			t.Logf("%d directors: fell after %s to %s", tc.directors, first, last)
		})
	}
}

// reporter is a fleet with one target, probed as the prober does.
type reporter struct {
	*fleet
	fate    func(*reporter, int, bool, time.Duration) wire
	out     [][]flight // by director
	next    [][2]time.Duration
	peak    []time.Duration
	doubted []bool
	fell    map[string]time.Duration
}

// flight is one probe under way.
type flight struct {
	deep         bool
	sent         time.Duration
	fate         wire
	late, missed bool // as reported
}

func newReporter(t *testing.T, directors int, fate func(*reporter, int, bool, time.Duration) wire) *reporter {
	f := &reporter{fleet: newFleet(t, 1, directors, 1), fate: fate, fell: map[string]time.Duration{}}
	f.delay = 40 * ms
	f.doubted = make([]bool, directors)
	f.out, f.next, f.peak = make([][]flight, directors), make([][2]time.Duration, directors), make([]time.Duration, directors)
	f.probes = func(n *node) { f.probe(int(n.name[1]-'1'), n) }
	for i := range directors {
		f.next[i] = [2]time.Duration{time.Duration(i*23) * ms, time.Duration(i*170) * ms}
	}
	return f
}

func (f *reporter) run(until time.Duration) {
	for f.now < until {
		f.advance(10 * ms)
		for _, n := range f.nodes {
			for _, s := range []Subject{signal(1), check(1)} {
				if _, known := f.fell[n.name]; !known && n.b.Chain(s).State() == Down {
					f.fell[n.name] = f.now
				}
			}
		}
	}
}

// probe sends what is due from one director, and reports what has come of the rest.
func (f *reporter) probe(i int, n *node) {
	doubted := n.doubt[site(1)] > f.now
	for kind := range 2 {
		deep := kind == 1
		pace := []time.Duration{100 * ms, time.Second}[kind]
		if doubted {
			pace /= time.Duration([]int{2, 4}[kind])
			if f.next[i][kind] = min(f.next[i][kind], f.now+pace); deep && !f.doubted[i] {
				f.next[i][kind] = f.now // at once
			}
		}
		busy := 0
		for _, o := range f.out[i] {
			if o.deep && deep && !o.missed {
				busy++
			}
		}
		if deep {
			f.doubted[i] = doubted
		}
		if f.now < f.next[i][kind] || deep && busy > 0 && !doubted || busy >= 4 {
			continue
		}
		f.next[i][kind] = f.now + time.Duration(float64(pace)*(0.8+0.4*f.rnd.Float64()))
		f.out[i] = append(f.out[i], flight{deep: deep, sent: f.now, fate: f.fate(f, i, deep, f.now)})
	}
	kept := f.out[i][:0]
	for _, o := range f.out[i] {
		if f.end(i, n, &o) {
			kept = append(kept, o)
		}
	}
	f.out[i] = kept
}

// end reports on one probe what there is to report; false: it is over.
func (f *reporter) end(i int, n *node, o *flight) bool {
	age := f.now - o.sent
	r := Report{Subject: signal(1), At: at(f.now), Latency: age, Reason: "no answer"}
	deadline, late, life := min(max(300*ms, 2*f.peak[i]), time.Second), 30*ms, time.Second
	if o.deep {
		r.Subject, r.Sign = check(1), SignMute
		deadline, late, life = time.Second, 150*ms, time.Second
	}
	switch {
	case !o.fate.lost && age >= o.fate.after:
		r.OK, r.Late = !o.fate.refused && !o.fate.wrong, o.missed
		if !r.OK {
			r.Sign, r.Reason = SignRefused, "connection refused"
		} else if !o.deep {
			f.peak[i] = max(age, f.peak[i]-f.peak[i]/64)
		}
		n.o.Report(r)
		return false
	case !o.missed && age >= deadline:
		n.o.Report(r)
		o.missed = true
	case !o.late && age >= late:
		r.Late, o.late = true, true
		n.o.Report(r)
	}
	return age < life
}
