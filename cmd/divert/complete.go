package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
)

// complete offers names from the director's status to the shell. A director
// that is slow or away offers nothing, and never an error on the prompt.
func (a *app) complete(names func(api.Status) []string) cobra.CompletionFunc {
	return a.completeBy(func(ctx context.Context, client *api.Client) ([]string, error) {
		s, err := client.Status(ctx)
		if err != nil {
			return nil, err
		}
		return names(s), nil
	})
}

// completeOperators is complete for names that no status has.
func (a *app) completeOperators(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.completeBy(func(ctx context.Context, client *api.Client) (out []string, err error) {
		known, err := client.Emergencies(ctx)
		for _, o := range known.Operators {
			out = append(out, o.Name)
		}
		return out, err
	})(c, args, typed)
}

// completeTokens is complete for the tokens.
func (a *app) completeTokens(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.completeBy(func(ctx context.Context, client *api.Client) (out []string, err error) {
		known, err := client.Tokens(ctx)
		for _, t := range known {
			out = append(out, t.Name)
		}
		return out, err
	})(c, args, typed)
}

func (a *app) completeBy(ask func(context.Context, *api.Client) ([]string, error)) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		client, err := a.dial()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx := c.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		names, err := ask(ctx, client)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []string
		for _, name := range names {
			if strings.HasPrefix(name, typed) {
				out = append(out, name)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// scopes lists what can be drained.
func scopes(s api.Status) []string {
	var out []string
	seen := map[string]bool{}
	for _, c := range s.Clusters {
		out = append(out, "cluster/"+c.Name)
		if !seen[c.FaultDomain] {
			seen[c.FaultDomain] = true
			out = append(out, "domain/"+c.FaultDomain)
		}
	}
	for _, svc := range s.Services {
		for _, site := range svc.Sites {
			out = append(out, "service/"+svc.Name+"@"+site.Cluster)
		}
	}
	return out
}

// drained lists the scopes of the drains in force.
func drained(s api.Status) []string {
	var out []string
	for _, o := range s.Overrides {
		if o.Kind == "drain" {
			out = append(out, o.Scope)
		}
	}
	return out
}

// freezable lists what can be frozen.
func freezable(s api.Status) []string {
	out := []string{"fleet"}
	for _, svc := range s.Services {
		out = append(out, "service/"+svc.Name)
	}
	return out
}

// directors lists the names of a standing; "" for all.
func directors(standing string) func(api.Status) []string {
	return func(s api.Status) []string {
		var out []string
		for _, d := range s.Directors {
			if standing == "" || d.Standing == standing {
				out = append(out, d.Name)
			}
		}
		return out
	}
}
