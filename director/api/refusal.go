package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// refused is what a director answers that is no success, in its own words where it has
// some.
func (c *Client) refused(resp *http.Response) error {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what there is of it will do
	var f failure
	switch {
	case json.Unmarshal(data, &f) == nil && f.Error != "":
		if c.older(resp, f.Error) {
			f.Error = fmt.Sprintf("the director at %s is of an older version, and does not know this (%s)", c.Server, f.Error)
			f.Remedy = "upgrade it, ask another one with --server, or take a divert of its version"
		}
	case resp.StatusCode == http.StatusBadRequest && strings.Contains(string(data), "HTTP request to an HTTPS server"): // net/http's words
		f.Error = fmt.Sprintf("%s speaks TLS, and was asked without", c.Server)
		f.Remedy = "write https:// for http://, with --ca FILE of who signs the directors' certificates"
	default:
		f.Error = fmt.Sprintf("the server answered %s, which is not what a director says", resp.Status)
	}
	return &Error{Code: resp.StatusCode, Reason: f.Error, Remedy: f.Remedy}
}

// older tells whether a refusal is one of a director that this client is newer than: it
// has no such route, method, parameter, verb or field. These words are as old as the
// routes are.
func (c *Client) older(resp *http.Response, reason string) bool {
	switch resp.StatusCode {
	case http.StatusNotFound:
		return strings.HasPrefix(reason, "there is nothing at ")
	case http.StatusMethodNotAllowed:
		return true
	case http.StatusBadRequest:
		return strings.HasPrefix(reason, "unknown parameter ") || strings.Contains(reason, "unknown field ") ||
			strings.HasPrefix(reason, "verb ") && strings.Contains(reason, " is not one of ")
	}
	return false
}

// unreachable says whom nobody answered for, without net/http's wrapping, and what to do
// where TLS is why.
func (c *Client) unreachable(err error) error {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var (
		op        *net.OpError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		unsigned  *unsignedError
	)
	switch {
	case errors.As(err, &unsigned):
		return unsigned
	case errors.As(err, &authority):
		return fmt.Errorf("the certificate of %s is signed by nobody that is trusted here: give --ca FILE (DIVERT_CA) of who signs the directors' certificates: %w", c.Server, err)
	case errors.As(err, &name):
		return fmt.Errorf("the certificate of %s is another name's: write --server by a name or an address that it has: %w", c.Server, err)
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"): // net/http's words
		return fmt.Errorf("%s speaks no TLS: write http:// for https://, or set api.tls in the director's settings", c.Server)
	case errors.As(err, &op) && op.Op == "remote error": // an alert of TLS
		return fmt.Errorf("the director at %s does not take the certificate of --cert (DIVERT_CERT): it must be in force, and signed by who api.tls.clientCA of the director's settings names: %w", c.Server, op.Err)
	case errors.As(err, &op) && op.Op == "dial" && errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no director answers at %s in time", c.Server)
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("no director answers at %s: %w", c.Server, plain(op.Err))
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the director at %s took the connection and does not answer; --server asks another one: %w", c.Server, err)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted: %w", err)
	}
	return fmt.Errorf("asking %s: %w", c.Server, err)
}

// unsignedError is of a certificate that whoever is asked would not take.
type unsignedError struct{ file string }

func (e *unsignedError) Error() string {
	return fmt.Sprintf("the certificate in %s is signed by nobody whom this director takes (api.tls.clientCA of its settings): show one that is, such as `divert fleet init` makes, or a token (--token-file)", e.file)
}

// showing gives a certificate where the director takes such, as tls does by itself, but
// says so where it does not: unless a token is shown, too, nobody would be known.
func (o Credentials) showing(pair *tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		switch {
		case info.SupportsCertificate(pair) == nil:
			return pair, nil
		case o.Token != "":
			return &tls.Certificate{}, nil
		}
		return nil, &unsignedError{o.Cert}
	}
}
