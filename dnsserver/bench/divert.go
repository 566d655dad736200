package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// buildDivert makes the binary out of this checkout, as `make build` does.
func buildDivert(ctx context.Context, dir string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("looking for this checkout (run it there, or give -divert): %w", err)
	}
	path := filepath.Join(dir, "bin", "divert")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./cmd/divert")
	build.Dir = strings.TrimSpace(string(root))
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building divert: %w\n%s", err, out)
	}
	return path, nil
}

// divertCommand gives Divert the prefixes as regions, on top of its country table.
// Without probes nothing but answering is measured.
func divertCommand(p place) ([]string, error) {
	var spec strings.Builder
	spec.WriteString("kind: Fleet\nmetadata: {name: default}\nspec: {directors: [{name: d1, site: here}]}\n")
	for i, site := range siteNames {
		fmt.Fprintf(&spec, "---\nkind: Cluster\nmetadata: {name: %s}\nspec: {location: {country: %s}}\n", site, [...]string{"DE", "US", "SG", "AU"}[i])
	}
	fmt.Fprintf(&spec, "---\nkind: Zone\nmetadata: {name: %s}\nspec:\n  nameservers: [ns1.%[1]s]\n  hostmaster: hostmaster@%[1]s\n  records: |\n    ns1 A 192.0.2.53\n", zoneName)
	regions := make([]string, len(siteNames))
	for i := range siteNames {
		var held []string
		for _, n := range p.world.nets {
			if n.site == i {
				held = append(held, n.prefix.String())
			}
		}
		var order []string
		for j := range siteNames {
			order = append(order, siteNames[(i+j)%len(siteNames)])
		}
		regions[i] = fmt.Sprintf("{clients: {prefixes: [%s]}, order: [%s]}", strings.Join(held, ", "), strings.Join(order, ", "))
	}
	for s := range services {
		fmt.Fprintf(&spec, "---\nkind: GlobalService\nmetadata: {name: s%d}\nspec:\n  hosts: [", s)
		for h := s * perService; h < (s+1)*perService; h++ {
			fmt.Fprintf(&spec, "%s, ", fullHost(h))
		}
		fmt.Fprintf(&spec, "]\n  ttl: %ds\n  endpoints:\n", ttl)
		for i, site := range siteNames {
			fmt.Fprintf(&spec, "  - {cluster: %s, addresses: [%s]}\n", site, address(s, i))
		}
		fmt.Fprintf(&spec, "  steering:\n    policy: geo\n    order: [%s]\n    regions:\n    - %s\n",
			strings.Join(siteNames[:], ", "), strings.Join(regions, "\n    - "))
	}
	gossip, err := freePort()
	if err != nil {
		return nil, err
	}
	api, err := freePort()
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("name: d1\nsite: here\ndataDir: %[1]s/data\ndns: {listen: [%[2]q]}\ngossip: {listen: %[3]q}\napi: {listen: %[4]q}\nspec: [%[1]s/spec.yaml]\n",
		p.dir, p.addr, gossip, api)
	if err := p.files(map[string]string{"spec.yaml": spec.String(), "director.yaml": config}); err != nil {
		return nil, err
	}
	return []string{p.divert, "serve", "-c", p.dir + "/director.yaml"}, nil
}

const changesPerSecond = 10

// changer changes Divert's plan ten times a second: it drains one site of a service,
// so of a hundred names, and ends the drain, by turns. It is the one owner of that
// drain.
type changer struct {
	http *http.Client
	n    int // changes made, in all
}

func newChanger(p *process) *changer {
	socket := filepath.Join(p.dir, "data", "control.sock")
	return &changer{http: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: changesPerSecond,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// run makes changes until ctx ends, each when the director answers from the one
// before, and takes back a drain that is left. It tells how many came in time.
func (c *changer) run(ctx context.Context) (made int, err error) {
	ticker := time.NewTicker(time.Second / changesPerSecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			if c.n%2 == 1 {
				err = c.change(context.WithoutCancel(ctx))
			}
			return made, err
		case <-ticker.C:
		}
		if err := c.change(context.WithoutCancel(ctx)); err != nil {
			return made, err
		}
		made++
	}
}

// change makes the next one.
func (c *changer) change(ctx context.Context) error {
	verb := [...]string{"drain", "undrain"}[c.n%2]
	command := map[string]any{
		"id": fmt.Sprintf("bench-%d-%d", os.Getpid(), c.n), "verb": verb, "reason": "measuring",
		"scope": "service/s0@" + siteNames[len(siteNames)-1],
	}
	if verb == "drain" {
		command["forSeconds"] = time.Hour.Seconds()
	}
	body, err := json.Marshal(command)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://divert/v1/commands?timeout=5s", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	reply, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("changing the plan: %w", err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(io.LimitReader(reply.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("changing the plan: %w", err)
	}
	var last struct {
		Code  int
		Final bool
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], &last); err != nil || !last.Final || last.Code != 0 || reply.StatusCode != http.StatusOK {
		return fmt.Errorf("changing the plan: %s: %s", reply.Status, tail(string(text)))
	}
	c.n++
	return nil
}
