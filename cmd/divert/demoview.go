package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

// demoView prints what a client of each director is told, whenever it changes.
type demoView struct {
	app   *app
	fleet *local.Fleet
	start time.Time
	last  map[string]string // by director and host
	said  map[string]string // what status said of each site

	client *api.Client
}

var demoHosts = [...]string{"shop.example.org", "pay.example.org", "api.example.org"} //nolint:gochecknoglobals // a constant in all but grammar

const demoText = `
What runs, all on loopback:
%s
Try, from another terminal:
  dig @127.0.0.1 -p 5300 shop.example.org +short
  dig @127.0.0.1 -p 5301 shop.example.org +short +subnet=81.2.69.0/24     a client in Britain (geo)
  dig @127.0.0.1 -p 5302 shop.example.org +short +subnet=103.1.200.0/24   a client in Asia (geo)
  dig @127.0.0.1 -p 5300 pay.example.org +short                           in order: fra, nyc, sin (failover)
  dig @127.0.0.1 -p 5300 fra.shop.example.org +short                      one site by its own name
  ./divert status
  ./divert explain shop.example.org --client 81.2.69.142
  ./divert demo cut fra
  ./divert demo heal fra
  ./divert drain cluster/fra --reason test --for 10m
  ./divert undrain cluster/fra --reason done

Each change of an answer, as it happens (Ctrl-C ends the demo):
`

func (v *demoView) run(ctx context.Context) error {
	v.last, v.said = map[string]string{}, map[string]string{}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	begun := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !begun {
			name, ended := v.fleet.Ended()
			switch begun = v.serving(ctx); {
			case begun:
				fmt.Fprint(v.app.out, v.text())
			case ctx.Err() != nil:
			case ended:
				return brokenOff(v.fleet, name, name+" cannot run")
			case time.Since(v.start) > time.Minute:
				return brokenOff(v.fleet, local.Name(1), "the directors do not answer after a minute")
			}
			continue
		}
		v.answers(ctx)
		v.status(ctx)
	}
}

// text is what a person reads first; what may be typed is as this binary was
// called.
func (v *demoView) text() string {
	return fmt.Sprintf(strings.ReplaceAll(demoText, "./divert", v.app.self), v.inventory())
}

// serving tells whether every director answers.
func (v *demoView) serving(ctx context.Context) bool {
	for i := 1; i <= v.fleet.Directors(); i++ {
		if v.ask(ctx, i, demoHosts[0]) == "" {
			return false
		}
	}
	return true
}

func (v *demoView) ask(ctx context.Context, i int, host string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	addrs, err := answerer(v.fleet.DNS(i)).LookupNetIP(ctx, "ip4", host+".") // absolute: no search list of this machine
	if err != nil {
		return ""
	}
	var words []string
	for _, a := range addrs {
		words = append(words, v.name(a.Unmap().String()))
	}
	return strings.Join(words, " ")
}

// name says whose address it is.
func (v *demoView) name(addr string) string {
	for _, s := range v.fleet.Sites() {
		if v.fleet.Cluster(s.Name).String() == addr {
			return s.Name + " " + addr
		}
	}
	return addr
}

func (v *demoView) inventory() string {
	var b strings.Builder
	for i := 1; i <= v.fleet.Directors(); i++ {
		fmt.Fprintf(&b, "  director %s   DNS %s   API http://%s   socket %s\n", local.Name(i), v.fleet.DNS(i), v.fleet.API(i), v.fleet.Socket(i))
	}
	for _, s := range v.fleet.Sites() {
		addr := v.fleet.Cluster(s.Name)
		fmt.Fprintf(&b, "  cluster  %s  http://%s:%d (%s %s)   API server https://%s:%d\n", s.Name, addr, local.ServicePort, s.Country, s.Region, addr, local.ServerPort)
	}
	return b.String()
}

// answers prints the answers that differ from the last ones.
func (v *demoView) answers(ctx context.Context) {
	for _, host := range demoHosts {
		for i := 1; i <= v.fleet.Directors(); i++ {
			key := local.Name(i) + " " + host
			now := v.ask(ctx, i, host)
			before, known := v.last[key]
			if now == before || now == "" && ctx.Err() != nil {
				continue
			}
			v.last[key] = now
			switch {
			case !known:
				v.say("%s  %-17s %s", local.Name(i), host, now)
			case now == "":
				v.say("%s  %-17s no answer", local.Name(i), host)
			case before == "":
				v.say("%s  %-17s answers again: %s", local.Name(i), host, now)
			default:
				v.say("%s  %-17s %s → %s", local.Name(i), host, before, now)
			}
		}
	}
}

// status prints what the first director says of each site, when that changes.
func (v *demoView) status(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if v.client == nil { // one for all, so that no ask leaves a connection of its own
		client, err := api.NewClient("unix:" + v.fleet.Socket(1))
		if err != nil {
			return
		}
		v.client = client
	}
	s, err := v.client.Status(ctx)
	if err != nil {
		return
	}
	for _, c := range s.Clusters {
		word := c.Health
		if c.Drained != "" {
			word += ", drained"
		}
		if c.ControlPlane != "" && c.ControlPlane != "ok" {
			word += ", control plane " + c.ControlPlane
		}
		before, known := v.said[c.Name]
		if word == before {
			continue
		}
		v.said[c.Name] = word
		if known {
			v.say("cluster %s: %s", c.Name, word)
		}
	}
}

func (v *demoView) say(format string, args ...any) {
	fmt.Fprintf(v.app.out, "%s  "+format+"\n", append([]any{v.app.now().Format("15:04:05.000")}, args...)...)
}
