package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
)

// begun is a drain in steps, or a return, that a command has begun.
type begun struct {
	scope    string
	back     bool   // its clients come back
	revision uint64 // of the plan that has it
}

// followFlag adds the flag of what goes on in steps after the command itself is done.
func (w *wish) followFlag(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&w.follow, "follow", false, "show the steps until the last one (default on a terminal)")
	f.Lookup("follow").DefValue = "" // it depends
	w.following = func() bool { return w.follow || w.app.live && !w.app.json() && !f.Changed("follow") }
}

// checkFollow refuses to follow what nobody could read.
func (w *wish) checkFollow() error {
	if w.follow && w.app.json() {
		return usage("--follow is for people: with -o json, `divert status --watch -o json` shows the steps")
	}
	return nil
}

// followed shows the steps of what the command has begun, until the last one. Who stops
// looking stops nothing.
func (w *wish) followed(ctx context.Context, client *api.Client) error {
	if len(w.begun) == 0 || !w.following() {
		return nil
	}
	t := &story{app: w.app, of: w.begun, several: len(w.begun) > 1, told: map[string]string{}}
	for {
		err := client.Watch(ctx, func(s api.Status) error {
			p := &page{width: w.app.width(), colour: w.app.colour}
			over := t.hear(p, s)
			if _, err := fmt.Fprint(w.app.out, p.b.String()); err != nil {
				return fmt.Errorf("%w: %w", errOutput, err)
			}
			if over {
				return errOver
			}
			return nil
		})
		refusal := (*api.Error)(nil)
		switch {
		case errors.Is(err, errOver):
			return t.end()
		case ctx.Err() != nil:
			return t.left()
		case errors.As(err, &refusal), errors.Is(err, errOutput):
			return err
		}
		fmt.Fprintf(w.app.err, "divert: %s; trying again\n", err)
		select {
		case <-ctx.Done():
			return t.left()
		case <-time.After(watchPause):
		}
	}
}

// errOver: there is nothing left to follow.
var errOver = errors.New("all of it has ended")

// story tells how drains in steps go on, a line for each thing that is new.
type story struct {
	app     *app
	of      []begun // that have not ended
	several bool
	told    map[string]string // the last line, by scope
	failed  []string          // what did not come to the end that was meant
}

// hear shows what a status has that is new, and tells whether nothing is left to come.
func (t *story) hear(p *page, s api.Status) (over bool) {
	t.of = slices.DeleteFunc(t.of, func(b begun) bool {
		if s.Plan == nil || s.Plan.Revision < b.revision {
			return false // this director does not have it yet
		}
		var pace *api.Pace
		i := slices.IndexFunc(s.Overrides, func(o api.Override) bool { return o.Kind == "drain" && o.Scope == b.scope })
		if i >= 0 {
			pace = s.Overrides[i].Pace
		}
		text, look, ended := t.now(b, i >= 0, pace)
		if text != t.told[b.scope] {
			t.told[b.scope] = text
			mark := t.app.clock(s.Now) + "  "
			if t.several {
				mark += clean(b.scope) + ": "
			}
			p.wrapped(2, mark, look, text)
		}
		return ended
	})
	return len(t.of) == 0
}

// now says where one stands, and whether that is its end.
func (t *story) now(b begun, there bool, p *api.Pace) (text string, look style, ended bool) {
	fails := func(text string) (string, style, bool) {
		t.failed = append(t.failed, b.scope+" "+text)
		return text, bad, true
	}
	switch {
	case !there && b.back:
		return "all its clients are back", good, true
	case !there:
		return fails("is drained no more: somebody has undone it, or it has met its end")
	case b.back && (p == nil || p.State == "moving" || p.State == "held"):
		return fails("is drained again")
	case p == nil:
		return "drained as a whole", good, true
	case p.State == "returning" && !b.back:
		return fails("returns: somebody has undone it, or it has met its end")
	case p.State == "done" && !b.back:
		return "complete: every director answers without it", good, true
	case p.State == "rolled back":
		return fails("was rolled back: " + p.Why)
	case p.State == "held":
		text = fmt.Sprintf("held, %s of its clients are away: %s", permille(p.Moved), p.Why)
		if p.Waits != "" {
			text += "; waits for " + p.Waits
		}
		return text, bad, false
	}
	if p.Stalled {
		return pacePlace(p) + "; stalls, waits for " + cmp.Or(p.Waits, "the leader"), warn, false
	}
	text = pacePlace(p)
	if p.State == "rolling back" {
		return "rolls back, " + text, bad, false
	}
	if at, ok := nextAway(p); ok {
		text += fmt.Sprintf("; next %s, at %s", at, t.app.clock(*p.Next))
	}
	return text, plain, false
}

// end gives what did not come to the end that was meant.
func (t *story) end() error {
	if len(t.failed) == 0 {
		return nil
	}
	return &exit{code: exitIncomplete, err: errors.New(strings.Join(t.failed, "; ")), remedy: "`divert status` shows what there is, `divert audit` how it came to that"}
}

// left says what goes on without whoever stops looking.
func (t *story) left() error {
	scopes := make([]string, 0, len(t.of))
	for _, b := range t.of {
		scopes = append(scopes, b.scope)
	}
	remedy := fmt.Sprintf("`divert status` shows it; `divert undrain %s` gives the clients back, `divert drain %[1]s --now` hastens it", scopes[0])
	if t.of[0].back {
		remedy = fmt.Sprintf("`divert status` shows it; `divert undrain %s --now` hastens it", scopes[0])
	}
	return &exit{code: exitIncomplete, err: fmt.Errorf("no longer looking: %s goes on in its steps", strings.Join(scopes, ", ")), remedy: remedy}
}
