// Command bench measures what a steered answer costs: it runs Divert and its
// peers on the same names in turn, under the same load, and compares the CPU time
// of each per answer. It is no part of the product, and never leaves loopback.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings are what a run is made of.
type settings struct {
	rounds    int
	length    time.Duration // of one measurement
	servers   []string
	scenarios []scenario
	divert    string // the binary; "" = build it
	pin       bool
	install   bool
	json      bool
	progress  io.Writer
}

func main() {
	// Children are told to die with the thread that started them, so that is to
	// be one that lasts.
	runtime.LockOSThread()
	if err := command(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// command is the whole program; its first word may be the part of a child.
func command(args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "echo":
			return serveEcho(args[1:])
		case "plain":
			return servePlain(args[1:])
		case "enter":
			return enter(args[1:])
		}
	}
	s, err := parse(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := run(ctx, s)
	if err != nil {
		return err
	}
	if s.json {
		return report.writeJSON(os.Stdout)
	}
	return report.writeText(os.Stdout)
}

func parse(args []string) (settings, error) {
	s := settings{progress: os.Stderr}
	var servers, scenarios, output string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "usage: go run ./dnsserver/bench [flags]\n\nservers: %s\nscenarios: KIND/CLIENTS or KIND/CLIENTS+changes, KIND one of %s, CLIENTS a number, or ports where each query comes by a port of its own; idle, idle+changes\n\n",
			strings.Join(serverNames(), " "), strings.Join(kindNames[:], " "))
		f.PrintDefaults()
	}
	f.IntVar(&s.rounds, "rounds", 5, "how often each is measured; the order turns")
	f.DurationVar(&s.length, "time", time.Second, "how long one measurement takes")
	f.StringVar(&servers, "servers", "", "which, with commas between (default: all that are installed)")
	f.StringVar(&scenarios, "scenarios", "plain/1,plain/8,plain/8+changes,plain/ports,edns/8,edns/ports,ecs/1,ecs/8,ecs/ports,idle,idle+changes", "which, with commas between")
	f.StringVar(&s.divert, "divert", "", "a `divert` to measure (default: one built from this checkout)")
	f.BoolVar(&s.pin, "pin", false, "keep the load on the first core and the servers on the others")
	f.BoolVar(&s.install, "install", false, "as root on Debian: install the servers that are missing, without starting them")
	f.StringVar(&output, "o", "text", "text or json")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if f.NArg() > 0 {
		return s, fmt.Errorf("%q is no flag and no server's part", f.Arg(0))
	}
	if output != "text" && output != "json" {
		return s, fmt.Errorf("-o %s: write text or json", output)
	}
	if s.rounds < 1 || s.length < 100*time.Millisecond || s.length > time.Minute {
		return s, errors.New("-rounds is 1 or more, -time from 100ms to 1m")
	}
	s.json = output == "json"
	for _, name := range split(servers) {
		if !slices.Contains(serverNames(), name) {
			return s, fmt.Errorf("-servers: there is no %q: write some of %s", name, strings.Join(serverNames(), ","))
		}
		s.servers = append(s.servers, name)
	}
	for _, text := range split(scenarios) {
		sc, err := parseScenario(text)
		if err != nil {
			return s, err
		}
		s.scenarios = append(s.scenarios, sc)
	}
	return s, nil
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}
