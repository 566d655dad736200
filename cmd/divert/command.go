package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

// maxTimeout is the longest that a director lets a command wait.
const maxTimeout = 10 * time.Minute

// wish holds the flags of everything that changes the plan.
type wish struct {
	app     *app
	reason  string
	author  string
	id      string
	timeout time.Duration
	dryRun  bool
	force   bool
	confirm []string
	glass   bool

	follow    bool
	following func() bool // whether steps are shown until the last
	begun     []begun     // what goes on in steps
}

// wishFlags adds the flags that every change has.
func (a *app) wishFlags(c *cobra.Command) *wish {
	w := &wish{app: a}
	f := c.Flags()
	f.StringVar(&w.reason, "reason", "", "`WHY`, for the audit log and for whoever looks at it at night")
	f.StringVar(&w.author, "author", "", "a `LABEL` beside the system's user, who is recorded in any case")
	f.StringVar(&w.id, "id", "", "`ID` of the command; the same again repeats it, and nothing is done twice (default: random)")
	f.DurationVar(&w.timeout, "timeout", 10*time.Second, "how long to wait for all directors")
	f.BoolVar(&w.dryRun, "dry-run", false, "show what would change, and change nothing")
	return w
}

// forceFlags adds the flags of changes that may be forced.
func (w *wish) forceFlags(c *cobra.Command, word string) {
	f := c.Flags()
	f.BoolVar(&w.force, "force", false, "do it in spite of a rule that may be passed; lists what it hits, asks, and is recorded")
	f.StringArrayVar(&w.confirm, "confirm", nil, "`"+word+"`: answers the question of --force in a script")
}

// glassFlag adds the flag of changes that the policy judges, or that may take two persons.
func (w *wish) glassFlag(c *cobra.Command) {
	c.Flags().BoolVar(&w.glass, "break-glass", false, "in an emergency: in spite of the policy, and with no second person; is recorded")
}

// check refuses what cannot be sent, before anybody is asked anything.
func (w *wish) check(words ...string) error {
	switch {
	case w.timeout <= 0 || w.timeout > maxTimeout:
		return usage("--timeout %s is not between 0 and %s", short(w.timeout), short(maxTimeout))
	case w.id != "" && len(words) > 1:
		return usage("--id names one command, and %d scopes are %d commands", len(words), len(words))
	case !w.force && len(w.confirm) > 0:
		return usage("--confirm answers the question of --force, which is not given")
	}
	for _, c := range w.confirm {
		if !slices.Contains(words, c) {
			return usage("--confirm %q is not what is to be done: want %s", c, strings.Join(words, ", "))
		}
	}
	if !w.force || w.dryRun || w.app.asking {
		return nil
	}
	for _, word := range words {
		if !slices.Contains(w.confirm, word) {
			return &exit{code: exitUsage, err: errors.New("--force asks for a confirmation, and nobody is at a terminal to give it"), remedy: "add --confirm " + word}
		}
	}
	return nil
}

// needReason asks for the reason on a terminal and insists on it elsewhere.
func (w *wish) needReason(ctx context.Context) error {
	w.reason = strings.TrimSpace(w.reason)
	switch {
	case w.reason != "":
		return nil
	case w.dryRun:
		w.reason = "dry run"
		return nil
	case !w.app.asking:
		return &exit{code: exitUsage, err: errors.New("a reason is required"), remedy: "add --reason, such as --reason INC-1"}
	}
	reason, err := w.app.ask(ctx, "Reason: ")
	if err != nil {
		return err
	}
	if w.reason = reason; reason == "" {
		return usage("a reason is required")
	}
	return nil
}

// command fills in what every command has.
func (w *wish) command(verb core.Verb, scope string) core.Command {
	c := core.Command{ID: w.id, Verb: verb, Scope: scope, Author: w.author, Reason: w.reason, Force: w.force, BreakGlass: w.glass, DryRun: w.dryRun}
	if c.ID == "" {
		c.ID = w.app.newID()
	}
	if c.Author == "" {
		c.Author = w.app.env("SUDO_USER") // the socket shows only root
	}
	return c
}

