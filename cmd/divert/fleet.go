package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/fleet"
)

func (a *app) fleetCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "fleet",
		GroupID: groupRun,
		Short:   "Lay out a fleet of several sites",
		Long: `Lay out what the directors of several sites need before they can speak to one
another: keys, certificates and settings, as folders to copy. No director is asked.`,
		Example: `  divert fleet init --sites fra=203.0.113.5,nyc=198.51.100.7,sin=192.0.2.9 --out fleet`,
	}, a.fleetInit(), a.fleetJoin(), a.fleetRenew(), a.fleetRevoke())
}

// laidOut is what was laid out, as JSON shows it.
type laidOut struct {
	Out   string     `json:"out"`
	Sites []laidSite `json:"sites"`
	Next  []string   `json:"next"`            // commands
	Notes []string   `json:"notes,omitempty"` // what to know before relying on it
}

type laidSite struct {
	Name   string `json:"name"`
	Host   string `json:"host"`
	Folder string `json:"folder"`
}

func (a *app) fleetInit() *cobra.Command {
	var o fleet.Options
	var sites []string
	c := &cobra.Command{
		Use:   "init --sites NAME=ADDRESS,… --out DIR",
		Short: "Write a folder for each site, ready to copy",
		Long: `Write for each site a folder that holds all its director needs: settings, the
gossip key, its own key, certificates for the API and for etcd, and the fleet's
roster. Beside them stand ca/, the keys of the two authorities that signed the
certificates, which no director needs; and operator/, what people hold: the
certificate that the API takes for an admin, and a key for emergencies.

An ADDRESS is where the other sites reach this one, and what its director binds;
it may be a host's name. A NAME alone is taken for its host's name, too, which all
sites must resolve. Three sites, or five, run an etcd as one store by mutual TLS,
each as a process beside its director. Ports: DNS 53, gossip 7946 (UDP and TCP),
etcd 2379 and 2380, API 8053.

Two sites have no majority when one is lost: give a third, be it a small host that
answers no DNS, and name it in --witness.

Files have mode 0600, folders 0700. A folder that is there is not written over.`,
		Example: `  divert fleet init --sites fra=203.0.113.5,nyc=198.51.100.7,sin=192.0.2.9 --out fleet
  divert fleet init --sites fra=d1.example.net,nyc=d2.example.net,sin=d3.example.net --out fleet
  divert fleet init --sites fra=203.0.113.5,nyc=198.51.100.7,w=192.0.2.9 --witness w --out fleet
  divert fleet init --sites fra=203.0.113.5,nyc=198.51.100.7,sin=192.0.2.9 --dns-port 5300 --out fleet -o json`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringSliceVar(&sites, "sites", nil, "`NAME=ADDRESS` of each site, with commas between")
	f.StringVar(&o.Out, "out", "", "`DIR`ectory to make")
	f.StringSliceVar(&o.Members, "members", nil, "`NAMES` of the sites that run etcd, an odd number (default: up to five)")
	f.StringSliceVar(&o.Witness, "witness", nil, "`NAMES` of the sites whose directors vote and answer no DNS")
	f.IntVar(&o.DNSPort, "dns-port", 53, "`PORT` to answer DNS on")
	must(c.MarkFlagRequired("sites"))
	must(c.MarkFlagRequired("out"))
	must(c.MarkFlagDirname("out"))
	c.RunE = func(*cobra.Command, []string) error {
		var err error
		if o.Sites, err = fleet.ParseSites(sites); err != nil {
			return usage("%s", err.Error())
		}
		if err := o.Check(); err != nil {
			return usage("%w", err)
		}
		o.Now = a.now()
		if err := fleet.Init(o); errors.Is(err, fleet.ErrThere) {
			return &exit{code: exitRefused, err: err}
		} else if err != nil {
			return err
		}
		return a.showLayout(o)
	}
	return c
}

// showLayout says what was written, what to keep apart, and what comes next.
func (a *app) showLayout(o fleet.Options) error {
	out := laidOut{Out: o.Out, Notes: o.Notes()}
	first := o.Sites[0]
	var serve []string
	for i, s := range o.Sites {
		dir := filepath.Join(o.Out, s.Name)
		out.Sites = append(out.Sites, laidSite{Name: s.Name, Host: s.Host, Folder: dir})
		if i == 0 {
			serve = append(serve, "sudo ./divert serve -c "+filepath.Join(dir, "director.yaml"))
			continue
		}
		out.Next = append(out.Next, fmt.Sprintf("scp -r divert %s %s:", dir, bracketed(s.Host)))
		serve = append(serve, fmt.Sprintf("ssh %s sudo ./divert serve -c %s", s.Host, filepath.Join(s.Name, "director.yaml")))
	}
	out.Next = append(out.Next, serve...)
	if a.json() {
		return a.printJSON(out)
	}
	p := &page{width: a.width(), colour: a.colour}
	for _, s := range out.Sites {
		p.line(fmt.Sprintf("%s: %s, for the host at %s", s.Name, s.Folder, s.Host))
	}
	for _, note := range out.Notes {
		p.wrapped(0, "! ", warn, note)
	}
	p.wrapped(0, "! ", warn, fmt.Sprintf("%s holds the keys of the fleet's authorities: whoever has them can write its store and make himself admin. Keep it off all directors, where you keep secrets.", filepath.Join(o.Out, "ca")))
	p.line(filepath.Join(o.Out, "operator") + " is for people: admin.pem for the API, oncall.key for emergencies")
	p.line("next, with this host as " + first.Name + ":")
	for _, line := range out.Next {
		p.line("  " + line)
	}
	p.line("then, from anywhere:")
	p.line("  " + strings.Join([]string{
		"./divert status --server https://" + bracketed(first.Host) + ":8053",
		"--ca " + filepath.Join(o.Out, "operator", "api-ca.crt"),
		"--cert " + filepath.Join(o.Out, "operator", "admin.pem"),
	}, " "))
	_, err := fmt.Fprint(a.out, p.b.String())
	return err
}

// bracketed writes an IPv6 address as scp and URLs want it.
func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}
