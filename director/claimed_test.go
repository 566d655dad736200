package director

import (
	"testing"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/spec"
)

// TestClaimed: `director remove` and `approve`, the way back from a lost disk,
// pin the key that is shown now. The tombstone's own is a dead disk's.
func TestClaimed(t *testing.T) {
	removed := api.DirectorState{Name: "d3", Site: "s3", Address: "192.0.2.3:7946", Key: "ed25519:of the lost disk"}
	nobody := removed
	if asClaimed(&nobody, gossip.Member{}); nobody.Key != "" {
		t.Errorf("nobody uses the name, and %q would be approved", nobody.Key)
	}
	m := gossip.Member{Name: "d3", Addr: "192.0.2.33:7946", Meta: gossip.Meta{Site: "s3b", Key: make([]byte, 32)}}
	asClaimed(&removed, m)
	if removed.Key != spec.FormatKey(m.Meta.Key) || removed.Address != m.Addr || removed.Site != "s3b" {
		t.Errorf("got %+v, want what %+v shows", removed, m)
	}
}
