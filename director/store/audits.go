package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/election"
)

// AuditHead is what the store has of the sealed audit log: its head, signed by several
// directors, under which older records are collected. Nobody vouches for it but the
// signatures; what it says is for its reader to check.
type AuditHead struct {
	Raw       []byte // as signed; nil: there is none
	Collected uint64 // records of up to this revision may be gone; never above the head's
	Mod       int64  // the key's mod-revision; 0: there is no key
}

type storedAuditHead struct {
	Collected uint64 `json:"collected"`
	Head      string `json:"head"`
}

const (
	// CollectAudit bounds how many records one call of CollectAudits looks at, and deletes.
	CollectAudit = 64
	// auditPage is how many revisions one answer of ChangedAudits covers.
	auditPage = 1000
)

// ErrAuditHead says that the store's head of the audit log cannot be read.
var ErrAuditHead = errors.New("the audit log's head in the store cannot be read: it was damaged or edited")

// AuditHead reads it. With ErrAuditHead Mod says what is there.
func (s *Store) AuditHead(ctx context.Context) (AuditHead, error) {
	kv, err := s.get(ctx, s.keys.auditHead())
	if err != nil {
		return AuditHead{}, unavailable("reading the audit log's head", err)
	}
	if kv == nil {
		return AuditHead{}, nil
	}
	h, err := decodeAuditHead(kv.Value)
	h.Mod = kv.ModRevision
	return h, err
}

func decodeAuditHead(raw []byte) (AuditHead, error) {
	var in storedAuditHead
	if len(raw) > 2*audit.MaxHead || json.Unmarshal(raw, &in) != nil || in.Head == "" {
		return AuditHead{}, ErrAuditHead
	}
	return AuditHead{Raw: []byte(in.Head), Collected: in.Collected}, nil
}

// KeepAuditHead writes a head over the one that was read, fenced on the leader's term and
// on the plan as it stands. It gives what it wrote.
func (s *Store) KeepAuditHead(ctx context.Context, read, next AuditHead, term election.Term) (AuditHead, error) {
	done := s.metrics.start("audit_head")
	fence, err := s.auditFence(ctx, term)
	if err != nil {
		return read, done(err)
	}
	raw, err := json.Marshal(storedAuditHead{Collected: next.Collected, Head: string(next.Raw)})
	if err != nil {
		return read, done(fmt.Errorf("encoding the audit log's head: %w", err))
	}
	key := s.keys.auditHead()
	s.reached(BeforeAuditHead)
	resp, err := s.client.Txn(clientv3.WithRequireLeader(ctx)).
		If(append(fence, clientv3.Compare(clientv3.ModRevision(key), "=", read.Mod))...).
		Then(clientv3.OpPut(key, string(raw))).Commit()
	s.reached(AfterAuditHead)
	switch {
	case err != nil:
		return read, done(unavailable("writing the audit log's head", err)) // it may be written: it is read again
	case !resp.Succeeded:
		return read, done(ErrConflict)
	}
	next.Mod = resp.Header.Revision
	return next, done(nil)
}

// auditFence is what a write of the leader to the audit log is fenced on.
func (s *Store) auditFence(ctx context.Context, term election.Term) ([]clientv3.Cmp, error) {
	if term.Key == "" || term.CreateRevision <= 0 {
		return nil, ErrNotLeader
	}
	snap, err := s.Read(ctx)
	if err != nil {
		return nil, err
	}
	if snap.Sealed == nil {
		return nil, ErrConflict // not ours to clean: the store may have been swapped
	}
	return collecting(s.keys, snap.ModRevision, term), nil
}

