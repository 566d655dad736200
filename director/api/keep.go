package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// keepWait is how long what goes through a whole store may take, a backup's way over
// the socket included.
const keepWait = 10 * time.Minute

func (s *Server) storeInit(w http.ResponseWriter, r *http.Request) {
	if _, err := query(r); err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	s.store(w, r, "store init", time.Minute, s.director.Init)
}

func (s *Server) storeRecover(w http.ResponseWriter, r *http.Request) {
	flags, err := switches(r, "force")
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	s.store(w, r, "store recover", keepWait, func(ctx context.Context) (Outcome, error) {
		return s.director.Recover(ctx, flags["force"])
	})
}

func (s *Server) store(w http.ResponseWriter, r *http.Request, what string, wait time.Duration, do func(context.Context) (Outcome, error)) {
	if n, _ := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, 1)); n > 0 {
		fail(w, http.StatusBadRequest, r.URL.Path+" takes no body", "")
		return
	}
	s.asUser(w, r, what, wait, do)
}

// asUser carries out what a person asks for.
func (s *Server) asUser(w http.ResponseWriter, r *http.Request, what string, wait time.Duration, do func(context.Context) (Outcome, error)) {
	s.log.Info("command received", slog.String("verb", what), slog.String("author", User(r.Context())))
	s.carryOut(w, r, wait, "", func(ctx context.Context, _ func(Outcome)) (Outcome, error) { return do(ctx) })
}

// keeper gives what the director can also do, or says that it cannot.
func (s *Server) keeper(w http.ResponseWriter) (Keeper, bool) {
	k, ok := s.director.(Keeper)
	if !ok {
		fail(w, http.StatusNotImplemented, "this director keeps nothing", "")
	}
	return k, ok
}

func (s *Server) storeCheck(w http.ResponseWriter, r *http.Request) {
	k, ok := s.keeper(w)
	if !ok {
		return
	}
	// Anybody on the machine may ask, and each look reads the whole store.
	select {
	case s.looks <- struct{}{}:
		defer func() { <-s.looks }()
	default:
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, "somebody is looking at the store already", "wait a moment and ask again")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), keepWait)
	defer cancel()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(keepWait))
	report, err := k.CheckStore(ctx)
	if err != nil {
		failed(w, http.StatusServiceUnavailable, err)
		return
	}
	reply(w, http.StatusOK, report)
}

func (s *Server) storeMigrate(w http.ResponseWriter, r *http.Request) {
	k, ok := s.keeper(w)
	if !ok {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHeader))
	if err != nil {
		fail(w, http.StatusBadRequest, "reading where to: "+err.Error(), "")
		return
	}
	var o MigrateOptions
	if err := decodeStrict(body, &o); err != nil || len(o.To) == 0 {
		fail(w, http.StatusBadRequest, "where the store goes is not said as it must be", `send {"to": ["https://etcd-1.example.net:2379"]}`)
		return
	}
	s.asUser(w, r, "store migrate", keepWait, func(ctx context.Context) (Outcome, error) { return k.Migrate(ctx, o) })
}

// backup streams a backup. One that breaks off lacks its end, which its reader sees; so
// an error after the first octet cuts the connection.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	k, ok := s.keeper(w)
	if !ok {
		return
	}
	flags, err := switches(r, "local")
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	select {
	case s.large <- struct{}{}:
	case <-r.Context().Done():
		return
	}
	// Until it begins to leave alone: who reads slowly must hold no command up.
	out := &begun{w: w, first: sync.OnceFunc(func() { <-s.large })}
	defer out.first()
	ctx, cancel := context.WithTimeout(r.Context(), keepWait)
	defer cancel()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(keepWait))
	w.Header().Set("Content-Type", octets)
	if r.Method == http.MethodHead {
		return
	}
	if err := k.Backup(ctx, out, flags["local"]); err != nil {
		if out.begun {
			s.log.Warn("a backup broke off", slog.Any("err", err))
			panic(http.ErrAbortHandler) // net/http's way to cut the connection
		}
		failed(w, http.StatusServiceUnavailable, err)
	}
}

