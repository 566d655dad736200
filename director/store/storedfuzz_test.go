package store

import (
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
)

// FuzzStored: whoever reaches etcd writes what he likes in the places of plans, results
// and notes: each is read, or is an error, and a plan is none by its looks alone.
func FuzzStored(f *testing.F) {
	moved, err := proto.Marshal(&plan.Envelope{Kind: kindMoved, Payload: []byte(`{"to":["https://192.0.2.1:2379"],"at":"2026-01-02T03:04:05Z"}`)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(moved)
	result, err := proto.Marshal(&plan.Result{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(result, 8, 1))
	f.Add([]byte(`{"collected":3,"head":"x"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if m := movedTo(raw); m != nil {
			_ = m.Error()
			if _, err := plan.Open(raw); err == nil {
				t.Error("it is a note of a move and a plan at once")
			}
		}
		if h, err := decodeAuditHead(raw); (err == nil) != (len(h.Raw) > 0) || len(h.Raw) > len(raw)*3 {
			t.Errorf("a head of %d octets, %v", len(h.Raw), err)
		}
		kv := &mvccpb.KeyValue{Key: []byte("/divert/command/a1"), Value: raw}
		if r, err := readResult(kv); (r == nil) != (err != nil) {
			t.Errorf("got %v, %v", r, err)
		}
		for _, m := range []proto.Message{&plan.Audit{}, &plan.Ack{}} {
			if proto.Unmarshal(raw, m) == nil && proto.Size(m) > 2*len(raw) {
				t.Errorf("%d octets came to %d", len(raw), proto.Size(m))
			}
		}
	})
}
