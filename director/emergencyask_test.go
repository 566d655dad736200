package director

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
)

func urgentWord(t *testing.T, id, ends string) *plan.Word {
	t.Helper()
	seed := sha256.Sum256([]byte("ops"))
	w, err := plan.SignWord(fleetID, &plan.Emergency{
		Id: id, Operator: "ops", Enrolled: 1, Counter: 1, Scope: "cluster/nyc", Ends: ends, Reason: "INC-1", Said: timestamppb.Now(), Lasts: durationpb.New(time.Hour),
	}, ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestEmergencyInTime: a command that may wait less than the store may take to answer does
// not make an emergency of it, and neither says that a director said what it did not.
func TestEmergencyInTime(t *testing.T) {
	d := solo(t)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	refusal := (*core.Refusal)(nil)
	if err := d.storeAway(over, urgentWord(t, "e1", "")); !errors.As(err, &refusal) || !strings.Contains(refusal.Remedy, "--timeout") {
		t.Errorf("got %v", err)
	}
	if err := d.storeAway(t.Context(), urgentWord(t, "e1", "")); !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, "no emergency") {
		t.Errorf("the store is there: %v", err)
	}
	idle := &emergencies{} // its goroutine has not come to it
	if _, err := idle.say(over, d.horizon.current(), urgentWord(t, "e1", ""), false); !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, "nothing was said") {
		t.Errorf("got %v", err)
	}
}

// TestEmergencyTakenOver: while a word is waited for, a plan takes it over. It is done when
// all have that plan, not when the plan is there (S6).
func TestEmergencyTakenOver(t *testing.T) {
	d := solo(t)
	cmd := drained("cluster/nyc")
	cmd.ID = "e1"
	gave(t, d, cmd)
	out := d.awaitWord(t.Context(), urgentWord(t, "e1", ""), api.Outcome{ID: "e1"}, nil)
	if out.Code != 0 || out.Revision != d.horizon.current().sealed.Identity.Revision || len(out.Applied) != 1 {
		t.Errorf("got %+v", out)
	}
	p := d.horizon.current().sealed.Plan
	if got := emergencySummary(p, core.Emergency{Word: urgentWord(t, "u1", "e2")}, nil); !strings.Contains(got, "the plan drains it too") {
		t.Errorf("an emergency's end beside the plan's own drain: %q", got)
	}
	gave(t, d, core.Command{ID: newID(), Verb: core.Undrain, Scope: "cluster/nyc", Author: "ann", Reason: "over"})
	p = d.horizon.current().sealed.Plan
	if got := emergencySummary(p, core.Emergency{Word: urgentWord(t, "u1", "e2")}, nil); strings.Contains(got, "the plan") {
		t.Errorf("the plan has none: %q", got)
	}
	// Of several emergency drains one has ended: its scope is drained yet.
	if got := emergencySummary(p, core.Emergency{Word: urgentWord(t, "u1", "e2")}, []string{"e3"}); strings.Contains(got, "undrained") ||
		!strings.Contains(got, "emergency drain e2 of cluster/nyc ended") || !strings.HasSuffix(got, "not ended yet: e3") {
		t.Errorf("another goes on: %q", got)
	}
	if got := emergencySummary(p, core.Emergency{Word: urgentWord(t, "u1", "e2")}, nil); !strings.Contains(got, "cluster/nyc undrained") {
		t.Errorf("it was the last: %q", got)
	}
}

// TestStoreUnseen: who only looks at a store that is away is not told that nothing was
// changed, nor of what changes without it (F10).
func TestStoreUnseen(t *testing.T) {
	d := solo(t)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	refusal := (*core.Refusal)(nil)
	if _, err := d.CheckStore(over); !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, "cannot be looked at") || strings.Contains(refusal.Remedy, "--emergency") {
		t.Errorf("got %v", err)
	}
}

// TestWordNeedsItsScope: an operator's signature is not all that a word takes: who brings it
// must be allowed to do as much by himself.
func TestWordNeedsItsScope(t *testing.T) {
	d := solo(t)
	refusal := (*core.Refusal)(nil)
	for text, want := range map[string]bool{"operator cluster/nyc": true, "admin fleet": true, "operator cluster/fra": false, "viewer fleet": false, "": false} {
		for _, ends := range []string{"", "e0"} {
			id := access.Identity{Who: "cert:ann", Method: access.Certificate}
			if word, in, ok := strings.Cut(text, " "); ok {
				role, _ := access.ParseRole(word)
				scope, err := access.ParseScope(in)
				if err != nil {
					t.Fatal(err)
				}
				id.Grants = []access.Grant{{Role: role, Scopes: []access.Scope{scope}}}
			}
			out, err := d.Emergency(access.With(t.Context(), id), urgentWord(t, "e1", ends).Raw, true, nil)
			if err != nil {
				t.Fatal(err)
			}
			if denied := strings.Contains(out.Error, "cert:ann"); denied == want {
				t.Errorf("%q, ending %q: got %+v", text, ends, out)
			}
		}
	}
	if err := mayBring(t.Context(), d.horizon.current().spec, urgentWord(t, "e1", "")); !errors.As(err, &refusal) {
		t.Errorf("nobody may: %v", err)
	}
}
