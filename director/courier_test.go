package director

import (
	"context"
	"log/slog"
	"testing"
)

// TestCourierEnds: once a director ends, nothing more is sent: no send outlives
// the wait for those under way, and none begins beside it.
func TestCourierEnds(t *testing.T) {
	hold := make(chan struct{})
	c := newCourier(func(string, uint8, []byte) error { <-hold; return nil }, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	if !c.post("d2", kindPlan, nil) {
		t.Fatal("not sent while it runs")
	}
	done := make(chan error, 1)
	go func() { done <- c.run(ctx) }()
	cancel()
	close(hold)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if c.post("d3", kindPlan, nil) {
		t.Error("sent after the end")
	}
}
