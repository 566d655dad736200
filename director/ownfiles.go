package director

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store/fsys"
)

const (
	ownTick    = time.Minute
	ownWarns   = 21 * 24 * time.Hour // before its end a certificate of the director's own alerts
	ownPresses = 7 * 24 * time.Hour  // and says that it presses
	maxOwnPEM  = 1 << 20             // octets
)

// ownFiles watches when the certificates end that this director itself shows or trusts, by
// what stands in their files: those are read again without a restart by whoever uses them.
// Its last look is by run alone.
type ownFiles struct {
	files []ownFile
	log   *slog.Logger
	now   func() time.Time
	until *prometheus.GaugeVec
	last  atomic.Pointer[[]ownCertificate]
	tell  func()
	told  []string // by run alone
}

// ownFile is a certificate that the settings name.
type ownFile struct {
	use  string // its path in the settings
	name string
}

// ownCertificate is what stood in a file at the last look.
type ownCertificate struct {
	ownFile
	end time.Time
	err error
}

func newOwnFiles(s spec.Settings, reg prometheus.Registerer, log *slog.Logger, now func() time.Time, tell func()) *ownFiles {
	o := &ownFiles{log: log, now: now, tell: tell, until: promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{
		Name: "divert_certificate_expiry_timestamp_seconds", Help: "When the certificates end that this director shows or trusts, by where its settings name them.",
	}, []string{"use"})}
	for _, f := range []ownFile{
		{"api.tls.cert", s.API.TLS.Cert},
		{"api.tls.clientCA", s.API.TLS.ClientCA},
		{"dns.tls.cert", s.DNS.TLS.Cert},
		{"etcd.tls.cert", s.Etcd.TLS.Cert},
		{"etcd.tls.ca", s.Etcd.TLS.CA},
		{"etcd.member.tls.cert", s.Etcd.Member.TLS.Cert},
		{"etcd.member.tls.ca", s.Etcd.Member.TLS.CA},
	} {
		if f.name != "" {
			o.files = append(o.files, f)
		}
	}
	return o
}

func (o *ownFiles) run(ctx context.Context) error {
	tick := time.NewTicker(ownTick)
	defer tick.Stop()
	for {
		o.look()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look reads the files.
func (o *ownFiles) look() {
	var list []ownCertificate
	for _, f := range o.files {
		c := ownCertificate{ownFile: f}
		raw, err := fsys.ReadFile(fsys.OS{}, f.name, maxOwnPEM)
		if err == nil {
			c.end, err = earliestEnd(raw)
		}
		if c.err = err; err == nil {
			o.until.WithLabelValues(f.use).Set(float64(c.end.Unix()))
		}
		list = append(list, c)
	}
	o.last.Store(&list)
	if after := o.alerts(); !slices.Equal(after, o.told) {
		for _, text := range after {
			if !slices.Contains(o.told, text) {
				o.log.Warn("own certificate", slog.String("why", text))
			}
		}
		o.told = after
		o.tell()
	}
}

// alerts says which certificates end soon, or cannot be read.
func (o *ownFiles) alerts() []string {
	last := o.last.Load()
	if last == nil {
		return nil
	}
	var out []string
	for _, c := range *last {
		left := c.end.Sub(o.now())
		remedy := fmt.Sprintf("renew it (`divert fleet renew` does, for a fleet that `divert fleet init` laid out), and put it there: it is read again without a restart (%s)", c.use)
		switch {
		case c.err != nil:
			out = append(out, fmt.Sprintf("the certificate in %s cannot be read (%s): %s", c.name, c.use, c.err))
		case left <= 0:
			out = append(out, fmt.Sprintf("the certificate in %s has expired at %s: %s", c.name, c.end.UTC().Format(time.RFC3339), remedy))
		case left < ownPresses:
			out = append(out, fmt.Sprintf("it presses: the certificate in %s expires in %s, at %s: %s", c.name, spec.FormatDuration(left.Truncate(coarse(left))), c.end.UTC().Format(time.RFC3339), remedy))
		case left < ownWarns:
			out = append(out, fmt.Sprintf("the certificate in %s expires in %s, at %s: %s", c.name, spec.FormatDuration(left.Truncate(coarse(left))), c.end.UTC().Format(time.RFC3339), remedy))
		}
	}
	return out
}

// earliestEnd gives when the first of a file's certificates ends: with a chain, or several
// authorities, that is when somebody is no longer taken.
func earliestEnd(raw []byte) (end time.Time, err error) {
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return time.Time{}, fmt.Errorf("reading a certificate: %w", err)
		}
		if end.IsZero() || cert.NotAfter.Before(end) {
			end = cert.NotAfter
		}
	}
	if end.IsZero() {
		return time.Time{}, errors.New("it holds no certificate")
	}
	return end, nil
}
