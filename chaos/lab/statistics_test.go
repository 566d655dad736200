package main

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestQuantiles: the value is the order statistic, and where the sample is too small
// to bound a quantile it is said.
func TestQuantiles(t *testing.T) {
	var sample []time.Duration
	for i := range 100 {
		sample = append(sample, time.Duration(100-i))
	}
	q := quantiles(sample, 0.5, 0.99)
	if q[0].Value != 50 || q[0].Low != 40 || q[0].High != 61 { // tables: 40th and 61st of 100
		t.Errorf("median: got %+v, want 50 within 40 and 61", q[0])
	}
	if q[1].Value != 99 || q[1].High != never {
		t.Errorf("p99 of 100: got %+v, want 99 and no upper bound", q[1])
	}
	if got := quantiles(nil, 0.5); got != nil {
		t.Errorf("of nothing: got %v", got)
	}
}

// TestBoundsCover: the interval holds the true quantile at least as often as is said.
func TestBoundsCover(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, tc := range []struct {
		n int
		p float64
	}{{20, 0.5}, {60, 0.95}, {500, 0.99}} {
		const tries = 2000
		held := 0
		for range tries {
			var sample []time.Duration
			for range tc.n {
				sample = append(sample, time.Duration(random.Int64N(1_000_000)))
			}
			q := quantiles(sample, tc.p)[0]
			truth := time.Duration(tc.p * 1_000_000)
			if q.Low <= truth && truth <= q.High {
				held++
			}
		}
		if share := float64(held) / tries; share < 0.94 {
			t.Errorf("n=%d p=%v: the interval held the truth in %.3f of the tries, want 0.95", tc.n, tc.p, share)
		}
	}
}
