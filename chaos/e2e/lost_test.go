package e2e

import (
	"os"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
)

// TestLostDisk: a director whose disk was lost comes back with another key. Its
// word counts for nothing until a person says so; yet it learns from proofs what
// is down, and sends nobody to a dead site.
func TestLostDisk(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	must(t, r.Kill("fra"))
	r.until(5*time.Second, "it fails over", r.all("pay.example.org", "nyc"))
	must(t, r.Kill("d3"))
	must(t, os.RemoveAll(r.DataDir(3)))
	must(t, r.Start(t.Context(), "d3"))
	r.until(45*time.Second, "it answers without the dead site", r.answers(3, "pay.example.org", "nyc"))
	r.holds(3*time.Second, "nobody else is moved", r.answers(1, "pay.example.org", "nyc"))
}
