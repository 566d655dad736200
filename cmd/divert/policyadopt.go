package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/policy"
)

func (a *app) policyAdoptCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "adopt DIR", Short: "Have people's commands judged by a policy",
		Long: `Run a policy's tests, and give it to the fleet: from the next command on every
drain, undrain, apply, revert and rollout go-on of a person is judged by it before
it is written, whichever director takes it. The plan names the bundle by its hash,
the store keeps it, and each director a copy on its disk.

What automation does (failover, returns, steps, ends of drains) never asks it, nor
do drains in an emergency. A policy that errs or takes longer than 200 ms denies.
--break-glass of a command passes it, and is recorded. Adopting and dropping one is
not judged, so that one that denies everything can be put right. One that does not
answer in time about what changes nothing is refused, unless --force is given.

Where the fleet asks for two persons (safety.twoPersons), putting another policy in
the place of one takes them, and so does a first one that fences clients off.`,
		Example: `  divert policy adopt deploy/opa --reason "who may drain what"
  divert policy adopt deploy/opa --reason "who may drain what" --dry-run`,
		Args: cobra.ExactArgs(1),
	}
	w := a.wishFlags(c)
	w.forceFlags(c, "policy")
	w.glassFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := w.check("policy"); err != nil {
			return err
		}
		b, p, err := compiled(args[0])
		if err != nil {
			return err
		}
		if err := tested(c.Context(), p, args[0]); err != nil {
			return err
		}
		if err := w.needReason(c.Context()); err != nil {
			return err
		}
		client, err := a.changer()
		if err != nil {
			return err
		}
		cmd := w.command(core.PolicyAdopt, "")
		cmd.Bundle = b.Encode()
		return w.utter(c.Context(), client, cmd, "policy", fmt.Sprintf("adopting policy %s, %s of rules and data; reason: %s", b.Hash().Short(), count(p.Files(), "file"), clean(w.reason)))
	}
	return c
}

// tested runs a policy's tests before it is given to a fleet.
func tested(ctx context.Context, p *policy.Policy, dir string) error {
	var failing []string
	for _, r := range p.Test(ctx) {
		if !r.Passed && !r.Skipped {
			failing = append(failing, r.Name)
		}
	}
	if len(failing) == 0 {
		return nil
	}
	return &exit{code: exitRefused, err: errors.New("the policy's own tests do not pass: " + strings.Join(failing, ", ")), remedy: "`divert policy test " + dir + "` shows them"}
}

func (a *app) policyDropCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "drop", Short: "Have people's commands judged by no policy",
		Long: `Take the policy out of the plan: people's commands are judged by none from then
on. It is recorded who did it and why. Where the fleet asks for two persons
(safety.twoPersons), this takes them.`,
		Example: `  divert policy drop --reason INC-1
  divert policy drop --reason INC-1 --dry-run`,
		Args: cobra.NoArgs,
	}
	w := a.wishFlags(c)
	w.glassFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := w.check("policy"); err != nil {
			return err
		}
		if err := w.needReason(c.Context()); err != nil {
			return err
		}
		client, err := a.changer()
		if err != nil {
			return err
		}
		return w.utter(c.Context(), client, w.command(core.PolicyDrop, ""), "policy", "dropping the policy; reason: "+clean(w.reason))
	}
	return c
}

func (a *app) policyStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "See which policy judges people's commands",
		Long: `Show the policy that the plan names: its hash, as divert policy test prints it,
who adopted it and why, and whether the director that is asked can use it.

Exit codes: 0; 1 there is one that cannot be used there; 2 usage.`,
		Example: `  divert policy status
  divert policy status -o json`,
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
				err = a.printJSON(map[string]any{"policy": s.Policy})
			} else {
				p := &page{width: a.width(), colour: a.colour}
				if s.Policy == nil {
					p.line("there is none: people's commands are judged by no policy")
				} else {
					policyPage(p, 0, s.Policy, s.Now)
				}
				fmt.Fprint(a.out, p.b.String())
			}
			if err == nil && s.Policy != nil && s.Policy.Problem != "" {
				err = &exit{code: exitRefused}
			}
			return err
		},
	}
}

// policyPage shows a policy.
func policyPage(p *page, indent int, v *api.Policy, now time.Time) {
	p.wrapped(indent, "", plain, fmt.Sprintf("policy %s since revision %d, %s, by %s: %s", clean(v.Hash[:min(len(v.Hash), 16)]), v.Revision, ago(now.Sub(v.Since)), clean(v.Author), clean(v.Reason)))
	if len(v.Files) > 0 {
		p.wrapped(indent, "", dim, clean(strings.Join(v.Files, ", ")))
	}
	for _, text := range v.Residency {
		p.wrapped(indent, "", plain, "residency of "+clean(text))
	}
	if v.Problem != "" {
		p.wrapped(indent, "! ", bad, "it cannot be used here, so that people's commands are refused: "+clean(v.Problem))
	}
}
