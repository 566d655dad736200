package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// load asks all directors at a steady rate, and counts what no client may ever
// be told: an empty answer, NXDOMAIN, SERVFAIL, REFUSED (S1).
type load struct {
	asked, answered, bad atomic.Int64
	hosts                atomic.Pointer[[]string] // asked in turn

	mu    sync.Mutex
	first string                // the first bad answer
	seen  map[asking]*sightings // what watch waits for
}

// asking is one name at one director, from 1.
type asking struct {
	director int
	host     string
}

// sightings notes when answers began to differ from one address.
type sightings struct {
	was     string
	changed time.Time // zero: not yet
	to      string
}

// query starts the load over hosts until the returned function is called. That
// fails the test if a client was told what none may be.
func (r *rig) query(perSecond int, hosts ...string) (l *load, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	l = &load{seen: map[asking]*sightings{}}
	l.hosts.Store(&hosts)
	var wg sync.WaitGroup
	for i := 1; i <= r.Directors(); i++ {
		wg.Go(func() { l.ask(ctx, i, r.DNS(i), float64(perSecond)/float64(r.Directors())) })
	}
	began := time.Now()
	return l, sync.OnceFunc(func() {
		r.t.Helper()
		took := time.Since(began)
		cancel()
		wg.Wait()
		l.judge(r.t, float64(perSecond)*took.Seconds())
	})
}

// judge says what became of the queries. A query that nobody answered, because
// its director was being restarted, is asked again elsewhere by every resolver.
func (l *load) judge(t *testing.T, want float64) {
	t.Helper()
	asked, answered := l.asked.Load(), l.answered.Load()
	t.Logf("%d queries, %d answered, %d with what none may get", asked, answered, l.bad.Load())
	if l.bad.Load() > 0 {
		t.Errorf("S1: %d of %d queries got what none may get, the first: %s", l.bad.Load(), asked, l.first)
	}
	if float64(asked) < want*0.9 {
		t.Errorf("only %d queries were asked, want about %.0f: nothing is shown by them", asked, want)
	}
}

// ask sends at a steady rate: what a late tick missed is made up for.
func (l *load) ask(ctx context.Context, director int, server string, perSecond float64) {
	conn, err := net.Dial("udp", server)
	if err != nil {
		l.note(err.Error())
		return
	}
	defer conn.Close()
	var wg sync.WaitGroup
	wg.Go(func() { l.read(director, conn) })
	defer wg.Wait()
	defer conn.SetReadDeadline(time.Now())
	tick := time.NewTicker(max(time.Millisecond, time.Duration(float64(time.Second)/perSecond)))
	defer tick.Stop()
	began, sent := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			for end := time.Now().Add(time.Second); time.Now().Before(end) && l.answered.Load() < l.asked.Load(); {
				<-time.After(10 * time.Millisecond) // what is under way
			}
			return
		case <-tick.C:
		}
		for due := int(time.Since(began).Seconds() * perSecond); sent < due; sent++ {
			hosts := *l.hosts.Load()
			m := new(dns.Msg)
			m.SetQuestion(dns.Fqdn(hosts[sent%len(hosts)]), dns.TypeA)
			m.Id = uint16(sent)
			out, err := m.Pack()
			if err != nil {
				l.note(err.Error())
				return
			}
			_, _ = conn.Write(out) // refused: the director is being restarted
			l.asked.Add(1)
		}
	}
}

func (l *load) read(director int, conn net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err != nil:
			continue // refused by a port that is away for now
		}
		at := time.Now()
		m := new(dns.Msg)
		if err := m.Unpack(buf[:n]); err != nil {
			l.note("unreadable: " + err.Error())
			continue
		}
		l.answered.Add(1)
		if m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 {
			l.note(fmt.Sprintf("%s with %d records for %s from director %d", dns.RcodeToString[m.Rcode], len(m.Answer), m.Question[0].Name, director))
			continue
		}
		if a, ok := m.Answer[0].(*dns.A); ok {
			l.sight(asking{director, m.Question[0].Name}, a.A.String(), at)
		}
	}
}

func (l *load) sight(what asking, addr string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.seen[what]; s != nil && s.changed.IsZero() && addr != s.was {
		s.changed, s.to = at, addr
	}
}

// watch notes from now on when the directors' answers for a host cease to be an
// address.
func (l *load) watch(directors int, host, was string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := 1; i <= directors; i++ {
		l.seen[asking{i, dns.Fqdn(host)}] = &sightings{was: was}
	}
}

// moved tells when the first and the last director's answer changed, and to
// what; an error until all have.
func (l *load) moved(directors int, host, to string) (first, last time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := 1; i <= directors; i++ {
		s := l.seen[asking{i, dns.Fqdn(host)}]
		switch {
		case s == nil || s.changed.IsZero():
			return first, last, fmt.Errorf("d%d still answers %s as before", i, host)
		case s.to != to:
			return first, last, fmt.Errorf("d%d answers %s with %s, want %s", i, host, s.to, to)
		}
		if first.IsZero() || s.changed.Before(first) {
			first = s.changed
		}
		if s.changed.After(last) {
			last = s.changed
		}
	}
	return first, last, nil
}

func (l *load) note(what string) {
	l.bad.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == "" {
		l.first = what
	}
}

// times are what a bound is judged by.
type times []time.Duration

// at gives a percentile by nearest rank.
func (d times) at(percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}

func (d times) String() string {
	ms := time.Millisecond
	return fmt.Sprintf("p50 %s, p95 %s, p99 %s, max %s of %d", d.at(50).Round(ms), d.at(95).Round(ms), d.at(99).Round(ms), d.at(100).Round(ms), len(d))
}
