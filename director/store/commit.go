package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/election"
)

const (
	// commitPatience bounds a commit whose outcome is open: it is repeated,
	// which is safe, until an answer says how it stands.
	commitPatience = 6 * time.Second
	// unsentPatience bounds a commit that never left: a person who drains
	// while etcd is gone wants a quick, clear refusal (F10).
	unsentPatience = 1500 * time.Millisecond
	commitRetry    = 50 * time.Millisecond
)

// Commit is one change of intent, decided on the plan that was read.
type Commit struct {
	Parent int64          // Snapshot.ModRevision as read; 0: there was no plan
	Next   *plan.Sealed   // the plan that replaces it
	Chunks [][]byte       // blobs of its spec that the store may lack
	Held   bool           // the plan that was read names the same blobs: only if one is gone all the same are they written
	Policy [][]byte       // blobs of a policy that this plan is the first to name: compared too, until then nothing keeps them
	Audit  *plan.Audit    // revision, plan and command are filled in
	Result *plan.Result   // ID and command are the caller's; epoch, revision and plan are filled in
	Leader *election.Term // the leader's own writes: the fence; nil for a person's command
	// Read is the store's revision that the plan was read at: no interlock has changed
	// since (S4). 0: there was no plan to read.
	Read int64
	// Interlocks are the keys below interlock/ that change with this plan; nil values go.
	Interlocks map[string][]byte
}

// Commit writes a plan, its audit record and its command's result in one
// transaction, fenced as S4 says: the plan's key has the mod-revision that was
// read, the ID is new, the audit record is new, the leader still leads where
// the write is the leader's own, no key of an interlock has changed since the read,
// and every blob that the plan names is there, so that collection can never take
// one from under it.
//
// The errors say what is known: ErrConflict, ErrNotLeader, ErrUnavailable,
// ErrReused, ErrTooLarge and *Missing wrote nothing; ErrDone comes with the
// result of the earlier commit of that ID; *UnknownOutcome says that it cannot
// be known.
func (s *Store) Commit(ctx context.Context, c Commit) (*plan.Result, error) {
	done := s.metrics.start("commit")
	tx, err := prepare(c)
	if err != nil {
		return nil, done(err)
	}
	if !c.Held {
		if err := s.ensure(ctx, c.Chunks); err != nil {
			return nil, done(fmt.Errorf("writing the spec's blobs: %w", err))
		}
	}
	if err := s.ensure(ctx, c.Policy); err != nil {
		return nil, done(fmt.Errorf("writing the policy's blobs: %w", err))
	}
	r, err := s.settle(ctx, tx)
	return r, done(err)
}

// transaction is a commit, ready to be sent as often as it takes.
type transaction struct {
	Commit
	result *plan.Result
	audit  []byte
	stored []byte // result, marshalled
	blobs  []plan.Hash
}

func prepare(c Commit) (*transaction, error) {
	switch {
	case c.Next == nil || c.Audit == nil || c.Result == nil:
		return nil, errors.New("commit: plan, audit record and result are wanted")
	case len(c.Next.Raw) > MaxPlan:
		return nil, fmt.Errorf("plan of %d octets, at most %d: %w", len(c.Next.Raw), MaxPlan, ErrTooLarge)
	case c.Leader != nil && (c.Leader.Key == "" || c.Leader.CreateRevision <= 0):
		return nil, fmt.Errorf("commit: %w", ErrNotLeader)
	}
	if err := checkName("command ID", c.Result.GetId()); err != nil {
		return nil, err
	}
	if len(c.Interlocks) > MaxInterlockKeys {
		return nil, fmt.Errorf("%d keys of interlocks, at most %d at once: %w", len(c.Interlocks), MaxInterlockKeys, ErrTooLarge)
	}
	for name := range c.Interlocks {
		if err := checkName("interlock", name); err != nil {
			return nil, err
		}
	}
	blobs, err := needed(c.Next.Plan)
	if err != nil {
		return nil, err
	}
	for _, b := range c.Policy {
		blobs = append(blobs, plan.Sum(b))
	}
	tx := &transaction{Commit: c, blobs: unique(blobs)}
	id := c.Next.Identity
	tx.result = proto.CloneOf(c.Result)
	tx.result.Epoch, tx.result.Revision, tx.result.Plan = id.Epoch, id.Revision, id.Hash[:]
	audit := proto.CloneOf(c.Audit)
	audit.Revision, audit.Plan, audit.Command = id.Revision, id.Hash[:], c.Result.GetId()
	audit.Epoch, audit.Parent = id.Epoch, c.Next.Plan.GetParent()
	if tx.stored, err = proto.Marshal(tx.result); err != nil {
		return nil, fmt.Errorf("encoding the result: %w", err)
	}
	if tx.audit, err = proto.Marshal(audit); err != nil {
		return nil, fmt.Errorf("encoding the audit record: %w", err)
	}
	return tx, nil
}

