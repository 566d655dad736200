package keypair

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

const (
	// Tick is how often the files are looked at.
	Tick   = 5 * time.Second
	maxPEM = 1 << 20 // octets
)

// ErrNone says that no pair has been good yet.
var ErrNone = errors.New("there is no certificate")

// Options name the files.
type Options struct {
	Cert, Key string       // PEM
	CA        string       // PEM: who signs the certificates of clients; "" = no file
	CRL       string       // PEM or DER: which of these are revoked; "" = no file, and wants CA
	Use       string       // what they are for, in the log
	Log       *slog.Logger // nil = silent
}

// Pair is what came into force together.
type Pair struct {
	tls.Certificate
	Roots *x509.CertPool // of Options.CA; nil without

	revoked map[string]bool // serial numbers, of Options.CRL
}

// Revoked tells whether a certificate of a client is in the list that is in force.
func (p *Pair) Revoked(cert *x509.Certificate) bool { return p.revoked[cert.SerialNumber.String()] }

// Files are a pair in files that others renew.
type Files struct {
	names   []string
	log     *slog.Logger
	renewed atomic.Uint64
	refused atomic.Uint64
	current atomic.Pointer[Pair] // by New at the start, then by Watch; nil: none that is good yet

	// Of Watch alone.
	loaded, last [][]byte // what is in force, and what stood there at the last look
	blamed       bool     // what stood there was refused, and that was said
}

// New reads the files for the first time. With a pair that is no good it goes on
// without one, and says so.
func New(o Options, now time.Time) *Files {
	f := &Files{names: []string{o.Cert, o.Key}, log: o.Log}
	if o.CA != "" {
		f.names = append(f.names, o.CA)
		if o.CRL != "" {
			f.names = append(f.names, o.CRL)
		}
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	f.log = f.log.With(slog.String("use", o.Use))
	read, err := f.read()
	if err == nil {
		f.last = read
		err = f.take(read, now)
	}
	if err != nil {
		f.blame(err)
	}
	return f
}

// Current is the pair in force; nil: none has been good yet.
func (f *Files) Current() *Pair { return f.current.Load() }

// Certificate is tls.Config.GetCertificate.
func (f *Files) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if pair := f.current.Load(); pair != nil {
		return &pair.Certificate, nil
	}
	return nil, ErrNone
}

// Looks says how many new pairs were found, by whether they were taken.
func (f *Files) Looks() (renewed, refused uint64) { return f.renewed.Load(), f.refused.Load() }

// Watch takes a new pair into force until ctx ends.
func (f *Files) Watch(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			f.look(now)
		}
	}
}

// look takes what stands in the files if it stood there at the last look, too: they
// are not written at once. What is no good leaves the old pair in force.
func (f *Files) look(now time.Time) {
	read, err := f.read()
	if err == nil {
		stood := same(read, f.last)
		f.last = read
		switch {
		case same(read, f.loaded):
			f.blamed = false
			return
		case !stood:
			f.blamed = false
			return // and again at the next look
		case f.blamed:
			return
		}
		err = f.take(read, now)
	}
	if err == nil {
		f.blamed = false
		f.renewed.Add(1)
		f.log.Info("certificate renewed", slog.String("file", f.names[0]), slog.Time("until", f.current.Load().Leaf.NotAfter))
		return
	}
	if !f.blamed {
		f.blame(err)
	}
}

// blame says once what is wrong with what stands in the files.
func (f *Files) blame(err error) {
	f.blamed = true
	f.refused.Add(1)
	if old := f.current.Load(); old != nil {
		f.log.Error("the new certificate is no good; the old one stays", slog.Any("err", err), slog.Time("until", old.Leaf.NotAfter))
		return
	}
	f.log.Error("there is no certificate: no client can use TLS until the files are good", slog.Any("err", err))
}

func (f *Files) take(read [][]byte, now time.Time) error {
	pair, err := tls.X509KeyPair(read[0], read[1])
	if err != nil {
		return fmt.Errorf("%s and %s: %w", f.names[0], f.names[1], err)
	}
	if now.After(pair.Leaf.NotAfter) && f.current.Load() != nil { // else it is better than none
		return fmt.Errorf("%s has expired at %s", f.names[0], pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	next := &Pair{Certificate: pair}
	if len(read) > 2 {
		next.Roots = x509.NewCertPool()
		if !next.Roots.AppendCertsFromPEM(read[2]) {
			return fmt.Errorf("%s holds no certificate", f.names[2])
		}
	}
	if len(read) > 3 {
		if next.revoked, err = parseCRL(read[3], read[2]); err != nil {
			return fmt.Errorf("%s: %w", f.names[3], err)
		}
	}
	f.loaded = read
	f.current.Store(next)
	return nil
}

func (f *Files) read() ([][]byte, error) {
	out := make([][]byte, len(f.names))
	var err error
	for i, name := range f.names {
		if out[i], err = readBounded(name, maxPEM); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s has more than %d octets", name, limit)
	}
	return b, nil
}

func same(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}
