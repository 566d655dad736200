package resolve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/divertdns/divert/dnsserver/ask"
)

const (
	systemServers = "/etc/resolv.conf"
	firstPatience = time.Second
	reread        = 5 * time.Second
	// silentAfter is how many queries in a row that no server answered make all of them
	// silent: then each is asked once only, or 10,000 names would wait for hours.
	silentAfter = 8
	silentTold  = 2 // both families of one name
)

// errSilent says that no server answered.
var errSilent = errors.New("no server that resolves names answers")

// servers are those that are asked.
type servers struct {
	given  []string
	path   string
	good   atomic.Int32 // the one that answered last
	silent atomic.Int32 // queries in a row that none answered

	mu     sync.Mutex // guards what follows
	list   []string
	err    error
	looked time.Time
	stamp  time.Time // of the file
}

// all gives them. The system's are read again when their file changes.
func (s *servers) all() ([]string, error) {
	if len(s.given) > 0 {
		return s.given, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.looked.IsZero() && now.Sub(s.looked) < reread {
		return s.list, s.err
	}
	s.looked = now
	var stamp time.Time // zero: it may be read all the same, if it is being written anew
	if info, err := os.Stat(s.path); err == nil {
		stamp = info.ModTime()
	}
	if !stamp.IsZero() && stamp.Equal(s.stamp) {
		return s.list, s.err
	}
	list, err := ask.SystemServers(s.path)
	if err == nil {
		s.list, s.err, s.stamp = list, nil, stamp
	} else if len(s.list) == 0 {
		s.err = err
	}
	return s.list, s.err
}

// query asks one server after the other, the one that answered last first, and all
// once more with twice the patience if one of them was silent.
func (r *Resolver) query(ctx context.Context, name string, v6 bool) (ask.Addresses, error) {
	list, err := r.servers.all()
	if err != nil {
		return ask.Addresses{}, err
	}
	tries := 2
	if r.servers.silent.Load() >= silentAfter {
		tries = 1
	}
	var said, deaf error
	for try := range tries {
		first, timeouts := int(r.servers.good.Load()), 0
		for i := range list {
			n := (first + i) % len(list)
			got, err := r.once(ctx, list[n], name, v6, firstPatience<<try)
			switch {
			case ctx.Err() != nil:
				return ask.Addresses{}, ctx.Err()
			case err == nil || errors.Is(err, ask.ErrNoName):
				r.servers.good.Store(int32(n))
				r.heard()
				return got, err
			case errors.Is(err, context.DeadlineExceeded):
				timeouts++
			case errors.As(err, new(*net.OpError)): // refused, no route: nobody said a word
				deaf = err
			default:
				said = err
			}
		}
		if timeouts == 0 {
			break
		}
	}
	if said != nil {
		r.heard()
		return ask.Addresses{}, said
	}
	silent := errSilent
	if deaf != nil {
		silent = fmt.Errorf("%w: %w", errSilent, deaf)
	}
	if r.servers.silent.Add(1) == silentTold {
		r.log.Warn("hostnames cannot be resolved; what is known of them stays", slog.String("why", silent.Error()), slog.Any("servers", list))
	}
	return ask.Addresses{}, silent
}

func (r *Resolver) heard() {
	if r.servers.silent.Swap(0) >= silentTold {
		r.log.Info("a server that resolves names answers again")
	}
}

func (r *Resolver) once(ctx context.Context, server, name string, v6 bool, patience time.Duration) (ask.Addresses, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	got, err := r.ask(ctx, server, name, v6)
	r.metrics.asked(got, err)
	return got, err
}
