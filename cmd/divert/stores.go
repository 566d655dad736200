package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
)

func (a *app) storeCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "store",
		GroupID: groupChange,
		Short:   "Begin a fleet, or bring a lost store back",
		Long: `The store (etcd) holds the plan. Directors answer without it. They never take an
empty or an old store for a new beginning by themselves: a person says so.`,
		Example: `  divert store init
  divert store recover`,
	}, a.storeInit(), a.storeRecover())
}

func (a *app) storeInit() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Make the first plan of a new fleet now",
		Long: `Make the first plan without waiting for every address of gossip.join to answer
that it holds none. Say so once, on one director, and only where no director of
this fleet has ever run: otherwise there are two fleets.

` + "`divert status`" + ` says whom a director waits for.`,
		Example: `  divert store init`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.storeDo(c.Context(), (*api.Client).Init)
		},
	}
}

func (a *app) storeRecover() *cobra.Command {
	return &cobra.Command{
		Use:   "recover",
		Short: "Write the plan in force into a store that was lost, restored or replaced",
		Long: `Write the plan that this director holds into the store, as the next epoch, so
that it is newer than whatever the store held.

Say so on the director that holds the highest plan; another one refuses and
names it. Until then the directors go on answering and refuse commands.`,
		Example: `  divert store recover`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.storeDo(c.Context(), (*api.Client).Recover)
		},
	}
}

func (a *app) storeDo(ctx context.Context, do func(*api.Client, context.Context) (api.Outcome, error)) error {
	client, err := a.changer()
	if err != nil {
		return err
	}
	o, err := do(client, ctx)
	if err != nil {
		return err
	}
	return (&telling{app: a}).final(o, false)
}
