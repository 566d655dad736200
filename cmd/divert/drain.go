package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/steer"
)

func (a *app) drainCommand() *cobra.Command {
	var lasting time.Duration
	var lastResort, now, paced, emergency bool
	c := &cobra.Command{
		Use:     "drain SCOPE...",
		GroupID: groupChange,
		Short:   "Take traffic away from a cluster, a fault domain or one site of a service",
		Long: `Take traffic away on purpose, at once, for a time.

SCOPE is cluster/NAME, domain/NAME (all that fails together) or
service/NAME@CLUSTER (one site of one service).

A drain has a reason and an end: --for, one hour unless you say otherwise. It
ends by itself, onto healthy sites only, or earlier by ` + "`divert undrain`" + `. It
stands beside the observed health and never changes it: ` + "`divert status`" + ` shows
both. To extend it, drain again.

The command prints what moves and each director that has the drain on disk and
in its answers. It returns when all registered directors have; when --timeout
comes first it names those that have not, which stay in force as they were, and
exits with 3. The drain is then committed and reaches them when they are back.

A drain that takes the last healthy site of a service is refused. --force does
it all the same: it lists what it hits, asks for the scope to be typed
(--confirm answers in a script), and is recorded. --last-resort lets a drained
site that is healthy answer when nothing else can.

Exit codes: 0 every director has it; 1 refused; 2 usage; 3 not complete in time.`,
		Example: `  divert drain cluster/fra --for 2h --reason INC-1
  divert drain cluster/fra --reason "kernel upgrade" --dry-run
  divert drain service/shop@fra --reason INC-2 --last-resort
  divert drain domain/fra-dc1 --for 30m --reason "power work" --timeout 30s
  divert drain cluster/fra --reason INC-3 --force --confirm cluster/fra -o json`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.complete(scopes),
	}
	w := a.wishFlags(c)
	w.forceFlags(c, "SCOPE")
	f := c.Flags()
	f.DurationVar(&lasting, "for", time.Hour, "how long; it ends by itself then")
	f.BoolVar(&lastResort, "last-resort", false, "let a healthy site of the scope answer when nothing else can")
	f.BoolVar(&now, "now", false, "at once, which is what a drain is unless --paced")
	f.BoolVar(&paced, "paced", false, "in steps (not yet supported)")
	f.BoolVar(&emergency, "emergency", false, "without the store (not yet supported)")
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case paced:
			return usage("--paced is not yet supported: drains are immediate")
		case emergency:
			return usage("--emergency is not yet supported: a drain needs the store")
		case lasting <= 0:
			return usage("--for %s is not a time to come", short(lasting))
		}
		if err := checkScopes(args); err != nil {
			return err
		}
		if err := w.check(args...); err != nil {
			return err
		}
		if err := w.needReason(c.Context()); err != nil {
			return err
		}
		return a.each(c, args, func(scope string) (core.Command, string) {
			wish := w.command(core.Drain, scope)
			wish.For, wish.LastResort = lasting, lastResort
			intro := fmt.Sprintf("draining %s for %s, until %s; reason: %s", scope, short(lasting), a.clock(a.now().Add(lasting)), clean(w.reason))
			if !c.Flags().Changed("for") {
				intro += "\n  (--for says how long)"
			}
			return wish, intro
		}, w)
	}
	return c
}

func (a *app) undrainCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "undrain SCOPE...",
		GroupID: groupChange,
		Short:   "End drains",
		Long: `End drains before their time. SCOPE is as it was given to ` + "`divert drain`" + `.

Sites that are healthy take clients again on each director as it learns of it;
a site that is not stays out, as its health says. The command returns when all
registered directors have it, and otherwise names those that have not.`,
		Example: `  divert undrain cluster/fra
  divert undrain service/shop@fra domain/nyc-dc1 --reason "INC-1 is over"
  divert undrain cluster/fra --dry-run`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.complete(drained),
	}
	w := a.wishFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := checkScopes(args); err != nil {
			return err
		}
		if err := w.check(args...); err != nil {
			return err
		}
		return a.each(c, args, func(scope string) (core.Command, string) {
			return w.command(core.Undrain, scope), "undraining " + scope
		}, w)
	}
	return c
}

func (a *app) readmitCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "readmit SCOPE...",
		GroupID: groupChange,
		Short:   "End the wait of a site that is well again",
		Long: `End the wait of sites that are well again and held back because they failed and
came back too often. They return as soon as their probes pass. What is not well
does not return.

SCOPE is cluster/NAME, domain/NAME or service/NAME@CLUSTER. ` + "`divert status`" + `
says which sites wait, and why.`,
		Example: `  divert readmit cluster/fra --reason "the switch is replaced"
  divert readmit service/shop@fra`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.complete(scopes),
	}
	w := a.wishFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := checkScopes(args); err != nil {
			return err
		}
		if err := w.check(args...); err != nil {
			return err
		}
		return a.each(c, args, func(scope string) (core.Command, string) {
			return w.command(core.Readmit, scope), "readmitting " + scope
		}, w)
	}
	return c
}

// checkScopes refuses what can be no scope before any of them is sent.
func checkScopes(args []string) error {
	seen := map[string]bool{}
	for _, arg := range args {
		if _, err := steer.ParseScope(arg); err != nil {
			return &exit{code: exitUsage, err: err, remedy: "write it as cluster/fra, domain/fra-dc1 or service/shop@fra"}
		}
		if seen[arg] {
			return usage("%s is given twice", arg)
		}
		seen[arg] = true
	}
	return nil
}

// each sends one command after another, whatever became of those before, and
// gives the worst exit code.
func (a *app) each(c *cobra.Command, scopes []string, command func(scope string) (core.Command, string), w *wish) error {
	client, err := a.changer()
	if err != nil {
		return err
	}
	var worst error
	for _, scope := range scopes {
		wish, intro := command(scope)
		worst = a.worse(c, worst, w.utter(c.Context(), client, wish, scope, intro))
		if c.Context().Err() != nil {
			break
		}
	}
	return worst
}
