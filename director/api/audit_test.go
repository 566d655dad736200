package api

import (
	"bytes"
	"errors"
	"net/http"
	"testing"
	"time"
)

// TestAudit: reports and records come over the socket, exports whole or not at all, and
// one at a time reads the whole log.
func TestAudit(t *testing.T) {
	f := newFake()
	proofs := make(chan struct{}, 1)
	s := serve(t, f, func(s *Server) { s.proofs = proofs })
	c := client(t, "unix:"+s.socket)
	if r, err := c.AuditVerify(t.Context()); err != nil || r.Records != 7 || len(r.Findings) != 1 || r.Good {
		t.Errorf("verify: %+v, %v", r, err)
	}
	if got, err := c.AuditSince(t.Context(), "-90m", 9); err != nil || len(got) != 2 || !got[0].Auto || got[1].Revision != 9 || time.Since(got[0].At) < 89*time.Minute {
		t.Errorf("since: %+v, %v", got, err)
	}
	var out bytes.Buffer
	if err := c.AuditExport(t.Context(), &out); err != nil || out.String() != backupText {
		t.Errorf("export: %q, %v", out.String(), err)
	}
	f.breaks.Store(int64(len(backupText)))
	if err := c.AuditExport(t.Context(), &out); err == nil {
		t.Error("an export that broke off ended well")
	}
	f.breaks.Store(-1)
	proofs <- struct{}{}
	err := c.AuditExport(t.Context(), &out)
	if e := (*Error)(nil); !errors.As(err, &e) || e.Code != http.StatusServiceUnavailable || e.Remedy == "" {
		t.Errorf("while another reads: %v", err)
	}
	<-proofs
	err = c.AuditExport(t.Context(), &out)
	if e := (*Error)(nil); !errors.As(err, &e) || e.Remedy != "say --local" {
		t.Errorf("refused: %v", err)
	}
}
