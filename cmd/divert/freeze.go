package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/core"
)

func (a *app) freezeCommand() *cobra.Command {
	var lasting time.Duration
	c := &cobra.Command{
		Use:     "freeze [fleet | service/NAME]",
		GroupID: groupChange,
		Short:   "Stop all automation: see everything, move nothing",
		Long: `Stop automation for the whole fleet, or for one service, for a time. The
directors go on watching and ` + "`divert status`" + ` goes on showing what they see, but
no failure and no return moves an answer. What is down now stays out; a site that
has just returned goes on to get its clients back in steps; people's drains still
work.

It ends by itself after --for, or by ` + "`divert thaw`" + `.`,
		Example: `  divert freeze --for 30m --reason "network work in all sites"
  divert freeze service/shop --reason INC-7`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.complete(freezable),
	}
	w := a.wishFlags(c)
	c.Flags().DurationVar(&lasting, "for", time.Hour, "how long; it ends by itself then")
	c.RunE = func(c *cobra.Command, args []string) error {
		scope, err := freezeScope(args)
		if err != nil {
			return err
		}
		if lasting <= 0 {
			return usage("--for %s is not a time to come", short(lasting))
		}
		if err := w.check(scope); err != nil {
			return err
		}
		if err := w.needReason(c.Context()); err != nil {
			return err
		}
		return a.each(c, []string{scope}, func(scope string) (core.Command, string) {
			wish := w.command(core.Freeze, scope)
			wish.For = lasting
			return wish, fmt.Sprintf("freezing %s for %s, until %s; reason: %s", scope, short(lasting), a.clock(a.now().Add(lasting)), clean(w.reason))
		}, w)
	}
	return c
}

func (a *app) thawCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "thaw [fleet | service/NAME]",
		GroupID: groupChange,
		Short:   "Let automation act again",
		Long: `End a freeze. What the directors have agreed on in the meantime comes into force
at once, so look first: --dry-run shows what would move.`,
		Example: `  divert thaw --dry-run
  divert thaw
  divert thaw service/shop --reason "INC-7 is over"`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.complete(freezable),
	}
	w := a.wishFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		scope, err := freezeScope(args)
		if err != nil {
			return err
		}
		if err := w.check(scope); err != nil {
			return err
		}
		return a.each(c, []string{scope}, func(scope string) (core.Command, string) {
			return w.command(core.Thaw, scope), "thawing " + scope
		}, w)
	}
	return c
}

func freezeScope(args []string) (string, error) {
	if len(args) == 0 {
		return "fleet", nil
	}
	if args[0] != "fleet" && (!strings.HasPrefix(args[0], "service/") || strings.Contains(args[0], "@")) {
		return "", usage("%q is neither fleet nor service/NAME", args[0])
	}
	return args[0], nil
}
