package tokenreview

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// The values of the label "result".
const (
	known   = "known"
	refused = "refused"
	failed  = "failed" // the API server did not answer
)

func newCounts(r prometheus.Registerer) (*prometheus.CounterVec, error) {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "divert_token_reviews_total",
		Help: "Questions to API servers whose a ServiceAccount's token is, by cluster and result: known, refused, failed (no answer).",
	}, []string{"cluster", "result"})
	if r == nil {
		return c, nil
	}
	if err := r.Register(c); err != nil {
		return nil, fmt.Errorf("registering the metrics of token reviews: %w", err)
	}
	return c, nil
}
