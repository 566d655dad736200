package store

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	watchFirst = 100 * time.Millisecond
	watchMost  = 2 * time.Second
)

// Watch wakes its reader when the plan may have changed, until ctx ends, and
// returns nil then. It is level-triggered: whoever is
// woken calls Read. It survives restarts, compaction, loss of etcd's leader
// and, once a Read has seen it, a swapped store. A broken watch can be silent
// for a while, so the reader also reads at intervals.
func (s *Store) Watch(ctx context.Context, reader chan<- struct{}) error {
	wait := watchFirst
	for ctx.Err() == nil {
		start := time.Now()
		s.watch(ctx, reader)
		s.metrics.watches.Inc()
		if time.Since(start) > watchMost {
			wait = watchFirst
		}
		pause(ctx, wait)
		wait = min(2*wait, watchMost)
	}
	return nil
}

// watch is one watch, to its end. The notice of its creation wakes the reader too:
// what changed before it is then read, and after it is seen.
func (s *Store) watch(ctx context.Context, reader chan<- struct{}) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	plans := s.client.Watch(ctx, s.keys.plan(), clientv3.WithCreatedNotify())
	for {
		select {
		case resp, ok := <-plans:
			if !ok || resp.Err() != nil {
				return
			}
		case <-s.resync:
			return
		}
		wake(reader)
	}
}
