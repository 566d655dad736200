package director

import (
	"bytes"
	"testing"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/spec"
)

// TestClaimed: `director remove` and `approve`, the way back from a lost disk,
// pin the key that is shown now. The tombstone's own is a dead disk's.
func TestClaimed(t *testing.T) {
	removed := api.DirectorState{Name: "d3", Site: "s3", Address: "192.0.2.3:7946", Key: "ed25519:of the lost disk"}
	newKey, oldKey := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	member := func(key []byte) []gossip.Member {
		return []gossip.Member{{Name: "d1", Meta: gossip.Meta{Key: oldKey}}, {Name: "d3", Addr: "192.0.2.33:7946", Meta: gossip.Meta{Site: "s3b", Key: key, Gossip: "192.0.2.33:7946"}}}
	}
	tests := []struct {
		name    string
		signed  gossip.Meta
		members []gossip.Member
		want    api.DirectorState
	}{
		{"nobody", gossip.Meta{}, nil, api.DirectorState{Name: "d3", Site: "s3"}},
		{"a member", gossip.Meta{}, member(newKey), api.DirectorState{Name: "d3", Site: "s3b", Address: "192.0.2.33:7946", Key: spec.FormatKey(newKey)}},
		{"a member that speaks", member(newKey)[1].Meta, member(newKey), api.DirectorState{Name: "d3", Site: "s3b", Address: "192.0.2.33:7946", Key: spec.FormatKey(newKey)}},
		{"one that speaks, and the record of its old disk", gossip.Meta{Key: newKey}, member(oldKey), api.DirectorState{Name: "d3", Site: "s3", Key: spec.FormatKey(newKey)}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := removed
			asClaimed(&got, claimedBy("d3", tc.signed, tc.members))
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}
