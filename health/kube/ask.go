package kube

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

// client asks one API server.
type client struct {
	url     *url.URL
	http    *http.Client
	timeout time.Duration // of each question
}

const (
	maxAnswer = 16 << 10
	plainJSON = "application/json"
)

// look asks the three questions side by side: a round is as slow as its
// slowest answer, and they are about the same moment.
func (c *client) look(ctx context.Context) Endpoint {
	var livez, noEtcd, readyz answer
	var latency time.Duration
	var wg sync.WaitGroup
	wg.Go(func() {
		start := time.Now()
		if livez = c.ask(ctx, "livez", ""); livez.status != 0 {
			latency = time.Since(start)
		}
	})
	wg.Go(func() { noEtcd = c.ask(ctx, "livez", "exclude=etcd") })
	wg.Go(func() { readyz = c.ask(ctx, "readyz", "verbose") })
	wg.Wait()
	e := Endpoint{URL: c.url.String(), Latency: latency}
	e.State, e.Reason = judge(livez, noEtcd, readyz)
	return e
}

func (c *client) ask(ctx context.Context, path, query string) answer {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	target := c.url.JoinPath(path)
	target.RawQuery = query
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return answer{void: true, reason: "cannot be asked"}
	}
	response, err := c.http.Do(request)
	if err != nil {
		return failure(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil && response.StatusCode == http.StatusOK {
		return failure(err)
	}
	return answer{status: response.StatusCode, failed: failedChecks(body)}
}

// get asks for an object and decodes it, of at most so many octets.
func (c *client) get(ctx context.Context, path string, query url.Values, accept string, most int64, into any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	target := c.url.JoinPath(path)
	target.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return errors.New("cannot be asked")
	}
	request.Header.Set("Accept", accept)
	response, err := c.http.Do(request)
	if err != nil {
		return errors.New(failure(err).reason)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	switch {
	case response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden:
		return fmt.Errorf("credentials refused: status %d", response.StatusCode)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d", response.StatusCode)
	case err != nil:
		return errors.New(failure(err).reason)
	case int64(len(body)) > most:
		return fmt.Errorf("an answer of more than %d bytes", most)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return errors.New("an answer that is not what was asked for") // its words may quote the answer
	}
	return nil
}

// version is what the server says of itself, "" if it does not.
func (c *client) version(ctx context.Context) string {
	var v struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := c.get(ctx, "version", nil, plainJSON, maxAnswer, &v); err != nil || len(v.GitVersion) > 64 || !versionText(v.GitVersion) {
		return ""
	}
	return v.GitVersion
}

// versionText: only what looks like a version is shown, and labels a metric.
func versionText(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '+' || c == '.')
	})
}

// failedChecks finds the names in an answer's "[-]etcd failed: …" lines. Only
// what looks like a name of a check is taken from it.
func failedChecks(body []byte) (names []string) {
	for line := range bytes.Lines(body) {
		rest, ok := bytes.CutPrefix(line, []byte("[-]"))
		name, _, found := bytes.Cut(rest, []byte(" "))
		if !ok || !found || len(names) == 4 {
			continue
		}
		if checkName(name) {
			names = append(names, string(name))
		}
	}
	return names
}

func checkName(b []byte) bool {
	for _, c := range b {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '/' || c == '.') {
			return false
		}
	}
	return len(b) > 0 && len(b) <= 64
}

// failure says why no answer came. What we may have brought about ourselves,
// by our own network, trust or limits, is void. An expired certificate is not:
// nobody else can use such an API server either.
func failure(err error) answer {
	var (
		invalid   x509.CertificateInvalidError
		hostname  x509.HostnameError
		authority x509.UnknownAuthorityError
		errno     syscall.Errno
		timeout   net.Error
		resolve   *net.DNSError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return answer{reason: "certificate expired or not yet valid"}
	case errors.As(err, &invalid), errors.As(err, &hostname), errors.As(err, &authority):
		return answer{void: true, reason: "its certificate is not one that the kubeconfig trusts for this name"}
	case errors.As(err, &resolve):
		return answer{void: true, reason: "its name cannot be resolved"}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return answer{reason: "timeout"}
	case errors.As(err, &errno):
		return answer{void: isLocal(errno), reason: errno.Error()}
	case errors.Is(err, context.Canceled):
		return answer{void: true, reason: "called off"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return answer{reason: "closed without an answer"}
	default:
		return answer{reason: "no answer"}
	}
}

func isLocal(errno syscall.Errno) bool {
	switch errno {
	case syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT, syscall.EMFILE,
		syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EACCES, syscall.EPERM, syscall.EINVAL:
		return true
	}
	return false
}
