package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

func (a *app) interlockCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "interlock [NAME]",
		GroupID: groupChange,
		Short:   "See the interlocks, and turn their switches",
		Long: `Interlocks are safety rules of the spec (kind: Interlock) that every drain,
undrain, apply, and every write of the leader's own is held against.

An assertion wants at least so many of a set in service: drained and failed
ones do not count. A gate guards a set by a switch: while that is off, as it is
until somebody turns it on, nothing of the set may be taken away or brought
back; what automation does for health goes on.

Without a name this lists all of them; with one it says what the rule counts and
why the rest does not. --force of a drain, an undrain or an apply passes an
interlock, and is recorded with the rule's name.`,
		Example: `  divert interlock
  divert interlock two-sites
  divert interlock -o json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.complete(interlocks),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.client()
		if err != nil {
			return err
		}
		s, err := client.Status(c.Context())
		if err != nil {
			return err
		}
		list := s.Interlocks
		if len(args) == 1 {
			list = slices.DeleteFunc(slices.Clone(list), func(i core.Standing) bool { return i.Name != args[0] })
			if len(list) == 0 {
				return &exit{code: exitRefused, err: fmt.Errorf("there is no interlock %q", args[0]), remedy: "`divert interlock` lists them"}
			}
		}
		if a.json() {
			if list == nil {
				list = []core.Standing{}
			}
			return a.printJSON(list)
		}
		p := &page{width: a.width(), colour: a.colour}
		if len(list) == 0 {
			p.line("there are none: the spec has no kind: Interlock")
		} else {
			p.table(0, []string{"NAME", "STATE", "RULE"}, interlockRows(list, len(args) == 1))
		}
		_, err = fmt.Fprint(a.out, p.b.String())
		return err
	}
	c.AddCommand(a.interlockTurn(true), a.interlockTurn(false))
	return c
}

// interlockTurn is `divert interlock on` or `off`.
func (a *app) interlockTurn(on bool) *cobra.Command {
	word, verb := "off", core.InterlockOff
	short, long := "Close the gates of a switch", `Turn a switch off. Nothing that its gates guard may then be taken away or brought
back by a command, nor by the end of a drain, which is overdue until the switch
is on again. Failover and return go on.`
	if on {
		word, verb = "on", core.InterlockOn
		short, long = "Open the gates of a switch", `Turn a switch on, so that what its gates guard may be taken away and brought back.
It stays on until somebody turns it off.`
	}
	c := &cobra.Command{
		Use: word + " SWITCH", Short: short, Long: long,
		Example: `  divert interlock ` + word + ` fra-work --reason INC-1
  divert interlock ` + word + ` fra-work --reason INC-1 --dry-run`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(switches(!on)),
	}
	w := a.wishFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := w.check(args[0]); err != nil {
			return err
		}
		if err := w.needReason(c.Context()); err != nil {
			return err
		}
		return a.each(c, args, func(name string) (core.Command, string) {
			return w.command(verb, name), fmt.Sprintf("turning switch %s %s; reason: %s", name, word, clean(w.reason))
		}, w)
	}
	return c
}

// interlockRows shows rules; full ones with what each counts.
func interlockRows(list []core.Standing, full bool) []row {
	rows := make([]row, 0, len(list))
	for _, i := range list {
		state := cell{i.State, good}
		switch i.State {
		case core.StandingLimit, core.StandingClosed:
			state.style = warn
		case core.StandingBroken:
			state.style = bad
		}
		var scopes []string
		var notes []cell
		for _, m := range i.Members {
			scopes = append(scopes, m.Scope)
			switch {
			case !m.InService:
				notes = append(notes, cell{clean(m.Why), plain})
			case full:
				notes = append(notes, cell{clean(m.Scope) + " is in service", dim})
			}
		}
		const most = 4
		of := strings.Join(scopes[:min(most, len(scopes))], ", ")
		if more := len(scopes) - most; more > 0 {
			of += fmt.Sprintf(" and %d more", more)
		}
		rule := fmt.Sprintf("at least %d of %s", i.AtLeast, of)
		if i.Switch != nil {
			rule = "switch " + i.Switch.Name + " guards " + of
		}
		if i.Switch != nil && !full {
			notes = nil // it guards them, up or not
		}
		rows = append(rows, row{cells: []cell{text(i.Name), state, text(rule)}, remarks: append([]cell{{clean(i.Why), plain}}, notes...)})
	}
	return rows
}

// tight lists the interlocks that forbid something now.
func tight(list []core.Standing) []core.Standing {
	return slices.DeleteFunc(slices.Clone(list), func(i core.Standing) bool {
		return i.State == core.StandingHolds || i.State == core.StandingOpen
	})
}

func interlocks(s api.Status) []string {
	var out []string
	for _, i := range s.Interlocks {
		out = append(out, i.Name)
	}
	return out
}

// switches lists those that are on, or off.
func switches(on bool) func(api.Status) []string {
	return func(s api.Status) []string {
		var out []string
		for _, i := range s.Interlocks {
			if i.Switch != nil && i.Switch.On == on && !slices.Contains(out, i.Switch.Name) {
				out = append(out, i.Switch.Name)
			}
		}
		return out
	}
}
