package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/divertdns/divert/health"
)

// Whether HTTP/2 is spoken.
const (
	h2Never = iota
	h2Maybe // if the server chooses it
	h2Only
)

// errSpent is said to a client that wants a second connection.
var errSpent = errors.New("the connection is spent")

// http2 sends a request over a connection that stands, and gives the answer with its
// body's first octets, those of an answer that is not wanted left where they are. The client of net/http has one connection and no more: it
// follows no redirect, asks no proxy, keeps no cookie, and what lies behind the bounds
// of an answer is not received.
func http2(ctx context.Context, conn net.Conn, page *http.Request, content string, wanted func(*http.Response) bool) (*http.Response, []byte, outcome) {
	spent, said := false, &hearing{Conn: conn}
	if page.URL.Scheme == "http" { // of TLS the client wants its own kind of connection
		conn = said
	}
	dial := func(context.Context, string, string) (net.Conn, error) {
		if spent {
			return nil, errSpent
		}
		spent = true
		return conn, nil
	}
	secure := page.URL.Scheme == "https"
	protocols := &http.Protocols{}
	protocols.SetHTTP2(secure)
	protocols.SetUnencryptedHTTP2(!secure)
	transport := &http.Transport{
		DialContext: dial, DialTLSContext: dial, Protocols: protocols,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream: maxBody, MaxReceiveBufferPerConnection: maxBody, MaxReadFrameSize: 16 << 10,
		},
	}
	client, err := transport.NewClientConn(ctx, page.URL.Scheme, "target:1") // the name is never looked at
	if err != nil {
		return nil, nil, h2Failure(ctx, err, said, "timeout waiting for the answer")
	}
	defer func() { _ = client.Close() }()
	page = page.WithContext(ctx)
	if content != "" {
		page.Body, page.ContentLength = io.NopCloser(strings.NewReader(content)), int64(len(content))
	}
	answer, err := client.RoundTrip(page)
	if err != nil {
		return nil, nil, h2Failure(ctx, err, said, "timeout waiting for the answer")
	}
	defer func() { _ = answer.Body.Close() }()
	if !wanted(answer) {
		return answer, nil, outcome{ok: true}
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxBody))
	if err != nil {
		if out := h2Failure(ctx, err, said, "timeout in the body"); len(body) < maxBody {
			return answer, body, out
		}
	}
	return answer, body, outcome{ok: true}
}

// h2Failure judges why HTTP/2 broke off. What the client says quotes the server.
func h2Failure(ctx context.Context, err error, said *hearing, stage string) outcome {
	switch {
	case isTimeout(err), ctx.Err() != nil:
		return outcome{reason: stage, sign: health.SignMute}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errnoText(err) != "connection failed":
		return brokenOff(err)
	case isUnusable(err) && !said.any.Load():
		return brokenOff(io.EOF)
	default:
		return wrong("malformed HTTP/2 answer")
	}
}

// http2Page asks for a page.
func (r *request) http2Page(ctx context.Context, conn net.Conn) outcome {
	judge := response{req: r}
	answer, body, out := http2(ctx, conn, r.page, r.content, func(a *http.Response) bool { return judge.status(a.StatusCode) })
	if answer != nil && out.ok && judge.out == (outcome{}) {
		judge.match(body)
		return judge.out
	}
	if judge.out != (outcome{}) {
		return judge.out
	}
	return out
}

// hearing is a connection that knows whether anything was ever read from it.
type hearing struct {
	net.Conn
	any atomic.Bool
}

// Read is net.Conn's.
func (h *hearing) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	if n > 0 {
		h.any.Store(true)
	}
	return n, err
}

// isUnusable tells whether a connection ended before the client could use it, for which
// net/http has words and no exported error.
func isUnusable(err error) bool {
	switch err.Error() {
	case "http2: client conn could not be established", "http2: client conn is closed", "http2: client conn not usable", "http2: client connection lost":
		return true
	}
	return false
}
