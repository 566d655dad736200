package gossip

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// named starts directors d1, d2, … on addresses and a port of their own, all of
// which join by one name. That resolves, for each, to its own address first.
func named(t *testing.T, count int, more ...string) []*peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	at := func(i int) string { return fmt.Sprintf("127.0.7.%d:%s", i+1, port) }
	f := newFleet("")
	var out []*peer
	for i := range count {
		addrs := []string{at(i)}
		for j := range count {
			if j != i {
				addrs = append(addrs, at(j))
			}
		}
		for _, ip := range more {
			addrs = append(addrs, net.JoinHostPort(ip, port))
		}
		out = append(out, start(t, f, identity(fmt.Sprint("d", i+1), "", 1), func(o *Options) {
			o.Listen, o.Join = at(i), []string{"directors.example.org:" + port}
			o.tune = func(tu *tuning) {
				fast(tu)
				tu.resolve = func(context.Context, string, time.Duration) ([]string, error) { return addrs, nil }
			}
		}))
	}
	return out
}

// One name may stand for all directors, this one among them: each is asked.
func TestJoinByOneName(t *testing.T) {
	t.Parallel()
	peers := named(t, 3)
	for _, p := range peers {
		eventually(t, p.opts.Name+" to know all", func() bool { return p.names() == "d1 d2 d3" })
		eventually(t, p.opts.Name+" to have an answer of all", func() bool { return p.Answered()[p.opts.Join[0]] })
	}
}

// A name has answered when every address of it has: the one that is silent may
// hold a plan (SEMANTICS, section 4).
func TestNameWithASilentAddress(t *testing.T) {
	t.Parallel()
	peers := named(t, 2, "127.0.7.9")
	eventually(t, "the two to meet", func() bool {
		return strings.Contains(peers[0].names(), "d2") && strings.Contains(peers[1].names(), "d1")
	})
	tried := func() bool { return redials(peers[0], "silent") >= 3 }
	eventually(t, "the silent address to be tried", tried)
	if a := peers[0].Answered(); a[peers[0].opts.Join[0]] {
		t.Errorf("answered: got %v, want not yet", a)
	}
}

func redials(p *peer, result string) float64 {
	return testutil.ToFloat64(p.metrics.redials.WithLabelValues(result))
}
