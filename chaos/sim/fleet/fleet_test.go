package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/core"
)

// TestRows plays a few random histories of a fleet: whatever fails, parts, pauses, comes
// back and is commanded, S1 to S12, S15, S17 to S19 hold after every step, and L1 to L4
// when it is over. `make sim` plays more. A run is no proof of anything in which nothing
// happens.
func TestRows(t *testing.T) {
	var sum Report
	for seed := uint64(1); seed <= 12; seed++ {
		s := Random(seed)
		r := Run(s)
		if r.Broken != nil {
			t.Fatalf("seed %d: %s\n%s", seed, r.Broken, s)
		}
		sum.Plans += r.Plans
		sum.Falls += r.Falls
		sum.Commands += r.Commands
		sum.Complete += r.Complete
	}
	if sum.Plans < 36 || sum.Falls < 24 || sum.Commands < 60 || sum.Complete < 24 {
		t.Errorf("in twelve runs %d plans, %d falls, %d commands, %d complete", sum.Plans, sum.Falls, sum.Commands, sum.Complete)
	}
}

// TestKept replays the scenarios that once broke something: found by the simulator in
// Divert itself, or in a mutant of it.
func TestKept(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, err := Parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if r := Run(s); r.Broken != nil {
				t.Errorf("%s", r.Broken)
			}
		})
	}
}

// TestKilledAtEachStep: a drain in steps comes to the same end, by the same steps, none of
// them twice, whenever its leader dies (S4): just before it writes a step, as it does, and
// after.
func TestKilledAtEachStep(t *testing.T) {
	s := Scenario{Seed: 7, Directors: 3, Clusters: 3, Length: 30 * time.Second, Events: []Event{
		{At: 2 * time.Second, What: "drain", Args: []string{"d1", "cluster/nyc", "paced"}, For: 10 * time.Minute},
	}}
	steps := func(s Scenario) (at []time.Duration, ids []string, end string) {
		w := run(s, nil)
		if w.broken != nil {
			t.Fatalf("%s\n%s", w.broken, s)
		}
		for _, l := range w.ledger.landed {
			if l.c.cmd.Verb == core.Step {
				at, ids = append(at, l.at), append(ids, l.c.cmd.ID)
			}
		}
		for _, o := range w.highest().sealed.Plan.GetOverrides() {
			end += fmt.Sprintf("%s %s %s, %d per mille left; ", o.GetId(), o.GetScope(), o.GetPace().GetState(), o.Keep())
		}
		return at, ids, end
	}
	times, want, wantEnd := steps(s)
	if len(want) != 7 || !strings.Contains(wantEnd, "DONE") { // three steps, that these and the beginning are acknowledged, and that it is done
		t.Fatalf("undisturbed: %v, %s", want, wantEnd)
	}
	for n, at := range times {
		for _, off := range []time.Duration{-2 * time.Millisecond, 0, 3 * time.Millisecond} {
			killed := s
			killed.Events = append(slices.Clone(s.Events), Event{At: at + off, What: "crash", Args: []string{whoLeads}, For: 2 * time.Second})
			if _, got, end := steps(killed); !slices.Equal(got, want) || end != wantEnd {
				t.Errorf("killed at step %d%+d ns: %v, %s; want %v, %s", n+1, off, got, end, want, wantEnd)
			}
		}
	}
}

// TestMutantsScenarios: what shows a mutant holds without it.
func TestMutantsScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/mutants/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, scenario, found := strings.Cut(string(text), "-- found by --\n")
		if !found {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			s, err := Parse(scenario)
			if err != nil {
				t.Fatal(err)
			}
			if r := Run(s); r.Broken != nil {
				t.Errorf("%s", r.Broken)
			}
		})
	}
}

// TestSame: the same scenario gives the same run, or no seed would be worth anything;
// and one that is written and read again is the same.
func TestSame(t *testing.T) {
	for seed := uint64(1); seed <= 2; seed++ {
		s := Random(seed)
		again, err := Parse(s.String())
		if err != nil {
			t.Fatal(err)
		}
		var a, b strings.Builder
		Tell(s, func(line string) { a.WriteString(line + "\n") })
		Tell(again, func(line string) { b.WriteString(line + "\n") })
		if a.String() != b.String() {
			t.Errorf("seed %d: two runs differ", seed)
		}
	}
}

// TestParse: what is not a scenario is refused with its line.
func TestParse(t *testing.T) {
	const head = "seed 1; directors 3; clusters 3; length 10s\n"
	for _, text := range []string{"", "nonsense", head + "1s explode d1", head + "soon crash d1", head + "1s", head + "1s crash d1 for ever", "seed 1; directors 99; clusters 3; length 10s"} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%q: taken", text)
		}
	}
}

// TestUrgent plays a few histories in which operators drain while the store is away: what
// nobody said is gone by nowhere (S7), nothing for longer than was said or after its end
// (S18), no last site is taken (S1), all that hear each other hold and make the same of it
// (L4, L2), and each word is settled once (S15).
func TestUrgent(t *testing.T) {
	said, settled := 0, 0
	for seed := uint64(Urgent); seed < Urgent+8; seed++ {
		w := run(Random(seed), nil)
		if w.broken != nil {
			t.Fatalf("seed %d: %s\n%s", seed, w.broken, w.s)
		}
		said, settled = said+len(w.ledger.words), settled+len(w.ledger.settled)
	}
	if said < 16 || settled < 8 {
		t.Errorf("in eight runs %d words, %d settled", said, settled)
	}
}

// TestPaired plays a few histories in which what is dangerous takes two persons, who are the
// same at times, come late, or answer when something else has changed what they were asked:
// nothing of it is done without another person's word for that very change, or break-glass on
// record (S16), and the audit log names both (S15). In some a director is a rogue one, whose
// plans nobody else answers from (S7).
func TestPaired(t *testing.T) {
	approved, denied, waited, broken, refused, usurped, distrusted := 0, 0, 0, 0, 0, 0, 0
	for seed := uint64(Paired); seed < Paired+12; seed++ {
		w := run(Random(seed), nil)
		if w.broken != nil {
			t.Fatalf("seed %d: %s\n%s", seed, w.broken, w.s)
		}
		for _, a := range w.ledger.asked {
			switch {
			case a.denied:
				denied++
			case a.over:
				approved++
			default:
				waited++
			}
		}
		for _, op := range w.people {
			if op.cmd.Verb == core.Approve && op.got.refusal != "" {
				refused++
			}
		}
		usurped, distrusted = usurped+len(w.ledger.usurped), distrusted+w.report.Refused
		broken += len(w.ledger.stored.Plan.GetGlass())
	}
	t.Logf("%d approved, %d denied, %d never answered, %d broke the glass, %d words refused; %d plans of rogues, refused %d times", approved, denied, waited, broken, refused, usurped, distrusted)
	if usurped < 3 || distrusted < usurped || approved < 3 || denied < 2 || waited < 8 || broken < 2 || refused < 8 {
		t.Error("too little happened in twelve runs")
	}
}
