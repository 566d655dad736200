package api

import (
	"bufio"
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
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
)

// What the client takes from a server.
const (
	maxAnswer  = 64 << 20         // octets of one answer, event or outcome
	askTimeout = 10 * time.Second // for an answer that nothing is waited for
	slack      = 5 * time.Second  // on top of what a command may wait
	attempts   = 4                // at a command whose connection breaks
)

// Client talks to one director.
type Client struct {
	// Server is whom it talks to: "unix:/path", "https://host:port" or "http://host:port".
	Server string
	// Others are further local directors that answer; only where the server was
	// looked for rather than named.
	Others []string

	http  *http.Client
	base  string
	pause time.Duration // between attempts
}

// Error is a director's "no" to a request that is not a command.
type Error struct {
	Code   int // HTTP status
	Reason string
	Remedy string
}

func (e *Error) Error() string {
	if e.Remedy == "" {
		return e.Reason
	}
	return e.Reason + ": " + e.Remedy
}

// Status asks for the status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.get(ctx, "/v1/status", nil, &s)
}

// Explain asks what a client, "" for one of unknown place, is told for a host.
func (c *Client) Explain(ctx context.Context, host, client string) (Explanation, error) {
	q := url.Values{"host": {host}}
	if client != "" {
		q.Set("client", client)
	}
	var e Explanation
	return e, c.get(ctx, "/v1/explain", q, &e)
}

// ExplainAt asks what a client was told at an instant, as ParseTime reads it.
func (c *Client) ExplainAt(ctx context.Context, host, client, at string) (Explanation, error) {
	q := url.Values{"host": {host}, "at": {at}}
	if client != "" {
		q.Set("client", client)
	}
	var e Explanation
	return e, c.getFor(ctx, explainWait+slack, "/v1/explain", q, &e)
}

// Spec asks for every resource of the fleet, as written.
func (c *Client) Spec(ctx context.Context) ([]spec.Raw, error) {
	var raws []spec.Raw
	return raws, c.get(ctx, "/v1/spec", nil, &raws)
}

func (c *Client) get(ctx context.Context, path string, q url.Values, into any) error {
	return c.getFor(ctx, askTimeout, path, q, into)
}

func (c *Client) getFor(ctx context.Context, wait time.Duration, path string, q url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	resp, err := c.open(ctx, path, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", c.Server, err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("the answer of %s to %s is not what a director says: %w", c.Server, path, err)
	}
	return nil
}

// open sends a GET and gives its answer when that is a success.
func (c *Client) open(ctx context.Context, path string, q url.Values) (*http.Response, error) {
	target := c.base + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, c.refused(resp)
	}
	return resp, nil
}

// Watch calls show with the status at once and at each change, until ctx ends,
// show fails, or the connection breaks.
func (c *Client) Watch(ctx context.Context, show func(Status) error) error {
	resp, err := c.open(ctx, "/v1/events", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 64<<10), maxAnswer)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue // the event's name, a comment, the end of an event
		}
		var s Status
		if err := json.Unmarshal(data, &s); err != nil {
			return fmt.Errorf("an event of %s is not a status: %w", c.Server, err)
		}
		if err := show(s); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("following %s: %w", c.Server, err)
	}
	return fmt.Errorf("following %s: %w", c.Server, io.ErrUnexpectedEOF)
}

// Do sends a command and follows it until its final outcome, which it returns;
// progress, which may be nil, sees those before. A connection that breaks is
// taken up again with the same ID, so that nothing is done twice. A refusal is
// an outcome with its code, not an error; an error means that the director
// never took the command.
func (c *Client) Do(ctx context.Context, command core.Command, wait time.Duration, progress func(Outcome)) (Outcome, error) {
	body, err := json.Marshal(command)
	if err != nil {
		return Outcome{}, fmt.Errorf("writing the command as JSON: %w", err)
	}
	return c.send(ctx, "/v1/commands?timeout="+url.QueryEscape(wait.String()), body, command.ID, wait, progress)
}

func (c *Client) send(ctx context.Context, path string, body []byte, id string, wait time.Duration, progress func(Outcome)) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+slack)
	defer cancel()
	most := attempts
	if id == "" {
		most = 1 // without an ID a repetition would be another command
	}
	last, begun := Outcome{ID: id}, false
	for attempt := 1; ; attempt++ {
		o, sent, err := c.try(ctx, path, reader(body), func(o Outcome) {
			last = o
			if progress != nil {
				progress(o)
			}
		})
		if err == nil {
			return o, nil
		}
		if begun = begun || sent; !begun {
			return Outcome{}, err
		}
		if attempt == most || !pause(ctx, c.pause) {
			return unknown(last, err), nil
		}
	}
}

// unknown is the outcome of a command that the client lost sight of.
func unknown(last Outcome, err error) Outcome {
	last.Code, last.Final, last.Error = 3, true, "the command was sent, and sight of it was lost: "+err.Error()
	switch {
	case last.Revision > 0:
		last.Remedy = "the change is committed; see `divert status` for who has it"
	case last.ID != "":
		last.Remedy = "what became of it is unknown; repeat it with --id " + last.ID + ", here or at another director: nothing is done twice"
	default:
		last.Remedy = "what became of it is unknown; see `divert status`"
	}
	return last
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// unsent tells whether a request failed before anything of it left: no connection was made,
// or this side broke its handshake off.
func unsent(err error) bool {
	var (
		op        *net.OpError
		unsigned  *unsignedError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
	)
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &unsigned) || errors.As(err, &authority) || errors.As(err, &name)
}

// try sends once. sent tells whether the director may have taken the command
// when the error is not nil.
func (c *Client) try(ctx context.Context, path string, body io.Reader, progress func(Outcome)) (final Outcome, sent bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, body)
	if err != nil {
		return Outcome{}, false, err
	}
	switch body.(type) {
	case nil:
	case *bytes.Reader:
		req.Header.Set("Content-Type", "application/json")
	default:
		req.Header.Set("Content-Type", octets)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Outcome{}, !unsent(err), c.unreachable(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") != ndjson {
		return Outcome{}, false, c.refused(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 64<<10), maxAnswer)
	for lines.Scan() {
		var o Outcome
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return Outcome{}, true, fmt.Errorf("an outcome of %s cannot be read: %w", c.Server, err)
		}
		if o.Final {
			return o, true, nil
		}
		progress(o)
	}
	if err := lines.Err(); err != nil {
		return Outcome{}, true, fmt.Errorf("following the command at %s: %w", c.Server, err)
	}
	return Outcome{}, true, fmt.Errorf("following the command at %s: %w", c.Server, io.ErrUnexpectedEOF)
}
