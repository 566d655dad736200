package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/steer"
)

func (a *app) drainCommand() *cobra.Command {
	var lasting, wait time.Duration
	var lastResort, now, paced bool
	var steps []int
	c := &cobra.Command{
		Use:     "drain SCOPE...",
		GroupID: groupChange,
		Short:   "Take traffic away from a cluster, a fault domain or one site of a service",
		Long: `Take traffic away on purpose, for a time: at once, or in steps with --paced.

SCOPE is cluster/NAME, domain/NAME (all that fails together), selector/KEY=VALUE
(all clusters with that label) or service/NAME@CLUSTER (one site of one service).

A drain has a reason and an end: --for, one hour unless you say otherwise. It
ends by itself, in steps and onto healthy sites only, or earlier by
` + "`divert undrain`" + `. It stands beside the observed health and never changes it:
` + "`divert status`" + ` shows both. To extend it, drain again.

With --paced the TTL falls first, and the clients leave in steps: --steps says how
many percent have left after each, --wait how long each lasts at least; where you
say nothing it goes as the last one of that scope did. The leader takes a step
when all registered directors have the one before, and when fresh probes see who
takes over well. If one of those fails it stands still, and goes back if that
lasts longer than --wait. A site of it may answer when nothing else can, unless
--last-resort=false. To hasten it, drain again with --now.

On a terminal, or with --follow, the steps are shown until the last one, which is
complete when every registered director has it, or until it is rolled back. Ctrl-C
stops only that: the leader goes on with the drain, and ` + "`divert status`" + ` shows
each step and for what it waits.

The command prints what moves and each director that has the drain on disk and
in its answers. It returns when all registered directors have; when --timeout
comes first it names those that have not, which stay in force as they were, and
exits with 3. The drain is then committed and reaches them when they are back.

A drain that takes the last healthy site of a service, breaks an interlock
(` + "`divert interlock`" + ` lists them) or is predicted to bring another site above
its capacity is refused. --force does it all the same: it lists what it hits,
asks for the scope to be typed (--confirm answers in a script), and is recorded.
--last-resort lets a drained site that is healthy answer when nothing else can.

With --emergency it goes without etcd, while that is away: an operator's key signs
it (` + "`divert keys operator`" + `), the director that is asked writes it to its disk and
gives it to the others. It lasts an hour at most, on each director's own clock;
where it would take a last healthy site, bring a service below its minHealthy or
break an interlock, it is skipped for as long as that is so. When etcd is back it
becomes an ordinary drain of the same ID. It is refused while etcd is there.

Exit codes: 0 every director has it (with --follow: complete); 1 refused; 2 usage;
3 not complete in time, rolled back, or no longer followed.`,
		Example: `  divert drain cluster/fra --for 2h --reason INC-1
  divert drain cluster/fra --reason "kernel upgrade" --dry-run
  divert drain service/shop@fra --reason INC-2 --last-resort
  divert drain cluster/fra --paced --steps 1,10,50,100 --wait 2m --reason "kernel upgrade"
  divert drain selector/tier=edge --paced --reason INC-4 --dry-run
  divert drain domain/fra-dc1 --for 30m --reason "power work" --timeout 30s
  divert drain cluster/fra --reason INC-3 --force --confirm cluster/fra -o json
  divert drain cluster/fra --emergency --operator-key ~/oncall.key --for 30m --reason INC-5`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.complete(scopes),
	}
	w := a.wishFlags(c)
	w.forceFlags(c, "SCOPE")
	w.glassFlag(c)
	w.followFlag(c)
	f := c.Flags()
	f.DurationVar(&lasting, "for", time.Hour, "how long; it ends by itself then")
	f.BoolVar(&lastResort, "last-resort", false, "let a healthy site of the scope answer when nothing else can (default with --paced)")
	f.BoolVar(&now, "now", false, "at once, which is what a drain is unless --paced")
	f.BoolVar(&paced, "paced", false, "in steps, each when those who take over are well")
	f.IntSliceVar(&steps, "steps", nil, "`PERCENT,…` that have left after each step (default: as the last time, else 1,5,25,50,100)")
	f.DurationVar(&wait, "wait", 0, "how long each step lasts at least (default: as the last time, else 30s)")
	urgent := a.emergencyFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case paced && now:
			return usage("--paced and --now: a drain goes in steps or at once")
		case !paced && (c.Flags().Changed("steps") || c.Flags().Changed("wait")):
			return usage("--steps and --wait are of a drain in steps: add --paced")
		case c.Flags().Changed("wait") && wait <= 0:
			return usage("--wait %s is no time", short(wait))
		case lasting <= 0:
			return usage("--for %s is not a time to come", short(lasting))
		}
		if err := urgent.alone(c); err != nil {
			return err
		}
		if err := checkScopes(args); err != nil {
			return err
		}
		if err := w.check(args...); err != nil {
			return err
		}
		if err := w.checkFollow(); err != nil {
			return err
		}
		if err := w.needReason(c.Context()); err != nil {
			return err
		}
		if urgent.on {
			return urgent.drain(c, w, args, lasting, lastResort)
		}
		return a.each(c, args, func(scope string) (core.Command, string) {
			wish := w.command(core.Drain, scope)
			wish.For, wish.LastResort = lasting, lastResort
			wish.Paced, wish.Steps, wish.Wait = paced, steps, wait
			how := ""
			if paced {
				wish.LastResort = lastResort || !c.Flags().Changed("last-resort")
				how = " in steps"
			}
			intro := fmt.Sprintf("draining %s%s for %s, until %s; reason: %s", scope, how, short(lasting), a.clock(a.now().Add(lasting)), clean(w.reason))
			if !c.Flags().Changed("for") {
				intro += "\n  (--for says how long)"
			}
			return wish, intro
		}, w)
	}
	return c
}

