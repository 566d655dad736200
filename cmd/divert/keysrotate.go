package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

// rotatePoll is between two looks at a turn-over.
const rotatePoll = 250 * time.Millisecond

func (a *app) keysRotate() *cobra.Command {
	var back bool
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Turn the gossip key over to a new one, under load",
		Long: `Have all directors gossip under a new key, and lose not one vote by it. A director
draws the key and gives it to the others, sealed to each. All add it beside the old
one; then all use it; then all remove the old one. Each phase begins when every
registered director has done the one before, on its disk too, so that a restart at
any time does no harm. Key files are written anew (mode 0600) and read again without
a restart. The plan, the log and ` + "`divert keys status`" + ` know fingerprints alone.

Do it after ` + "`divert director remove`" + `: who was removed still has the old key.

One that is away is waited for, for ever: bring it back, or remove it. With --back
all go on with the old key, as long as none has removed it. With --back --force one
ends whose keys nobody has any more, as after a ` + "`store recover`" + ` to an old plan, and
every director keeps the keys that it has. With -o json it does not wait for the
end: ` + "`divert keys status -o json`" + ` shows it.`,
		Example: `  divert keys rotate --reason "d4 was removed"
  divert keys rotate --reason "every quarter" --timeout 2m
  divert keys rotate --back --reason "d2 cannot write its key file"`,
		Args: cobra.NoArgs,
	}
	w := a.wishFlags(c)
	w.forceFlags(c, "gossip-key")
	w.glassFlag(c)
	c.Flags().BoolVar(&back, "back", false, "take the turn-over under way back")
	must(c.Flags().Set("timeout", "1m"))
	c.Flags().Lookup("timeout").DefValue = "1m0s"
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := w.check("gossip-key"); err != nil {
			return err
		}
		if err := w.needReason(c.Context()); err != nil {
			return err
		}
		client, err := a.changer()
		if err != nil {
			return err
		}
		verb, intro := core.KeyRotate, "turning the gossip key over"
		if back {
			verb, intro = core.KeyBack, "taking the turn-over of the gossip key back"
		}
		wish := w.command(verb, "")
		until := time.Now().Add(w.timeout)
		if err := w.utter(c.Context(), client, wish, "gossip-key", intro); err != nil || w.dryRun || a.json() {
			return err
		}
		return a.followTurn(c.Context(), client, until)
	}
	return c
}

// followTurn shows the phases of a turn-over until it is complete.
func (a *app) followTurn(ctx context.Context, client *api.Client, until time.Time) error {
	tick := time.NewTicker(rotatePoll)
	defer tick.Stop()
	last := ""
	for {
		s, err := client.Status(ctx)
		var turn *api.KeyTurn
		switch {
		case err != nil && ctx.Err() != nil:
			return err
		case err == nil && s.GossipKey == nil:
			return nil
		case err == nil:
			if turn = s.GossipKey.Turn; turn == nil && s.GossipKey.Fleet == "" { // one that was lost
				_, err := fmt.Fprintln(a.out, "ended: every director keeps the gossip keys that it has")
				return err
			} else if turn == nil {
				_, err := fmt.Fprintf(a.out, "complete: all gossip under %s\n", s.GossipKey.Fleet)
				return err
			}
			if turn.Doing != last {
				last = turn.Doing
				fmt.Fprintln(a.out, "  "+clean(turn.Doing))
			}
		}
		if time.Now().After(until) {
			why := "the director that was asked does not answer any more"
			if turn != nil && len(turn.Waits) > 0 {
				why = "it waits for " + clean(turn.Waits[0].Director) + ", which " + clean(turn.Waits[0].Why)
			}
			return &exit{
				code: exitIncomplete, err: fmt.Errorf("begun, but not complete in time: %s", why),
				remedy: "it goes on by itself; `divert keys status` shows how far it is",
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (a *app) keysStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the gossip key by its fingerprint, and how far a turn-over is",
		Long: `Show under which key the asked director gossips, by its fingerprint; and of a
turn-over under way its phase, and for whom it waits.`,
		Example: `  divert keys status
  divert keys status -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			s, err := client.Status(c.Context())
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(s.GossipKey)
			}
			p := &page{width: a.width(), colour: a.colour}
			a.gossipKey(p, s)
			_, err = fmt.Fprint(a.out, p.b.String())
			return err
		},
	}
}

// gossipKey shows the key and its turn-over in a few lines.
func (a *app) gossipKey(p *page, s api.Status) {
	k := s.GossipKey
	if k == nil {
		p.line("the directors gossip without a key, which is possible on loopback only")
		return
	}
	p.line(fmt.Sprintf("%s gossips under %s", clean(s.Director), clean(k.Key)))
	if k.Also != "" {
		p.line("and takes " + clean(k.Also))
	}
	if k.Fleet != "" && k.Turn == nil && k.Fleet != k.Key {
		p.wrapped(0, "! ", warn, "the fleet's is "+k.Fleet)
	}
	t := k.Turn
	if t == nil {
		p.line("no turn-over is under way")
		return
	}
	line := fmt.Sprintf("turned over from %s to %s since %s: %s; begun by %s (%s)", t.From, t.To, a.clock(t.Since), t.Doing, t.Author, t.Reason)
	p.wrapped(0, "", plain, line)
	for _, wait := range t.Waits {
		p.wrapped(2, "waits: ", plain, wait.Director+" "+wait.Why)
	}
}
