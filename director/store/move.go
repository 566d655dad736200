package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
)

// kindMoved is the kind of envelope that stands in the plan's place in a store that was
// left for another.
const kindMoved = "moved"

// Moved says that a store was left for another: nothing may be written to it.
type Moved struct {
	To   []string  `json:"to"` // endpoints
	At   time.Time `json:"at"`
	Plan []byte    `json:"plan"` // the last one here, as sealed
}

func (m *Moved) Error() string {
	return fmt.Sprintf("the store was moved to %s at %s", strings.Join(m.To, ", "), m.At.UTC().Format(time.RFC3339))
}

// movedTo reads the note that a move leaves; nil: it is something else.
func movedTo(raw []byte) *Moved {
	env, m := &plan.Envelope{}, &Moved{}
	if proto.Unmarshal(raw, env) != nil || env.GetKind() != kindMoved || json.Unmarshal(env.GetPayload(), m) != nil {
		return nil
	}
	return m
}

// moveRounds bounds how often a move reads the plan anew because a command came
// between.
const moveRounds = 100

// MoveTo copies all that the fleet keeps here into another store, and leaves this one.
// Nothing is lost, and at no instant do both take commands: first everything but the
// plan is copied; then a note of where it went takes the plan's place here, if that is
// still the plan that was read; then what has come since is copied; and last the very
// same plan, identity and all, is written there. Whatever interrupts it, the same again
// goes on: the note holds the plan.
func (s *Store) MoveTo(ctx context.Context, to *Store, where []string, now time.Time) (plan.Identity, error) {
	done := s.metrics.start("move")
	id, err := s.moveTo(ctx, to, where, now)
	return id, done(err)
}

func (s *Store) moveTo(ctx context.Context, to *Store, where []string, now time.Time) (plan.Identity, error) {
	snap, left, err := s.leaving(ctx, where)
	if err != nil {
		return plan.Identity{}, err
	}
	if err := to.takes(ctx, s, snap); err != nil {
		return plan.Identity{}, err
	}
	c := copied{blobs: map[string]bool{}}
	if err := s.copyTo(ctx, to, &c); err != nil {
		return plan.Identity{}, err
	}
	for round := 0; !left; round++ {
		if round == moveRounds {
			return plan.Identity{}, fmt.Errorf("moving the store: %w again and again", ErrConflict)
		}
		if left, err = s.leave(ctx, snap, Moved{To: where, At: now, Plan: snap.Sealed.Raw}); err != nil {
			return plan.Identity{}, err
		}
		if !left { // a command came between, or this is our own note
			if snap, left, err = s.leaving(ctx, where); err != nil {
				return plan.Identity{}, err
			}
		}
	}
	if err := s.copyTo(ctx, to, &c); err != nil {
		return plan.Identity{}, err
	}
	return snap.Sealed.Identity, to.settleIn(ctx, snap.Sealed)
}

// leaving reads the plan that is to be moved; left tells that it was left already, for
// the same place.
func (s *Store) leaving(ctx context.Context, where []string) (snap Snapshot, left bool, err error) {
	snap, err = s.Read(ctx)
	var moved *Moved
	switch {
	case errors.As(err, &moved) && !slices.Equal(moved.To, where):
		return snap, false, fmt.Errorf("%w, not to %s", moved, strings.Join(where, ", "))
	case errors.As(err, &moved):
		if snap.Sealed, err = plan.Open(moved.Plan); err != nil {
			return snap, false, fmt.Errorf("the note of where the store went: %w", err)
		}
		return snap, true, nil
	case err == nil && snap.Sealed == nil:
		err = errors.New("this store holds no plan: there is nothing to move")
	}
	return snap, false, err
}

// copied is what need not be copied again.
type copied struct {
	audits uint64          // up to this revision
	blobs  map[string]bool // which never change
}

// takes refuses a store that is the same one, or somebody's.
func (s *Store) takes(ctx context.Context, from *Store, snap Snapshot) error {
	mine, err := s.Read(ctx)
	switch {
	case err != nil && mine.ModRevision == 0:
		return fmt.Errorf("the new store: %w", err)
	case mine.Cluster == snap.Cluster && s.keys == from.keys:
		return errors.New("the new store is the one in use")
	case err != nil:
		return fmt.Errorf("the new store is not empty: %w", err)
	case mine.Sealed != nil && mine.Sealed.Identity != snap.Sealed.Identity:
		id := mine.Sealed.Identity
		return fmt.Errorf("the new store is not empty: it holds plan %d.%d of fleet %s", id.Epoch, id.Revision, id.Fleet)
	}
	return nil
}