// settle sends a transaction until its outcome is known, or time is up.
// Sending it again is always safe: if an earlier attempt was done, or is done
// later, then either it or this one fails on the plan's mod-revision, and the
// command's own record tells which.
func (s *Store) settle(ctx context.Context, tx *transaction) (*plan.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, commitPatience)
	defer cancel()
	start := time.Now()
	open := false // an attempt left, and nobody knows what became of it
	for {
		resp, sent, err := s.attempt(ctx, tx)
		var r *plan.Result
		switch {
		case err == nil && resp.Succeeded:
			return tx.result, nil
		case err == nil:
			r, err = tx.judge(resp)
			switch missing := (*Missing)(nil); {
			case errors.Is(err, ErrDone) && open && bytes.Equal(r.GetPlan(), tx.result.GetPlan()):
				return r, nil // it was our own attempt
			case errors.As(err, &missing) && tx.brings(missing):
				// Collected between ensure and now, or lost.
				if err = errors.Join(s.ensure(ctx, tx.Chunks), s.ensure(ctx, tx.Policy)); err == nil {
					continue
				}
			default:
				return r, err
			}
		case errors.Is(err, rpctypes.ErrNoSpace):
			// Said before the write, or after it: etcd applies the write that
			// passes the quota. It has answered, so a read tells which.
			r, rerr := s.Result(ctx, tx.result.GetId())
			switch {
			case rerr == nil && r != nil && bytes.Equal(r.GetPlan(), tx.result.GetPlan()):
				return r, nil
			case rerr == nil && !open:
				return nil, unavailable("committing (free space in etcd, then disarm its alarm)", err)
			}
			open = true
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			s.dropLease() // another store, or a lease that was revoked
		case refused(err):
			if !open && final(err) {
				return nil, unavailable("committing", err)
			}
		case sent:
			open = true
		}
		pause(ctx, commitRetry)
		switch over := ctx.Err() != nil; {
		case over && open:
			return nil, &UnknownOutcome{ID: tx.result.GetId(), Err: err}
		case over, !open && time.Since(start) > unsentPatience:
			return nil, unavailable("committing", err)
		}
	}
}

// attempt sends the transaction once; sent tells whether it left.
func (s *Store) attempt(ctx context.Context, tx *transaction) (resp *clientv3.TxnResponse, sent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	lease, err := s.commandLease(ctx)
	if err != nil {
		return nil, false, err
	}
	s.reached(BeforeCommit)
	ctx, left := watchSent(clientv3.WithRequireLeader(ctx), s.at)
	resp, err = s.client.Txn(ctx).If(tx.compares(s.keys)...).Then(tx.writes(s.keys, lease)...).Else(tx.questions(s.keys)...).Commit()
	s.reached(Answered)
	return resp, left.sent.Load(), err
}

// MaxInterlockKeys keeps what is written below etcd's 128 operations a transaction.
const MaxInterlockKeys = 124

// writes are the plan, its audit record, its command's result and the keys of
// interlocks: all or none.
func (tx *transaction) writes(k keys, lease clientv3.LeaseID) []clientv3.Op {
	out := []clientv3.Op{
		clientv3.OpPut(k.plan(), string(tx.Next.Raw)),
		clientv3.OpPut(k.audit(tx.result.GetRevision()), string(tx.audit)),
		clientv3.OpPut(k.command(tx.result.GetId()), string(tx.stored), clientv3.WithLease(lease)),
	}
	for name, value := range tx.Interlocks {
		if value == nil {
			out = append(out, clientv3.OpDelete(k.interlocks()+name))
		} else {
			out = append(out, clientv3.OpPut(k.interlocks()+name, string(value)))
		}
	}
	return out
}

func (tx *transaction) compares(k keys) []clientv3.Cmp {
	out := []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(k.plan()), "=", tx.Parent),
		clientv3.Compare(clientv3.CreateRevision(k.command(tx.result.GetId())), "=", 0),
		clientv3.Compare(clientv3.CreateRevision(k.audit(tx.result.GetRevision())), "=", 0),
	}
	if tx.Leader != nil {
		out = append(out, clientv3.Compare(clientv3.CreateRevision(tx.Leader.Key), "=", tx.Leader.CreateRevision))
	}
	for _, h := range tx.blobs {
		out = append(out, clientv3.Compare(clientv3.CreateRevision(k.blob(h)), ">", 0))
	}
	if tx.Read > 0 {
		// All of them at once, used or not: they change with a plan, so that this fails
		// where the first compare does, or where somebody has written beside the plan.
		out = append(out, clientv3.Compare(clientv3.ModRevision(k.interlocks()), "<", tx.Read+1).WithPrefix())
	}
	return out
}

