package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
)

func (a *app) auditCommand() *cobra.Command {
	var from uint64
	var limit int
	var since string
	c := &cobra.Command{
		Use:     "audit",
		GroupID: groupSee,
		Short:   "Show who changed what, when and why",
		Long: `Show the audit log: each effective change of intent, with its author, reason and
plan revision, oldest first. Without --from or --since these are the newest ones.

With --since, what all directors' journals have of transitions that nobody asked
for stands among them, marked auto: what they took for down, or for up again.

The log is sealed: every director keeps it on its own disk in a way that shows each
change of it, signs what it has, and holds the others' against that. It is shown
while etcd is away, too. ` + "`divert audit verify`" + ` proves it, ` + "`divert audit export`" + `
saves it with its proofs.`,
		Example: `  divert audit
  divert audit --since 24h
  divert audit --limit 100 -o json
  divert audit --from 42`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case limit < 1 || limit > 1000:
				return usage("--limit %d is not between 1 and 1000", limit)
			case c.Flags().Changed("since") && c.Flags().Changed("from"):
				return usage("--from and --since are two ways to begin: give one")
			}
			if c.Flags().Changed("since") {
				if since = sinceText(since); since == "" {
					return usage("--since names no time: write one like 2026-03-14T11:58:00Z, or how long ago, like 24h")
				}
				if _, err := api.ParseTime(since, a.now()); err != nil {
					return usage("--since: %s", err)
				}
				if !c.Flags().Changed("limit") {
					limit = 1000
				}
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			var records []api.AuditRecord
			if since != "" {
				records, err = client.AuditSince(c.Context(), since, limit)
			} else {
				records, err = client.Audit(c.Context(), from, limit)
			}
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(records)
			}
			_, err = fmt.Fprint(a.out, a.auditPage(records))
			return err
		},
	}
	c.Flags().Uint64Var(&from, "from", 0, "the first plan `REVISION` to show")
	c.Flags().IntVar(&limit, "limit", 20, "the most records to show; with --since 1000")
	c.Flags().StringVar(&since, "since", "", "since `WHEN`, with transitions: how long ago (24h), or a time (RFC 3339)")
	c.AddCommand(a.auditExport(), a.auditVerify())
	return c
}

// sinceText has how long ago as directors read it: 24h is -24h.
func sinceText(s string) string {
	if _, err := api.ParseTime("-"+s, time.Time{}); err == nil {
		return "-" + s
	}
	return s
}

func (a *app) auditPage(records []api.AuditRecord) string {
	p := &page{width: a.width(), colour: a.colour}
	rows := make([]row, 0, len(records))
	for _, r := range records {
		notes := remarks(labelled("because: ", r.Why, plain))
		if r.Forced {
			notes = append(notes, cell{"forced", warn})
		}
		if r.Approver != "" {
			notes = append(notes, cell{"approved by " + r.Approver, plain})
		}
		if r.BreakGlass {
			notes = append(notes, cell{"by break-glass", bad})
		}
		number := fmt.Sprint(r.Revision)
		if r.Auto {
			number = "auto"
		}
		rows = append(rows, row{
			cells:   []cell{{text: number}, text(a.clock(r.At)), text(r.Who), text(r.Via), text(r.What)},
			remarks: notes,
		})
	}
	p.table(0, []string{"REVISION", "WHEN", "WHO", "VIA", "WHAT"}, rows)
	return p.b.String()
}