// copyTo copies every key but the plan and the election's.
func (s *Store) copyTo(ctx context.Context, to *Store, c *copied) error {
	err := s.EachAudit(ctx, c.audits+1, func(revision uint64, raw []byte) error {
		kv, err := to.get(ctx, to.keys.audit(revision))
		switch {
		case err != nil:
			return unavailable("the new store", err)
		case kv != nil && !bytes.Equal(kv.Value, raw):
			return fmt.Errorf("the new store is not empty: its audit log has another record of revision %d", revision)
		case kv == nil:
			err = to.put(ctx, to.keys.audit(revision), raw, clientv3.NoLease)
		}
		c.audits = revision
		return err
	})
	if err != nil {
		return err
	}
	leases := map[int64]clientv3.LeaseID{}
	var wrong error
	err = s.each(ctx, s.keys.prefix, func(kv *mvccpb.KeyValue) {
		key := string(kv.Key)
		if wrong != nil || key == s.keys.plan() || strings.HasPrefix(key, s.keys.audits()) || strings.HasPrefix(key, s.keys.elections()) || c.blobs[key] {
			return
		}
		lease, err := s.leaseFor(ctx, to, kv.Lease, leases)
		if err == nil {
			err = to.put(ctx, to.keys.prefix+strings.TrimPrefix(key, s.keys.prefix), kv.Value, lease)
		}
		c.blobs[key] = strings.HasPrefix(key, s.keys.blobs())
		wrong = err
	})
	return errors.Join(err, wrong)
}

// leaseFor makes a lease there with the time that one here has left.
func (s *Store) leaseFor(ctx context.Context, to *Store, id int64, made map[int64]clientv3.LeaseID) (clientv3.LeaseID, error) {
	if id == 0 {
		return clientv3.NoLease, nil
	}
	if lease, ok := made[id]; ok {
		return lease, nil
	}
	left, err := s.client.TimeToLive(ctx, clientv3.LeaseID(id))
	if err != nil {
		return clientv3.NoLease, unavailable("asking for a lease", err)
	}
	grant, err := to.client.Grant(ctx, max(left.TTL, 60))
	if err != nil {
		return clientv3.NoLease, unavailable("the new store: making a lease", err)
	}
	made[id] = grant.ID
	return grant.ID, nil
}

func (s *Store) put(ctx context.Context, key string, value []byte, lease clientv3.LeaseID) error {
	if _, err := s.txn(ctx, nil, []clientv3.Op{clientv3.OpPut(key, string(value), clientv3.WithLease(lease))}); err != nil {
		return unavailable("writing to the new store", err)
	}
	return nil
}

// leave puts a note in the plan's place, if that is still what was read.
func (s *Store) leave(ctx context.Context, snap Snapshot, m Moved) (left bool, err error) {
	payload, err := json.Marshal(m)
	if err != nil {
		return false, fmt.Errorf("leaving the store: %w", err)
	}
	note, err := proto.Marshal(&plan.Envelope{Format: plan.Format, Kind: kindMoved, Fleet: snap.Sealed.Identity.Fleet, Payload: payload})
	if err != nil {
		return false, fmt.Errorf("leaving the store: %w", err)
	}
	resp, err := s.txn(ctx,
		[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(s.keys.plan()), "=", snap.ModRevision)},
		[]clientv3.Op{clientv3.OpPut(s.keys.plan(), string(note))})
	if err != nil {
		return false, unavailable("leaving the store", err)
	}
	return resp.Succeeded, nil
}

// settleIn writes the plan where there is none.
func (s *Store) settleIn(ctx context.Context, sealed *plan.Sealed) error {
	_, err := s.txn(ctx,
		[]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(s.keys.plan()), "=", 0)},
		[]clientv3.Op{clientv3.OpPut(s.keys.plan(), string(sealed.Raw))})
	if err != nil {
		return unavailable("writing the plan to the new store", err)
	}
	kv, err := s.get(ctx, s.keys.plan())
	if err != nil {
		return unavailable("reading the plan in the new store", err)
	}
	if kv == nil || !bytes.Equal(kv.Value, sealed.Raw) {
		return errors.New("the new store holds another plan by now: somebody else wrote to it")
	}
	return nil
}
