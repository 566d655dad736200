package access

import (
	"fmt"
	"testing"
	"time"
)

// TestLimiter: a burst, then a rate, each by itself; and no more are kept than may be.
func TestLimiter(t *testing.T) {
	l := NewLimiter(10, 5, 3)
	now := time.Now()
	count := func(who string, n int) (passed int) {
		for range n {
			if l.Take(who, now) {
				passed++
			}
		}
		return passed
	}
	if got := count("ann", 20); got != 5 {
		t.Errorf("%d of a burst of 5", got)
	}
	if got := count("ben", 2); got != 2 {
		t.Errorf("another is held up: %d", got)
	}
	now = now.Add(300 * time.Millisecond)
	if got := count("ann", 20); got != 3 {
		t.Errorf("%d after 300 ms at 10 a second", got)
	}
	now = now.Add(-time.Hour)
	if got := count("ann", 20); got != 0 {
		t.Errorf("%d by a clock that went back", got)
	}
	now = now.Add(2 * time.Hour)
	if got := count("ann", 20); got != 5 {
		t.Errorf("%d after an hour", got)
	}
	for i := range 1000 {
		now = now.Add(time.Millisecond)
		l.Take(fmt.Sprint(i), now)
		if len(l.buckets) > 3 {
			t.Fatalf("%d are kept", len(l.buckets))
		}
	}
	if !(*Limiter)(nil).Take("ann", now) {
		t.Error("no limit limits")
	}
}
