package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

// approvals is what `divert approvals -o json` shows.
type approvals struct {
	Requests []api.Request `json:"requests"`
	Glass    []api.Glass   `json:"glass"` // what was done without a second person
}

// shownRequest is what `divert approvals show -o json` shows.
type shownRequest struct {
	api.Request
	Preview core.Preview `json:"preview"`
	// Refusal says why it could not be approved now; "": it could.
	Refusal string `json:"refusal,omitempty"`
}

func (a *app) approvalsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "approvals",
		GroupID: groupChange,
		Short:   "See what waits for a second person",
		Long: `Where the fleet says safety.twoPersons, one person is not enough for what is
dangerous: to leave a service less than half of its capacity, to take names out of
service, to change residency, to pass a rule with --force, to change the roster of
directors, their keys, the gossip key or who is listed as an operator, or to switch
two persons off. Such a command waits here for a quarter of
an hour, for another person to approve it at another director.

This lists what waits, what became of the last requests, and what was done with
--break-glass, which alerts for a day or until another person acknowledges it. Of
an ID the first letters do, four at least, where no other begins with them.`,
		Example: `  divert approvals
  divert approvals show 3f0c
  divert approvals -o json`,
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
				return a.printJSON(approvals{append([]api.Request{}, s.Requests...), append([]api.Glass{}, s.Glass...)})
			}
			_, err = fmt.Fprint(a.out, a.approvalsPage(s))
			return err
		},
	}
	c.AddCommand(a.approvalsShow(), a.approvalsAcknowledge())
	return c
}

func (a *app) approvalsPage(s api.Status) string {
	p := &page{width: a.width(), colour: a.colour}
	rows := make([]row, 0, len(s.Requests))
	for _, r := range s.Requests {
		state := cell{r.State, plain}
		notes := remarks(labelled("takes two: ", strings.Join(r.Why, "; "), plain), labelled("because: ", r.Reason, plain))
		switch r.State {
		case api.RequestWaits:
			state = cell{"until " + a.clock(r.Expires), warn}
		case api.RequestDone, api.RequestDenied:
			state.text += " by " + r.By
		}
		rows = append(rows, row{cells: []cell{{text: r.ID}, text(r.Author), text(r.Via), state, text(r.What)}, remarks: notes})
	}
	if len(rows) == 0 {
		p.line("nothing waits for a second person")
	} else {
		p.table(0, []string{"ID", "ASKED BY", "VIA", "STATE", "WHAT"}, rows)
	}
	if len(s.Glass) == 0 {
		return p.b.String()
	}
	p.heading("done with --break-glass")
	rows = rows[:0]
	for _, g := range s.Glass {
		state := cell{"alerts", bad}
		if g.AcknowledgedBy != "" {
			state = cell{"acknowledged by " + g.AcknowledgedBy, plain}
		}
		rows = append(rows, row{
			cells:   []cell{{text: g.ID}, text(g.Author), text(a.clock(g.At)), state, text(g.What)},
			remarks: remarks(labelled("took two: ", strings.Join(g.Why, "; "), plain), labelled("because: ", g.Reason, plain)),
		})
	}
	p.table(0, []string{"ID", "BY", "WHEN", "STATE", "WHAT"}, rows)
	return p.b.String()
}

func (a *app) approvalsShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show what a request would do now",
		Long: `Show a request as whoever asked for it saw it: what it does is worked out anew, by
what is known now. If that is something else than it was, this says so, and nobody
can approve it any more: it has to be said anew.`,
		Example:           `  divert approvals show 3f0c`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(awaited),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			s, err := client.Status(c.Context())
			if err != nil {
				return err
			}
			id := whole(args[0], requested(s))
			i := slices.IndexFunc(s.Requests, func(r api.Request) bool { return r.ID == id })
			if i < 0 {
				return &exit{code: exitRefused, err: fmt.Errorf("no request has the ID %q", args[0]), remedy: "`divert approvals` lists them"}
			}
			out := shownRequest{Request: s.Requests[i]}
			if out.State == api.RequestWaits {
				o, err := client.Do(c.Context(), core.Command{ID: a.newID(), Verb: core.Approve, Scope: id, DryRun: true}, maxShow, nil)
				if err != nil {
					return err
				}
				out.Preview, out.Refusal = o.Preview, o.Error
			}
			if a.json() {
				return a.printJSON(out)
			}
			p := &page{width: a.width(), colour: a.colour}
			one := s
			one.Requests, one.Glass = []api.Request{out.Request}, nil
			preview(p, out.Preview)
			if out.Refusal != "" {
				p.wrapped(2, "! ", bad, "it would be refused now: "+out.Refusal)
			}
			_, err = fmt.Fprint(a.out, a.approvalsPage(one)+p.b.String())
			return err
		},
	}
}