// CollectAudits deletes records that are sealed, of the revisions from..to, which the head
// that was read covers: at most CollectAudit of them, each as sealed says that it is, and
// fenced on the leader's term, the plan as it stands, the head, and each record as it was
// read. One that is another than the sealed one stays. Next is where to go on; 0: nowhere.
func (s *Store) CollectAudits(ctx context.Context, head AuditHead, from, to uint64, sealed func(revision uint64, raw []byte) bool, term election.Term) (removed int, next uint64, err error) {
	done := s.metrics.start("audit_collect")
	if to > head.Collected || head.Mod == 0 {
		return 0, 0, done(fmt.Errorf("collecting audit records up to revision %d under a head that has it up to %d: %w", to, head.Collected, ErrConflict))
	}
	fence, err := s.auditFence(ctx, term)
	if err != nil {
		return 0, 0, done(err)
	}
	resp, err := again(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return s.client.Get(ctx, s.keys.audit(from), clientv3.WithRange(s.keys.audit(to+1)), clientv3.WithLimit(CollectAudit), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
	})
	if err != nil {
		return 0, 0, done(unavailable("reading the audit log", err))
	}
	fence = append(fence, clientv3.Compare(clientv3.ModRevision(s.keys.auditHead()), "=", head.Mod))
	var deletions []clientv3.Op
	for _, kv := range resp.Kvs {
		revision, ok := s.auditRevision(kv.Key)
		if !ok || !sealed(revision, kv.Value) {
			continue
		}
		fence = append(fence, clientv3.Compare(clientv3.ModRevision(string(kv.Key)), "=", kv.ModRevision))
		deletions = append(deletions, clientv3.OpDelete(string(kv.Key)))
	}
	if len(resp.Kvs) == CollectAudit {
		if last, ok := s.auditRevision(resp.Kvs[len(resp.Kvs)-1].Key); ok {
			next = last + 1
		}
	}
	if len(deletions) == 0 {
		return 0, next, done(nil)
	}
	s.reached(BeforeAuditDelete)
	deleted, err := s.client.Txn(clientv3.WithRequireLeader(ctx)).If(fence...).Then(deletions...).Commit()
	s.reached(AfterAuditDelete)
	switch {
	case err != nil:
		return 0, from, done(unavailable("collecting audit records", err))
	case !deleted.Succeeded:
		return 0, from, done(ErrConflict)
	}
	return len(deletions), next, done(nil)
}

func (s *Store) auditRevision(key []byte) (uint64, bool) {
	n, err := strconv.ParseUint(strings.TrimPrefix(string(key), s.keys.audits()), 10, 64)
	return n, err == nil
}

// CountAudits says how many records the store has of up to a revision.
func (s *Store) CountAudits(ctx context.Context, to uint64) (int64, error) {
	resp, err := again(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return s.client.Get(ctx, s.keys.audits(), clientv3.WithRange(s.keys.audit(to+1)), clientv3.WithCountOnly())
	})
	if err != nil {
		return 0, unavailable("counting audit records", err)
	}
	return resp.Count, nil
}

// ChangedAudits gives the records from a revision on that were written since the store's
// revision since, of one page: next is where the next one begins, 0: this was the last one.
// At is the store's revision of the reading.
func (s *Store) ChangedAudits(ctx context.Context, from uint64, since int64, each func(revision uint64, raw []byte)) (next uint64, at int64, err error) {
	first, err := again(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return s.client.Get(ctx, s.keys.audit(from), clientv3.WithRange(clientv3.GetPrefixRangeEnd(s.keys.audits())), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	})
	if err != nil {
		return from, 0, unavailable("reading the audit log", err)
	}
	if len(first.Kvs) == 0 {
		return 0, first.Header.Revision, nil
	}
	begin, ok := s.auditRevision(first.Kvs[0].Key)
	if !ok {
		return 0, first.Header.Revision, nil // not of our making
	}
	resp, err := again(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return s.client.Get(ctx, s.keys.audit(begin), clientv3.WithRange(s.keys.audit(begin+auditPage)), clientv3.WithMinModRev(since+1))
	})
	if err != nil {
		return from, 0, unavailable("reading the audit log", err)
	}
	for _, kv := range resp.Kvs {
		if revision, ok := s.auditRevision(kv.Key); ok {
			each(revision, kv.Value)
		}
	}
	return begin + auditPage, min(first.Header.Revision, resp.Header.Revision), nil
}
