package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director"
	"github.com/divertdns/divert/director/spec"
)

func (a *app) serveCommand() *cobra.Command {
	var config string
	var verbose bool
	c := &cobra.Command{
		Use:     "serve",
		GroupID: groupRun,
		Short:   "Run a director",
		Long: `Run a director: watch the clusters, agree with the other directors, answer DNS.

Every setting has a safe default: with no settings at all it answers on
127.0.0.1 and ::1, port 5300, keeps its state in /var/lib/divert (an ordinary
user: ~/.local/state/divert), and runs its own store. It starts from the last
good plan on its disk, with the store and every peer away.

SIGINT and SIGTERM stop it. The log goes to standard error, as text or with
-o json as JSON.`,
		Example: `  divert serve
  divert serve -c /etc/divert/director.yaml
  divert serve -c director.yaml -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.serve(c.Context(), config, verbose)
		},
	}
	c.Flags().StringVarP(&config, "config", "c", "", "the settings `FILE` (default: none, every setting at its default)")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "log what helps to find a fault, too")
	must(c.MarkFlagFilename("config", "yaml", "yml", "json"))
	return c
}

func (a *app) serve(ctx context.Context, config string, verbose bool) error {
	settings, problems := spec.LoadSettings(config)
	if spec.Failed(problems) {
		failed, _ := tallied(problems)
		return &exit{code: exitRefused, err: fmt.Errorf("%s in the settings", count(failed, "error")), problems: problems}
	}
	for _, p := range problems {
		fmt.Fprintln(a.err, clean(p.String()))
	}
	outliveLog()
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	for {
		d, err := director.New(director.Options{Settings: settings, Version: buildVersion(), Log: a.logger(level)})
		if err != nil {
			return err
		}
		// One that could only answer is made anew once its disk takes writes.
		if err := d.Run(ctx); !errors.Is(err, director.ErrWritable) {
			return err
		}
	}
}
