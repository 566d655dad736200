package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
)

// applyWord is what --force asks to be typed.
const applyWord = "apply"

func (a *app) diffCommand() *cobra.Command {
	var files []string
	var prune bool
	c := &cobra.Command{
		Use:     "diff -f PATH",
		GroupID: groupSpec,
		Short:   "Show what files would change, for which clients, in per cent of answers",
		Long: `Show what ` + "`divert apply`" + ` of the same files would change in the fleet's spec, field
by field, and what part of the answers would change in which regions, from which
cluster to which. The files are checked first, and nothing is changed.

The per cents come of deciding about all services by the spec in force and by the
new one, as they stand now. Each IPv4 address counts as one client where the geo
table has it, and each service alike: it is no measure of traffic. Regions are
continents, the countries that a rule of the spec names, and its prefixes, which
are counted over the services whose answers change there. A read-only server
shows the fields alone.

A resource that is in the fleet and not in the files stays, and is only named;
with --prune it is shown as removed.

With -o json the fields alone are printed, as ever: ` + "`divert apply --dry-run -o json`" + `
has all of it.`,
		Example: `  divert diff -f spec.d
  divert diff -f spec.d --prune
  divert diff -f shop.yaml -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			mine, fleet, err := a.load(c.Context(), client, files, prune)
			if err != nil {
				return err
			}
			next := mine
			if !prune {
				next = merged(fleet, mine)
			}
			list := spec.Diff(fleet, next)
			if a.json() {
				if list == nil {
					list = []spec.Change{}
				}
				return a.printJSON(list)
			}
			p := &page{width: a.width(), colour: a.colour}
			changes(p, 0, list)
			if len(list) == 0 {
				p.line("no difference")
			}
			if stay := unnamed(fleet, mine); len(stay) > 0 && !prune {
				p.wrapped(0, "", dim, "not in these files, and staying (--prune removes): "+strings.Join(stay, ", "))
			}
			if len(list) > 0 {
				if err := a.foresee(c.Context(), client, p, mine, prune); err != nil {
					return err
				}
			}
			_, err = fmt.Fprint(a.out, p.b.String())
			return err
		},
	}
	fileFlag(c, &files)
	c.Flags().BoolVar(&prune, "prune", false, "show what apply --prune would remove")
	return c
}

// foresee shows what a dry run says of the answers. What it refuses, and a server that only
// reads, are told: the fields have been shown.
func (a *app) foresee(ctx context.Context, client *api.Client, p *page, files []spec.Raw, prune bool) error {
	o, err := client.Do(ctx, core.Command{
		ID: a.newID(), Verb: core.Apply, Source: "files", Objects: files, Prune: prune, DryRun: true, Reason: "diff",
	}, foreseeing, nil)
	if refusal := (*api.Error)(nil); errors.As(err, &refusal) {
		p.wrapped(0, "", dim, "which clients would move is not shown: "+refusal.Reason)
		return nil
	}
	switch {
	case err != nil:
		return err
	case o.Code != exitDone && o.CanForce:
		p.wrapped(0, "! ", warn, o.Error+"; it needs --force, and `divert apply --dry-run --force` shows which clients would move")
	case o.Code != exitDone:
		p.wrapped(0, "! ", warn, "it would be refused: "+o.Error)
	default:
		o.Preview.Changes = nil // are shown
		preview(p, o.Preview)
	}
	return nil
}

// foreseeing is how long a diff waits for what would move.
const foreseeing = time.Minute

func unnamed(fleet, files []spec.Raw) []string {
	named := map[string]bool{}
	for _, f := range files {
		named[f.Kind+"/"+f.Name] = true
	}
	var out []string
	for _, r := range fleet {
		if name := r.Kind + "/" + r.Name; !named[name] {
			out = append(out, name)
		}
	}
	return out
}

func fileFlag(c *cobra.Command, files *[]string) {
	c.Flags().StringArrayVarP(files, "file", "f", nil, "spec file or folder; may be repeated (`PATH`)")
	must(c.MarkFlagRequired("file"))
	must(c.MarkFlagFilename("file", "yaml", "yml", "json"))
}

func (a *app) applyCommand() *cobra.Command {
	var files, canary []string
	var prune bool
	var soak time.Duration
	c := &cobra.Command{
		Use:     "apply -f PATH",
		GroupID: groupSpec,
		Short:   "Check files and make them the fleet's spec",
		Long: `Check spec files and commit them to the plan of the fleet. With any error in them
nothing is applied.

Resources in the files are added or changed. What the files do not name stays,
unless --prune says that they are the whole spec: then what was applied from
files and is not in them any more is removed. A change that removes much (the
last address of a service, more than a quarter of all endpoints), or that breaks
or removes an interlock, is refused without --force.

It shows what part of the answers changes where (see ` + "`divert diff --help`" + `). Where
that is more than a quarter of those that clients get now, a person at a terminal
is asked whether it is meant; a script goes on, with a warning.

--canary has the directors that it names answer from the new spec first, and all
others from the one in force. All of them watch what either needs. After --soak
the leader has all take it, if those directors answer, no site is worse by its
probes and it raises no alert that the one in force does not; what is not known
yet is waited for. Else it is taken back from them, and ` + "`divert status`" + ` says why.
Drains go on meanwhile, other applies wait. See ` + "`divert rollout`" + `.

The command returns when all registered directors answer from the new plan, and
otherwise names those that do not and exits with 3.`,
		Example: `  divert apply -f spec.d
  divert apply -f spec.d --dry-run
  divert apply -f spec.d --prune --reason "decommission nyc"
  divert apply -f shop.yaml -f pay.yaml
  divert apply -f spec.d --canary d2 --soak 10m
  divert apply -f spec.d --prune --force --confirm apply`,
		Args: cobra.NoArgs,
	}
	w := a.wishFlags(c)
	w.forceFlags(c, applyWord)
	w.glassFlag(c)
	fileFlag(c, &files)
	c.Flags().BoolVar(&prune, "prune", false, "the files are the whole spec: remove what they lack")
	c.Flags().StringSliceVar(&canary, "canary", nil, "`NAME,…` of the directors that try it first; may be repeated")
	must(c.RegisterFlagCompletionFunc("canary", a.complete(directors("active"))))
	c.Flags().DurationVar(&soak, "soak", 5*time.Minute, "how long --canary tries it")
	c.RunE = func(c *cobra.Command, _ []string) error {
		switch {
		case c.Flags().Changed("canary") && (len(canary) == 0 || slices.Contains(canary, "")):
			return usage("--canary names nobody: all directors would have it at once")
		case len(canary) == 0 && c.Flags().Changed("soak"):
			return usage("--soak is how long --canary tries it, which is not given")
		case soak <= 0:
			return usage("--soak %s is not a time to come", short(soak))
		}
		if err := w.check(applyWord); err != nil {
			return err
		}
		client, err := a.changer()
		if err != nil {
			return err
		}
		mine, _, err := a.load(c.Context(), client, files, prune)
		if err != nil {
			return err
		}
		wish := w.command(core.Apply, "")
		wish.Source, wish.Objects, wish.Prune = "files", mine, prune
		if len(canary) > 0 {
			wish.Canary, wish.Soak = canary, soak
		} else if err := w.meant(c.Context(), client, wish, applyWord); err != nil {
			return err
		}
		return w.utter(c.Context(), client, wish, applyWord, "applying "+count(len(mine), "resource"))
	}
	return c
}
