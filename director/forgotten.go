package director

import (
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/store"
)

// What this director's disk may have held, and nobody here can say, is the horizon's to
// remember until it has listened to the others (see core.Horizon).

// lose notes that this disk held a newer plan than the one in force, and that
// nobody here can say which (S3). New's alone.
func (h *horizon) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ids.Lost = true
}

// blank notes that this disk holds no plan that can be used, as a new one or one that
// was lost whole. New's alone.
func (h *horizon) blank() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ids.Blank = true
}

// forgotten says what of it is still not known, for the disk.
func (h *horizon) forgotten() (lost, blank bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ids.Lost, h.ids.Blank
}

// hasty tells whether nothing may be written yet by who has forgotten what it had.
func (h *horizon) hasty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ids.Hasty()
}

// begun is the commander's: it has written a first plan.
func (h *horizon) begun() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ids.Found()
}

// unsure is hasty, and also before any plan is in force.
func (h *horizon) unsure() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ids.Unsure()
}

// unlistened refuses what would be decided on the store's word alone, by who has forgotten
// what it had (S3, F25). Where the plan has come into force since the store was read, the
// next try waits until the others have been listened to.
func (c *commander) unlistened() error {
	if c.horizon.current() != nil {
		return store.ErrConflict
	}
	return &core.Refusal{
		Reason: "this director has no plan in force yet, and its disk held none: the store alone says which is the newest",
		Remedy: "repeat it in a moment, or give it to another director with --server",
	}
}
