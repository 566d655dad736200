package director

import (
	"errors"
	"strings"
	"testing"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/store"
)

// TestStoreAloneDecidesNothing: a director whose disk held no plan writes nothing upon the
// store's word alone, before that plan is in force: the store may be an old copy (S3, F25).
// It may look, and one that began the fleet by itself is not held up.
func TestStoreAloneDecidesNothing(t *testing.T) {
	d := alone(t)
	on := d.commander
	h := &horizon{texts: d.horizon.texts}
	h.blank()
	c := &commander{
		turn: make(chan struct{}, 1), name: on.name, key: on.key, store: on.store, librarian: on.librarian, horizon: h, resolver: on.resolver,
		states: on.states, gates: on.gates, seen: on.seen, earth: on.earth, clock: on.clock, log: on.log, now: on.now, loads: on.loads, readers: on.readers,
		prepared: on.prepared,
	}
	stored := func() store.Snapshot {
		t.Helper()
		snap, err := d.store.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return snap
	}
	before := stored()
	_, id, err := c.commit(t.Context(), drained("cluster/fra"), nil)
	if r, ok := errors.AsType[*core.Refusal](err); !ok || !strings.Contains(r.Reason, "no plan in force yet") {
		t.Fatalf("got %v and plan %s, want it refused", err, id)
	}
	if is := stored(); is.ModRevision != before.ModRevision {
		t.Errorf("the store holds %s, and held %s", is.Sealed.Identity, before.Sealed.Identity)
	}
	look := drained("cluster/fra")
	look.DryRun = true
	if _, _, err := c.commit(t.Context(), look, nil); err != nil {
		t.Errorf("a dry run: %v", err)
	}
	h.swap(d.horizon.current()) // between the read and the decision
	if err := c.unlistened(); !errors.Is(err, store.ErrConflict) {
		t.Errorf("it came into force meanwhile: got %v, want a further try, which waits", err)
	}
	if !h.hasty() {
		t.Error("the further try does not wait")
	}
	h.begun()
	if _, _, err := c.commit(t.Context(), drained("cluster/fra"), nil); err != nil {
		t.Errorf("who began the fleet: %v", err)
	}
}
