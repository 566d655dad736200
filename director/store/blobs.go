package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/election"
)

// ensure writes the blobs that the store lacks. They are named by content, so
// writing one twice, or one that no plan will ever name, does no harm.
func (s *Store) ensure(ctx context.Context, chunks [][]byte) error {
	if len(chunks) == 0 {
		return nil
	}
	if len(chunks) > MaxChunks {
		return fmt.Errorf("%d blobs, at most %d: %w", len(chunks), MaxChunks, ErrTooLarge)
	}
	var ask []clientv3.Op
	for i, c := range chunks {
		if len(c) > MaxChunk {
			return fmt.Errorf("blob %d of %d octets, at most %d: %w", i, len(c), MaxChunk, ErrTooLarge)
		}
		ask = append(ask, clientv3.OpGet(s.keys.blob(plan.Sum(c)), clientv3.WithKeysOnly()))
	}
	s.reached(BeforeBlobs)
	defer s.reached(AfterBlobs)
	have, err := s.txn(ctx, nil, ask)
	if err != nil {
		return unavailable("looking for blobs", err)
	}
	for i, c := range chunks {
		if len(have.Responses[i].GetResponseRange().GetKvs()) > 0 {
			continue
		}
		s.reached(BeforeBlob)
		key := s.keys.blob(plan.Sum(c))
		absent := clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
		if _, err := s.txn(ctx, []clientv3.Cmp{absent}, []clientv3.Op{clientv3.OpPut(key, string(c))}); err != nil {
			return unavailable("writing a blob", err)
		}
	}
	return nil
}

const (
	// A batch stays below etcd's 128 operations; a page bounds an answer.
	collectBatch, collectPage = 100, 1000
)

// Collect deletes the blobs that neither keep nor the plan in the store names:
// by reference, never by age (S3). Each deletion is fenced on the leader's
// term and on the plan's mod-revision; a plan that is committed meanwhile
// compares that its own blobs exist, so neither order can leave one missing.
func (s *Store) Collect(ctx context.Context, keep map[plan.Hash]bool, term election.Term) error {
	done := s.metrics.start("collect")
	if term.Key == "" || term.CreateRevision <= 0 {
		return done(ErrNotLeader)
	}
	snap, err := s.Read(ctx)
	if err != nil {
		return done(fmt.Errorf("collecting blobs: %w", err))
	}
	if snap.Sealed == nil {
		return done(nil) // not ours to clean: the store may have been swapped
	}
	used, err := inUse(keep, snap.Sealed)
	if err != nil {
		return done(fmt.Errorf("collecting blobs: %w", err))
	}
	var unused []string
	for from := s.keys.blobs(); from != ""; {
		if from, err = s.page(ctx, from, used, &unused); err != nil {
			return done(unavailable("listing blobs", err))
		}
	}
	return done(s.remove(ctx, unused, snap.ModRevision, term))
}

// inUse names the blobs that stay: those to be kept, and those of the plan that was
// read.
func inUse(keep map[plan.Hash]bool, read *plan.Sealed) (map[string]bool, error) {
	used := make(map[string]bool, len(keep))
	for _, ref := range read.Plan.Kept() { // what revert goes back to, too
		named, err := references(ref)
		if err != nil {
			return nil, err
		}
		for _, h := range named {
			used[h.String()] = true
		}
	}
	for h, k := range keep {
		used[h.String()] = used[h.String()] || k
	}
	return used, nil
}

// collecting is the fence of a deletion.
func collecting(k keys, parent int64, term election.Term) []clientv3.Cmp {
	return []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(term.Key), "=", term.CreateRevision),
		clientv3.Compare(clientv3.ModRevision(k.plan()), "=", parent),
	}
}

// page lists blobs from a key on, and adds the unused; it gives the key to go
// on from, "" at the end.
func (s *Store) page(ctx context.Context, from string, used map[string]bool, unused *[]string) (next string, err error) {
	resp, err := again(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return s.client.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(s.keys.blobs())),
			clientv3.WithKeysOnly(), clientv3.WithLimit(collectPage))
	})
	if err != nil {
		return "", err
	}
	for _, kv := range resp.Kvs {
		if key := string(kv.Key); !used[strings.TrimPrefix(key, s.keys.blobs())] {
			*unused = append(*unused, key)
		}
	}
	if !resp.More || len(resp.Kvs) == 0 {
		return "", nil
	}
	return string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00", nil
}

func (s *Store) remove(ctx context.Context, unused []string, parent int64, term election.Term) error {
	fence := collecting(s.keys, parent, term)
	for len(unused) > 0 {
		n := min(len(unused), collectBatch)
		ops := make([]clientv3.Op, 0, n)
		for _, key := range unused[:n] {
			ops = append(ops, clientv3.OpDelete(key))
		}
		s.reached(BeforeDelete)
		ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), readPatience)
		resp, err := s.client.Txn(ctx).If(fence...).Then(ops...).
			Else(clientv3.OpGet(term.Key, clientv3.WithKeysOnly())).Commit()
		cancel()
		switch {
		case err != nil:
			return fmt.Errorf("collecting blobs: %w", err) // some may be gone, none that is used
		case resp.Succeeded:
		default:
			kvs := resp.Responses[0].GetResponseRange().GetKvs()
			if len(kvs) == 0 || kvs[0].CreateRevision != term.CreateRevision {
				return ErrNotLeader
			}
			return ErrConflict
		}
		unused = unused[n:]
	}
	return nil
}

// Command results are kept for a day. A lease does that by etcd's own clock,
// whatever the directors' clocks say (F15) and without a leader. One lease
// serves an hour of commands, so a director holds at most 25 of them.
const (
	resultLife  = 24 * time.Hour
	bucketReuse = time.Hour
)

// bucket is the lease in use.
type bucket struct {
	id    clientv3.LeaseID
	until time.Time // no new command after this
}

func (s *Store) commandLease(ctx context.Context) (clientv3.LeaseID, error) {
	now := time.Now()
	s.mu.Lock()
	b := s.lease
	s.mu.Unlock()
	if b.id != clientv3.NoLease && now.Before(b.until) {
		return b.id, nil
	}
	grant, err := s.client.Grant(ctx, int64((resultLife+bucketReuse)/time.Second))
	if err != nil {
		return clientv3.NoLease, fmt.Errorf("lease for the command's result: %w", err)
	}
	if grant.ID == clientv3.NoLease {
		return clientv3.NoLease, errors.New("lease for the command's result: etcd gave none")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease = bucket{id: grant.ID, until: now.Add(bucketReuse)}
	return grant.ID, nil
}

func (s *Store) dropLease() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease = bucket{}
}
