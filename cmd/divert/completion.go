package main

import "github.com/spf13/cobra"

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "completion bash|zsh|fish|powershell",
		GroupID: groupSee,
		Short:   "Print a script that completes commands in your shell",
		Long: `Print a script that makes the shell complete divert's commands, flags, and the
scopes, hosts and directors of the fleet, which it asks the director for.`,
		Example: `  divert completion bash > /etc/bash_completion.d/divert
  divert completion zsh > "${fpath[1]}/_divert"
  divert completion fish > ~/.config/fish/completions/divert.fish`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(c *cobra.Command, args []string) error {
			root := c.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.out, true)
			case "zsh":
				return root.GenZshCompletion(a.out)
			case "fish":
				return root.GenFishCompletion(a.out, true)
			default:
				return root.GenPowerShellCompletionWithDesc(a.out)
			}
		},
	}
}