func (a *app) undrainCommand() *cobra.Command {
	var now bool
	c := &cobra.Command{
		Use:     "undrain SCOPE...",
		GroupID: groupChange,
		Short:   "End drains",
		Long: `End drains before their time. SCOPE is as it was given to ` + "`divert drain`" + `.

Sites that are healthy take clients again on each director as it learns of it;
a site that is not stays out, as its health says. What was drained in steps comes
back in steps, and onto healthy sites only, unless --now; on a terminal, or with
--follow, the steps are shown until the last one. The command returns when all
registered directors have it, and otherwise names those that have not.

What was drained with --emergency, while etcd is still away, is undrained with
--emergency, too, all such drains of the scope; any operator's key does.

A closed gate (` + "`divert interlock`" + `) keeps what it guards from coming back;
--force passes it, asks for the scope to be typed, and is recorded.`,
		Example: `  divert undrain cluster/fra
  divert undrain service/shop@fra domain/nyc-dc1 --reason "INC-1 is over"
  divert undrain cluster/fra --dry-run
  divert undrain cluster/fra --emergency --operator-key ~/oncall.key --reason "INC-5 is over"`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.complete(drained),
	}
	w := a.wishFlags(c)
	w.forceFlags(c, "SCOPE")
	w.glassFlag(c)
	w.followFlag(c)
	urgent := a.emergencyFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := urgent.alone(c); err != nil {
			return err
		}
		if err := checkScopes(args); err != nil {
			return err
		}
		if err := w.check(args...); err != nil {
			return err
		}
		if err := w.checkFollow(); err != nil {
			return err
		}
		if urgent.on {
			if err := w.needReason(c.Context()); err != nil {
				return err
			}
			return urgent.undrain(c, w, args)
		}
		return a.each(c, args, func(scope string) (core.Command, string) {
			wish := w.command(core.Undrain, scope)
			wish.Now = now
			return wish, "undraining " + scope
		}, w)
	}
	c.Flags().BoolVar(&now, "now", false, "at once, also what was drained in steps")
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
	w.forceFlags(c, "SCOPE")
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
			return &exit{code: exitUsage, err: err, remedy: "write it as cluster/fra, domain/fra-dc1, selector/tier=edge or service/shop@fra"}
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
	if len(scopes) > 1 && w.dryRun && !a.json() {
		fmt.Fprintln(a.out, "each of these is shown as if it were alone; what they take together may be refused")
	}
	var worst error
	for _, scope := range scopes {
		wish, intro := command(scope)
		worst = a.worse(c, worst, w.utter(c.Context(), client, wish, scope, intro))
		if c.Context().Err() != nil {
			return worst
		}
	}
	return a.worse(c, worst, w.followed(c.Context(), client))
}
