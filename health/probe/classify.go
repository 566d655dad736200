package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/divertdns/divert/health"
)

// A local failure says nothing about the target. An error that the kernel
// gives before a packet has left is local too, whatever its number.
func isLocal(err error) bool {
	for _, e := range []syscall.Errno{
		syscall.EADDRNOTAVAIL, syscall.EADDRINUSE, syscall.EAFNOSUPPORT, syscall.EMFILE, syscall.ENFILE,
		syscall.ENOBUFS, syscall.ENOMEM, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EACCES, syscall.EPERM,
		syscall.EINVAL,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// dialFailure judges why a connection did not come about.
func dialFailure(err error) outcome {
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		return outcome{void: true, reason: refused.Error()}
	case isTimeout(err):
		return outcome{reason: "timeout connecting", timeout: true}
	case isLocal(err):
		return outcome{void: true, reason: "our own side: " + errnoText(err)}
	default:
		return brokenOff(err)
	}
}

// brokenOff is a refusal, a reset, or an end before a whole answer: what a server that is
// being restarted shows, too, so it weighs no more than a lost packet.
func brokenOff(err error) outcome {
	return outcome{reason: errnoText(err), sign: health.SignRefused}
}

// ioFailure judges why an exchange broke off, at the stage given.
func ioFailure(err error, stage string) outcome {
	if isTimeout(err) {
		return outcome{reason: stage, sign: health.SignMute}
	}
	return brokenOff(err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.ETIMEDOUT) || errors.As(err, &timeout) && timeout.Timeout()
}

// errnoText gives the kernel's words alone, so that reasons do not differ by
// port numbers.
func errnoText(err error) string {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed by the peer"
	case errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed):
		return "called off"
	default:
		return "connection failed"
	}
}

// tlsFailure judges a handshake. Its words are ours: the certificate's own
// text is the target's to choose, and does not reach a log or a screen.
func tlsFailure(err error, r *request) outcome {
	var (
		invalid   x509.CertificateInvalidError
		hostname  x509.HostnameError
		authority x509.UnknownAuthorityError
		record    tls.RecordHeaderError
		alert     *net.OpError // crypto/tls marks an alert of the server's so
		roots     x509.SystemRootsError
		other     *tls.CertificateVerificationError
		errno     syscall.Errno
	)
	switch {
	case isTimeout(err):
		return outcome{reason: "timeout in the TLS handshake", sign: health.SignMute}
	case errors.As(err, &roots):
		return outcome{void: true, reason: "our own side: no system roots"}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return wrong(validity(invalid.Cert, time.Now()))
	case errors.As(err, &hostname):
		return wrong("certificate is not for " + r.tls.ServerName)
	case errors.As(err, &authority):
		return wrong("certificate signed by an unknown authority")
	case errors.As(err, &invalid), errors.As(err, &other):
		return wrong("certificate not valid")
	case errors.As(err, &record):
		return wrong("not TLS")
	case errors.As(err, &alert) && alert.Op == "remote error":
		return wrong("TLS alert: " + strings.TrimPrefix(alert.Err.Error(), "tls: "))
	case errors.As(err, &errno), errors.Is(err, io.EOF), errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed):
		return outcome{reason: errnoText(err) + " in the TLS handshake", sign: health.SignRefused}
	default:
		return wrong("TLS handshake failed")
	}
}

// wrong is an answer that is not the wanted one.
func wrong(reason string) outcome { return outcome{reason: reason, sign: health.SignWrong} }

func validity(cert *x509.Certificate, now time.Time) string {
	switch {
	case cert == nil:
		return "certificate expired"
	case now.Before(cert.NotBefore):
		return "certificate not valid before " + cert.NotBefore.UTC().Format(time.RFC3339)
	default:
		return "certificate expired at " + cert.NotAfter.UTC().Format(time.RFC3339)
	}
}

// refusedError is the policy's word, said at dial time.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }
