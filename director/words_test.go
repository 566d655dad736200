package director

import (
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/health"
)

// People write 10m, not 10m0s.
func TestDurationsInSentences(t *testing.T) {
	now := time.Now()
	var c clocks
	for _, peer := range []string{"d2", "d3"} {
		c.note(peer, now.Add(10*time.Minute), now)
	}
	for _, got := range []string{
		peerView{heard: true, silent: 10 * time.Minute}.lacks(plan.Identity{}),
		silentAlert(api.DirectorState{Name: "d2", Silent: 10 * time.Minute}),
		waits(health.Waiting{Why: "flapped", For: 10 * time.Minute}),
		c.doubt(now),
	} {
		if !strings.Contains(got, " 10m") || strings.Contains(got, "0s") {
			t.Errorf("got %q", got)
		}
	}
	if got := waits(health.Waiting{Why: "flapped", For: time.Millisecond}); !strings.Contains(got, "in 1s") {
		t.Errorf("got %q", got)
	}
}
