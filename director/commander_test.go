package director

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
)

// TestOwnRemoval: no director writes the plan that removes it. One that begins
// without a plan could not tell whose signature that is, and would wait for the
// next.
func TestOwnRemoval(t *testing.T) {
	d := alone(t)
	d4 := &core.Director{Name: "d4", Key: ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)}
	if _, err := give(d, core.Command{ID: newID(), Verb: core.DirectorAdd, Author: "ann", Reason: "test", Director: d4}); err != nil {
		t.Fatal(err)
	}
	_, err := give(d, core.Command{ID: newID(), Verb: core.DirectorRemove, Scope: "d1", Author: "ann", Reason: "test"})
	var r *core.Refusal
	if !errors.As(err, &r) || !strings.Contains(r.Remedy, "--server") {
		t.Errorf("got %v, want a refusal that names another director", err)
	}
	snap, err := d.store.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Trusted(nil, snap.Sealed); err != nil {
		t.Errorf("a director without a plan cannot begin with the store's: %v", err)
	}
}

// TestNotWritten: only the store's silence is blamed on its silence.
func TestNotWritten(t *testing.T) {
	tests := []struct {
		err    error
		silent bool
	}{
		{fmt.Errorf("committing: %w: connection refused", store.ErrUnavailable), true},
		{fmt.Errorf("spec of 101 blobs: %w", store.ErrTooLarge), false},
		{fmt.Errorf("command 7: %w", store.ErrReused), false},
		{errors.New("the audit log already has a record of revision 7"), false},
	}
	for _, tc := range tests {
		got := notWritten(tc.err).Error()
		if strings.Contains(got, "does not answer") != tc.silent || !strings.Contains(got, tc.err.Error()) {
			t.Errorf("%v: got %q", tc.err, got)
		}
	}
}

// TestClockOffRecovers: a director whose clock is off signs nothing, a recovery
// neither (F15).
func TestClockOffRecovers(t *testing.T) {
	d := alone(t)
	if err := d.loop.inspect(t.Context(), func(at time.Time) {
		for _, peer := range []string{"d2", "d3"} {
			d.loop.clocks.Note(peer, at.Add(time.Hour), at)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.commander.recover(t.Context(), "ann", false); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("got %v, want a refusal for its clock", err)
	}
}

// TestStoreWord: a store that is full is told of before a command meets it.
func TestStoreWord(t *testing.T) {
	full, filling := storeSpace{refuses: "out of space"}, storeSpace{fills: "at 80 %"}
	tests := []struct {
		name  string
		state storeState
		space storeSpace
		word  string
		alert string
	}{
		{"at the start", storeState{}, storeSpace{}, "not read yet", ""},
		{"well", storeState{ok: true}, storeSpace{}, "ok", ""},
		{"full", storeState{ok: true}, full, "out of space", "commands are refused: out of space"},
		{"filling", storeState{ok: true}, filling, "ok", "at 80 %"},
		{"silent, full before", storeState{problem: "silent"}, full, "silent", ""},
	}
	for _, tc := range tests {
		if word, alert := storeWord(tc.state, tc.space); word != tc.word || alert != tc.alert {
			t.Errorf("%s: got %q, %q, want %q, %q", tc.name, word, alert, tc.word, tc.alert)
		}
	}
	d := alone(t)
	d.librarian.readSpace(t.Context())
	if got := d.horizon.spaceNow(); got != (storeSpace{}) {
		t.Errorf("a store with space: got %+v", got)
	}
}
