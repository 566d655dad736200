package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// dnsperf is a second opinion: the load that others measure with. It sends each
// query by a system call of its own and sleeps until a reply wakes it, so it takes
// more of the machine than the servers do, and they pay for waking it.
const dnsperf = "dnsperf"

// byDnsperf has dnsperf ask for all names, over and over, for a time. Replies that
// are no answer count as wrong; an echo's are answers, as for the load of ours.
func (b *bench) byDnsperf(ctx context.Context, p *process, clients int) (o outcome, err error) {
	program, err := look(dnsperf)
	if err != nil {
		return o, err
	}
	var names strings.Builder
	for h := range hosts {
		fmt.Fprintf(&names, "%s A\n", fullHost(h*7919%hosts)) // 7919 is prime: each once
	}
	file := filepath.Join(p.dir, "queries.txt")
	if err := os.WriteFile(file, []byte(names.String()), 0o600); err != nil {
		return o, err
	}
	before, err := p.group.read()
	if err != nil {
		return o, err
	}
	began := time.Now()
	seconds := strconv.Itoa(max(1, int(b.length.Round(time.Second).Seconds())))
	text, err := exec.CommandContext(ctx, program, "-s", p.addr.Addr().String(), "-p", strconv.Itoa(int(p.addr.Port())),
		"-d", file, "-c", strconv.Itoa(clients), "-T", "1", "-q", strconv.Itoa(clients*window(clients)), "-l", seconds).CombinedOutput()
	if err != nil {
		return o, fmt.Errorf("dnsperf: %w\n%s", err, tail(string(text)))
	}
	o.length = time.Since(began)
	after, err := p.group.read()
	if err != nil {
		return o, err
	}
	o.cpu = after - before
	completed, lost, good := figure(text, `Queries completed:\s+(\d+)`), figure(text, `Queries lost:\s+(\d+)`), figure(text, `NOERROR (\d+)`)
	o.answers, o.lost, o.wrong = completed, lost, completed-min(good, completed)
	return o, nil
}

func figure(text []byte, pattern string) uint64 {
	if m := regexp.MustCompile(pattern).FindSubmatch(text); m != nil {
		n, _ := strconv.ParseUint(string(m[1]), 10, 64)
		return n
	}
	return 0
}