const octets = "application/octet-stream"

// begun notes whether anything was written.
type begun struct {
	w     http.ResponseWriter
	begun bool
	first func() // called before anything is
}

// Write notes that something was.
func (b *begun) Write(p []byte) (int, error) {
	b.begun = true
	b.first()
	return b.w.Write(p)
}

func (s *Server) restore(w http.ResponseWriter, r *http.Request) {
	k, ok := s.keeper(w)
	if !ok {
		return
	}
	q, err := query(r, "reason", "force", "dry-run", "audit")
	if err == nil {
		err = checkText("reason", q["reason"], maxReason)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	o := RestoreOptions{Reason: q["reason"]}
	for name, to := range map[string]*bool{"force": &o.Force, "dry-run": &o.DryRun, "audit": &o.Audit} {
		if *to, err = isTrue(q, name); err != nil {
			fail(w, http.StatusBadRequest, err.Error(), "")
			return
		}
	}
	select {
	case s.large <- struct{}{}:
		defer func() { <-s.large }()
	case <-r.Context().Done():
		return
	}
	s.asUser(w, r, "restore", keepWait, func(ctx context.Context) (Outcome, error) {
		// Who sends nothing more holds up others no longer than this.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(keepWait))
		return k.Restore(ctx, r.Body, o)
	})
}

// switches reads parameters that are true or not there.
func switches(r *http.Request, names ...string) (map[string]bool, error) {
	q, err := query(r, names...)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, name := range names {
		if out[name], err = isTrue(q, name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func isTrue(q map[string]string, name string) (bool, error) {
	v, given := q[name]
	if !given {
		return false, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("%s %.20q is neither true nor false", name, v)
	}
	return b, nil
}

// Init is `divert store init`.
func (c *Client) Init(ctx context.Context) (Outcome, error) {
	return c.send(ctx, "/v1/store/init", nil, "", time.Minute, nil)
}

// Recover is `divert store recover`.
func (c *Client) Recover(ctx context.Context, force bool) (Outcome, error) {
	return c.send(ctx, "/v1/store/recover?force="+strconv.FormatBool(force), nil, "", keepWait, nil)
}

// Migrate is `divert store migrate`.
func (c *Client) Migrate(ctx context.Context, o MigrateOptions) (Outcome, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return Outcome{}, fmt.Errorf("writing where to as JSON: %w", err)
	}
	return c.send(ctx, "/v1/store/migrate", body, "", keepWait, nil)
}

// CheckStore is `divert store check`.
func (c *Client) CheckStore(ctx context.Context) (StoreReport, error) {
	var report StoreReport
	return report, c.getFor(ctx, keepWait, "/v1/store/check", nil, &report)
}

// Backup writes a backup. Its reader finds out whether it is whole.
func (c *Client) Backup(ctx context.Context, w io.Writer, local bool) error {
	ctx, cancel := context.WithTimeout(ctx, keepWait)
	defer cancel()
	resp, err := c.open(ctx, "/v1/backup", url.Values{"local": {strconv.FormatBool(local)}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("receiving the backup: %w", err)
	}
	return nil
}

// Restore sends a backup.
func (c *Client) Restore(ctx context.Context, backup io.Reader, o RestoreOptions) (Outcome, error) {
	q := url.Values{"force": {strconv.FormatBool(o.Force)}, "dry-run": {strconv.FormatBool(o.DryRun)}, "audit": {strconv.FormatBool(o.Audit)}}
	if o.Reason != "" {
		q.Set("reason", o.Reason)
	}
	ctx, cancel := context.WithTimeout(ctx, keepWait+slack)
	defer cancel()
	o2, sent, err := c.try(ctx, "/v1/restore?"+q.Encode(), backup, func(Outcome) {})
	if err != nil && sent {
		return unknown(Outcome{}, err), nil
	}
	return o2, err
}

// reader gives the body of a request; nil: there is none.
func reader(body []byte) io.Reader {
	if body == nil {
		return nil
	}
	return bytes.NewReader(body)
}
