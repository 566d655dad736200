package probe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"

	"github.com/divertdns/divert/health"
)

// Bounds of an answer. What lies behind them is not read.
const (
	maxHeader   = 16 << 10
	maxBody     = 64 << 10
	maxInterim  = 16 // answers before the answer: without an end they would hold up the loop that reads them
	maxAttempts = 64 // at finding the end of a chunked body, per answer
)

// response judges an answer while it comes in. It does no I/O: the reader,
// whichever it is, puts bytes into room() and tells add. The zero value with a
// request is ready.
type response struct {
	req      *request
	buf      []byte
	seen     int // no header ends before here
	body     int // where the body starts; 0 = header not complete
	length   int64
	chunked  bool
	interim  int
	attempts int
	reusable bool    // the connection, once add has said done and all is well
	next     int     // length at which a chunked body is decoded again whatever it ends in
	out      outcome // in force once add has said done
}

// room gives where to read to. It is never empty while add says not done.
func (r *response) room() []byte {
	if r.buf == nil {
		r.buf = make([]byte, 0, 4<<10)
	}
	if cap(r.buf)-len(r.buf) < 1<<10 {
		r.buf = slices.Grow(r.buf, cap(r.buf))
	}
	return r.buf[len(r.buf):cap(r.buf)]
}

// add takes n more octets and whether the peer has ended, and says whether
// the outcome is settled. Its latency is the caller's to fill in.
func (r *response) add(n int, end bool) (done bool) {
	r.buf = r.buf[:len(r.buf)+n]
	for r.body == 0 {
		i := headerEnd(r.buf[r.seen:])
		if i >= 0 {
			i += r.seen
		}
		switch {
		case i < 0 && end && len(r.buf) == 0:
			return r.cut("closed without an answer")
		case i < 0 && end:
			return r.cut("answer cut off in the header")
		case i < 0 && len(r.buf) > maxHeader, i > maxHeader:
			return r.fail("header too long")
		case i < 0:
			r.seen = max(0, len(r.buf)-3)
			return false
		}
		if done := r.header(i); done {
			return true
		}
	}
	return r.content(end)
}

func (r *response) fail(reason string) bool {
	r.out = wrong(reason)
	return true
}

// cut is fail where the peer has ended too early.
func (r *response) cut(reason string) bool {
	r.out = outcome{reason: reason, sign: health.SignRefused}
	return true
}

// headerEnd gives the index behind the blank line, or -1.
func headerEnd(b []byte) int {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return -1
		}
		at += i + 1
		rest := b[at:]
		if len(rest) > 0 && rest[0] == '\n' {
			return at + 1
		}
		if len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n' {
			return at + 2
		}
	}
}

// header reads the status line and the framing. What a server wrote is never
// put into a reason.
func (r *response) header(end int) (done bool) {
	h, ok := parseHeader(r.buf[:end])
	if !ok {
		return r.fail("malformed HTTP answer")
	}
	if h.status >= 100 && h.status < 200 && h.status != http.StatusSwitchingProtocols {
		if r.interim++; r.interim > maxInterim {
			return r.fail("too many interim answers")
		}
		r.buf, r.seen = append(r.buf[:0], r.buf[end:]...), 0 // interim, RFC 9110 section 15.2
		return false
	}
	if !r.status(h.status) {
		return true
	}
	r.body, r.length, r.chunked, r.reusable = end, h.length, h.chunked, !h.close
	if r.req.head || h.status == http.StatusNoContent || h.status == http.StatusNotModified {
		r.length, r.chunked = 0, false
	}
	return false
}

// status says whether it is a wanted one.
func (r *response) status(got int) bool {
	switch {
	case slices.Contains(r.req.statuses, got):
		return true
	case got >= 300 && got < 400:
		r.fail("status " + strconv.Itoa(got) + " (redirects are not followed)")
	default:
		r.fail("status " + strconv.Itoa(got))
	}
	return false
}

// content waits for the whole body or its first 64 KiB: a server that hangs
// in the middle of a page is not well, whatever its status line said.
func (r *response) content(end bool) (done bool) {
	raw := r.buf[r.body:]
	switch {
	case r.chunked:
		return r.chunks(raw, end)
	case r.length >= 0 && int64(len(raw)) >= r.length:
		r.reusable = r.reusable && int64(len(raw)) == r.length && !end
		return r.match(raw[:r.length])
	case len(raw) >= maxBody:
		r.reusable = false
		return r.match(raw)
	case end && r.length >= 0:
		return r.cut("body cut off")
	case end:
		r.reusable = false
		return r.match(raw)
	}
	return false
}

func (r *response) chunks(raw []byte, end bool) (done bool) {
	full := len(raw) >= 2*maxBody // framing may take as much again, not more
	switch {
	case end, full:
	case len(raw) >= max(r.next, maxBody):
		r.next = len(raw) + maxBody/8
	case bytes.HasSuffix(raw, []byte("\r\n\r\n")) && r.attempts < maxAttempts:
		// So end the last chunk and its trailers. Looking only then, and not
		// for ever, keeps a drip of octets from costing much.
		r.attempts++
	default:
		return false
	}
	body, err := io.ReadAll(io.LimitReader(httputil.NewChunkedReader(bytes.NewReader(raw)), maxBody))
	switch {
	case err == nil || len(body) >= maxBody:
		r.reusable = r.reusable && err == nil && !end && bytes.HasSuffix(raw, []byte("0\r\n\r\n"))
		return r.match(body)
	case !errors.Is(err, io.ErrUnexpectedEOF) || full:
		return r.fail("malformed HTTP answer")
	case end:
		return r.cut("body cut off")
	}
	return false
}

func (r *response) match(body []byte) bool {
	body = body[:min(len(body), maxBody)]
	if r.req.body != "" && !bytes.Contains(body, []byte(r.req.body)) {
		return r.fail(fmt.Sprintf("body lacks %.64q", r.req.body))
	}
	if r.req.pattern != nil && !r.req.pattern.Match(body) {
		return r.fail(fmt.Sprintf("body does not match %.64q", r.req.pattern))
	}
	r.out = outcome{ok: true}
	return true
}

// stage says how far an answer got, for the reason of a timeout.
func (r *response) stage() string {
	switch {
	case len(r.buf) == 0:
		return "timeout waiting for the answer"
	case r.body == 0:
		return "timeout in the header"
	default:
		return "timeout in the body"
	}
}
