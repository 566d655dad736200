package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director"
	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/spec"
)

func (a *app) checkCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:     "check [-c director.yaml] PATH...",
		GroupID: groupSpec,
		Short:   "Check spec files offline: every error at once, with file and line",
		Long: `Check spec files and folders (*.yaml, *.yml, *.json) without asking anybody:
every resource by itself, the resources against each other, and each record of
each zone. With -c a director's settings file is checked too, by itself and
against the spec; without PATH, against the folders that it names. Files that it
or the spec's clusters name are looked for on this machine, for a warning; a geo
database that is there is read, and one that cannot be used is an error.

Every error is printed at once, with file, line, path and remedy. Warnings are
printed and do not fail the check.

Exit codes: 0 no error; 1 errors; 2 usage.`,
		Example: `  divert check spec.d
  divert check clusters.yaml services.yaml
  divert check -c director.yaml spec.d
  divert check -c director.yaml -o json`,
		RunE: func(_ *cobra.Command, paths []string) error {
			return a.check(config, paths)
		},
	}
	c.Flags().StringVarP(&config, "config", "c", "", "a director's settings `FILE` to check as well")
	return c
}

func (a *app) check(config string, paths []string) error {
	var problems []spec.Problem
	var settings spec.Settings
	if config != "" {
		settings, problems = spec.LoadSettings(config)
		if len(paths) == 0 {
			paths, settings.Spec = settings.Spec, nil // they are read below
		}
	} else if len(paths) == 0 {
		return usage("nothing to check: name files or folders, or a settings file with -c")
	}
	set := &spec.Set{}
	if len(paths) > 0 {
		loaded, _, more := spec.LoadWith(paths, director.CheckZone)
		problems = append(problems, more...)
		if loaded != nil {
			set = loaded
		}
		if config != "" && loaded != nil {
			problems = append(problems, spec.CheckTogether(settings, set)...)
		}
	}
	if config != "" {
		problems = append(problems, spec.CheckFiles(settings, set, director.CheckDatabase)...)
		problems = append(problems, spec.CheckSecretFiles(settings, true)...)
	}
	if a.json() {
		if err := a.printJSON(report(problems)); err != nil {
			return err
		}
	} else {
		for _, p := range problems {
			fmt.Fprintln(a.out, clean(p.String()))
		}
		fmt.Fprintln(a.out, verdict(problems, set))
	}
	if spec.Failed(problems) {
		return &exit{code: exitRefused}
	}
	return nil
}

func verdict(problems []spec.Problem, set *spec.Set) string {
	failed, warned := tallied(problems)
	var parts []string
	if failed > 0 {
		parts = append(parts, count(failed, "error"))
	} else {
		parts = append(parts, fmt.Sprintf("ok: %s, %s, %s", count(len(set.Clusters), "cluster"), count(len(set.Zones), "zone"), count(len(set.Services), "service")))
	}
	if warned > 0 {
		parts = append(parts, count(warned, "warning"))
	}
	return strings.Join(parts, ", ")
}

func tallied(problems []spec.Problem) (failed, warned int) {
	for _, p := range problems {
		if p.Warning {
			warned++
		} else {
			failed++
		}
	}
	return failed, warned
}

// problem is a spec.Problem as JSON shows it.
type problem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
	Warning bool   `json:"warning,omitempty"`
}

func report(problems []spec.Problem) any {
	failed, warned := tallied(problems)
	return map[string]any{"errors": failed, "warnings": warned, "problems": listed(problems)}
}

func listed(problems []spec.Problem) []problem {
	list := make([]problem, 0, len(problems))
	for _, p := range problems {
		list = append(list, problem(p))
	}
	return list
}

// load reads files to be applied to a fleet, whose spec completes a part of
// one: a service may name a cluster that is in another file. With whole set,
// the files must be a spec by themselves. Warnings go to the person.
func (a *app) load(ctx context.Context, client *api.Client, paths []string, whole bool) (files, fleet []spec.Raw, err error) {
	if fleet, err = client.Spec(ctx); err != nil {
		return nil, nil, err
	}
	_, files, problems := spec.LoadWith(paths, director.CheckZone)
	if spec.Failed(problems) && !whole {
		files, problems = spec.LoadOver(paths, fleet, director.CheckZone)
	}
	if spec.Failed(problems) {
		return nil, nil, refuse(problems)
	}
	for _, p := range problems {
		fmt.Fprintln(a.err, clean(p.String()))
	}
	if len(files) == 0 {
		return nil, nil, errors.New("there is no resource in " + strings.Join(paths, ", "))
	}
	return files, fleet, nil
}

// refuse shows every problem at once.
func refuse(problems []spec.Problem) error {
	failed, _ := tallied(problems)
	return &exit{
		code: exitRefused, err: fmt.Errorf("%s: nothing is applied", count(failed, "error")),
		remedy: "`divert check` shows them offline", problems: problems,
	}
}

// merged is the fleet's spec with some resources added or replaced.
func merged(fleet, files []spec.Raw) []spec.Raw {
	out := slices.Clone(fleet)
	for _, f := range files {
		if i := slices.IndexFunc(out, func(r spec.Raw) bool { return r.Kind == f.Kind && r.Name == f.Name }); i >= 0 {
			out[i] = f
		} else {
			out = append(out, f)
		}
	}
	return out
}
