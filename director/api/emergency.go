package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

const (
	emergencyPath = "/v1/emergency"
	maxWordBody   = 4 << 10 // octets of a request: a word has 1,100 at most
)

// Urgent is a Director that takes operators' words while the store is away.
type Urgent interface {
	Emergencies() (Emergencies, error)
	// Emergency takes a signed word in, and waits until every registered director goes by
	// it or ctx ends; User(ctx) says who brings it. For progress and errors see Do.
	Emergency(ctx context.Context, word []byte, dryRun bool, progress func(Outcome)) (Outcome, error)
}

// EmergencyState is what becomes of a drain that no plan holds yet, as the director that is
// asked knows it.
type EmergencyState struct {
	Operator string    `json:"operator"`
	Counter  uint64    `json:"counter"`
	State    string    `json:"state"` // in force, skipped, over, undrained
	Why      string    `json:"why,omitempty"`
	Has      []string  `json:"has,omitempty"`     // directors that go by it
	Missing  []Missing `json:"missing,omitempty"` // and those that are not known to
}

// Emergencies is what an operator needs to know to say a word while the store is away.
type Emergencies struct {
	Fleet     string     `json:"fleet"`
	Epoch     uint64     `json:"epoch"`
	Revision  uint64     `json:"revision"` // of the plan in force
	Counter   uint64     `json:"counter"`  // the highest that is known; the next word has one more
	Operators []Operator `json:"operators"`
	Drains    []Override `json:"drains,omitempty"` // said, and held by no plan yet
}

// Operator is who may drain while the store is away.
type Operator struct {
	Name     string    `json:"name"`
	Key      string    `json:"key"` // the public half
	Author   string    `json:"author"`
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since"`
	Revision uint64    `json:"revision"` // the plan revision that listed it
}

// OperatorWord is an operator's signed word, as it is sent to a director.
type OperatorWord struct {
	Word   []byte `json:"word"`
	DryRun bool   `json:"dryRun,omitempty"`
}

// emergencies says what an operator needs to know to say a word.
func (s *Server) emergencies(w http.ResponseWriter, _ *http.Request) {
	urgent, ok := s.director.(Urgent)
	if !ok {
		fail(w, http.StatusNotImplemented, "this director takes no emergencies", "")
		return
	}
	out, err := urgent.Emergencies()
	if err != nil {
		failed(w, http.StatusServiceUnavailable, err)
		return
	}
	if out.Operators == nil {
		out.Operators = []Operator{}
	}
	reply(w, http.StatusOK, out)
}

// emergency takes an operator's word. What makes it count is its signature; who brings it
// must be allowed to operate its scope, too.
func (s *Server) emergency(w http.ResponseWriter, r *http.Request) {
	urgent, ok := s.director.(Urgent)
	if !ok {
		fail(w, http.StatusNotImplemented, "this director takes no emergencies", "")
		return
	}
	q, err := query(r, "timeout")
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	wait := defaultWait
	if v, given := q["timeout"]; given {
		if wait, err = time.ParseDuration(v); err != nil || wait <= 0 || wait > maxWait {
			fail(w, http.StatusBadRequest, fmt.Sprintf("timeout %q is not a duration of at most 10m", v), "write it as 10s or 2m")
			return
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxWordBody))
	if err != nil {
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a word has at most %d octets", maxWordBody), "")
		return
	}
	var word OperatorWord
	if err := decodeStrict(body, &word); err != nil {
		fail(w, http.StatusBadRequest, "the word is not what it must be: "+err.Error(), "")
		return
	}
	s.log.Info("operator's word received", slog.String("author", User(r.Context())), slog.Bool("dry_run", word.DryRun))
	s.carryOut(w, r, wait, "", func(ctx context.Context, progress func(Outcome)) (Outcome, error) {
		return urgent.Emergency(ctx, word.Word, word.DryRun, progress)
	})
}

// Emergencies asks what an operator needs to know to say a word.
func (c *Client) Emergencies(ctx context.Context) (Emergencies, error) {
	var e Emergencies
	return e, c.get(ctx, emergencyPath, nil, &e)
}

// Say sends an operator's word and waits for the outcome. The same word again is the same
// command.
func (c *Client) Say(ctx context.Context, id string, word OperatorWord, wait time.Duration, progress func(Outcome)) (Outcome, error) {
	body, err := json.Marshal(word)
	if err != nil {
		return Outcome{}, fmt.Errorf("writing the word as JSON: %w", err)
	}
	return c.send(ctx, emergencyPath+"?timeout="+url.QueryEscape(wait.String()), body, id, wait, progress)
}
