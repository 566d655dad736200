package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director"
	"github.com/divertdns/divert/director/spec"
)

func (a *app) serveCommand() *cobra.Command {
	var config string
	var verbose, replace, await bool
	c := &cobra.Command{
		Use:     "serve",
		GroupID: groupRun,
		Short:   "Run a director",
		Long: `Run a director: watch the clusters, agree with the other directors, answer DNS.

Every setting has a safe default: with no settings at all it answers on
127.0.0.1 and ::1, port 5300, keeps its state in /var/lib/divert (an ordinary
user: ~/.local/state/divert), and runs its own store. It starts from the last
good plan on its disk, with the store and every peer away.

With --replace it takes over from the director that runs on the same data
folder: both answer DNS on the same sockets until the new one is whole, then
the old one ends. If the new one fails, the old one stays. That is how to
change the binary or the settings without a query lost.

Started by systemd with sockets passed (socket activation), it answers on those
as they are, whatever dns.listen says, and tells systemd when it is ready.

Files of keys and secrets must be its user's, root's, or the settings' owner's, and
closed to all others (chmod 600), or a new director does not start; one that has
served before does, and alerts. Its memory is kept out of core dumps.

SIGINT and SIGTERM stop it. The log goes to standard error, as text or with
-o json as JSON.`,
		Example: `  divert serve
  divert serve -c /etc/divert/director.yaml
  divert serve -c director.yaml -o json
  divert serve -c director.yaml --replace`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.serve(c.Context(), config, verbose, replace, await)
		},
	}
	c.Flags().StringVarP(&config, "config", "c", "", "the settings `FILE` (default: none, every setting at its default)")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "log what helps to find a fault, too")
	c.Flags().BoolVar(&replace, "replace", false, "take over from the director that runs on the same data folder, without a query lost")
	c.Flags().BoolVar(&await, "await-restore", false, "where there is no plan, begin no new fleet: a backup is to come (divert restore)")
	must(c.MarkFlagFilename("config", "yaml", "yml", "json"))
	return c
}

func (a *app) serve(ctx context.Context, config string, verbose, replace, await bool) error {
	// Packets leave no garbage, only plans, probes and verdicts do: a quarter of Go's usual
	// room for it costs a hundredth of a core with 30,000 checks, and a director with them,
	// or with a million records, then stays small.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
	}
	settings, problems := spec.LoadSettings(config)
	if spec.Failed(problems) {
		failed, _ := tallied(problems)
		return &exit{code: exitRefused, err: fmt.Errorf("%s in the settings", count(failed, "error")), problems: problems}
	}
	open, err := secretFiles(settings)
	if err != nil {
		return err
	}
	problems = append(problems, open...)
	for _, p := range problems {
		fmt.Fprintln(a.err, clean(p.String()))
	}
	outliveLog()
	if err := hideMemory(); err != nil {
		fmt.Fprintf(a.err, "warning: a core dump of this process would hold its keys: %v\n", err)
	}
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	sockets, err := passedSockets()
	if err != nil {
		return err
	}
	return director.Serve(ctx, director.ServeOptions{
		Options: director.Options{Settings: settings, Version: buildVersion(), Log: a.logger(level), AwaitRestore: await, WatchSecrets: true},
		Sockets: sockets, Replace: replace, Ready: notifyReady,
	})
}

// secretFiles refuses a new director whose secrets are open to others. One that clients go
// by already starts as it did before, at an upgrade too, and alerts: that its key could be
// read is for a person to mend, and no reason to stop answering (S12).
func secretFiles(settings spec.Settings) (warnings []spec.Problem, err error) {
	served := director.HasServed(settings)
	open := spec.CheckSecretFiles(settings, served)
	if served || len(open) == 0 {
		return open, nil
	}
	return nil, &exit{code: exitRefused, err: fmt.Errorf("%s open to others", count(len(open), "secret file")), problems: open}
}
