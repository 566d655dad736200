package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 10 * time.Second
)

// place is what a server is given to run with.
type place struct {
	dir     string // of its own
	addr    netip.AddrPort
	workers int // threads or processes it shall answer with
	world   *world
	divert  string // the binary
}

// process is a running server.
type process struct {
	server
	place
	group  *group
	cmd    *exec.Cmd
	output bytes.Buffer
	ended  chan struct{} // closed when it has
	fault  error         // of its end
}

// start runs a server and waits until it answers for the last of the names.
func start(ctx context.Context, s server, p place, pinned []int) (*process, error) {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return nil, err
	}
	argv, err := s.command(p)
	if err != nil {
		return nil, fmt.Errorf("%s: writing its settings: %w", s.name, err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &process{server: s, place: p, group: newGroup(s.name), ended: make(chan struct{})}
	r.cmd = exec.Command(self, append([]string{"enter", r.group.procs(), list(pinned)}, argv...)...)
	r.cmd.Dir = p.dir
	r.cmd.Stdout, r.cmd.Stderr = &r.output, &r.output
	dieWithUs(r.cmd)
	if err := r.cmd.Start(); err != nil {
		return nil, errors.Join(err, r.group.end())
	}
	r.group.root = r.cmd.Process.Pid
	go func() {
		r.fault = r.cmd.Wait()
		close(r.ended)
	}()
	if err := r.ready(ctx); err != nil {
		stopped := r.stop()
		return nil, errors.Join(fmt.Errorf("%s: %w\n%s", s.name, err, tail(r.output.String())), stopped)
	}
	return r, nil
}

func list(cores []int) string {
	var out []string
	for _, c := range cores {
		out = append(out, strconv.Itoa(c))
	}
	return strings.Join(out, ",")
}

func tail(text string) string { return text[max(0, len(text)-2000):] }

// ready waits for an answer.
func (r *process) ready(ctx context.Context) error {
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		select {
		case <-r.ended:
			return fmt.Errorf("ended at once: %w", r.fault)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if got, err := r.ask(hosts-1, nil); err == nil && (r.echo || len(got) > 0) {
			return nil
		}
	}
	return fmt.Errorf("gave no answer within %s", startTimeout)
}

// ask asks for one name and gives the addresses answered.
func (r *process) ask(host int, s *subnet) ([]netip.Addr, error) {
	m := new(dns.Msg)
	m.SetQuestion(fullHost(host)+".", dns.TypeA)
	if s != nil {
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_SUBNET{
			Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(s.octets[0], s.octets[1], s.octets[2], 0).To4(),
		})
	}
	c := dns.Client{Timeout: time.Second}
	reply, _, err := c.Exchange(m, r.addr.String())
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			addr, _ := netip.AddrFromSlice(a.A.To4())
			out = append(out, addr)
		}
	}
	return out, nil
}

// check asks for every name and looks whether the addresses are those of the site
// that the client is to be sent to: only who does the work is compared.
func (r *process) check() error {
	if r.echo {
		return nil
	}
	at := 0
	for h := range hosts {
		want := homeSite
		var with *subnet
		if h%2 == 1 && !r.static {
			for at++; r.world.subnets[at%subnets].site < 0; at++ {
			}
			with = &r.world.subnets[at%subnets]
			want = with.site
		}
		got, err := r.ask(h, with)
		if err != nil {
			return fmt.Errorf("%s: asking for %s: %w", r.name, fullHost(h), err)
		}
		if len(got) != 1 || got[0] != address(serviceOf(h), want) {
			return fmt.Errorf("%s answers %s with %v, not with %s of %s", r.name, fullHost(h), got, address(serviceOf(h), want), siteNames[want])
		}
	}
	return nil
}

// stop ends the server by the process that was started, and what that left.
func (r *process) stop() error {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	left := r.group.pids()
	select {
	case <-r.ended:
	case <-time.After(stopTimeout):
		_ = r.cmd.Process.Kill()
		<-r.ended
	}
	if r.group.dir == "" {
		for _, pid := range left { // its children, if they have not ended with it
			if s, ok := readStat(pid); ok && s.parent == 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	return r.group.end()
}

// freePort finds a port of loopback that is free for UDP and TCP.
func freePort() (netip.AddrPort, error) {
	for range 20 {
		u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return netip.AddrPort{}, err
		}
		addr := u.LocalAddr().(*net.UDPAddr).AddrPort()
		t, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(addr))
		_ = u.Close()
		if err == nil {
			_ = t.Close()
			return addr, nil
		}
	}
	return netip.AddrPort{}, errors.New("no free port on 127.0.0.1")
}

// write makes a file in the server's folder.
func (p place) write(name, text string) (path string, err error) {
	path = filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte(text), 0o600)
}
