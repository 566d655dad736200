// Package model is etcd as one value: a linearizable store with leases, for simulators.
// It takes what director/store sends, in the very types of etcd's client, and answers as
// etcd does. It is pure, holds nothing back and loses nothing: delays, outages and lost
// answers are its caller's. Nothing of the product uses it.
package model

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
)

// Etcd is the store.
type Etcd struct {
	kv       map[string]Entry
	revision int64
	leases   map[int64]time.Duration // when each ends, if it is not renewed
	granted  int64
	wrote    func(key string)
}

// Entry is one key's value, with when it came to be and when it was last written. The
// zero Entry is of no key.
type Entry struct {
	Value       string
	Create, Mod int64
	lease       int64
}

// New makes an empty store, which tells of each key that is written or deleted, once
// the whole transaction is done. May be nil.
func New(wrote func(key string)) *Etcd {
	if wrote == nil {
		wrote = func(string) {}
	}
	return &Etcd{kv: map[string]Entry{}, revision: 1, leases: map[int64]time.Duration{}, wrote: wrote}
}

// Get gives a key; the zero Entry: there is none.
func (e *Etcd) Get(key string) Entry { return e.kv[key] }

// Revision is the store's, which grows with each write.
func (e *Etcd) Revision() int64 { return e.revision }

// Image is a backup of the store: what `etcdctl snapshot save` keeps. The zero Image is
// of an empty one.
type Image struct {
	kv       map[string]Entry
	revision int64
}

// Snapshot makes a backup.
func (e *Etcd) Snapshot() Image { return Image{kv: maps.Clone(e.kv), revision: e.revision} }

// Restore brings a backup back, as another cluster; leases are gone with the old one.
func (e *Etcd) Restore(i Image) {
	e.kv, e.revision = map[string]Entry{}, max(i.revision, 1)
	maps.Copy(e.kv, i.kv)
	maps.DeleteFunc(e.kv, func(_ string, v Entry) bool { return v.lease != 0 })
	e.leases = map[int64]time.Duration{}
}

// Commit does the transaction of a commit. Done: it was written; else it is judged, for
// which see store.Transaction.
func (e *Etcd) Commit(t *store.Transaction) (done bool, r *plan.Result, again bool, err error) {
	resp := e.Txn(t.Ops())
	if resp.Succeeded {
		return true, t.Result(), false, nil
	}
	r, again, err = t.Judge(resp)
	return false, r, again, err
}

// Delete deletes keys under a fence, all or none.
func (e *Etcd) Delete(fence []clientv3.Cmp, keys []string) bool {
	ops := make([]clientv3.Op, 0, len(keys))
	for _, key := range keys {
		ops = append(ops, clientv3.OpDelete(key))
	}
	return e.Txn(fence, ops, nil).Succeeded
}

// Txn is one transaction, as etcd does it.
func (e *Etcd) Txn(compares []clientv3.Cmp, then, otherwise []clientv3.Op) *clientv3.TxnResponse {
	resp := &pb.TxnResponse{Succeeded: true}
	for i := range compares {
		resp.Succeeded = resp.Succeeded && e.holds(compares[i].GetCompare())
	}
	ops := otherwise
	if resp.Succeeded {
		ops = then
	}
	next := e.revision + 1
	var wrote []string
	for i := range ops {
		op, key := &ops[i], string(ops[i].KeyBytes())
		r := &pb.ResponseOp{}
		switch {
		case op.IsPut():
			e.set(key, string(op.ValueBytes()), next, 0)
			wrote = append(wrote, key)
			r.Response = &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{}}
		case op.IsDelete():
			if _, ok := e.kv[key]; ok {
				delete(e.kv, key)
				wrote = append(wrote, key)
			}
			r.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{}}
		default:
			r.Response = &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{Kvs: e.read(op)}}
		}
		resp.Responses = append(resp.Responses, r)
	}
	if len(wrote) > 0 {
		e.revision = next
		for _, key := range wrote {
			e.wrote(key)
		}
	}
	resp.Header = &pb.ResponseHeader{Revision: e.revision}
	return (*clientv3.TxnResponse)(resp)
}

