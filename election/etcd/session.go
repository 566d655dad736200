package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/election"
)

var (
	errExpired  = errors.New("no keep-alive was answered for the lease's life")
	errRemoved  = errors.New("this director's key is gone from the queue")
	errResigned = errors.New("resigned")
)

// session holds one lease from grant to loss, and one place in the queue. It
// is not concurrency.Session: that one counts the lease's life from when an
// answer was *received*, and does not tell when it was.
func (c *Campaign) session(ctx context.Context) error {
	sent := time.Now()
	grant, err := c.grant(ctx)
	if err != nil {
		return fmt.Errorf("asking for a lease: %w", err)
	}
	s := &session{c: c, id: grant.ID, key: fmt.Sprintf("%s%x", c.o.Prefix, grant.ID)}
	expires := sent.Add(time.Duration(grant.TTL) * time.Second)
	c.renew(expires)
	defer s.revoke(ctx)

	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.keepAlive(gctx, expires) })
	g.Go(func() error { return s.queue(gctx) })
	g.Go(func() error { return s.resigned(gctx) })
	return g.Wait()
}

func (c *Campaign) grant(ctx context.Context) (*clientv3.LeaseGrantResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.TTL)
	defer cancel()
	return c.o.Client.Grant(ctx, int64(c.o.TTL/time.Second))
}

// session is one lease.
type session struct {
	c   *Campaign
	id  clientv3.LeaseID
	key string
}

// keepAlive renews the lease three times in its life, and ends the session
// when it was not answered for the whole of it.
func (s *session) keepAlive(ctx context.Context, expires time.Time) error {
	every := s.c.o.TTL / 3
	next := every
	for {
		sleep(ctx, min(next, time.Until(expires)))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		sent := time.Now()
		if !sent.Before(expires) {
			return errExpired
		}
		left := expires.Sub(sent)
		call, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), min(left, every))
		resp, err := s.c.o.Client.KeepAliveOnce(call, s.id)
		cancel()
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			return fmt.Errorf("keeping the lease alive: %w", err)
		case err != nil:
			next = retryFirst
		default:
			expires = sent.Add(time.Duration(resp.TTL) * time.Second)
			s.c.renew(expires)
			next = every
		}
	}
}

// queue puts the candidate's key and follows who is first: the oldest key
// leads. It looks again at every change below the prefix, and once a TTL in
// any case, so a lost event costs little.
func (s *session) queue(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return fmt.Errorf("joining the queue: %w", err)
	}
	for ctx.Err() == nil {
		rev, err := s.look(ctx)
		if errors.Is(err, errRemoved) {
			return err
		}
		if err != nil {
			// The lease decides how long what is known may be believed.
			sleep(ctx, retryFirst)
			continue
		}
		s.await(ctx, rev+1)
	}
	return ctx.Err()
}

func (s *session) enter(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), s.c.o.TTL)
	defer cancel()
	_, err := s.c.o.Client.Put(ctx, s.key, s.c.o.Name, clientv3.WithLease(s.id))
	return err
}

// look reads the queue, linearizably, and publishes who leads.
func (s *session) look(ctx context.Context) (revision int64, err error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), s.c.o.TTL)
	defer cancel()
	resp, err := s.c.o.Client.Get(ctx, s.c.o.Prefix, clientv3.WithPrefix(),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(maxCandidates))
	if err != nil {
		return 0, err
	}
	here := resp.More // beyond the limit nobody knows; the lease still ends us
	for _, kv := range resp.Kvs {
		here = here || string(kv.Key) == s.key
	}
	if !here {
		return 0, errRemoved
	}
	first := resp.Kvs[0]
	status := election.Status{Leader: string(first.Value)}
	if string(first.Key) == s.key {
		status.Mine = true
		status.Term = election.Term{Leader: s.c.o.Name, Key: s.key, CreateRevision: first.CreateRevision}
	}
	s.c.set(status)
	return resp.Header.Revision, nil
}

// maxCandidates bounds one reading of the queue.
const maxCandidates = 1000

// await returns at the first change below the prefix since a revision, at any
// trouble with the watch, or after a TTL.
func (s *session) await(ctx context.Context, revision int64) {
	ctx, cancel := context.WithTimeout(ctx, s.c.o.TTL)
	defer cancel()
	start := time.Now()
	resp, ok := <-s.c.o.Client.Watch(clientv3.WithRequireLeader(ctx), s.c.o.Prefix,
		clientv3.WithPrefix(), clientv3.WithRev(revision))
	if trouble := !ok || resp.Err() != nil; trouble && time.Since(start) < retryFirst {
		sleep(ctx, retryFirst)
	}
}

// resigned ends the session when the director stands aside.
func (s *session) resigned(ctx context.Context) error {
	for {
		if !s.c.mayStand() {
			return errResigned
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.c.kick:
		}
	}
}

// revoke gives the lease back, within a second and also when ctx has ended:
// the next leader need not wait for it to run out.
func (s *session) revoke(ctx context.Context) {
	s.c.set(election.Status{})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	// Nothing hangs on it: a lease that is not revoked runs out.
	_, _ = s.c.o.Client.Revoke(ctx, s.id)
}
