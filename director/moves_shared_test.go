package director

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/health"
)

// TestSharedDependencyIsLogged: what keeps sites from falling is in the log, once, with
// its end.
func TestSharedDependencyIsLogged(t *testing.T) {
	begun := time.Now()
	var log strings.Builder
	l := &loop{observer: health.NewObserver(begun), book: health.NewBook("d1", nil, 0), log: slog.New(slog.NewTextHandler(&log, nil))}
	var watched []health.Watched
	for i, cluster := range []string{"nyc", "sin"} {
		s := health.Subject{Kind: health.KindSignal, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 443)}
		watched = append(watched, health.Watched{Subject: s, Via: "tunnel", Group: cluster})
	}
	l.observer.Set(watched)
	probed := func(ok bool, at time.Duration) {
		for _, w := range watched {
			r := health.Report{Subject: w.Subject, OK: ok, At: begun.Add(at), Latency: time.Millisecond}
			if !ok {
				r.Sign, r.Reason = health.SignRefused, "connection refused"
			}
			l.observer.Report(r)
		}
		l.observer.Votes(l.book, begun.Add(at))
		l.tellShared()
	}
	probed(true, 0)
	if log.Len() > 0 {
		t.Errorf("nothing fails: %s", &log)
	}
	for i := range 30 {
		probed(false, time.Second+time.Duration(i)*50*time.Millisecond)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "via=tunnel") || !strings.Contains(got, "nyc") || !strings.Contains(got, "sin") {
		t.Errorf("it fails: %s", got)
	}
	log.Reset()
	probed(true, 4*time.Second)
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "works again") {
		t.Errorf("it works again: %s", got)
	}
}
