package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/core"
)

// How long a command may wait for all directors, and does when nothing is said.
const (
	maxWait     = 10 * time.Minute
	defaultWait = 10 * time.Second
)

// command takes a core.Command and streams its outcomes, one JSON object a
// line: progress, then the final one, marked so.
func (s *Server) command(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "timeout")
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	wait := defaultWait
	if v, given := q["timeout"]; given {
		if wait, err = time.ParseDuration(v); err != nil || wait <= 0 || wait > maxWait {
			fail(w, http.StatusBadRequest, fmt.Sprintf("timeout %q is not a duration of at most %s", v, strings.TrimSuffix(maxWait.String(), "0s")), "write it as 10s or 2m")
			return
		}
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		fail(w, http.StatusUnsupportedMediaType, "a command is sent as application/json", "")
		return
	}
	if r.ContentLength < 0 || r.ContentLength > largeBody {
		select {
		case s.large <- struct{}{}:
			defer func() { <-s.large }()
		case <-time.After(wait):
			w.Header().Set("Retry-After", "1")
			fail(w, http.StatusServiceUnavailable, "another large change is still under way", "wait a moment and repeat it")
			return
		case <-r.Context().Done():
			return
		}
		rc := http.NewResponseController(w)
		now := time.Now() // the wait was ours
		_, _ = rc.SetReadDeadline(now.Add(readTimeout)), rc.SetWriteDeadline(now.Add(writeTimeout))
	}
	var body bytes.Buffer
	body.Grow(int(max(0, min(r.ContentLength, s.most))) + bytes.MinRead)
	_, err = body.ReadFrom(http.MaxBytesReader(w, r.Body, s.most))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a command has at most %d MiB", s.most>>20), "")
		return
	} else if err != nil {
		fail(w, http.StatusBadRequest, "reading the command: "+err.Error(), "")
		return
	}
	var c core.Command
	if err := decodeStrict(body.Bytes(), &c); err != nil {
		fail(w, http.StatusBadRequest, "the command is not what it must be: "+err.Error(), "")
		return
	}
	if err := checkCommand(c); err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	id := access.From(r.Context())
	c.Label, c.Author, c.By = c.Author, id.Who, &id
	s.log.Info("command received", slog.String("command", c.ID), slog.String("verb", string(c.Verb)),
		slog.String("scope", c.Scope), slog.String("author", c.Who()), slog.String("reason", c.Reason),
		slog.Bool("dry_run", c.DryRun), slog.Bool("force", c.Force))
	s.carryOut(w, r, wait, c.ID, func(ctx context.Context, progress func(Outcome)) (Outcome, error) {
		return s.director.Do(ctx, c, progress)
	})
}

// carryOut runs a command and streams what becomes of it. A client that leaves
// does not tear a commit in two: the command goes on for a moment, so that its
// outcome is a known one, and then stops waiting.
func (s *Server) carryOut(w http.ResponseWriter, r *http.Request, wait time.Duration, id string,
	do func(context.Context, func(Outcome)) (Outcome, error),
) {
	select {
	case s.commands <- struct{}{}:
	default:
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, "too many commands are under way already", "wait a moment and repeat it")
		return
	}
	held := true // until it is done: what waits for a second person keeps no others out
	release := func() {
		if held {
			held = false
			<-s.commands
		}
	}
	defer release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), wait)
	defer cancel()
	gone := context.AfterFunc(r.Context(), func() { time.AfterFunc(s.grace, cancel) })
	defer gone()

	w.Header().Set("Content-Type", ndjson)
	out := newStream(w)
	started := false
	final, err := do(ctx, func(o Outcome) {
		started = true
		o.Final = false
		if o.Request != nil && o.Request.State == RequestWaits {
			release()
		}
		s.line(out, o)
	})
	final = settle(final, err, id)
	if !started && final.Code == 1 {
		w.WriteHeader(http.StatusConflict)
	}
	s.line(out, final)
}

const ndjson = "application/x-ndjson"

func (s *Server) line(out *stream, o Outcome) {
	data, err := json.Marshal(o)
	if err != nil {
		s.log.Error("an outcome cannot be written as JSON", slog.Any("err", err))
		return
	}
	_ = out.write(append(data, '\n')) // the command does not depend on its reader
}

// settle makes the last word of what the director returned.
func settle(o Outcome, err error, id string) Outcome {
	if o.ID == "" {
		o.ID = id
	}
	o.Final = true
	if err == nil {
		return o
	}
	refusal := (*core.Refusal)(nil)
	switch {
	case errors.As(err, &refusal):
		o.Code, o.Error, o.Remedy, o.CanForce = 1, refusal.Reason, refusal.Remedy, refusal.Force
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		if o.Code == 0 {
			o.Code = 3
		}
		if o.Error == "" {
			o.Error = "not complete in time, and what became of it is unknown"
			o.Remedy = "repeat it with the same ID: nothing is done twice"
			if o.ID == "" { // of what goes through the whole store
				o.Remedy = "look at `divert status` and `divert store check` before it is repeated"
			}
		}
	default:
		if o.Code == 0 {
			o.Code = 1
		}
		if o.Error == "" {
			o.Error = err.Error()
		}
	}
	return o
}