// utter sends one command and shows what becomes of it. intro is the line
// before, for people; word is what --force asks to be typed.
func (w *wish) utter(ctx context.Context, client *api.Client, c core.Command, word, intro string) error {
	if w.force && !w.dryRun {
		if err := w.confirmed(ctx, client, c, word); err != nil {
			return err
		}
	}
	if c.DryRun {
		intro = "dry run: " + intro
	}
	t := &telling{app: w.app, intro: intro}
	wait := w.app.patience(fmt.Sprintf("waiting for all directors, for %s in all (--timeout); Ctrl-C ends the wait, and not what is committed", short(w.timeout)))
	o, err := client.Do(ctx, c, w.timeout, t.progress)
	wait()
	if err != nil {
		return err
	}
	// What returns already is followed as if this had begun it.
	returns := c.Verb == core.Undrain && o.Code == exitDone && !c.DryRun && len(o.Preview.Effects) > 0
	if o.Revision > 0 && len(o.Preview.Steps) > 1 || o.Revision == 0 && returns {
		w.begun = append(w.begun, begun{scope: c.Scope, back: c.Verb == core.Undrain, revision: o.Revision})
	}
	return t.final(o, c.DryRun)
}

// confirmed lists what a forced command hits, and has its scope typed.
func (w *wish) confirmed(ctx context.Context, client *api.Client, c core.Command, word string) error {
	c.ID, c.DryRun = w.app.newID(), true
	o, err := client.Do(ctx, c, w.timeout, nil)
	if err != nil {
		return err
	}
	if o.Code != exitDone {
		return (&telling{app: w.app}).final(o, true)
	}
	p := &page{}
	p.line("forced: " + clean(o.Summary))
	preview(p, o.Preview)
	fmt.Fprint(w.app.err, p.b.String())
	if slices.Contains(w.confirm, word) {
		return nil
	}
	typed, err := w.app.ask(ctx, fmt.Sprintf("Type %s to go on: ", word))
	if err != nil {
		return err
	}
	if typed != word {
		return &exit{code: exitRefused, err: fmt.Errorf("%q is not %q: nothing was done", typed, word)}
	}
	return nil
}

// meant asks a person whether a large change is meant, before it is made; it shows what
// changes. Who forces it is asked anyway, and who is no person cannot be.
func (w *wish) meant(ctx context.Context, client *api.Client, c core.Command, word string) error {
	if w.force || w.dryRun || !w.app.asking || w.app.json() {
		return nil
	}
	c.ID, c.DryRun = w.app.newID(), true
	o, err := client.Do(ctx, c, w.timeout, nil)
	if err != nil || o.Code != exitDone || !o.Preview.Large {
		return err // a refusal comes again, and is told then
	}
	p := &page{}
	preview(p, o.Preview)
	fmt.Fprint(w.app.err, p.b.String())
	typed, err := w.app.ask(ctx, fmt.Sprintf("Type %s to go on: ", word))
	if err != nil {
		return err
	}
	if typed != word {
		return &exit{code: exitRefused, err: fmt.Errorf("%q is not %q: nothing was done", typed, word)}
	}
	return nil
}

// telling shows a command's outcomes as they come.
type telling struct {
	app   *app
	intro string
	begun bool
	waits bool     // for a second person, which was said
	told  []string // directors that have it
}

func (t *telling) out() io.Writer { return t.app.out }