// questions ask, in the same transaction, which of the compares failed.
func (tx *transaction) questions(k keys) []clientv3.Op {
	out := []clientv3.Op{
		clientv3.OpGet(k.plan(), clientv3.WithKeysOnly()),
		clientv3.OpGet(k.command(tx.result.GetId())),
		clientv3.OpGet(k.audit(tx.result.GetRevision()), clientv3.WithKeysOnly()),
	}
	for _, h := range tx.blobs {
		out = append(out, clientv3.OpGet(k.blob(h), clientv3.WithKeysOnly()))
	}
	out = append(out, clientv3.OpGet(k.interlocks(), clientv3.WithPrefix(), clientv3.WithKeysOnly()))
	if tx.Leader != nil {
		out = append(out, clientv3.OpGet(tx.Leader.Key, clientv3.WithKeysOnly()))
	}
	return out
}

// judge reads the answers to questions. What is settled for good comes first.
func (tx *transaction) judge(resp *clientv3.TxnResponse) (*plan.Result, error) {
	answer := resp.Responses
	if kvs := answer[1].GetResponseRange().GetKvs(); len(kvs) > 0 {
		held, err := readResult(kvs[0])
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(held.GetCommand(), tx.result.GetCommand()) {
			return nil, fmt.Errorf("command %s: %w", held.GetId(), ErrReused)
		}
		return held, fmt.Errorf("command %s: %w", held.GetId(), ErrDone)
	}
	if tx.Leader != nil {
		kvs := answer[len(answer)-1].GetResponseRange().GetKvs()
		if len(kvs) == 0 || kvs[0].CreateRevision != tx.Leader.CreateRevision {
			return nil, ErrNotLeader
		}
	}
	var mod int64
	if kvs := answer[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		mod = kvs[0].ModRevision
	}
	if mod != tx.Parent {
		return nil, ErrConflict
	}
	if len(answer[2].GetResponseRange().GetKvs()) > 0 {
		return nil, fmt.Errorf("the audit log already has a record of revision %d, which the store's plan has not reached: run `divert store recover`", tx.result.GetRevision())
	}
	for _, kv := range answer[3+len(tx.blobs)].GetResponseRange().GetKvs() {
		if tx.Read > 0 && kv.ModRevision > tx.Read {
			return nil, fmt.Errorf("%s has changed: %w", kv.Key, ErrConflict)
		}
	}
	missing := &Missing{}
	for i, h := range tx.blobs {
		if len(answer[3+i].GetResponseRange().GetKvs()) == 0 {
			missing.Hashes = append(missing.Hashes, h)
		}
	}
	if len(missing.Hashes) == 0 {
		return nil, errors.New("the store refused a transaction without a reason")
	}
	return nil, missing
}

// brings tells whether the commit's own chunks are all that the store lacks.
func (tx *transaction) brings(m *Missing) bool {
	have := map[plan.Hash]bool{}
	for _, c := range slices.Concat(tx.Chunks, tx.Policy) {
		have[plan.Sum(c)] = true
	}
	for _, h := range m.Hashes {
		if !have[h] {
			return false
		}
	}
	return true
}

// refused tells which errors etcd gives before it proposes a write.
func refused(err error) bool {
	return errors.Is(err, rpctypes.ErrNoLeader) || errors.Is(err, rpctypes.ErrTooManyRequests) || final(err)
}

// final tells which of them no patience cures.
func final(err error) bool {
	for _, e := range []error{
		rpctypes.ErrRequestTooLarge, rpctypes.ErrTooManyOps, rpctypes.ErrPermissionDenied,
		rpctypes.ErrUserEmpty, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthFailed,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// needed lists the blobs without which a plan cannot be answered from. What revert would
// go back to is not among them: it is kept while it is there.
func needed(p *plan.Plan) ([]plan.Hash, error) {
	var out []plan.Hash
	for _, ref := range p.Specs() {
		blobs, err := references(ref)
		if err != nil {
			return nil, err
		}
		out = append(out, blobs...)
	}
	if out = unique(out); len(out) > MaxChunks {
		return nil, fmt.Errorf("the spec and the one of its rollout have %d blobs, at most %d together: %w", len(out), MaxChunks, ErrTooLarge)
	}
	return out, nil
}

func unique(in []plan.Hash) []plan.Hash {
	seen := make(map[plan.Hash]bool, len(in))
	out := in[:0]
	for _, h := range in {
		if !seen[h] {
			seen[h] = true
			out = append(out, h)
		}
	}
	return out
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
