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
	c := &cobra.Command{
		Use:     "etcd --data DIR",
		GroupID: groupRun,
		Short:   "Run the store as a process of its own",
		Long: `Run a one-member etcd, the store of the plan, in a process of its own. A director
with the default settings starts one for itself; several directors share this
one, or an etcd cluster of three or five members in separate fault domains.

Off loopback it takes only mutual TLS: https with --ca, --cert and --key.`,
		Example: `  divert etcd --data /var/lib/divert/etcd
  divert etcd --data /var/lib/divert/etcd --listen unix:///run/divert/etcd.sock
  divert etcd --data /srv/etcd --listen https://192.0.2.7:2379 --ca ca.pem --cert etcd.pem --key etcd.key`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Log = a.logger(slog.LevelInfo)
			outliveLog()
			if err := etcd.LimitConnections(); err != nil {
				o.Log.Warn("connections are limited by the files of this process alone", slog.Any("err", err))
			}
			return etcd.Serve(c.Context(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Data, "data", "", "`DIR`ectory of the database, made when absent")
	f.StringVar(&o.Listen, "listen", "http://127.0.0.1:2379", "`URL` to serve: http:// on loopback, https://, or unix:///path")
	f.StringVar(&o.TLS.CA, "ca", "", "`FILE` with the certificates that clients' are signed by")
	f.StringVar(&o.TLS.Cert, "cert", "", "`FILE` with the server's certificate")
	f.StringVar(&o.TLS.Key, "key", "", "`FILE` with its private key")
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
