package director

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// flapper is one director, alone in its fleet, whose probes of fra are made up: its
// observer, its book, the ramps and the decider, on virtual time.
type flapper struct {
	t        *testing.T
	set      *spec.Set
	plan     *plan.Plan
	observer *health.Observer
	book     *health.Book
	decider  steer.Decider
	flips    flips
	ramps    ramps
	watched  []health.Watched
	now      time.Time
	seq      uint64
	share    int // of fra; 0 while it is out of the answers
}

const flapTick = 25 * time.Millisecond

func newFlapper(t *testing.T, now time.Time, saved []byte) *flapper {
	t.Helper()
	raws, problems := spec.Parse("mesh.yaml", []byte(meshSpec))
	set, more := spec.Resolve(raws)
	if spec.Failed(problems) || spec.Failed(more) {
		t.Fatal(problems, more)
	}
	roster := []health.Director{{Name: "d1", Site: "s1"}}
	f := &flapper{t: t, set: set, plan: &plan.Plan{}, observer: health.NewObserver(now), book: health.NewBook("d1", roster, 0), now: now}
	f.book.SetSubjects(subjects(set), now)
	if saved != nil {
		if err := f.book.Restore(saved, now); err != nil {
			t.Fatal(err)
		}
	}
	_, f.watched = targets(set, roster, "d1")
	f.observer.Set(f.watched)
	return f
}

// tick lets a moment pass in which every probe is answered, those of fra as it is.
func (f *flapper) tick(fra bool) {
	f.now = f.now.Add(flapTick)
	for _, w := range f.watched {
		r := health.Report{Subject: w.Subject, OK: fra || w.Subject.Kind == health.KindSoft || w.Subject.Addr.Addr().String() != "192.0.2.1", At: f.now, Latency: time.Millisecond}
		if !r.OK {
			r.Sign, r.Reason = health.SignWrong, "status 503"
		}
		f.observer.Report(r)
	}
	if votes := f.observer.Votes(f.book, f.now); len(votes) > 0 {
		f.seq++
		_, _ = f.book.Ballot(health.Ballot{Director: "d1", Boot: 1, Seq: f.seq, Votes: votes, Raw: []byte{1}}, f.now)
	}
	f.book.Judge(f.now)
	f.flips.take(f.book)
	f.ramps.look(f.set, f.book, &f.flips, f.now)
	set := f.decider.Decide(steer.Input{
		Spec: f.set, Plan: f.plan, States: f.book.Standing(), Returns: f.ramps.returns, Earlier: f.ramps.earlier, Changed: f.flips.given(),
	}).Services[0].V4.Sets[0]
	f.share = 0
	for _, c := range set.Choices {
		if c.Cluster == "fra" && !set.FailOpen {
			if f.share = 100; c.Share > 0 {
				f.share = int(c.Share)
			}
		}
	}
}

// until ticks until fra is in the answers, or is not, and says how long that took.
func (f *flapper) until(fra, in bool, most time.Duration) time.Duration {
	f.t.Helper()
	from := f.now
	for (f.share > 0) != in {
		if f.tick(fra); f.now.Sub(from) > most {
			f.t.Fatalf("after %s fra has %d %%", most, f.share)
		}
	}
	return f.now.Sub(from)
}

// TestF19Flapping: a site that is up and down in turns each half second is out of the
// answers and stays out (S10).
func TestF19Flapping(t *testing.T) {
	f := newFlapper(t, time.Unix(1_800_000_000, 0), nil)
	for range 200 {
		f.tick(true)
	}
	if f.share != 100 {
		t.Fatalf("before, fra has %d %%", f.share)
	}
	returns := 0
	for i := range int(30 * time.Minute / flapTick) {
		was := f.share
		f.tick(i/int(time.Second/2/flapTick)%2 == 1)
		if was == 0 && f.share > 0 {
			returns++
		}
	}
	if returns > 0 || f.share > 0 {
		t.Errorf("it returned %d times, and has %d %% of its clients", returns, f.share)
	}
}

