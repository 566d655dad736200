package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/divertdns/divert/director/plan"
)

// Inspection is what a look at every key of a store found.
type Inspection struct {
	Snapshot Snapshot
	PlanErr  error // why the plan cannot be read

	Blobs   int         // that the plan names
	Missing []plan.Hash // of those, not there …
	Damaged []plan.Hash // … or there, and not what their name says

	NoPolicy []plan.Hash // blobs of the policy that are not there, or damaged: without them people's commands are refused
	NoVault  []plan.Hash // likewise of the ciphertexts of secrets: without them no director gets those that it has not

	Audits     int
	Last       uint64      // the highest revision that has an audit record; 0: none
	Gaps       [][2]uint64 // revisions without one, both ends included, below Last and the plan's
	BadAudits  []uint64    // that cannot be read
	OtherAudit bool        // the record of the plan's revision is of another plan
	BadResults []string    // IDs of commands whose results cannot be read
	StrayVotes []string    // keys of the election without a lease: nobody gives them back
}

// Without is an inspection that knows that records of up to a revision were collected: they
// are no gaps.
func (in Inspection) Without(collected uint64) Inspection {
	var gaps [][2]uint64
	for _, g := range in.Gaps {
		if g[0] = max(g[0], collected+1); g[0] <= g[1] {
			gaps = append(gaps, g)
		}
	}
	in.Gaps = gaps
	return in
}

// maxListed bounds each list of an inspection.
const maxListed = 100

// Inspect looks at everything that the store holds.
func (s *Store) Inspect(ctx context.Context) (Inspection, error) {
	done := s.metrics.start("inspect")
	in, err := s.inspect(ctx)
	return in, done(err)
}

func (s *Store) inspect(ctx context.Context) (in Inspection, err error) {
	in.Snapshot, _, in.PlanErr = s.read(ctx)
	if in.PlanErr != nil && in.Snapshot.ModRevision == 0 {
		return in, in.PlanErr
	}
	if in.Snapshot.Sealed != nil {
		hashes, err := needed(in.Snapshot.Sealed.Plan)
		if err != nil {
			return in, err
		}
		in.Blobs = len(hashes)
		if err := s.inspectBeside(ctx, &in); err != nil {
			return in, err
		}
		for _, h := range unique(hashes) {
			kv, err := s.get(ctx, s.keys.blob(h))
			switch {
			case err != nil:
				return in, unavailable("reading a blob", err)
			case kv == nil:
				in.Missing = append(in.Missing, h)
			case plan.Sum(kv.Value) != h:
				in.Damaged = append(in.Damaged, h)
			}
		}
	}
	if err := s.inspectAudits(ctx, &in); err != nil {
		return in, err
	}
	if err := s.each(ctx, s.keys.prefix+"command/", func(kv *mvccpb.KeyValue) {
		if r, err := readResult(kv); (err != nil || r.GetId() != strings.TrimPrefix(string(kv.Key), s.keys.command(""))) && len(in.BadResults) < maxListed {
			in.BadResults = append(in.BadResults, strings.TrimPrefix(string(kv.Key), s.keys.command("")))
		}
	}); err != nil {
		return in, err
	}
	return in, s.each(ctx, s.keys.elections(), func(kv *mvccpb.KeyValue) {
		if kv.Lease == 0 && len(in.StrayVotes) < maxListed {
			in.StrayVotes = append(in.StrayVotes, string(kv.Key))
		}
	})
}

// inspectBeside looks at what answers do without: the bundle of the plan's policy, and the
// ciphertexts of secrets.
func (s *Store) inspectBeside(ctx context.Context, in *Inspection) (err error) {
	p := in.Snapshot.Sealed.Plan
	if in.NoPolicy, err = s.lost(ctx, p.GetPolicy().GetBundle()); err != nil {
		return err
	}
	in.NoVault, err = s.lost(ctx, p.GetVault())
	return err
}

// lost lists the blobs of a reference that are not there, or damaged.
func (s *Store) lost(ctx context.Context, ref *plan.SpecRef) (out []plan.Hash, err error) {
	if ref == nil {
		return nil, nil
	}
	hashes, err := references(ref)
	if err != nil {
		return nil, err
	}
	for _, h := range hashes {
		kv, err := s.get(ctx, s.keys.blob(h))
		if err != nil {
			return nil, unavailable("reading a blob", err)
		}
		if kv == nil || plan.Sum(kv.Value) != h {
			out = append(out, h)
		}
	}
	return out, nil
}

