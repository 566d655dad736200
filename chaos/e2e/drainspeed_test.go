package e2e

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
)

// TestDrainSpeed measures L4 with three directors and with five, side by side and 40 ms
// from each other and from the store: from typing `divert drain --now` to the changed
// answer of the last director, at p99 under a second (issue 5). DIVERT_E2E_DRAINS says how
// many drains each has; `make drains` has 200.
func TestDrainSpeed(t *testing.T) {
	long(t)
	n := rounds(t)
	if v := os.Getenv("DIVERT_E2E_DRAINS"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil || n < 1 || n > 10000 {
			t.Fatalf("DIVERT_E2E_DRAINS=%s: want a number from 1 to 10000", v)
		}
	}
	tests := []struct {
		name      string
		directors int
		apart     time.Duration // each way
		drains    int
	}{
		{"three", 3, 0, n},
		{"five", 5, 0, n},
		{"five-40ms-apart", 5, 40 * time.Millisecond, n},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) { drainSpeed(t, tc.directors, tc.apart, tc.drains) })
	}
}

func drainSpeed(t *testing.T, directors int, apart time.Duration, drains int) {
	r := start(t, local.Options{Directors: directors})
	r.Apart(apart)
	r.settle()
	const host = "pay.example.org"
	load, stop := r.query(100*directors, host)
	defer stop()
	fra, nyc := r.Cluster("fra").String(), r.Cluster("nyc").String()
	var seen, told times
	for i := range drains {
		r.until(5*time.Second, "the answers are back", r.all(host, "fra"))
		load.watch(r.Directors(), host, fra)
		from := 1 + i%r.Directors()
		typed := time.Now()
		r.must(from, "drain", "cluster/fra", "--now", "--reason", "speed", "--for", "10m")
		told = append(told, time.Since(typed))
		_, last, err := load.moved(r.Directors(), host, nyc)
		if err != nil {
			// Said to be complete, so it must show in what is asked from now on (S6).
			if err := r.all(host, "nyc")(); err != nil {
				t.Fatalf("S6: the drain was said to be complete: %v", err)
			}
			r.until(time.Second, "the load sees it", func() (err error) {
				_, last, err = load.moved(r.Directors(), host, nyc)
				return err
			})
		}
		seen = append(seen, last.Sub(typed))
		r.must(from, "undrain", "cluster/fra", "--reason", "speed")
	}
	stop()
	t.Logf("from typing the drain to the last director's changed answer: %s", seen)
	t.Logf("from typing the drain to the word that it is complete:       %s", told)
	if got := seen.at(99); got >= time.Second {
		t.Errorf("L4: p99 is %s, want less than 1s: %v", got, []time.Duration(seen))
	}
}