// TestS10WorstFlapper: a site that falls as soon as it has returned, and is well as soon
// as it has fallen. No fall is held; each return waits at least twice
// as long as the one before, and there are few; and no share is above the ramp's. A
// restart forgets nothing, and takes no time off for being off.
func TestS10WorstFlapper(t *testing.T) {
	f := newFlapper(t, time.Unix(1_800_000_000, 0), nil)
	for range 200 {
		f.tick(true)
	}
	start, off := f.now, time.Duration(0)
	first, hold := time.Duration(0), 10*time.Second
	returns := 0
	for {
		took := f.until(false, false, 10*time.Second)
		if first == 0 {
			first = took
		}
		// No outage is learnt as the path's nature, or each would make the next slower to see.
		if took > first+100*time.Millisecond {
			t.Errorf("fall %d took %s, the first took %s", returns+1, took, first)
		}
		waited := time.Duration(0)
		if returns == 1 { // in the middle of the wait
			from := f.now
			for f.now.Sub(from) < 5*time.Second {
				f.tick(true)
			}
			waited = f.now.Sub(from)
			saved := f.book.Save(f.now)
			off = 20 * time.Minute
			at := newFlapper(t, f.now.Add(off), saved)
			f.observer, f.book, f.decider, f.flips, f.ramps, f.now = at.observer, at.book, steer.Decider{}, flips{}, ramps{}, at.now
			f.tick(true)
		}
		waited += f.until(true, true, time.Hour)
		if f.now.Sub(start)-off > 30*time.Minute {
			break
		}
		if returns++; waited < hold {
			t.Errorf("return %d waited %s, want at least %s", returns, waited, hold)
		}
		hold = min(2*hold, 10*time.Minute)
		from := f.now
		for f.now.Sub(from) < 5*time.Second { // the share of somebody who has just come
			if f.share > 10 {
				t.Fatalf("%s after its return fra has %d %%", f.now.Sub(from), f.share)
			}
			f.tick(true)
		}
	}
	if returns < 2 || returns > 5 { // more than two transitions in ten minutes hold a return
		t.Errorf("it returned %d times in half an hour", returns)
	}
	t.Logf("%d returns; a fall takes %s", returns, first)
}

// TestRampOverRestart: a ramp goes on where it was, without the time off.
func TestRampOverRestart(t *testing.T) {
	f := newFlapper(t, time.Unix(1_800_000_000, 0), nil)
	for range 200 {
		f.tick(true)
	}
	f.until(false, false, 10*time.Second)
	f.until(true, true, time.Minute)
	at, restarted := f.now, false
	for range int(60 * time.Second / flapTick) {
		age, want := f.now.Sub(at), 100
		switch {
		case age < 10*time.Second:
			want = 10
		case age < 30*time.Second:
			want = 50
		}
		if f.share > want || f.share < want && age%(10*time.Second) > rampPause+flapTick {
			t.Fatalf("at %s fra has %d %%, want %d", age, f.share, want)
		}
		if age > 12*time.Second && !restarted {
			next := newFlapper(t, f.now.Add(time.Minute), f.book.Save(f.now))
			at, restarted = at.Add(time.Minute), true
			*f = *next
		}
		f.tick(true)
	}
	if !restarted || f.share != 100 {
		t.Errorf("at the end fra has %d %%", f.share)
	}
}

// TestFreezeInMidRamp: a site that falls under a freeze while it ramps has the share that
// it would have: it is answered neither to all nor to nobody, and its steps go on.
func TestFreezeInMidRamp(t *testing.T) {
	f := newFlapper(t, time.Unix(1_800_000_000, 0), nil)
	for range 200 {
		f.tick(true)
	}
	f.until(false, false, 10*time.Second)
	f.until(true, true, time.Minute)
	back := f.now
	f.plan = &plan.Plan{Overrides: []*plan.Override{{
		Id: "o", Kind: plan.Override_OBSERVE, Scope: "fleet", Author: "alice", Reason: "INC-1", Start: timestamppb.New(back),
	}}}
	for _, step := range []struct {
		age  time.Duration
		want int
	}{{9 * time.Second, 10}, {11 * time.Second, 50}, {29 * time.Second, 50}, {31 * time.Second, 100}, {40 * time.Second, 100}} {
		for f.now.Sub(back) < step.age {
			was := f.share
			if f.tick(false); f.share < was {
				t.Fatalf("%s after its return fra has %d %%, and had %d", f.now.Sub(back), f.share, was)
			}
		}
		fallen := false
		for s, st := range f.book.States() {
			fallen = fallen || st == health.Down && s.Addr.Addr().String() == "192.0.2.1"
		}
		if !fallen || f.share != step.want {
			t.Errorf("%s after its return fra has %d %%, want %d; fallen: %t", step.age, f.share, step.want, fallen)
		}
	}
	f.plan = &plan.Plan{}
	if f.tick(false); f.share != 0 {
		t.Errorf("thawed, it has %d %%", f.share)
	}
}
