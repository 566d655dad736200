package e2e

import (
	"fmt"
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

// TestLostDiskReplaced: a director that comes back with another key at once,
// while its peers still hold its old self to be alive, is removed and approved
// like any other, and counts again.
func TestLostDiskReplaced(t *testing.T) {
	long(t)
	r := start(t, local.Options{})
	r.settle()
	must(t, r.Kill("d3"))
	must(t, os.RemoveAll(r.DataDir(3)))
	must(t, r.Start(t.Context(), "d3"))
	r.until(20*time.Second, "its peers say that its key is another", func() error {
		st, err := r.status(1)
		if err != nil {
			return err
		}
		for _, d := range st.Directors {
			if d.Name == "d3" && d.Alarm != "" {
				return nil
			}
		}
		return fmt.Errorf("directors: %+v", st.Directors)
	})
	r.must(1, "director", "remove", "d3", "--reason", "its disk was lost")
	r.until(time.Minute, "it is a director again", func() error {
		st, err := r.status(1)
		if err != nil {
			return err
		}
		for _, d := range st.Directors {
			if d.Name == "d3" && d.Standing == "active" && d.Heard && d.Alarm == "" {
				return nil
			}
		}
		_, _ = r.divert(1, "director", "approve", "d3", "--reason", "a new disk", "--timeout", "3s")
		return fmt.Errorf("directors: %+v", st.Directors)
	})
	r.settle()
}