// personal are the verbs that a person may send; the others are the directors'
// own.
func personal() []core.Verb {
	return []core.Verb{
		core.Drain, core.Undrain, core.Freeze, core.Thaw, core.Readmit, core.Apply, core.Revert, core.GoOn, core.Abort,
		core.DirectorAdd, core.DirectorRemove, core.OperatorAdd, core.OperatorRemove, core.TokenCreate, core.TokenRevoke, core.InterlockOn, core.InterlockOff,
		core.KeyRotate, core.KeyBack, core.EnrolTokenAdd, core.EnrolTokenRemove,
		core.PolicyAdopt, core.PolicyDrop, core.SecretSet, core.SecretRemove,
		core.Approve, core.Deny, core.Acknowledge,
	}
}

// maxCanary is more than any fleet has directors.
const maxCanary = 1000

// checkCommand refuses what no director should have to think about. What a
// command means is for director/core to judge.
func checkCommand(c core.Command) error {
	switch {
	case c.ID == "":
		return errors.New("id is missing: make a random one, and send the same again to repeat the command")
	case !validID(c.ID):
		return fmt.Errorf("id %.80q is not 1 to 64 letters, digits, dots, dashes and underscores", c.ID)
	case strings.HasPrefix(c.ID, "step-"), strings.HasPrefix(c.ID, "settle-"), strings.HasPrefix(c.ID, "ask-"),
		strings.HasPrefix(c.ID, "rollout-stop-"), strings.HasPrefix(c.ID, "rollout-on-"):
		return fmt.Errorf("id %.80q is one that the directors give their own commands", c.ID)
	case !slices.Contains(personal(), c.Verb):
		return fmt.Errorf("verb %.80q is not one of %v", c.Verb, personal())
	case c.Folder != "":
		return errors.New("folder is for directors that apply their own folder, not for people")
	case c.For < 0:
		return fmt.Errorf("for %s is negative", c.For)
	case c.Soak < 0:
		return fmt.Errorf("soak %s is negative", c.Soak)
	case len(c.Canary) > maxCanary:
		return fmt.Errorf("%d directors as canaries, the most is %d", len(c.Canary), maxCanary)
	}
	for _, f := range []struct {
		name, value string
		most        int
	}{{"scope", c.Scope, 512}, {"reason", c.Reason, maxReason}, {"author", c.Author, 128}, {"source", c.Source, 64}} {
		if err := checkText(f.name, f.value, f.most); err != nil {
			return err
		}
	}
	return nil
}

// maxReason bounds a reason, in octets.
const maxReason = 1024

// checkText refuses what no plan, log or terminal should hold.
func checkText(name, value string, most int) error {
	if len(value) > most {
		return fmt.Errorf("%s has %d octets, the most is %d", name, len(value), most)
	}
	if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		return fmt.Errorf("%s holds control characters", name)
	}
	return nil
}

func validID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, r := range id {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_' {
			return false
		}
	}
	return true
}

// decodeStrict reads exactly one JSON object without unknown or doubled keys.
func decodeStrict(data []byte, into any) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("it is empty")
	}
	if err := noDoubles(data); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return clearer(d.Decode(into))
}

// clearer says where, in the words of the JSON itself.
func clearer(err error) error {
	syntax, kind := (*json.SyntaxError)(nil), (*json.UnmarshalTypeError)(nil)
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("at octet %d: %w", syntax.Offset, err)
	case errors.As(err, &kind):
		if kind.Field == "" {
			return fmt.Errorf("want a JSON object, got %s", kind.Value)
		}
		return fmt.Errorf("%s: want %s, got %s", kind.Field, kind.Type, kind.Value)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it ends in the middle")
	case err != nil:
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// maxDepth is more than any resource needs.
const maxDepth = 64

// noDoubles walks the tokens: encoding/json would take the last of two equal
// keys, and another reader the first.
func noDoubles(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var levels []map[string]bool // nil for an array
	key := false                 // the next string at this level is a key
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return clearer(err)
		}
		if len(levels) == 0 && token != json.Delim('{') {
			return fmt.Errorf("want one JSON object, got %v", token)
		}
		switch t := token.(type) {
		case json.Delim:
			switch t {
			case '{', '[':
				if len(levels) == maxDepth {
					return fmt.Errorf("it nests deeper than %d levels", maxDepth)
				}
				var seen map[string]bool
				if key = t == '{'; key {
					seen = map[string]bool{}
				}
				levels = append(levels, seen)
			default:
				levels = levels[:len(levels)-1]
				key = len(levels) > 0 && levels[len(levels)-1] != nil
				if len(levels) == 0 {
					return onlyOne(d)
				}
			}
			continue
		case string:
			if key {
				seen := levels[len(levels)-1]
				if seen[t] {
					return fmt.Errorf("key %q is given twice", t)
				}
				seen[t], key = true, false
				continue
			}
		}
		key = levels[len(levels)-1] != nil
	}
}

func onlyOne(d *json.Decoder) error {
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}
