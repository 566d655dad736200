package store

import (
	"slices"
	"strings"
	"testing"

	"github.com/divertdns/divert/director/plan"
)

// TestSteps: a test that wants to stop a writer (F11) or to kill it (F24) is told of each
// step of a command, in the order that they are taken in.
func TestSteps(t *testing.T) {
	t.Parallel()
	first := open(t, shared)
	snap := begin(t, first)
	var taken []Step
	s, err := New(Options{Endpoints: []string{shared}, Prefix: first.Prefix(), At: func(at Step) { taken = append(taken, at) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, _, err := s.ReadFor(t.Context(), "c2"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), commitOf(t, snap.ModRevision, 2, "c2", strings.Repeat("x", MaxChunk)+"y")); err != nil {
		t.Fatal(err)
	}
	id := read(t, first).Sealed.Identity
	if err := s.Ack(t.Context(), &plan.Ack{Director: "d1", Fleet: id.Fleet, Epoch: id.Epoch, Revision: id.Revision, Plan: id.Hash[:]}); err != nil {
		t.Fatal(err)
	}
	want := slices.Insert(Steps(), 4, BeforeBlob) // there are two
	if !slices.Equal(taken, want) {
		t.Errorf("steps: got %q, want %q", taken, want)
	}
}
