package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

// TestSpill: a site that is above its target sheds clients to the next, a few of them, and
// the same on all directors; a drain that the others have no room for is refused; and when
// the site fails, its clients are spread over all that are left at once (SEMANTICS section
// 2, Capacity; S1; linkerd2 #2876).
func TestSpill(t *testing.T) {
	long(t)
	const host, perSecond = "pay.example.org", 140
	sites := local.DefaultSites()
	sites[0].Capacity, sites[1].Capacity, sites[2].Capacity = 150, 60, 60
	r := start(t, local.Options{Clusters: sites})
	r.settle()
	stop := r.crowd(perSecond, host)
	defer stop()

	r.until(50*time.Second, "fra sheds", func() error {
		fra, err := r.pool("cluster/fra")
		if err == nil && fra.Keeps == 0 {
			err = fmt.Errorf("fra has %d %% and keeps all", fra.Used)
		}
		return err
	})
	r.until(5*time.Second, "all directors shed the same few", func() error {
		var first []bool
		for i := 1; i <= r.Directors(); i++ {
			to, err := r.toFra(i, host)
			if err != nil {
				return err
			}
			if first == nil {
				first = to
			}
			if !slices.Equal(first, to) {
				return fmt.Errorf("%s sends other clients to fra than %s", local.Name(i), local.Name(1))
			}
		}
		// Four points of 93 are 43 of 1,000; give or take five standard deviations.
		if away := count(first, false); away < 5 || away > 80 {
			return fmt.Errorf("%d of %d clients are away", away, len(first))
		}
		return nil
	})
	s, err := r.status(1)
	must(t, err)
	if fra := siteIn(s, "pay", "fra"); !strings.Contains(fra.Why, "too busy: fra keeps ") {
		t.Errorf("status says of fra: %q", fra.Why)
	}
	if out := r.must(2, "explain", host, "--client", "20.0.0.1"); !strings.Contains(out, "since it was above the target of 75 %") {
		t.Errorf("explain does not say why:\n%s", out)
	}

	out, code := r.divert(3, "drain", "cluster/fra", "--for", "1h", "--reason", "INC-12")
	if code != 1 || !strings.Contains(out, "is predicted to bring ") || !strings.Contains(out, "--force") {
		t.Errorf("a drain that the others cannot bear: exit %d\n%s", code, out)
	}

	must(t, r.Kill("fra"))
	r.until(10*time.Second, "its clients are spread", func() error {
		for i := 1; i <= r.Directors(); i++ {
			nyc, sin := 0, 0
			for c := range 200 {
				reply, err := r.reply(i, host, fmt.Sprintf("20.0.%d.0/24", c))
				if err != nil {
					return err
				}
				switch r.siteOf(reply.Answer[0].(*dns.A).A.String()) {
				case "nyc":
					nyc++
				case "sin":
					sin++
				}
			}
			if nyc+sin < 200 || min(nyc, sin) < 60 { // each has as much room
				return fmt.Errorf("%s sends %d of 200 to nyc, %d to sin", local.Name(i), nyc, sin)
			}
		}
		return nil
	})
}

func count(list []bool, want bool) (n int) {
	for _, v := range list {
		if v == want {
			n++
		}
	}
	return n
}

// pool gives how busy a site is, as the first director says.
func (r *rig) pool(name string) (api.Pool, error) {
	s, err := r.status(1)
	if err != nil {
		return api.Pool{}, err
	}
	for _, p := range s.Pools {
		if p.Pool == name {
			return p, nil
		}
	}
	return api.Pool{}, fmt.Errorf("status says nothing of %s", name)
}

// crowd asks all directors for a name, on behalf of clients of many networks, until the
// returned function is called.
func (r *rig) crowd(perSecond int, host string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	conns := make([]net.Conn, r.Directors())
	for i := range conns {
		conn, err := net.Dial("udp", r.DNS(i+1))
		must(r.t, err)
		conns[i] = conn
	}
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for began, sent := time.Now(), 0; ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for due := int(time.Since(began).Seconds() * float64(perSecond)); sent < due; sent++ {
				m := new(dns.Msg)
				m.SetQuestion(dns.Fqdn(host), dns.TypeA)
				m.SetEdns0(1232, false)
				m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{
					Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(20, byte(rand.IntN(250)), byte(rand.IntN(250)), 0),
				}}
				if out, err := m.Pack(); err == nil {
					_, _ = conns[sent%len(conns)].Write(out) // the answer is nobody's
				}
			}
		}
	}()
	return func() {
		cancel()
		<-done
		for _, conn := range conns {
			conn.Close()
		}
	}
}
