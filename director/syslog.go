package director

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/store/fsys"
)

const (
	syslogTick  = 2 * time.Second
	syslogRetry = 10 * time.Second // after a server that was away
	syslogWait  = 5 * time.Second  // to connect, and for each write
	syslogBatch = 100              // records between two notes of how far it came
	syslogFile  = "syslog"
	maxSyslogCA = 1 << 20
)

// syslogger sends the sealed audit records to a syslog server. What waits for it is the
// sealed log itself, so that nothing is held in memory, however long the server is away,
// and nothing waits for it. It notes on the disk how far it came.
type syslogger struct {
	address string // scheme://host:port
	format  audit.Format
	ca      string
	name    string
	version string
	dir     string
	view    func() *sealView
	log     *slog.Logger
	now     func() time.Time
	shown   *syslogMetrics
	changed func()

	trouble atomic.Pointer[string] // why nothing is sent; nil: it is. By run

	// By run alone.
	conn  net.Conn
	fleet string
	next  int64 // record to be sent
	known bool  // next is
	retry time.Time
}

type syslogMetrics struct {
	sent, errors prometheus.Counter
	waiting      prometheus.Gauge
}

func newSyslogMetrics(reg prometheus.Registerer) *syslogMetrics {
	f := promauto.With(reg)
	return &syslogMetrics{
		sent:    f.NewCounter(prometheus.CounterOpts{Name: "divert_audit_syslog_sent_total", Help: "Sealed audit records that were sent to the syslog server."}),
		errors:  f.NewCounter(prometheus.CounterOpts{Name: "divert_audit_syslog_errors_total", Help: "Times that the syslog server could not be reached, or took no more."}),
		waiting: f.NewGauge(prometheus.GaugeOpts{Name: "divert_audit_syslog_waiting", Help: "Sealed audit records that are still to be sent to the syslog server."}),
	}
}

// newSyslogger gives nil where the settings name no server.
func (d *Director) newSyslogger() *syslogger {
	s := d.settings.Audit.Syslog
	if s.Address == "" {
		return nil
	}
	format, _ := audit.ParseFormat(s.Format) // the settings were checked
	return &syslogger{
		address: s.Address, format: format, ca: s.CA, name: d.settings.Name, version: d.opts.Version, dir: filepath.Join(d.settings.DataDir, sealFolder),
		view: d.sealedNow, log: d.log, now: d.now, shown: newSyslogMetrics(d.registry), changed: d.changes.tell,
	}
}

// run sends until ctx ends. A nil one sends nothing.
func (s *syslogger) run(ctx context.Context) {
	if s == nil {
		return
	}
	defer s.hangUp()
	tick := time.NewTicker(syslogTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.step(ctx)
		}
	}
}

// step sends what is sealed and not sent yet.
func (s *syslogger) step(ctx context.Context) {
	v := s.view()
	if v == nil || s.now().Before(s.retry) {
		return
	}
	err := s.begin(v)
	for err == nil && s.next < v.headOf.Size && ctx.Err() == nil {
		err = s.send(ctx, v)
	}
	s.shown.waiting.Set(float64(max(0, v.headOf.Size-s.next)))
	if ctx.Err() != nil {
		return
	}
	s.note(err)
}

// note tells people whether it goes on.
func (s *syslogger) note(err error) {
	if err == nil {
		if s.trouble.Swap(nil) != nil {
			s.log.Info("audit records are sent to syslog again", slog.String("server", s.address))
			s.changed()
		}
		return
	}
	s.hangUp()
	s.shown.errors.Inc()
	s.retry = s.now().Add(syslogRetry)
	why := err.Error()
	if old := s.trouble.Swap(&why); old == nil {
		s.log.Warn("audit records are not sent to syslog: they wait on this disk", slog.String("server", s.address), slog.Any("err", err))
		s.changed()
	}
}

// alert says why nothing is sent; "" = it is.
func (s *syslogger) alert() string {
	if s == nil {
		return ""
	}
	if why := s.trouble.Load(); why != nil {
		return fmt.Sprintf("audit records are not sent to syslog at %s, and wait on this director's disk: %s", s.address, *why)
	}
	return ""
}