// progress shows what is new. JSON waits for the final outcome.
func (t *telling) progress(o api.Outcome) {
	if t.app.json() {
		return
	}
	p := &page{width: t.app.width(), colour: t.app.colour}
	if !t.begun {
		t.begun = true
		if t.intro != "" {
			p.line(t.intro)
		}
		preview(p, o.Preview)
	}
	if r := o.Request; r != nil && r.State == api.RequestWaits && !t.waits {
		t.waits = true
		for _, why := range r.Why {
			p.wrapped(2, "! ", warn, "one person is not enough: "+clean(why))
		}
		p.wrapped(2, "", warn, fmt.Sprintf("waits for a second person, until %s: divert approve %s", t.app.clock(r.Expires), clean(r.ID)))
	}
	for _, name := range o.Applied {
		if !slices.Contains(t.told, name) {
			t.told = append(t.told, name)
			p.line("  " + p.paint(good, clean(name)+" has it"))
		}
	}
	fmt.Fprint(t.out(), p.b.String())
}

// final shows the last word, and gives it as an exit code.
func (t *telling) final(o api.Outcome, dryRun bool) error {
	if t.app.json() {
		if err := t.app.printJSON(o); err != nil {
			return err
		}
		if o.Code != exitDone {
			return &exit{code: o.Code}
		}
		return nil
	}
	if o.Code == exitRefused {
		return &exit{code: o.Code, err: errors.New(o.Error), remedy: o.Remedy}
	}
	t.progress(o)
	p := &page{width: t.app.width(), colour: t.app.colour}
	for _, m := range o.Missing {
		p.line("  " + p.paint(bad, fmt.Sprintf("%s does not have it: %s", clean(m.Director), clean(m.Why))))
	}
	switch {
	case o.Code != exitDone:
		fmt.Fprint(t.out(), p.b.String())
		return &exit{code: o.Code, err: errors.New(o.Error), remedy: o.Remedy}
	case dryRun:
		p.wrapped(0, "", plain, "dry run, nothing was changed: "+o.Summary)
	case o.Revision == 0:
		p.wrapped(0, "", plain, o.Summary)
	default:
		label := "done: "
		if len(o.Preview.Steps) > 1 {
			label = "begun: " // `divert status` shows the steps that follow
		}
		p.wrapped(0, label, plain, fmt.Sprintf("%s; plan revision %d, on %s%s", o.Summary, o.Revision, all(len(o.Applied)), in(core.Seconds(o.Took))))
	}
	fmt.Fprint(t.out(), p.b.String())
	return nil
}

func all(n int) string {
	if n == 1 {
		return "the only director"
	}
	return fmt.Sprintf("all %d directors", n)
}

func in(took time.Duration) string {
	if took <= 0 {
		return ""
	}
	return " in " + short(took)
}

// preview shows what a change does.
func preview(p *page, v core.Preview) {
	changes(p, 2, v.Changes)
	for _, e := range v.Effects {
		line := e.Service + ":"
		switch {
		case len(e.From) > 0 && len(e.To) > 0:
			line += fmt.Sprintf(" %s -> %s,", strings.Join(e.From, ", "), strings.Join(e.To, ", "))
		case len(e.From) > 0:
			line += fmt.Sprintf(" leaves %s,", strings.Join(e.From, ", "))
		case len(e.To) > 0:
			line += fmt.Sprintf(" may go to %s,", strings.Join(e.To, ", "))
		}
		if e.Changed > 0 {
			line += fmt.Sprintf(" %s of its answers,", percent(e.Changed))
		}
		line += fmt.Sprintf(" %s left", count(e.Healthy, "healthy site"))
		look := plain
		if e.MinWanted > 0 && e.Healthy < e.MinWanted {
			line += fmt.Sprintf(", fewer than the %d wanted", e.MinWanted)
			look = warn
		}
		p.wrapped(2, "", look, line)
	}
	for i, s := range v.Steps {
		line := fmt.Sprintf("step %d of %d: %s of its clients are away", i+1, len(v.Steps), permille(s.Moved))
		if i == 0 && s.Moved == 0 {
			line = fmt.Sprintf("step 1 of %d: nobody leaves yet, the TTL falls", len(v.Steps))
		}
		if s.After > 0 {
			line += ", in " + short(core.Seconds(s.After)) + " at the earliest"
		}
		p.wrapped(2, "", plain, line)
	}
	for _, u := range v.Utilisation {
		look := plain
		if u.Then > u.Target {
			look = warn
		}
		p.wrapped(2, "", look, fmt.Sprintf("%s: predicted at %d %% of its capacity (now %d %%, the target is %d %%)", u.Pool, u.Then, u.Now, u.Target))
	}
	shifts(p, 2, v)
	for _, warning := range v.Warnings {
		p.wrapped(2, "! ", warn, warning)
	}
	for _, why := range v.TwoPersons {
		p.wrapped(2, "! ", warn, "takes two persons: "+why)
	}
	if v.Void != "" {
		p.wrapped(2, "! ", bad, v.Void)
	}
}

