package dnsserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// TLSOptions is DNS over TLS (RFC 7858). Without addresses there is none.
type TLSOptions struct {
	Listen    []string // as Options.Listen
	Cert, Key string   // PEM files, read again when they change
}

const (
	// certificateTick is how often the files are looked at.
	certificateTick = 5 * time.Second
	maxPEM          = 1 << 20 // octets
)

// certificate is what this server shows of itself. Its files are looked at again and
// again, since whoever renews them tells nobody.
type certificate struct {
	certFile, keyFile string
	config            *tls.Config
	log               *slog.Logger
	reloads           [2]atomic.Uint64
	current           atomic.Pointer[tls.Certificate] // by New at the start, then by watch; nil: none that is good yet

	// Of watch alone.
	loaded, last [2][]byte // what is in force, and what stood there at the last look
	blamed       bool      // what stood there was refused, and that was said
}

// The results of what is tried.
const (
	passed = iota
	failed
)

// newCertificate reads the files for the first time. With a pair that is no good it
// goes on without one: whoever renews certificates at night must not be able to keep
// a director from answering by UDP in the morning (S12).
func newCertificate(o TLSOptions, log *slog.Logger, now time.Time) *certificate {
	c := &certificate{certFile: o.Cert, keyFile: o.Key, log: log}
	c.config = &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if pair := c.current.Load(); pair != nil {
				return pair, nil
			}
			return nil, errNoCertificate
		},
		MinVersion: tls.VersionTLS12,
		// A client that names protocols must name this one (RFC 7301); most name none.
		NextProtos: []string{"dot"},
	}
	files, err := c.read()
	if err == nil {
		c.last = files
		err = c.take(files, now)
	}
	if err != nil {
		c.blame(err)
	}
	return c
}

var errNoCertificate = errors.New("there is no certificate")

// handshake makes a connection secure, within the deadline that it has.
func (c *certificate) handshake(conn net.Conn) (net.Conn, error) {
	secure := tls.Server(conn, c.config)
	if err := secure.Handshake(); err != nil {
		return nil, err
	}
	return secure, nil
}

// watch takes a new pair into force until ctx ends.
func (c *certificate) watch(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			c.look(now)
		}
	}
}

// look takes what stands in the files if it stood there at the last look, too: two
// files are not written at once. What is no good leaves the old pair in force.
func (c *certificate) look(now time.Time) {
	files, err := c.read()
	if err == nil {
		stood := same2(files, c.last)
		c.last = files
		switch {
		case same2(files, c.loaded):
			c.blamed = false
			return
		case !stood:
			c.blamed = false
			return // and again at the next look
		case c.blamed:
			return
		}
		err = c.take(files, now)
	}
	if err == nil {
		c.blamed = false
		c.reloads[passed].Add(1)
		c.log.Info("certificate for DNS over TLS renewed", slog.String("file", c.certFile), slog.Time("until", c.current.Load().Leaf.NotAfter))
		return
	}
	if !c.blamed {
		c.blame(err)
	}
}

// blame says once what is wrong with what stands in the files.
func (c *certificate) blame(err error) {
	c.blamed = true
	c.reloads[failed].Add(1)
	if old := c.current.Load(); old != nil {
		c.log.Error("the new certificate for DNS over TLS is no good; the old one stays", slog.Any("err", err), slog.Time("until", old.Leaf.NotAfter))
		return
	}
	c.log.Error("DNS over TLS has no certificate: no client can use it until the files are good", slog.Any("err", err))
}

func (c *certificate) take(files [2][]byte, now time.Time) error {
	pair, err := tls.X509KeyPair(files[0], files[1])
	if err != nil {
		return fmt.Errorf("%s and %s: %w", c.certFile, c.keyFile, err)
	}
	if now.After(pair.Leaf.NotAfter) && c.current.Load() != nil { // else it is better than none
		return fmt.Errorf("%s has expired at %s", c.certFile, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	c.loaded = files
	c.current.Store(&pair)
	return nil
}

func (c *certificate) read() (files [2][]byte, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if files[i], err = readBounded(name, maxPEM); err != nil {
			return files, err
		}
	}
	return files, nil
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

func same2(a, b [2][]byte) bool { return bytes.Equal(a[0], b[0]) && bytes.Equal(a[1], b[1]) }