func (s *Store) inspectAudits(ctx context.Context, in *Inspection) error {
	gap := func(from, to uint64) {
		if from <= to && len(in.Gaps) < maxListed {
			in.Gaps = append(in.Gaps, [2]uint64{from, to})
		}
	}
	var top uint64
	var id plan.Identity
	if in.Snapshot.Sealed != nil {
		id = in.Snapshot.Sealed.Identity
		top = id.Revision
	}
	err := s.EachAudit(ctx, 0, func(revision uint64, raw []byte) error {
		gap(in.Last+1, revision-1)
		in.Audits, in.Last = in.Audits+1, revision
		if err := readable(revision, raw); err != nil {
			if len(in.BadAudits) < maxListed {
				in.BadAudits = append(in.BadAudits, revision)
			}
			return nil
		}
		if revision == top && !isOf(raw, id.Hash) {
			in.OtherAudit = true
		}
		return nil
	})
	if err == nil {
		gap(in.Last+1, top)
	}
	return err
}

// each goes through all keys below a prefix.
func (s *Store) each(ctx context.Context, prefix string, do func(*mvccpb.KeyValue)) error {
	for key := prefix; key != ""; {
		resp, err := again(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) {
			return s.client.Get(ctx, key, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithLimit(MaxAudit))
		})
		if err != nil {
			return unavailable("looking at what the store holds", err)
		}
		key = ""
		for _, kv := range resp.Kvs {
			do(kv)
			if resp.More {
				key = string(kv.Key) + "\x00"
			}
		}
	}
	return nil
}

// Mend puts right what needs no new plan: blobs that are missing or damaged, as far as
// they are at hand, and what cannot be read and only stands in the way. Each is fenced
// on being what was looked at, or harmless to write twice. It says what it did.
func (s *Store) Mend(ctx context.Context, in Inspection, chunks map[plan.Hash][]byte) (did []string, err error) {
	done := s.metrics.start("mend")
	n := 0
	for _, h := range slices.Concat(in.Missing, in.Damaged, in.NoPolicy, in.NoVault) {
		chunk, ok := chunks[h]
		if !ok {
			continue
		}
		kv, err := s.get(ctx, s.keys.blob(h))
		if err != nil {
			return did, done(unavailable("reading a blob", err))
		}
		mod := int64(0)
		if kv != nil {
			mod = kv.ModRevision
		}
		// Named by its content: whoever writes it writes the same.
		if _, err := s.txn(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(s.keys.blob(h)), "=", mod)}, []clientv3.Op{clientv3.OpPut(s.keys.blob(h), string(chunk))}); err != nil {
			return did, done(unavailable("writing a blob", err))
		}
		n++
	}
	if n > 0 {
		did = append(did, fmt.Sprintf("wrote %d pieces of the spec or the policy anew", n))
	}
	for _, id := range in.BadResults {
		if _, err := s.client.Delete(ctx, s.keys.command(id)); err != nil {
			return did, done(unavailable("removing a command's result", err))
		}
		did = append(did, "removed the result of command "+strconv.Quote(id)+", which could not be read")
	}
	for _, key := range in.StrayVotes {
		fence := clientv3.Compare(clientv3.LeaseValue(key), "=", 0)
		if _, err := s.txn(ctx, []clientv3.Cmp{fence}, []clientv3.Op{clientv3.OpDelete(key)}); err != nil {
			return did, done(unavailable("removing a candidate's key", err))
		}
		did = append(did, "removed the candidate's key "+strconv.Quote(key)+", which had no lease")
	}
	return did, done(nil)
}

// Replenish writes the blobs that the store lacks of those at hand, by their names
// alone. It gives how many it lacked.
func (s *Store) Replenish(ctx context.Context, chunks [][]byte) (lacked int, err error) {
	var ask []clientv3.Op
	for _, c := range chunks {
		ask = append(ask, clientv3.OpGet(s.keys.blob(plan.Sum(c)), clientv3.WithKeysOnly(), clientv3.WithCountOnly()))
	}
	if len(ask) == 0 {
		return 0, nil
	}
	have, err := s.txn(ctx, nil, ask)
	if err != nil {
		return 0, unavailable("looking for blobs", err)
	}
	for _, r := range have.Responses {
		if r.GetResponseRange().GetCount() == 0 {
			lacked++
		}
	}
	if lacked > 0 {
		err = s.ensure(ctx, chunks)
	}
	return lacked, err
}
