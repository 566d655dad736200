//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// Times of F19.
const (
	flapHalf   = time.Second      // up or down
	flapFor    = 12 * time.Second // the flapping
	flapReturn = time.Minute      // within which it returns once that is over: the hold, and the ramp up to this client
	flapDamped = 20 * time.Second // for which it does not, the second time: the first hold is 10 s
)

// flaps is what became of a service that flapped (F19, S10).
type flaps struct {
	First   time.Duration `json:"first"`   // from the first death to the first director's change
	Returns int           `json:"returns"` // while it flapped: none may be
	Back    time.Duration `json:"back"`    // from its last death's end to the last director's return; 10 s at least
	Again   time.Duration `json:"again"`   // from its second real death to the last director's change: a fall is never delayed
	Damped  bool          `json:"damped"`  // after that it stayed away for twice the first hold
}

// flap lets a service flap, be well, die once more and be well again.
func (l *lab) flap(ctx context.Context, s service) (*flaps, error) {
	l.say("F19: flapping for %s, then well, then dead, then well", flapFor)
	die := func() error { return drop("dead", s.primary.String()) }
	well := func() error { return pass("dead", s.primary.String()) }
	out := &flaps{First: never, Back: never, Again: never}

	inner, cancel := context.WithTimeout(ctx, flapFor+flapReturn)
	began := time.Now()
	moved := make(chan []move, 1)
	go func() { moved <- l.watch(inner, []service{s}, 4*askPace) }()
	var lastWell time.Time
	var err error
	for err == nil && time.Since(began) < flapFor && ctx.Err() == nil {
		err = die()
		rest(ctx, flapHalf)
		if err == nil {
			err = well()
		}
		lastWell = time.Now()
		rest(ctx, flapHalf)
	}
	if err == nil { // until all are back, or never
		_ = until(inner, flapReturn, "it returns", func(ctx context.Context) error { return l.allAnswer(ctx, s, true) })
	}
	rest(ctx, time.Second)
	cancel()
	for _, m := range <-moved {
		switch {
		case !m.back:
			out.First = min(out.First, m.at.Sub(began))
		case m.at.Before(lastWell):
			out.Returns++
		default:
			if out.Back == never {
				out.Back = 0
			}
			out.Back = max(out.Back, m.at.Sub(lastWell))
		}
	}
	if err != nil || ctx.Err() != nil {
		return out, err
	}

	died, err := l.round(ctx, &victim{service: s, fault: "F1"})
	if err != nil {
		return out, err
	}
	out.Again = died.last(l.fleet.directors)
	if err := well(); err != nil {
		return out, err
	}
	out.Damped = true
	for end := time.Now().Add(flapDamped); time.Now().Before(end) && rest(ctx, watchPace); {
		if err := l.allAnswer(ctx, s, false); err != nil {
			out.Damped = false
		}
	}
	return out, ctx.Err()
}

// allAnswer tells which director does not answer with the primary, or with anything else.
func (l *lab) allAnswer(ctx context.Context, s service, primary bool) error {
	want := fallback(1)
	if primary {
		want = s.primary
	}
	for i := 1; i <= l.fleet.directors; i++ {
		if err := answers(ctx, l.fleet.dns(i), s, want); err != nil {
			return fmt.Errorf("d%d: %w", i, err)
		}
	}
	return nil
}
