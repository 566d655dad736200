package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/divertdns/divert/director/core"
)

// The bounds of questions to probe.
const (
	maxProbes    = 4 // at once; the director itself asks one at a time
	maxProbeWait = 2 * time.Minute
	maxTarget    = 320 // octets
	probePath    = "/v1/probe"
)

// probe has all directors probe a target now, and streams how far they are, one JSON
// object a line, the last one final. It changes nothing, so it may come by either
// listener; since it sends traffic it is a POST, which no link and no image of a web
// page can make, and the director limits how often.
func (s *Server) probe(w http.ResponseWriter, r *http.Request) {
	prober, ok := s.director.(Prober)
	if !ok {
		fail(w, http.StatusNotImplemented, "this director cannot have others probe", "")
		return
	}
	if n, _ := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, 1)); n > 0 {
		fail(w, http.StatusBadRequest, probePath+" takes no body", "")
		return
	}
	q, err := query(r, "target", "timeout")
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	target, wait := q["target"], defaultWait
	if target == "" || len(target) > maxTarget || !utf8.ValidString(target) || strings.ContainsFunc(target, unicode.IsControl) {
		fail(w, http.StatusBadRequest, fmt.Sprintf("target must be 1 to %d octets without control characters", maxTarget), "ask for "+probePath+"?target=service/shop")
		return
	}
	if v, given := q["timeout"]; given {
		if wait, err = time.ParseDuration(v); err != nil || wait <= 0 || wait > maxProbeWait {
			fail(w, http.StatusBadRequest, fmt.Sprintf("timeout %q is not a duration of at most 2m", v), "write it as 10s or 1m")
			return
		}
	}
	select {
	case s.probes <- struct{}{}:
		defer func() { <-s.probes }()
	default:
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, "too many questions to probe are under way already", "wait a moment and ask again")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	out := newStream(w)
	write := func(p Probing) {
		w.Header().Set("Content-Type", ndjson)
		data, err := json.Marshal(p)
		if err != nil {
			s.log.Error("what the directors saw cannot be written as JSON", slog.Any("err", err))
			return
		}
		_ = out.write(append(data, '\n')) // who left misses nothing
	}
	final, err := prober.Probe(ctx, target, func(p Probing) {
		p.Final = false
		write(p)
	})
	if err != nil {
		code := http.StatusServiceUnavailable
		if refusal := (*core.Refusal)(nil); errors.As(err, &refusal) {
			code = http.StatusConflict
		}
		failed(w, code, err)
		return
	}
	final.Final = true
	write(final)
}

// Probe has all directors probe a target now. progress, which may be nil, sees how far
// they are.
func (c *Client) Probe(ctx context.Context, target string, wait time.Duration, progress func(Probing)) (Probing, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+slack)
	defer cancel()
	q := url.Values{"target": {target}, "timeout": {wait.String()}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+probePath+"?"+q.Encode(), nil)
	if err != nil {
		return Probing{}, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Probing{}, c.unreachable(err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return Probing{}, &Error{Code: resp.StatusCode, Reason: "the director at " + c.Server + " is too old to have others probe", Remedy: "ask another one with --server, or upgrade it"}
	case resp.Header.Get("Content-Type") != ndjson:
		return Probing{}, c.refused(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 64<<10), maxAnswer)
	for lines.Scan() {
		var p Probing
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return Probing{}, fmt.Errorf("what %s says of its probes cannot be read: %w", c.Server, err)
		}
		if p.Final {
			return p, nil
		}
		if progress != nil {
			progress(p)
		}
	}
	if err = lines.Err(); err == nil {
		err = io.ErrUnexpectedEOF
	}
	return Probing{}, c.unreachable(err)
}