func (a *app) approvalsAcknowledge() *cobra.Command {
	c := &cobra.Command{
		Use:   "acknowledge ID",
		Short: "Note that you have looked at what was done with --break-glass",
		Long: `Note that you have looked at what somebody else did with --break-glass. It ends the
alert, and is recorded; it undoes nothing.`,
		Example:           `  divert approvals acknowledge 3f0c --reason "was right, see INC-9"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(broken),
	}
	w := a.wishFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.judge(c, w, core.Acknowledge, args[0], "acknowledging what was done by ", broken)
	}
	return c
}

func (a *app) approveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "approve ID",
		GroupID: groupChange,
		Short:   "Approve what another person asked for, and have it done",
		Long: `Approve what another person asked for: it is done at once, under its own ID and in
that person's name, with yours beside it, whether he waits for it or not. Look at it
first with ` + "`divert approvals show`" + `.

Who asked cannot approve, whatever --author says, nor can it be approved at the
director that took the request, while there is another: each of the two persons is
vouched for by a director of their own. What does something else by now than when it
was asked for is refused.`,
		Example: `  divert approve 3f0c
  divert approve 3f0c --dry-run`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(awaited),
	}
	w := a.wishFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.judge(c, w, core.Approve, args[0], "approving ", requested)
	}
	return c
}

func (a *app) denyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "deny ID",
		GroupID: groupChange,
		Short:   "Deny what another person asked for, or take back what you did",
		Long: `End a request: it will never be done. Whoever waits for it is told, with the reason.
It may be your own.`,
		Example:           `  divert deny 3f0c --reason "not during the sale"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(awaited),
	}
	w := a.wishFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := w.needReason(c.Context()); err != nil {
			return err
		}
		return a.judge(c, w, core.Deny, args[0], "denying ", requested)
	}
	return c
}

// judge sends a person's word about another's command, of which so many letters were typed
// that only one of those among begins with them.
func (a *app) judge(c *cobra.Command, w *wish, verb core.Verb, typed, intro string, among func(api.Status) []string) error {
	client, err := a.changer()
	if err != nil {
		return err
	}
	id := typed
	if s, err := client.Status(c.Context()); err == nil { // who may not look may say the whole ID
		id = whole(typed, among(s))
	}
	if err := w.check(id); err != nil {
		return err
	}
	return w.utter(c.Context(), client, w.command(verb, id), id, intro+id)
}

// whole gives the one ID that begins with what was typed, of at least four letters; else
// what was typed, which a director refuses by name.
func whole(typed string, ids []string) string {
	if len(typed) < 4 {
		return typed
	}
	var found []string
	for _, id := range ids {
		if strings.HasPrefix(id, typed) && !slices.Contains(found, id) {
			found = append(found, id)
		}
	}
	if len(found) != 1 {
		return typed
	}
	return found[0]
}

// requested lists all requests.
func requested(s api.Status) (out []string) {
	for _, r := range s.Requests {
		out = append(out, r.ID)
	}
	return out
}

// maxShow is how long a look at a request may take.
const maxShow = 10 * time.Second

// awaited lists the requests that may be approved or denied.
func awaited(s api.Status) (out []string) {
	for _, r := range s.Requests {
		if r.State == api.RequestWaits {
			out = append(out, r.ID)
		}
	}
	return out
}

// broken lists what was done with --break-glass and alerts.
func broken(s api.Status) (out []string) {
	for _, g := range s.Glass {
		if g.AcknowledgedBy == "" {
			out = append(out, g.ID)
		}
	}
	return out
}
