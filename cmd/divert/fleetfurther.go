package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/fleet"
)

func (a *app) fleetJoin() *cobra.Command {
	var from, gossipKey string
	var sites []string
	c := &cobra.Command{
		Use:   "join --from DIR --site NAME=ADDRESS",
		Short: "Write the folder of a further site",
		Long: `Write the folder of a further site beside those that ` + "`divert fleet init`" + ` made in
DIR, whose ca/ is needed. Its director shares the etcd of the others, and gossips
under their key: give --gossip-key with the file of a director that runs if the key
was turned over since. People then take it into the roster, by its key.`,
		Example: `  divert fleet join --from fleet --site lon=192.0.2.33
  divert fleet join --from fleet --site lon=192.0.2.33 --gossip-key gossip.key -o json`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&from, "from", "", "`DIR`ectory that init made")
	f.StringSliceVar(&sites, "site", nil, "`NAME=ADDRESS` of the site")
	f.StringVar(&gossipKey, "gossip-key", "", "`FILE` with the key that the fleet gossips under now (default: as it was laid out)")
	must(c.MarkFlagRequired("from"))
	must(c.MarkFlagRequired("site"))
	must(c.MarkFlagDirname("from"))
	c.RunE = func(*cobra.Command, []string) error {
		parsed, err := fleet.ParseSites(sites)
		if err != nil || len(parsed) != 1 {
			return usage("--site takes one site, such as lon=192.0.2.33")
		}
		laid, err := fleet.Open(from)
		if err != nil {
			return err
		}
		s := parsed[0]
		key, err := laid.Join(s, gossipKey, a.now())
		if err != nil {
			return err
		}
		dir := filepath.Join(from, s.Name)
		out := laidOut{Out: from, Sites: []laidSite{{Name: s.Name, Host: s.Host, Folder: dir}}, Next: []string{
			fmt.Sprintf("./divert director approve %s --site %s --public-key %s --gossip %s:7946 --reason \"a further site\"", s.Name, s.Name, key, bracketed(s.Host)),
			fmt.Sprintf("scp -r divert %s %s:", dir, bracketed(s.Host)),
			fmt.Sprintf("ssh %s sudo ./divert serve -c %s", s.Host, filepath.Join(s.Name, "director.yaml")),
		}}
		if a.json() {
			return a.printJSON(out)
		}
		_, err = fmt.Fprintf(a.out, "%s: %s, for the host at %s\nnext, the first by way of any director:\n  %s\n", s.Name, dir, s.Host, strings.Join(out.Next, "\n  "))
		return err
	}
	return c
}

// renewed is what was renewed, as JSON shows it.
type renewed struct {
	Folder string   `json:"folder"`
	Files  []string `json:"files"`
}

func (a *app) fleetRenew() *cobra.Command {
	var from string
	c := &cobra.Command{
		Use:   "renew --from DIR",
		Short: "Make the certificates of a fleet anew",
		Long: `Make every certificate in a folder of ` + "`divert fleet init`" + ` anew, each with a new key,
for another year. The folder's ca/ is needed, and the authorities stay. Copy the
files that it names to their hosts: directors and their etcd read them again
without a restart. ` + "`divert status`" + ` alerts 21 days before one ends.`,
		Example: `  divert fleet renew --from fleet
  divert fleet renew --from fleet -o json`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&from, "from", "", "`DIR`ectory that init made")
	must(c.MarkFlagRequired("from"))
	must(c.MarkFlagDirname("from"))
	c.RunE = func(*cobra.Command, []string) error {
		laid, err := fleet.Open(from)
		if err != nil {
			return err
		}
		files, err := laid.Renew(a.now())
		if err != nil {
			return err
		}
		list := []renewed{}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			list = append(list, renewed{Folder: filepath.Join(from, name), Files: files[name]})
		}
		if a.json() {
			return a.printJSON(list)
		}
		for _, r := range list {
			fmt.Fprintf(a.out, "%s: %s\n", r.Folder, strings.Join(r.Files, " "))
		}
		fmt.Fprintln(a.out, "next, for each site that is not this host:")
		for _, s := range laid.Sites {
			fmt.Fprintf(a.out, "  scp %s %s:%s/\n", strings.Join(each(files[s.Name], func(f string) string { return filepath.Join(from, s.Name, f) }), " "), bracketed(s.Host), s.Name)
		}
		return nil
	}
	return c
}

func each(list []string, f func(string) string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, f(s))
	}
	return out
}
