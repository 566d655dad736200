package main

import (
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/election/etcd"
)

func (a *app) etcdCommand() *cobra.Command {
	var o etcd.ServerOptions
	var members []string
	c := &cobra.Command{
		Use:     "etcd --data DIR",
		GroupID: groupRun,
		Short:   "Run the store as a process of its own",
		Long: `Run an etcd, the store of the plan, in a process of its own. A director with the
default settings starts one for itself; several directors share this one, or a
cluster of three or five members in separate fault domains.

With --name, --token and a --member for each it is a member of such a cluster. A
director whose settings have etcd.member runs that for itself; ` + "`divert fleet init`" + `
writes such settings.

Off loopback it takes only mutual TLS: https with --ca, --cert and --key, which
are for the other members, too.`,
		Example: `  divert etcd --data /var/lib/divert/etcd
  divert etcd --data /var/lib/divert/etcd --listen unix:///run/divert/etcd.sock
  divert etcd --data /srv/etcd --listen https://192.0.2.7:2379 --ca ca.pem --cert etcd.pem --key etcd.key
  divert etcd --data /srv/etcd --listen http://127.0.0.1:2379 --name a --token t --member a=http://127.0.0.1:2380`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if o.Member.Cluster, err = etcd.ParseCluster(members); err != nil {
				return usage("%s", err.Error())
			}
			o.Log = a.logger(slog.LevelInfo)
			outliveLog()
			o.Alone = true
			return etcd.Serve(c.Context(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Data, "data", "", "`DIR`ectory of the database, made when absent")
	f.StringVar(&o.Listen, "listen", "http://127.0.0.1:2379", "`URL` to serve: http:// on loopback, https://, or unix:///path")
	f.StringVar(&o.TLS.CA, "ca", "", "`FILE` with the certificates that clients' are signed by")
	f.StringVar(&o.TLS.Cert, "cert", "", "`FILE` with the server's certificate")
	f.StringVar(&o.TLS.Key, "key", "", "`FILE` with its private key")
	f.StringVar(&o.TLS.CRL, "crl", "", "`FILE` (DER) with the certificates that are revoked, read at each handshake")
	f.StringVar(&o.Member.Name, "name", "", "`NAME` of this member, one of those of --member")
	f.StringArrayVar(&members, "member", nil, "`NAME=URL` of a member, and where it hears the others; once for each")
	f.StringVar(&o.Member.Token, "token", "", "`WORD` that tells this cluster from others, the same at each member")
	f.StringVar(&o.Member.PeerListen, "peer-listen", "", "`URL` to hear the others at (default: its own of --member)")
	f.StringVar(&o.Member.Advertise, "advertise", "", "`URL` at which clients reach it (default: that of --listen)")
	f.BoolVar(&o.Member.Existing, "existing", false, "join members that are there already")
	must(c.MarkFlagRequired("data"))
	must(c.MarkFlagDirname("data"))
	return c
}

// outliveLog has a process that others depend on go on when whoever reads its log
// has gone: Go would end it at the next line (os/signal, SIGPIPE). Commands are not
// to outlive `| head`.
func outliveLog() { signal.Ignore(syscall.SIGPIPE) }

// logger writes lines for people, or with -o json for machines, to where
// errors go.
func (a *app) logger(level slog.Level) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if a.json() {
		return slog.New(slog.NewJSONHandler(a.err, o))
	}
	return slog.New(slog.NewTextHandler(a.err, o))
}
