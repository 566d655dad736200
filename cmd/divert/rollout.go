package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

func (a *app) revertCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "revert",
		GroupID: groupSpec,
		Short:   "Put the spec that was before this one back in force",
		Long: `Put the fleet's spec back to what it was before it was last changed, in one step:
a new revision with the content of old, with its own audit record. Said again, it
goes back to what it has just left.

Drains, freezes and the roster stay as they are. What a director's folder brought
last stays noted, so that a folder which still holds what is taken back does not
bring it again before it changes. While a rollout is under way, that is taken
back instead.

It is refused where no spec from before is known, or the store has it no more, and
without --force where an interlock says no.
What the change would move is shown as by ` + "`divert apply`" + `; --dry-run shows it alone.`,
		Example: `  divert revert --dry-run
  divert revert --reason "INC-4: wrong order"`,
		Args: cobra.NoArgs,
	}
	w := a.wishFlags(c)
	w.forceFlags(c, "revert")
	w.glassFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return w.alone(c, core.Revert, "going back to the spec from before", "revert")
	}
	return c
}

// alone sends a command that is about nothing but the plan itself.
func (w *wish) alone(c *cobra.Command, verb core.Verb, intro, word string) error {
	if err := w.check(word); err != nil {
		return err
	}
	client, err := w.app.changer()
	if err != nil {
		return err
	}
	return w.utter(c.Context(), client, w.command(verb, ""), word, intro)
}

func (a *app) rolloutCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "rollout",
		GroupID: groupSpec,
		Short:   "See and end a spec that some directors try first",
		Long: `See and end what ` + "`divert apply --canary`" + ` has begun: which directors try another
spec, until when, and what its end waits for.`,
		Example: `  divert rollout status
  divert rollout go-on
  divert rollout abort`,
	}
	return group(c, a.rolloutStatusCommand(), a.goOnCommand(), a.abortCommand())
}

func (a *app) rolloutStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the rollout under way, or why the last one was stopped",
		Long: `Show which directors try another spec, since when and until when, and what the
end of it waits for beside the soak. One that the leader has stopped and taken
back is shown with the reason, until a person applies or reverts something, or
puts it away with ` + "`divert rollout abort`" + `.`,
		Example: `  divert rollout status
  divert rollout status -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			s, err := client.Status(c.Context())
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(s.Rollout)
			}
			p := &page{width: a.width(), colour: a.colour}
			if s.Rollout == nil {
				p.line("no rollout is under way")
			} else {
				a.rollout(p, 0, s.Rollout)
			}
			_, err = fmt.Fprint(a.out, p.b.String())
			return err
		},
	}
}

// rollout shows one in a few lines.
func (a *app) rollout(p *page, indent int, r *api.Rollout) {
	tries := "try"
	if len(r.On) == 1 {
		tries = "tries"
	}
	line := fmt.Sprintf("%s %s the spec of revision %d since %s", strings.Join(r.On, ", "), tries, r.Revision, a.clock(r.Start))
	look := plain
	if r.State == "stopped" {
		line = fmt.Sprintf("the spec of revision %d, which %s tried, was taken back", r.Revision, strings.Join(r.On, ", "))
		look = warn
	} else {
		line += ", until " + a.clock(r.Until)
	}
	line += "; begun by " + r.Author
	if r.Reason != "" {
		line += " (" + r.Reason + ")"
	}
	p.wrapped(indent, "", look, line)
	if r.Why != "" {
		p.wrapped(indent+2, "! ", warn, r.Why)
	}
	const most = 10
	for _, wait := range r.Waits[:min(most, len(r.Waits))] {
		p.wrapped(indent+2, "waits: ", plain, wait)
	}
	if more := len(r.Waits) - most; more > 0 {
		p.wrapped(indent+2, "", dim, fmt.Sprintf("and for %d more", more))
	}
}

func (a *app) goOnCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "go-on",
		Short: "Have all directors take what some have tried, without waiting for the soak",
		Long: `Make the spec that some directors try the spec of the fleet, now. The leader does
so by itself after the soak, if nothing alarms and every registered director has
acknowledged what is tried (a few that are away are waited for until 15 seconds
after it); a person need not wait for it, is told who has not, and may force it
where an interlock says no.`,
		Example: `  divert rollout go-on --reason "looked at it"
  divert rollout go-on --dry-run`,
		Args: cobra.NoArgs,
	}
	w := a.wishFlags(c)
	w.forceFlags(c, "rollout")
	w.glassFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return w.alone(c, core.GoOn, "all directors take what some have tried", "rollout")
	}
	return c
}

func (a *app) abortCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "abort",
		Short: "Take back what some directors try",
		Long: `Have the directors that try another spec answer from that of all others again. One
that the leader has stopped is put away, and no longer shown.`,
		Example: `  divert rollout abort --reason "wrong file"`,
		Args:    cobra.NoArgs,
	}
	w := a.wishFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return w.alone(c, core.Abort, "taking back what some directors try", "rollout")
	}
	return c
}
