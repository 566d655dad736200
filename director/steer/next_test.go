package steer

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/health"
)

// SEMANTICS section 2, TTL: a change is scheduled where the end of an override
// changes what a service's hosts answer, and nowhere else.
func TestNext(t *testing.T) {
	soon, later := time.Unix(1_800_000_000, 0), time.Unix(1_800_003_600, 0)
	drain := func(f *fleet, scope string, end time.Time) {
		f.override(plan.Override_DRAIN, scope, "alice", false).End = timestamppb.New(end)
	}
	tests := []struct {
		name   string
		change func(*fleet)
		want   time.Time
	}{
		{"nothing is ahead", func(*fleet) {}, time.Time{}},
		{"a drain ends", func(f *fleet) { drain(f, "cluster/fra", soon) }, soon},
		{"the first that changes something", func(f *fleet) { drain(f, "cluster/sin", soon); drain(f, "cluster/fra", later) }, later},
		{"two of one site end together", func(f *fleet) { drain(f, "cluster/fra", soon); drain(f, "service/shop@fra", soon) }, soon},
		{"two of one site, the last end counts", func(f *fleet) { drain(f, "cluster/fra", soon); drain(f, "service/shop@fra", later) }, later},
		{"of what is down", func(f *fleet) {
			drain(f, "cluster/fra", soon)
			f.mark("fra", health.KindUnknown, health.Down)
		}, time.Time{}},
		{"of another service", func(f *fleet) { drain(f, "service/other", soon) }, time.Time{}},
		{"of two observations the older ends, and the other holds another site down", func(f *fleet) {
			for i, cluster := range []string{"nyc", "fra"} {
				o := f.override(plan.Override_OBSERVE, "fleet", "bob", false)
				o.End = timestamppb.New([]time.Time{soon, later}[i])
				for _, s := range Subjects(f.set.Services[0], f.set.Services[0].Endpoint(cluster).Addresses[0]) {
					o.Down = append(o.Down, s.Subject.String())
				}
			}
		}, soon},
		{"without an end", func(f *fleet) { f.override(plan.Override_DRAIN, "cluster/fra", "alice", false).End = nil }, time.Time{}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := newFleet()
			for _, c := range []string{"fra:DE", "nyc:US", "sin:SG"} {
				f.cluster(t, c)
			}
			f.service(t, "shop", spec.PolicyFailover, "fra=192.0.2.1", "nyc=192.0.2.2", "sin=192.0.2.3")
			tc.change(f)
			if got := Decide(f.input()).Services[0].Next; !got.Equal(tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
