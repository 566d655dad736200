package director

import (
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/health"
)

// People write 10m, not 10m0s.
func TestDurationsInSentences(t *testing.T) {
	now := time.Now()
	var c core.Clocks
	for _, peer := range []string{"d2", "d3"} {
		c.Note(peer, now.Add(10*time.Minute), now)
	}
	for _, got := range []string{
		peerView{heard: true, silent: 10 * time.Minute}.lacks(plan.Identity{}),
		silentAlert(api.DirectorState{Name: "d2", Silent: 600}),
		waits(health.Waiting{Why: "flapped", For: 10 * time.Minute}),
		c.Doubt(now),
	} {
		if !strings.Contains(got, " 10m") || strings.Contains(got, "0s") {
			t.Errorf("got %q", got)
		}
	}
	if got := waits(health.Waiting{Why: "flapped", For: time.Millisecond}); !strings.Contains(got, "in 1s") {
		t.Errorf("got %q", got)
	}
}

// A director that answers from an older plan acknowledges none at all while it knows of a
// newer one (S3), which is not to say that it never had one.
func TestLaggardIsNotNew(t *testing.T) {
	if got := (peerView{heard: true}).lacks(plan.Identity{Revision: 7}); !strings.Contains(got, "still without it") || strings.Contains(got, "has acknowledged no plan") {
		t.Errorf("got %q", got)
	}
}