// read gives what a get asks for. What is sorted is sorted as director/store does: the
// last written first.
func (e *Etcd) read(op *clientv3.Op) (out []*mvccpb.KeyValue) {
	keys := []string{string(op.KeyBytes())}
	if end := op.RangeBytes(); len(end) > 0 {
		keys = e.between(keys[0], string(end))
	}
	if op.IsSortSet() {
		slices.SortStableFunc(keys, func(a, b string) int { return cmp.Compare(e.kv[b].Mod, e.kv[a].Mod) })
	}
	for _, key := range keys {
		if v, ok := e.kv[key]; ok && (op.Limit() == 0 || int64(len(out)) < op.Limit()) {
			out = append(out, &mvccpb.KeyValue{Key: []byte(key), Value: []byte(v.Value), CreateRevision: v.Create, ModRevision: v.Mod})
		}
	}
	return out
}

// between lists the keys of a range, in order; its end is not in it.
func (e *Etcd) between(from, end string) []string {
	return slices.DeleteFunc(e.Below(""), func(key string) bool { return key < from || key >= end })
}

func (e *Etcd) holds(c *pb.Compare) bool {
	if end := c.GetRangeEnd(); len(end) > 0 { // all in the range, or what is not there
		found := e.between(string(c.GetKey()), string(end))
		for _, key := range found {
			if !compare(c, e.kv[key]) {
				return false
			}
		}
		return len(found) > 0 || compare(c, Entry{})
	}
	return compare(c, e.kv[string(c.GetKey())])
}

func compare(c *pb.Compare, v Entry) bool {
	have, want := int64(0), int64(0)
	switch c.GetTarget() {
	case pb.Compare_CREATE:
		have, want = v.Create, c.GetCreateRevision()
	case pb.Compare_MOD:
		have, want = v.Mod, c.GetModRevision()
	default:
		panic("a compare that the model does not know")
	}
	switch c.GetResult() {
	case pb.Compare_EQUAL:
		return have == want
	case pb.Compare_GREATER:
		return have > want
	case pb.Compare_LESS:
		return have < want
	default:
		panic("a compare that the model does not know")
	}
}

func (e *Etcd) set(key, value string, revision, lease int64) {
	v := Entry{Value: value, Create: revision, Mod: revision, lease: lease}
	if old, ok := e.kv[key]; ok {
		v.Create = old.Create
	}
	e.kv[key] = v
}

// Put writes a key, under a lease or none (0); false: the lease is over.
func (e *Etcd) Put(key, value string, lease int64) bool {
	if _, ok := e.leases[lease]; lease != 0 && !ok {
		return false
	}
	e.revision++
	e.set(key, value, e.revision, lease)
	e.wrote(key)
	return true
}

// Below lists the keys with a prefix, in order.
func (e *Etcd) Below(prefix string) []string {
	var out []string
	for k := range e.kv {
		if strings.HasPrefix(k, prefix) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// First is the oldest key with a prefix: in a queue, who leads.
func (e *Etcd) First(prefix string) (key string, v Entry) {
	for _, k := range e.Below(prefix) {
		if key == "" || e.kv[k].Create < v.Create {
			key, v = k, e.kv[k]
		}
	}
	return key, v
}

// Grant makes a lease of this life.
func (e *Etcd) Grant(now, life time.Duration) int64 {
	e.granted++
	e.leases[e.granted] = now + life
	return e.granted
}

// Renew begins a lease's life anew; false: it is over.
func (e *Etcd) Renew(id int64, now, life time.Duration) bool {
	if _, ok := e.leases[id]; !ok {
		return false
	}
	e.leases[id] = now + life
	return true
}

// Expire ends the leases that are over, with their keys.
func (e *Etcd) Expire(now time.Duration) {
	for _, id := range slices.Sorted(maps.Keys(e.leases)) {
		if e.leases[id] <= now {
			e.Revoke(id)
		}
	}
}

// Revoke ends a lease, with its keys.
func (e *Etcd) Revoke(id int64) {
	if _, ok := e.leases[id]; !ok {
		return
	}
	delete(e.leases, id)
	for _, k := range e.Below("") {
		if e.kv[k].lease == id {
			delete(e.kv, k)
			e.revision++
			e.wrote(k)
		}
	}
}
