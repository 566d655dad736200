package api

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// proofWait is how long a reading of the whole audit log may take, its way over the
// socket included. Who reads slowly keeps others who want it waiting for as long.
const proofWait = 2 * time.Minute

// Auditor is a Director that can also show the audit log.
type Auditor interface {
	// Audit lists at most limit records, oldest first: those from a revision on,
	// or with from = 0 the newest.
	Audit(ctx context.Context, from uint64, limit int) ([]AuditRecord, error)
}

// Sealer is a Director that seals the audit log, so that it can be proved.
type Sealer interface {
	// AuditSince lists the newest records since an instant, at most limit, and with them
	// the transitions that the director made by itself, in the order of their times.
	AuditSince(ctx context.Context, since time.Time, limit int) ([]AuditRecord, error)
	// AuditExport writes all that is sealed, with its proofs. After an error what was
	// written is no export.
	AuditExport(ctx context.Context, w io.Writer) error
	// AuditVerify reads all that is sealed, and holds it against its head, the store, and
	// what the other directors have signed.
	AuditVerify(ctx context.Context) (AuditReport, error)
}

// AuditRecord is one effective change of intent (S15), or a transition that a director
// made by itself.
type AuditRecord struct {
	Revision uint64    `json:"revision"` // 0 of a transition
	At       time.Time `json:"at"`
	Who      string    `json:"who"` // person or director; "auto" of a transition
	Via      string    `json:"via"` // the director that committed it, or in whose journal it is
	What     string    `json:"what"`
	Why      string    `json:"why,omitempty"`
	Command  string    `json:"command,omitempty"` // its ID
	Forced   bool      `json:"forced,omitempty"`
	Plan     string    `json:"plan,omitempty"`   // SHA-256 of the plan's payload, hexadecimal
	Policy   string    `json:"policy,omitempty"` // hash of the policy that it was judged by
	Passed   []string  `json:"passed,omitempty"` // what that denied, and break-glass passed
	Auto     bool      `json:"auto,omitempty"`   // a transition, of directors' journals: via names those
	Sealed   bool      `json:"sealed,omitempty"` // in the log that the director has signed
	// Approver is the second person, where one was asked (S16).
	Approver string `json:"approver,omitempty"`
	// BreakGlass tells that there was none, though one was wanted.
	BreakGlass bool `json:"breakGlass,omitempty"`
}

// AuditReport is what `divert audit verify` shows.
type AuditReport struct {
	Good      bool            `json:"good"`
	Fleet     string          `json:"fleet,omitempty"`
	Records   int64           `json:"records"`  // sealed
	Revision  uint64          `json:"revision"` // of the last of them
	Root      string          `json:"root,omitempty"`
	Signers   []string        `json:"signers"`             // directors whose signatures of that very head hold
	Tail      int             `json:"tail"`                // records in the store that are not sealed yet
	Store     string          `json:"store,omitempty"`     // why it was not compared; none: it was
	Directors []AuditDirector `json:"directors,omitempty"` // the others
	Findings  []AuditFinding  `json:"findings"`
	More      int             `json:"more,omitempty"`      // findings that are not listed
	Unchecked []string        `json:"unchecked,omitempty"` // of an export: who has signed it, too, with a key that was not given
}

// AuditDirector is how another director's log stands to this one's.
type AuditDirector struct {
	Name     string `json:"name"`
	Records  int64  `json:"records"`
	Revision uint64 `json:"revision"`
	State    string `json:"state"` // agrees, differs, unknown
	Fault    string `json:"fault,omitempty"`
}

// AuditFinding is something that is wrong with the log, or that its reader should know.
type AuditFinding struct {
	Record   int64  `json:"record"`             // its place, from 0; -1: the log as a whole
	Revision uint64 `json:"revision,omitempty"` // where it is known
	What     string `json:"what"`
	Harmless bool   `json:"harmless,omitempty"` // it has an honest cause, and says so
}