// begin finds how far it came, by what the disk says. A server that was not told of
// anything yet is told of what comes from now on.
func (s *syslogger) begin(v *sealView) error {
	if s.known && s.fleet == v.fleet {
		return nil
	}
	raw, err := fsys.ReadFile(fsys.OS{}, s.path(v.fleet), 64)
	next, bad := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	case err != nil || bad != nil || next < 0:
		next = v.headOf.Size
		if err := s.keep(v.fleet, next); err != nil {
			return err
		}
	}
	s.fleet, s.next, s.known = v.fleet, min(next, v.headOf.Size), true
	return nil
}

func (s *syslogger) path(fleet string) string { return filepath.Join(s.dir, fleet, syslogFile) }

func (s *syslogger) keep(fleet string, next int64) error {
	return fsys.Folder{FS: fsys.OS{}, Dir: filepath.Join(s.dir, fleet)}.Replace(syslogFile, fmt.Appendln(nil, next))
}

var errBatch = errors.New("enough for now")

// send sends some records, and then notes that they were. After a break the batch under
// way comes again: a receiver tells it by its revision.
func (s *syslogger) send(ctx context.Context, v *sealView) error {
	if err := s.dial(ctx); err != nil {
		return err
	}
	next := s.next
	err := v.tiles.Each(ctx, next, func(n int64, raw []byte) error {
		if n >= v.headOf.Size || n >= s.next+syslogBatch {
			return errBatch
		}
		a, err := audit.ReadRecord(raw)
		if err != nil {
			return err
		}
		if err := s.write(audit.Syslog(s.format, a, n, v.fleet, s.name, s.version)); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
		next = n + 1
		return nil
	})
	if err != nil && !errors.Is(err, errBatch) {
		return err
	}
	if err := s.alive(); err != nil {
		return err
	}
	if err := s.keep(v.fleet, next); err != nil {
		return err
	}
	s.shown.sent.Add(float64(next - s.next))
	s.next = next
	return nil
}

func (s *syslogger) stream() bool { return !strings.HasPrefix(s.address, "udp://") }

// write sends one message: as a datagram (RFC 5426), or with its length before it (RFC
// 6587, RFC 5425).
func (s *syslogger) write(message []byte) error {
	if s.stream() {
		message = append(fmt.Appendf(nil, "%d ", len(message)), message...)
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(syslogWait)); err != nil {
		return err
	}
	_, err := s.conn.Write(message)
	return err
}

// dial connects where nothing is, or what was has hung up.
func (s *syslogger) dial(ctx context.Context) error {
	if s.conn != nil && s.alive() == nil {
		return nil
	}
	s.hangUp()
	scheme, at, _ := strings.Cut(s.address, "://")
	ctx, cancel := context.WithTimeout(ctx, syslogWait)
	defer cancel()
	var err error
	switch scheme {
	case "tls":
		var roots *x509.CertPool // nil: those of the system
		if s.ca != "" {
			pem, err := fsys.ReadFile(fsys.OS{}, s.ca, maxSyslogCA)
			if err != nil {
				return fmt.Errorf("reading the certificates of audit.syslog.ca: %w", err)
			}
			if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(pem) {
				return fmt.Errorf("%s holds no certificate", s.ca)
			}
		}
		s.conn, err = (&tls.Dialer{Config: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", at)
	default:
		s.conn, err = (&net.Dialer{}).DialContext(ctx, scheme, at)
	}
	if err != nil {
		s.conn = nil // not a nil of another type
		return fmt.Errorf("connecting: %w", err)
	}
	return nil
}

// alive tells whether a server has hung up: what is written to it then is lost, and
// nobody says so. What it says is read and not looked at.
func (s *syslogger) alive() error {
	if !s.stream() {
		return nil
	}
	if err := s.conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return err
	}
	buf := make([]byte, 512)
	if _, err := s.conn.Read(buf); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the server hung up: %w", err)
	}
	return nil
}

func (s *syslogger) hangUp() {
	if s.conn != nil {
		_ = s.conn.Close() // all that could be said was
		s.conn = nil
	}
}
