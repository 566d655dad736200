package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
)

var update = flag.Bool("update", false, "write the golden files anew")

// noon is when every test happens.
var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// fake is a director made of values. Its lock guards what a request changes.
type fake struct {
	status  api.Status
	explain api.Explanation
	probing api.Probing
	spec    []spec.Raw
	outcome func(core.Command) api.Outcome
	steps   []api.Outcome // progress before the outcome
	backup  []byte
	export  []byte // of the audit log
	proof   api.AuditReport
	store   api.StoreReport
	tokens  []api.Token

	mu       sync.Mutex
	commands []core.Command
}

func (f *fake) Status() api.Status       { return f.status }
func (f *fake) Tokens() []api.Token      { return f.tokens }
func (f *fake) Spec() []spec.Raw         { return f.spec }
func (f *fake) Changed() <-chan struct{} { return nil }
func (f *fake) Ready() error             { return nil }

func (f *fake) Explain(host, client string) (api.Explanation, error) {
	if host != f.explain.Host {
		return api.Explanation{}, errors.New("no service of this fleet has the host " + host)
	}
	e := f.explain
	if _, err := netip.ParseAddr(client); err == nil {
		e.Client = client
	}
	return e, nil
}

func (f *fake) Probe(_ context.Context, target string, progress func(api.Probing)) (api.Probing, error) {
	if target != f.probing.Target {
		return api.Probing{}, &core.Refusal{Reason: "there is no service \"" + target + "\"", Remedy: "there are shop"}
	}
	asked := f.probing
	asked.Targets, asked.Observers = nil, slices.Clone(asked.Observers)
	for i := range asked.Observers {
		asked.Observers[i].State = "asked"
	}
	progress(asked)
	return f.probing, nil
}

func (f *fake) Do(_ context.Context, c core.Command, progress func(api.Outcome)) (api.Outcome, error) {
	f.mu.Lock()
	f.commands = append(f.commands, c)
	f.mu.Unlock()
	if f.outcome == nil {
		return api.Outcome{ID: c.ID, Summary: "done", Revision: 7, Applied: []string{"d1"}}, nil
	}
	o := f.outcome(c)
	if !c.DryRun && o.Code != exitRefused {
		for _, s := range f.steps {
			progress(s)
		}
	}
	return o, nil
}

func (f *fake) sent() []core.Command {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]core.Command(nil), f.commands...)
}

func (f *fake) Init(context.Context) (api.Outcome, error) {
	return api.Outcome{Summary: "the first plan is written"}, nil
}

func (f *fake) Recover(context.Context, bool) (api.Outcome, error) {
	return api.Outcome{}, &core.Refusal{Reason: "d2 holds a higher plan, 1.44", Remedy: "run `divert store recover` on d2"}
}

func (f *fake) ExplainAt(_ context.Context, host, client string, when time.Time) (api.Explanation, error) {
	e, err := f.Explain(host, client)
	since := noon.Add(-3 * time.Hour)
	when = noon.Add(-2 * time.Hour) // which the socket's clock would make another each time
	e.At, e.ToldSince, e.Notes = &when, &since, []string{"divert v1 decided then; this is how v2 decides upon the same"}
	e.Evidence = slices.Clone(e.Evidence)
	for i := range e.Evidence {
		e.Evidence[i].Subjects = slices.Clone(e.Evidence[i].Subjects)
		for j := range e.Evidence[i].Subjects {
			s := &e.Evidence[i].Subjects[j]
			s.Words, s.Next = nil, ""
		}
	}
	return e, err
}

func (f *fake) Backup(_ context.Context, w io.Writer, local bool) error {
	if local {
		_, err := io.WriteString(w, "cut off")
		return err
	}
	_, err := w.Write(f.backup)
	return err
}

func (f *fake) Restore(_ context.Context, r io.Reader, o api.RestoreOptions) (api.Outcome, error) {
	raw, err := io.ReadAll(r)
	if !bytes.Equal(raw, f.backup) {
		err = errors.New("another backup arrived")
	}
	return api.Outcome{Summary: fmt.Sprintf("restored, forced %t", o.Force)}, err
}

func (f *fake) Migrate(_ context.Context, o api.MigrateOptions) (api.Outcome, error) {
	return api.Outcome{Summary: "all of the store is at " + strings.Join(o.To, ", ")}, nil
}

func (f *fake) CheckStore(context.Context) (api.StoreReport, error) { return f.store, nil }

func (f *fake) Audit(context.Context, uint64, int) ([]api.AuditRecord, error) {
	return []api.AuditRecord{{
		Revision: 43, At: noon.Add(-time.Hour), Who: "ada", Via: "d1",
		What: "drain cluster/fra until 13:00", Why: "INC-1", Forced: true,
	}}, nil
}

func (f *fake) AuditSince(ctx context.Context, since time.Time, limit int) ([]api.AuditRecord, error) {
	records, err := f.Audit(ctx, 0, 0)
	return append(records, api.AuditRecord{
		At: noon.Add(-time.Minute), Who: "auto", Via: "d1", What: "fast :443 at 192.0.2.10 is down", Why: fmt.Sprintf("%s, %d", since.UTC().Format(time.DateOnly), limit), Auto: true,
	}), err
}

func (f *fake) AuditExport(_ context.Context, w io.Writer) error {
	_, err := w.Write(f.export)
	return err
}

func (f *fake) AuditVerify(context.Context) (api.AuditReport, error) { return f.proof, nil }

// terminal is a test's world: an app, what was typed, and what it printed.
type terminal struct {
	*app
	stdout, stderr bytes.Buffer
}

// newTerminal is nobody's terminal: 100 columns, no colour, no person.
func newTerminal(typed string) *terminal {
	t := &terminal{}
	ids := 0
	t.app = &app{
		in: bufio.NewReader(strings.NewReader(typed)), out: &t.stdout, err: &t.stderr,
		asking: typed != "", width: func() int { return 100 }, height: func() int { return 0 },
		env: func(string) string { return "" }, now: func() time.Time { return noon },
		newID: func() string { ids++; return fmt.Sprint("id", ids) },
		self:  "./divert",
	}
	return t
}

// serve runs the fake behind a real socket and gives its --server.
func serve(t *testing.T, d api.Director) string {
	t.Helper()
	// A test's name would make the path of its socket too long.
	dir, err := os.MkdirTemp("", "divert") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, api.SocketName)
	s, err := api.NewServer(api.Options{Director: d, Socket: path})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		_ = os.RemoveAll(dir)
	})
	return "unix:" + path
}

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew)\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}