// shifts shows what part of the answers changes, by region: both types in one line where
// they say the same, and so all regions.
func shifts(p *page, indent int, v core.Preview) {
	if !slices.ContainsFunc(v.Shifts, func(s core.Shift) bool { return len(s.Moves) > 0 }) {
		return
	}
	p.wrapped(indent, "", dim, "answers that change ("+v.Weighing+"):")
	var regions []string
	byRegion := map[string]string{}
	for i, s := range v.Shifts {
		types := s.Type
		if i > 0 && sameShift(v.Shifts[i-1], s) {
			continue // told with the other type
		}
		if i+1 < len(v.Shifts) && sameShift(s, v.Shifts[i+1]) {
			types += " and " + v.Shifts[i+1].Type
		}
		text := types + ": " + percent(s.Changed)
		if ways := ways(s.Moves); ways != "" {
			text += " (" + ways + ")"
		}
		if byRegion[s.Region] == "" {
			regions = append(regions, s.Region)
		} else {
			text = byRegion[s.Region] + "; " + text
		}
		byRegion[s.Region] = text
	}
	told := map[string]bool{}
	for i, region := range regions {
		if told[region] {
			continue
		}
		line := region + ", " + byRegion[region]
		var like []string
		for _, other := range regions[i+1:] {
			if byRegion[other] == byRegion[region] {
				like, told[other] = append(like, other), true
			}
		}
		if len(like) > 0 {
			line += "; so in " + strings.Join(like, ", ")
		}
		p.wrapped(indent+2, "", plain, line)
	}
}

func ways(moves []core.Move) string {
	out := make([]string, 0, len(moves))
	for _, m := range moves {
		way := m.From + " -> " + m.To
		switch {
		case m.From == m.To:
			way = "other addresses of " + m.To
		case m.From == "":
			way = "new at " + m.To
		case m.To == "":
			way = "gone from " + m.From
		}
		out = append(out, way+" "+percent(m.Percent))
	}
	return strings.Join(out, ", ")
}

// sameShift tells whether two are of one region, and the same but for the type.
func sameShift(a, b core.Shift) bool {
	return a.Region == b.Region && percent(a.Changed) == percent(b.Changed) && ways(a.Moves) == ways(b.Moves)
}

// percent shows a part as people read it.
func percent(f float64) string {
	switch {
	case f > 0 && f < 0.05:
		return "< 0.1 %"
	case f > 99.95 && f < 100:
		return "> 99.9 %"
	default:
		return strconv.FormatFloat(f, 'f', 1, 64) + " %"
	}
}

// worse keeps the error with the higher exit code, showing the other now.
func (a *app) worse(c *cobra.Command, have, next error) error {
	if have == nil || next == nil {
		if have == nil {
			return next
		}
		return have
	}
	if codeOf(next) > codeOf(have) {
		have, next = next, have
	}
	a.conclude(c, next)
	return have
}

func codeOf(err error) int {
	if e := (*exit)(nil); errors.As(err, &e) {
		return e.code
	}
	return exitRefused
}
