package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/dnsserver/geo"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		GroupID: groupSee,
		Short:   "Print the version of this binary",
		Long: `Print the version of this binary, of Go, and the credit for the country table
that it carries. It asks no director: ` + "`divert status -o json`" + ` has a director's.`,
		Example: `  divert version
  divert version -o json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			platform := runtime.GOOS + "/" + runtime.GOARCH
			if a.json() {
				return a.printJSON(map[string]string{
					"version": buildVersion(), "go": runtime.Version(), "platform": platform, "credit": geo.Credit,
				})
			}
			_, err := fmt.Fprintf(a.out, "divert %s\n%s %s\n%s\n", buildVersion(), runtime.Version(), platform, geo.Credit)
			return err
		},
	}
}

// buildVersion is what the linker stamped, else what the Go tool knows.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return "devel"
	}
	return "devel-" + revision + dirty
}
