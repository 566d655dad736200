package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
)

func (a *app) auditCommand() *cobra.Command {
	var from uint64
	var limit int
	c := &cobra.Command{
		Use:     "audit",
		GroupID: groupSee,
		Short:   "Show who changed what, when and why",
		Long: `Show the audit log: each effective change of intent, with its author, reason and
plan revision, oldest first. Without --from these are the newest ones.`,
		Example: `  divert audit
  divert audit --limit 100 -o json
  divert audit --from 42`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 || limit > 1000 {
				return usage("--limit %d is not between 1 and 1000", limit)
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			records, err := client.Audit(c.Context(), from, limit)
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
	c.Flags().IntVar(&limit, "limit", 20, "the most records to show")
	return c
}

func (a *app) auditPage(records []api.AuditRecord) string {
	p := &page{width: a.width(), colour: a.colour}
	rows := make([]row, 0, len(records))
	for _, r := range records {
		notes := remarks(labelled("because: ", r.Why, plain))
		if r.Forced {
			notes = append(notes, cell{"forced", warn})
		}
		rows = append(rows, row{
			cells:   []cell{{text: fmt.Sprint(r.Revision)}, text(a.clock(r.At)), text(r.Who), text(r.Via), text(r.What)},
			remarks: notes,
		})
	}
	p.table(0, []string{"REVISION", "WHEN", "WHO", "VIA", "WHAT"}, rows)
	return p.b.String()
}
