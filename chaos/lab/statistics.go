package main

import (
	"math"
	"slices"
	"time"
)

// never stands for what did not happen in the time that a round has.
const never = time.Duration(math.MaxInt64)

// quantile is an order statistic and an interval that holds the true quantile with
// 95 % confidence, whatever the distribution.
type quantile struct {
	Share float64       `json:"share"` // 0.99: p99
	Value time.Duration `json:"value"` // nanoseconds
	Low   time.Duration `json:"low"`
	High  time.Duration `json:"high"` // never (the largest number): the sample is too small to bound it
}

// quantiles gives those of a sample. How many values of a sample of n lie below the
// true quantile p is binomial(n, p), so the interval is between two order statistics.
func quantiles(sample []time.Duration, shares ...float64) []quantile {
	if len(sample) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(sample))
	n := len(sorted)
	var out []quantile
	for _, p := range shares {
		q := quantile{Share: p, Value: sorted[min(n-1, int(math.Ceil(p*float64(n)))-1)], High: never}
		low, high := bounds(n, p, 0.025)
		if low > 0 {
			q.Low = sorted[low-1]
		}
		if high <= n {
			q.High = sorted[high-1]
		}
		out = append(out, q)
	}
	return out
}

// bounds gives the places, from 1, of the order statistics that the true quantile p
// lies between, each side being wrong with a probability of at most tail; 0 and n+1
// stand for none.
func bounds(n int, p, tail float64) (low, high int) {
	// P(B <= k) by adding up; n is some thousands at most.
	below := 0.0
	high = n + 1
	for k := 0; k <= n; k++ {
		at := math.Exp(logChoose(n, k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
		below += at
		// The low one, X(l), is above the quantile when at most l-1 values are below it.
		if below <= tail {
			low = k + 1
		}
		// The high one, X(h), is below the quantile when at least h values are below it.
		if below >= 1-tail {
			high = min(high, k+1)
		}
	}
	return low, high
}

func logChoose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}
