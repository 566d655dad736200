package probe

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/divertdns/divert/health"
)

// The warm connection: one stands at each address and port that gets fast signals, says
// nothing, and has the kernel ask each second whether the other end is there (keepalive).
// Where it and new connections disagree, something between is half broken: a full listen
// queue, a firewall that knows only old connections or only new ones, one bad path of
// several. That is a gray failure: it degrades, and never fails, an address.

const (
	lookEvery = time.Second
	// freshAck: without anything for that long, a connection that is asked each second
	// is no witness against a failure of 2 s.
	freshAck = 1500 * time.Millisecond
	// silentAck: five questions in a row without an answer. With 10 % loss each way (F4)
	// that is one in 4,000; three observers at once, twice running, are none.
	silentAck = 6 * time.Second
	// grayMisses: new connections fail when so many did in a row, the first of them a
	// second ago.
	grayMisses = 5
	grayLooks  = 2 // in a row
	// A server that will not let a connection stand is asked less and less often.
	standAgain   = time.Second
	standAgainAt = time.Minute
	stoodWell    = 10 * time.Second

	mostWarm = 4096 // connections, and at most a quarter of the descriptors we may have
)

// KeepsWarm tells whether this system lets a director keep warm connections, and so
// report about health.Gray: on others it has no opinion of it.
const KeepsWarm = haveSockets

// stands is what a look at a warm connection shows.
type stands uint8

const (
	standsUnknown   stands = iota // none, or not long enough to tell
	standsAnswering               // the other end has answered just now
	standsSilent
	standsClosed // by the other end, or never opened
)

// standing is the warm connection of an address and port.
type standing struct {
	fd       int // -1: none
	opened   time.Time
	looked   time.Time
	again    time.Time // not opened before
	pause    time.Duration
	contrary int // looks in a row that disagreed
	gray     bool
}

func noStanding() standing { return standing{fd: -1, pause: standAgain} }

// stand looks at the warm connection of a signal's address and port, at most once a
// second, along with a signal: it costs no wake-up.
func (l *loop) stand(e *entry, now time.Time) {
	g := e.group
	w := &g.warm
	if now.Sub(w.looked) < lookEvery {
		return
	}
	w.looked = now
	state := standsUnknown
	if w.fd >= 0 {
		if state = l.flights.look(w.fd, now.Sub(w.opened)); state == standsClosed {
			l.closed(w, now)
		}
	}
	if w.fd < 0 && !now.Before(w.again) && l.flights.standing < l.flights.mostStanding {
		w.fd, w.opened = l.flights.stand(e.req.addr), now
		if w.fd < 0 {
			w.again = now.Add(standAgainAt) // our own side: not now
		}
	}
	why := g.contradicts(state, now)
	if why == "" {
		w.contrary = 0
	} else {
		w.contrary++
	}
	if gray := w.contrary >= grayLooks; gray != w.gray {
		w.gray = gray
		if gray {
			l.gray++
		} else {
			l.gray--
		}
		l.metrics.gray.Set(float64(l.gray))
		l.log.Info("gray failure", slog.Bool("now", gray), slog.String("at", e.req.addr.String()), slog.String("why", why))
	}
	r := health.Report{Subject: health.Gray(e.Subject.Addr), OK: true, At: now}
	if w.gray {
		r.OK, r.Sign, r.Reason = false, health.SignWrong, why
	}
	l.opts.Report(r)
}

// closed takes leave of a connection that the other end has closed, which is no failure.
func (l *loop) closed(w *standing, now time.Time) {
	l.flights.leave(w.fd)
	w.fd = -1
	if now.Sub(w.opened) >= stoodWell {
		w.pause = standAgain
	} else {
		w.pause = min(2*w.pause, standAgainAt)
	}
	w.again = now.Add(w.pause - standAgain) // the first time at once
}

// leave closes the warm connection of a group that is gone.
func (l *loop) dismiss(g *group) {
	if g.warm.fd >= 0 {
		l.flights.leave(g.warm.fd)
	}
	if g.warm.gray {
		l.gray--
		l.metrics.gray.Set(float64(l.gray))
	}
	g.warm = noStanding()
}

// contradicts says what the warm connection says against the fast signals; "": nothing.
func (g *group) contradicts(state stands, now time.Time) string {
	switch {
	case state == standsAnswering && g.missed >= grayMisses && now.Sub(g.since) >= lookEvery:
		return fmt.Sprintf("%d new connections failed while a standing one answers", g.missed)
	case state == standsSilent && g.missed == 0 && g.answered:
		return "a standing connection is silent while new ones are answered"
	}
	return ""
}