// audit shows the newest records, those from a revision on, or those since an instant.
func (s *Server) audit(w http.ResponseWriter, r *http.Request) {
	auditor, ok := s.director.(Auditor)
	if !ok {
		fail(w, http.StatusNotImplemented, "this director cannot show the audit log", "")
		return
	}
	q, err := query(r, "from", "limit", "since")
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	from, limit := uint64(0), 20
	if v, given := q["from"]; given {
		if from, err = strconv.ParseUint(v, 10, 64); err != nil {
			fail(w, http.StatusBadRequest, fmt.Sprintf("from %.80q is not a revision", v), "")
			return
		}
	}
	if v, given := q["limit"]; given {
		if limit, err = strconv.Atoi(v); err != nil || limit < 1 || limit > 1000 {
			fail(w, http.StatusBadRequest, fmt.Sprintf("limit %.80q is not a number from 1 to 1000", v), "")
			return
		}
	}
	list := func() ([]AuditRecord, error) { return auditor.Audit(r.Context(), from, limit) }
	if v, given := q["since"]; given {
		since, err := ParseTime(v, time.Now())
		if err == nil && from > 0 {
			err = fmt.Errorf("from and since are two ways to begin: give one")
		}
		if err != nil {
			fail(w, http.StatusBadRequest, err.Error(), "")
			return
		}
		sealer, ok := s.sealer(w)
		if !ok {
			return
		}
		list = func() ([]AuditRecord, error) { return sealer.AuditSince(r.Context(), since, limit) }
	}
	records, err := list()
	if err != nil {
		failed(w, http.StatusServiceUnavailable, err)
		return
	}
	if records == nil {
		records = []AuditRecord{}
	}
	reply(w, http.StatusOK, records)
}

// sealer gives what the director can also do, or says that it cannot.
func (s *Server) sealer(w http.ResponseWriter) (Sealer, bool) {
	sealer, ok := s.director.(Sealer)
	if !ok {
		fail(w, http.StatusNotImplemented, "this director seals no audit log", "")
	}
	return sealer, ok
}

// proof runs what reads all that is sealed, one at a time.
func (s *Server) proof(w http.ResponseWriter, r *http.Request, read func(context.Context, Sealer)) {
	sealer, ok := s.sealer(w)
	if !ok {
		return
	}
	if _, err := query(r); err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	select {
	case s.proofs <- struct{}{}:
		defer func() { <-s.proofs }()
	default:
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, "somebody is reading the whole audit log already", "wait a moment and ask again")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), proofWait)
	defer cancel()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(proofWait))
	read(ctx, sealer)
}

// auditExport streams an export. One that breaks off lacks its end, which its reader
// sees; so an error after the first octet cuts the connection.
func (s *Server) auditExport(w http.ResponseWriter, r *http.Request) {
	s.proof(w, r, func(ctx context.Context, sealer Sealer) {
		w.Header().Set("Content-Type", octets)
		if r.Method == http.MethodHead {
			return
		}
		out := &begun{w: w, first: func() {}}
		if err := sealer.AuditExport(ctx, out); err != nil {
			if out.begun {
				s.log.Warn("an export of the audit log broke off", slog.Any("err", err))
				panic(http.ErrAbortHandler) // net/http's way to cut the connection
			}
			failed(w, http.StatusServiceUnavailable, err)
		}
	})
}

func (s *Server) auditVerify(w http.ResponseWriter, r *http.Request) {
	s.proof(w, r, func(ctx context.Context, sealer Sealer) {
		report, err := sealer.AuditVerify(ctx)
		if err != nil {
			failed(w, http.StatusServiceUnavailable, err)
			return
		}
		reply(w, http.StatusOK, report)
	})
}

// Audit asks for at most limit audit records: from a revision on, or with from
// = 0 the newest.
func (c *Client) Audit(ctx context.Context, from uint64, limit int) ([]AuditRecord, error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if from > 0 {
		q.Set("from", strconv.FormatUint(from, 10))
	}
	var records []AuditRecord
	return records, c.get(ctx, "/v1/audit", q, &records)
}

// AuditSince asks for the newest audit records since an instant, as ParseTime reads it,
// and the transitions that the director made by itself.
func (c *Client) AuditSince(ctx context.Context, since string, limit int) ([]AuditRecord, error) {
	var records []AuditRecord
	return records, c.get(ctx, "/v1/audit", url.Values{"limit": {strconv.Itoa(limit)}, "since": {since}}, &records)
}

// AuditVerify is `divert audit verify`.
func (c *Client) AuditVerify(ctx context.Context) (AuditReport, error) {
	var report AuditReport
	return report, c.getFor(ctx, proofWait, "/v1/audit/verify", nil, &report)
}

// AuditExport writes an export. Its reader finds out whether it is whole.
func (c *Client) AuditExport(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, proofWait)
	defer cancel()
	resp, err := c.open(ctx, "/v1/audit/export", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("receiving the export: %w", err)
	}
	return nil
}
