package e2e

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// load asks all directors at a steady rate, and counts what no client may ever
// be told: an empty answer, NXDOMAIN, SERVFAIL, REFUSED (S1).
type load struct {
	asked, lost, bad atomic.Int64

	mu    sync.Mutex
	first string // the first bad answer
}

// query starts the load over hosts until the returned function is called.
func (r *rig) query(perSecond int, hosts ...string) (l *load, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	l = &load{}
	var wg sync.WaitGroup
	for i := 1; i <= r.Directors(); i++ {
		wg.Go(func() { l.ask(ctx, r.DNS(i), max(perSecond/r.Directors(), 1), hosts) })
	}
	return l, func() { cancel(); wg.Wait() }
}

func (l *load) ask(ctx context.Context, server string, perSecond int, hosts []string) {
	conn, err := net.Dial("udp", server)
	if err != nil {
		l.note(err.Error())
		return
	}
	defer conn.Close()
	var wg sync.WaitGroup
	wg.Go(func() { l.read(conn) })
	defer wg.Wait()
	defer conn.SetReadDeadline(time.Now())
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for n := uint16(0); ; n++ {
		select {
		case <-ctx.Done():
			<-time.After(200 * time.Millisecond) // what is under way
			return
		case <-tick.C:
		}
		m := new(dns.Msg)
		m.SetQuestion(dns.Fqdn(hosts[int(n)%len(hosts)]), dns.TypeA)
		m.Id = n
		out, err := m.Pack()
		if err != nil {
			l.note(err.Error())
			return
		}
		if _, err := conn.Write(out); err != nil {
			l.lost.Add(1) // the director is being restarted: its clients ask another
			continue
		}
		l.asked.Add(1)
	}
}

func (l *load) read(conn net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		var timeout net.Error
		if err != nil {
			if asTimeout(err, &timeout) {
				return
			}
			continue // refused by a port that is away for now
		}
		m := new(dns.Msg)
		if err := m.Unpack(buf[:n]); err != nil {
			l.note("unreadable: " + err.Error())
			continue
		}
		if m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 {
			l.note(fmt.Sprintf("%s with %d records for %s", dns.RcodeToString[m.Rcode], len(m.Answer), m.Question[0].Name))
		}
	}
}

func asTimeout(err error, e *net.Error) bool {
	ne, ok := err.(net.Error) //nolint:errorlint // the socket's own error
	*e = ne
	return ok && ne.Timeout()
}

func (l *load) note(what string) {
	l.bad.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == "" {
		l.first = what
	}
}
