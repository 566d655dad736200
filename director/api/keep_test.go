package api

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestKeep: backups go over the socket whole, or not at all.
func TestKeep(t *testing.T) {
	f := newFake()
	s := serve(t, f)
	c := client(t, "unix:"+s.socket)
	var got bytes.Buffer
	if err := c.Backup(t.Context(), &got, false); err != nil || got.String() != backupText {
		t.Errorf("got %q, %v", got.String(), err)
	}
	f.breaks.Store(-1)
	err := c.Backup(t.Context(), &got, false)
	if e := (*Error)(nil); !errors.As(err, &e) || e.Remedy != "say --local" {
		t.Errorf("refused: got %v", err)
	}
	if err := c.Backup(t.Context(), &got, true); err != nil {
		t.Errorf("local: %v", err)
	}
	// Behind the buffers of HTTP and of the socket.
	f.breaks.Store(int64(len(backupText)))
	got.Reset()
	if err := c.Backup(t.Context(), &got, false); err == nil {
		t.Errorf("one that broke off ended well: %q", got.String())
	}

	o, err := c.Restore(t.Context(), strings.NewReader("six ox"), RestoreOptions{Reason: "INC 1", Force: true})
	if err != nil || !strings.Contains(o.Summary, "has 6 octets {Reason:INC 1 Force:true DryRun:false Audit:false}") || strings.HasPrefix(o.Summary, " ") {
		t.Errorf("restore: %+v, %v", o, err)
	}
	if o, err := c.Migrate(t.Context(), MigrateOptions{To: []string{"http://127.0.0.1:1"}}); err != nil || !strings.Contains(o.Summary, "127.0.0.1:1") {
		t.Errorf("migrate: %+v, %v", o, err)
	}
	if r, err := c.CheckStore(t.Context()); err != nil || len(r.Findings) != 1 {
		t.Errorf("check: %+v, %v", r, err)
	}
	if e, err := c.ExplainAt(t.Context(), "shop.example.org", "", "-90m"); err != nil || e.At == nil || time.Since(*e.At) < 89*time.Minute {
		t.Errorf("explain at: %+v, %v", e.At, err)
	}
	_, err = c.ExplainAt(t.Context(), "busy.example.org", "", "-90m")
	if e := (*Error)(nil); !errors.As(err, &e) || e.Code != http.StatusServiceUnavailable || e.Remedy == "" {
		t.Errorf("explain at, while others do: %v", err)
	}
}

// TestSlowBackup: who takes long to read a backup, which anybody on the machine may, holds
// up no command.
func TestSlowBackup(t *testing.T) {
	large := make(chan struct{}, 1)
	f := newFake()
	f.breaks.Store(64 << 20) // octets, more than all buffers on the way take
	s := serve(t, f, func(s *Server) { s.large = large })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+"/v1/backup", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	select {
	case large <- struct{}{}:
	case <-time.After(5 * time.Second):
		t.Error("the slot is taken for as long as somebody reads")
	}
}

// TestStoreLooks: one look at the whole store at a time, whoever asks (C3); and a reason
// of a restore is held to what one of a command is.
func TestStoreLooks(t *testing.T) {
	looks := make(chan struct{}, 1)
	s := serve(t, newFake(), func(s *Server) { s.looks = looks })
	c := client(t, "unix:"+s.socket)
	looks <- struct{}{}
	_, err := c.CheckStore(t.Context())
	if e := (*Error)(nil); !errors.As(err, &e) || e.Code != http.StatusServiceUnavailable || e.Remedy == "" {
		t.Errorf("a second look: %v", err)
	}
	<-looks
	if _, err := c.CheckStore(t.Context()); err != nil {
		t.Errorf("after it: %v", err)
	}
	for _, reason := range []string{"a\x1b[31mb", "\xff", strings.Repeat("x", maxReason+1)} {
		_, err := c.Restore(t.Context(), strings.NewReader("ox"), RestoreOptions{Reason: reason})
		if e := (*Error)(nil); !errors.As(err, &e) || e.Code != http.StatusBadRequest {
			t.Errorf("reason %.10q: %v", reason, err)
		}
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-03-14T11:58:00Z":      now.Add(-2 * time.Minute),
		"2026-03-14T12:58:00+01:00": now.Add(-2 * time.Minute),
		"2026-03-14T11:58:00.5Z":    now.Add(-2*time.Minute + 500*time.Millisecond),
		"-2h":                       now.Add(-2 * time.Hour),
		"-1d12h":                    now.Add(-36 * time.Hour),
		"-0s":                       now,
	} {
		if got, err := ParseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-", "--2h", "2h", "+2h", "-2", "yesterday", "2026-03-14", "11:58", "-9999999h", strings.Repeat("-", 1000)} {
		if got, err := ParseTime(text, now); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
}
