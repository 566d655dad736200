package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/fleet"
)

func (a *app) fleetRevoke() *cobra.Command {
	var from string
	c := &cobra.Command{
		Use:   "revoke NAME --from DIR",
		Short: "Take the certificates of a site back",
		Long: `Write the lists of revoked certificates anew: with all that a folder of
` + "`divert fleet init`" + ` holds or held, a site's or that of operator. The folder's ca/ is
needed. Copy the lists to the other sites: API and etcd read them without a restart.
The API then knows nobody by such a certificate, on open connections too; etcd takes
no new connection by it, and ends the open ones when it is started anew. Take the
director out of the roster as well, and turn the gossip key over.

Who is operator and is to go on needs a new certificate: ` + "`divert fleet renew`" + `, then.`,
		Example: `  divert fleet revoke sin --from fleet
  divert fleet revoke operator --from fleet -o json`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&from, "from", "", "`DIR`ectory that init made")
	must(c.MarkFlagRequired("from"))
	must(c.MarkFlagDirname("from"))
	c.RunE = func(_ *cobra.Command, args []string) error {
		laid, err := fleet.Open(from)
		if err != nil {
			return err
		}
		files, watched, err := laid.Revoke(args[0], a.now())
		if err != nil {
			return err
		}
		list := []renewed{}
		var next []string
		for _, s := range laid.Sites {
			if s.Name == args[0] {
				next = append([]string{fmt.Sprintf("./divert director remove %s --reason \"its certificates are revoked\"", s.Name), "./divert keys rotate --reason \"" + s.Name + " was removed\""}, next...)
				continue
			}
			list = append(list, renewed{Folder: filepath.Join(from, s.Name), Files: files})
			next = append(next, fmt.Sprintf("scp %s %s:%s/", strings.Join(each(files, func(f string) string { return filepath.Join(from, s.Name, f) }), " "), bracketed(s.Host), s.Name))
		}
		if a.json() {
			return a.printJSON(list)
		}
		for _, r := range list {
			fmt.Fprintf(a.out, "%s: %s\n", r.Folder, strings.Join(r.Files, " "))
		}
		if !watched {
			fmt.Fprintln(a.out, "! this folder was laid out before there were such lists: add `crl: api.crl` to api.tls and `crl: etcd.crl` to etcd.member.tls in each director.yaml, and restart each in its turn")
		}
		fmt.Fprintf(a.out, "next, where a site is not this host:\n  %s\n", strings.Join(next, "\n  "))
		return nil
	}
	return c
}
