package director

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/divertdns/divert/director/fleet"
	"github.com/divertdns/divert/director/spec"
)

// Certificates of the director's own are watched by their files: 21 days before their end
// they alert, 7 days before it presses, and a renewed file ends that without a restart.
func TestOwnCertificates(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "api.crt")
	start := time.Now().Truncate(time.Second)
	authority, err := fleet.NewAuthority("test", start)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(at time.Time) {
		t.Helper()
		pair, err := authority.Issue("fra", fleet.UseServer, []string{"127.0.0.1"}, at)
		if err == nil {
			err = os.WriteFile(name, pair.Cert, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	issue(start)
	var s spec.Settings
	s.API.TLS.Cert = name
	now, told := start, 0
	o := newOwnFiles(s, prometheus.NewRegistry(), slog.New(slog.DiscardHandler), func() time.Time { return now }, func() { told++ })
	end := start.Add(fleet.LeafLife)
	const day = 24 * time.Hour
	for _, tc := range []struct {
		before time.Duration // its end
		want   string        // in the alert; "" = none
	}{
		{22 * day, ""},
		{21*day - time.Hour, "expires in 20d"},
		{7*day - time.Hour, "it presses: "},
		{time.Hour, "expires in 1h"},
		{-time.Hour, "has expired at"},
	} {
		now = end.Add(-tc.before)
		o.look()
		got := strings.Join(o.alerts(), "\n")
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s before its end: %q, want %q", tc.before, got, tc.want)
		}
	}
	if got := testutil.ToFloat64(o.until.WithLabelValues("api.tls.cert")); got != float64(end.Unix()) {
		t.Errorf("the metric says %v, want %v", got, end.Unix())
	}
	if told == 0 {
		t.Error("nobody who watches was told")
	}
	issue(now)
	o.look()
	if got := o.alerts(); len(got) > 0 {
		t.Errorf("renewed, and it alerts: %q", got)
	}
	if err := os.WriteFile(name, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.look()
	if got := strings.Join(o.alerts(), "\n"); !strings.Contains(got, "holds no certificate") {
		t.Errorf("a file without one: %q", got)
	}
}

func FuzzEarliestEnd(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if end, err := earliestEnd(raw); err == nil && end.IsZero() {
			t.Error("an end that is none")
		}
	})
}
