package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// maxResolved bounds the addresses tried of one name.
const maxResolved = 8

// answered records which join addresses have answered at least once.
type answered struct {
	mu   sync.Mutex
	seen map[string]bool
}

func newAnswered(join []string) *answered {
	a := &answered{seen: map[string]bool{}}
	for _, j := range join {
		a.seen[j] = false
	}
	return a
}

// mark says whether that is news.
func (a *answered) mark(addr string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen, join := a.seen[addr]
	if !join || seen {
		return false
	}
	a.seen[addr] = true
	return true
}

// Answered tells of each join address whether a director, perhaps this one,
// has answered there at least once since the start.
func (n *Node) Answered() map[string]bool {
	n.answered.mu.Lock()
	defer n.answered.mu.Unlock()
	return maps.Clone(n.answered.seen)
}

// line is one address that should lead to a director.
type line struct {
	name     string // registered director; "" of a join address
	addr     string
	resolved []string
	busy     bool
	next     time.Time
}

// call is the outcome of one attempt.
type call struct {
	key      string
	resolved []string
	err      error
}

// redial tries, for ever, every join address and every registered director that
// is not a member: memberlist forgets the dead and never calls them again. The
// lines belong to this goroutine; each attempt has its own, so none delays
// another.
func (n *Node) redial(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	lines := map[string]*line{}
	results := make(chan call)
	tick := time.NewTicker(n.tuning.tick)
	defer tick.Stop()
	for {
		now := time.Now()
		wanted := n.wanted(lines)
		n.transport.know(n.places(lines))
		for key, l := range wanted {
			if l.busy || now.Before(l.next) || n.reached(l) {
				continue
			}
			l.busy = true
			wg.Go(func() {
				resolved, err := n.dial(ctx, l.addr)
				select {
				case results <- call{key: key, resolved: resolved, err: err}:
				case <-ctx.Done():
				}
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case r := <-results:
			if l := lines[r.key]; l != nil {
				n.hung(l, r, time.Now())
			}
		}
	}
}

// places lists the addresses that directors are known to have, as what has a
// connection to offer may come from.
func (n *Node) places(lines map[string]*line) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	add := func(addr string) {
		if a, err := netip.ParseAddrPort(addr); err == nil {
			out[a.Addr().Unmap().WithZone("")] = true
		}
	}
	for _, l := range lines {
		add(l.addr)
		for _, addr := range l.resolved {
			add(addr)
		}
	}
	for _, m := range n.Members() {
		add(m.Addr)
	}
	return out
}

// wanted brings the lines up to date with the settings and the roster.
func (n *Node) wanted(lines map[string]*line) map[string]*line {
	keep := map[string]bool{}
	want := func(name, addr string) {
		if addr == "" || name == n.opts.Name {
			return
		}
		key := name + "@" + addr
		keep[key] = true
		if lines[key] == nil {
			lines[key] = &line{name: name, addr: addr}
		}
	}
	for _, j := range n.opts.Join {
		want("", j)
	}
	for name, addrs := range n.addresses() {
		for _, addr := range addrs {
			want(name, addr)
		}
	}
	maps.DeleteFunc(lines, func(key string, l *line) bool { return !keep[key] && !l.busy })
	return lines
}

// reached tells whether a line needs no attempt now.
func (n *Node) reached(l *line) bool {
	if l.name != "" {
		return n.members.has(l.name)
	}
	if n.ours(l.addr) {
		n.heard(l.addr)
		return true
	}
	// A name that leads to nobody but ourselves may lead to others later.
	others := n.others(l.resolved)
	return len(others) > 0 && n.Answered()[l.addr] && !slices.ContainsFunc(others, n.missing)
}

// ours tells whether an address is this director's own.
func (n *Node) ours(addr string) bool {
	return addr == n.transport.advertise.String() || addr == n.transport.bound.String()
}

// others leaves this director's own addresses out.
func (n *Node) others(addrs []string) []string {
	return slices.DeleteFunc(slices.Clone(addrs), n.ours)
}

// missing tells whether no member advertises an address.
func (n *Node) missing(addr string) bool { return !n.members.at(addr) }

// hung files an attempt's outcome and sets the next, with jitter so that
// directors which lost each other do not call in step.
func (n *Node) hung(l *line, r call, now time.Time) {
	l.busy = false
	if len(r.resolved) > 0 {
		l.resolved = r.resolved
	}
	pause := n.tuning.redial
	result := "silent"
	if r.err == nil {
		result = "answered"
		n.heard(l.addr)
		if l.name == "" {
			// Somebody is there, perhaps behind another address than it
			// advertises: no hurry.
			pause *= 5
		} else {
			// It must first refute our belief that it is dead.
			pause /= 4
		}
	}
	n.metrics.redials.WithLabelValues(result).Inc()
	l.next = now.Add(pause/2 + rand.N(pause))
}

func (n *Node) heard(addr string) {
	if n.answered.mark(addr) {
		n.log.Info("join address answered", slog.String("addr", addr))
	}
}

// dial resolves an address and exchanges membership with what answers there.
// A name may stand for several directors, this one among them: each is asked,
// and it has answered when all of them have. Directors may have two families of
// addresses and listen on one: all of one family will do. Every step is bounded:
// the resolver by ctx, the exchange by memberlist's timeout and by the
// transport's end.
func (n *Node) dial(ctx context.Context, addr string) ([]string, error) {
	resolved, err := n.tuning.resolve(ctx, addr, n.tuning.list.TCPTimeout)
	if err != nil {
		return nil, err
	}
	list := n.list.Load()
	var errs error
	silent, answered := map[bool]int{}, map[bool]int{} // by whether the family is IPv4
	for _, a := range n.others(resolved) {
		if ctx.Err() != nil {
			return resolved, ctx.Err()
		}
		family := isIPv4(a)
		if n.missing(a) {
			if _, err := list.Join([]string{a}); err != nil {
				errs = errors.Join(errs, err)
				silent[family]++
				continue
			}
		}
		answered[family]++
	}
	for family, count := range answered {
		if count > 0 && silent[family] == 0 {
			return resolved, nil
		}
	}
	return resolved, errs
}

func isIPv4(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	return err == nil && a.Addr().Is4()
}

// resolve gives ip:port addresses. memberlist's own look-up asks with type ANY
// over TCP first, and without a deadline.
func resolve(ctx context.Context, addr string, timeout time.Duration) ([]string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []string{net.JoinHostPort(ip.Unmap().String(), port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolving %s: %w", addr, err)
	}
	var out []string
	for _, ip := range ips[:min(len(ips), maxResolved)] {
		out = append(out, net.JoinHostPort(ip.Unmap().String(), port))
	}
	return out, nil
}
