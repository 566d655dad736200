package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
)

func (a *app) statusCommand() *cobra.Command {
	var watch, verbose bool
	c := &cobra.Command{
		Use:     "status",
		GroupID: groupSee,
		Short:   "Show clusters, services, directors, the leader and the plan",
		Long: `Show the fleet as one director sees it: alerts first, then clusters and
services with their observed health and, beside it, what people have drained,
then the directors, the overrides in force, and changes of the spec's files that
wait for a person.

Observed health is what the directors agree on: healthy, degraded, failed, or
unknown while too few could probe a site. What is unknown is served as what is
healthy. A drain never changes it: a drained site that is healthy is shown as both.
SERVES says whether clients are sent there now, and of a site that has just returned
how many of its clients. A site that is well again and does not serve yet says when
it may return and why it waits.

--verbose adds each probe with who votes how, and how soon a death and a hang of a
site would be agreed upon.

With --watch the status is shown again at each change, until Ctrl-C. With
-o json it is one JSON object, and with --watch one object a line.`,
		Example: `  divert status
  divert status --verbose
  divert status --watch
  divert status -o json | jq '.clusters[] | {name, health, drained}'
  divert status --server http://127.0.0.1:8053`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			if watch {
				return a.watch(c.Context(), client, verbose)
			}
			s, err := client.Status(c.Context())
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(s)
			}
			_, err = fmt.Fprint(a.out, a.statusPage(s, verbose))
			return err
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show it again at each change")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "show every probe, who votes how, and how soon a fault is agreed upon")
	return c
}

// watchPause is how long a broken connection is left alone.
const watchPause = time.Second

// watch shows the status at each change, and goes on when the director comes
// back from a restart. That it cannot be reached at all is an error only the
// first time.
func (a *app) watch(ctx context.Context, client *api.Client, verbose bool) error {
	seen := false
	for {
		err := client.Watch(ctx, func(s api.Status) error {
			seen = true
			return a.show(s, verbose)
		})
		refusal := (*api.Error)(nil)
		switch {
		case ctx.Err() != nil:
			return nil
		case !seen, errors.As(err, &refusal), errors.Is(err, errOutput):
			return err
		}
		fmt.Fprintf(a.err, "divert: %s; trying again\n", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchPause):
		}
	}
}

// fit cuts a page to what a terminal shows, so that its head and the alerts do
// not scroll away.
func fit(page string, rows, columns int) string {
	lines := strings.SplitAfter(strings.TrimSuffix(page, "\n"), "\n")
	used := 1 // the last row is for what was cut off, or for the cursor
	for i, line := range lines {
		used += max(1, (visible(line)+columns-1)/max(1, columns))
		if rows > 0 && used > rows {
			return strings.Join(lines[:i], "") + fmt.Sprintf("… and %d more lines; `divert status` shows them all", len(lines)-i)
		}
	}
	return page
}

// visible counts the columns that a line takes, colours apart.
func visible(line string) int {
	n, colour := 0, false
	for _, r := range strings.TrimRight(line, "\n") {
		switch {
		case r == '\x1b':
			colour = true
		case colour:
			colour = r != 'm'
		default:
			n++
		}
	}
	return n
}

// errOutput: nobody reads what is shown any more.
var errOutput = errors.New("showing the status")

func (a *app) show(s api.Status, verbose bool) error {
	var err error
	switch {
	case a.json():
		err = json.NewEncoder(a.out).Encode(s)
	case a.live:
		_, err = fmt.Fprint(a.out, "\x1b[H\x1b[2J"+fit(a.statusPage(s, verbose), a.height(), a.width()))
	default:
		_, err = fmt.Fprint(a.out, a.statusPage(s, verbose)+"\n")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errOutput, err)
	}
	return nil
}
