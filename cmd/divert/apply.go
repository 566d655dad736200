package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

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
		Short:   "Show what files would change, field by field",
		Long: `Show what ` + "`divert apply`" + ` of the same files would change in the fleet's spec, field
by field. The files are checked first. Nothing is changed, so that a read-only
server will do.

A resource that is in the fleet and not in the files stays, and is only named;
with --prune it is shown as removed. ` + "`divert apply --dry-run`" + ` shows besides which
clients would move.`,
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
			_, err = fmt.Fprint(a.out, p.b.String())
			return err
		},
	}
	fileFlag(c, &files)
	c.Flags().BoolVar(&prune, "prune", false, "show what apply --prune would remove")
	return c
}

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
	var files []string
	var prune bool
	c := &cobra.Command{
		Use:     "apply -f PATH",
		GroupID: groupSpec,
		Short:   "Check files and make them the fleet's spec",
		Long: `Check spec files and commit them to the plan of the fleet. With any error in them
nothing is applied.

Resources in the files are added or changed. What the files do not name stays,
unless --prune says that they are the whole spec: then what was applied from
files and is not in them any more is removed. A change that removes much (the
last address of a service, more than a quarter of all endpoints) is refused
without --force.

The command returns when all registered directors answer from the new plan, and
otherwise names those that do not and exits with 3.`,
		Example: `  divert apply -f spec.d
  divert apply -f spec.d --dry-run
  divert apply -f spec.d --prune --reason "decommission nyc"
  divert apply -f shop.yaml -f pay.yaml
  divert apply -f spec.d --prune --force --confirm apply`,
		Args: cobra.NoArgs,
	}
	w := a.wishFlags(c)
	w.forceFlags(c, applyWord)
	fileFlag(c, &files)
	c.Flags().BoolVar(&prune, "prune", false, "the files are the whole spec: remove what they lack")
	c.RunE = func(c *cobra.Command, _ []string) error {
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
		return w.utter(c.Context(), client, wish, applyWord, "applying "+count(len(mine), "resource"))
	}
	return c
}
