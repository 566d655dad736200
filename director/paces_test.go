package director

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
)

// TestAnswersFrom: a step counts on a director that is heard now, has acknowledged it, and
// whose DNS was seen to answer by it; each alone is not enough (S6).
func TestAnswersFrom(t *testing.T) {
	at := func(revision uint64) plan.Identity {
		return plan.Identity{Fleet: "f", Epoch: 1, Revision: revision, Hash: plan.Hash{byte(revision)}}
	}
	seen := func(revision uint64, fault string) map[string]sighting {
		return map[string]sighting{"d2": {plan: at(revision), fault: fault}}
	}
	foreign := at(9)
	foreign.Fleet = "g"
	tests := []struct {
		name string
		p    peerView
		seen map[string]sighting
		want uint64 // 0: nothing
	}{
		{"itself", peerView{self: true, acked: at(7)}, nil, 7},
		{"itself, not on disk yet", peerView{self: true}, nil, 0},
		{"acknowledged and seen", peerView{heard: true, member: true, dns: "x", acked: at(7)}, seen(7, ""), 7},
		{"seen at a later one", peerView{heard: true, member: true, dns: "x", acked: at(7)}, seen(8, ""), 7},
		{"still answers from an older one", peerView{heard: true, member: true, dns: "x", acked: at(7)}, seen(6, ""), 6},
		{"its DNS is mute", peerView{heard: true, member: true, dns: "x", acked: at(7)}, seen(7, "no answer"), 0},
		{"its DNS was never asked", peerView{heard: true, member: true, dns: "x", acked: at(7)}, nil, 0},
		{"its DNS answers from another fleet's", peerView{heard: true, member: true, dns: "x", acked: at(7)}, map[string]sighting{"d2": {plan: foreign}}, 0},
		{"silent", peerView{heard: true, member: true, dns: "x", acked: at(7), silent: 2 * time.Second}, seen(7, ""), 0},
		{"never heard", peerView{dns: "x", acked: at(7)}, seen(7, ""), 0},
		{"a witness", peerView{heard: true, member: true, acked: at(7)}, nil, 7},
		{"where its DNS answers is not known", peerView{heard: true, acked: at(7)}, nil, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			tc.p.name = "d2"
			if got := tc.p.answersFrom(tc.seen).Revision; got != tc.want {
				t.Errorf("got revision %d, want %d", got, tc.want)
			}
		})
	}
}

// TestPaceAlert: a drain in steps that goes on alerts nobody; one that does not says why.
func TestPaceAlert(t *testing.T) {
	paced := func(s plan.Pace_State, waits string, stalled bool) core.Paced {
		return core.Paced{
			Override: &plan.Override{Scope: "cluster/fra", Pace: &plan.Pace{
				Steps: []uint32{1000, 900, 0}, Step: 1, State: s, Why: "shop@nyc is failed", Next: timestamppb.Now(),
			}},
			Waits: waits, Stalled: stalled,
		}
	}
	tests := []struct {
		p    core.Paced
		want string
	}{
		{paced(plan.Pace_MOVING, "the wait of this step", false), ""},
		{paced(plan.Pace_DONE, "", false), ""},
		{paced(plan.Pace_MOVING, "d3 to be heard", true), "stalls: later than three in four of its steps were, it waits for d3 to be heard"},
		{paced(plan.Pace_RETURNING, "", true), "it waits for the leader"},
		{paced(plan.Pace_HELD, "who takes over to be well", false), "is held: shop@nyc is failed; it waits for who takes over"},
		{paced(plan.Pace_ROLLING_BACK, "", false), "is rolled back: shop@nyc is failed"},
		{paced(plan.Pace_ROLLING_BACK, "d3 to be heard", true), "is rolled back: shop@nyc is failed; it waits for d3 to be heard"},
		{paced(plan.Pace_ROLLED_BACK, "", false), "was rolled back: shop@nyc is failed; undrain it"},
	}
	for _, tc := range tests {
		got := paceAlert(tc.p)
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: got %q, want %q", tc.p.Override.GetPace().GetState(), got, tc.want)
		}
	}
}
