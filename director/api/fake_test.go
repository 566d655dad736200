package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
)

// fake is a Director made of values. Its lock guards everything below it.
type fake struct {
	do    func(context.Context, core.Command, func(Outcome)) (Outcome, error) // nil: done at once
	probe func(context.Context, Probing) (Probing, error)

	breaks atomic.Int64 // octets after which a backup breaks off; more than there are: it has as many; -1: it is refused

	mu       sync.Mutex
	status   Status
	ready    error
	changed  chan struct{}
	commands []core.Command
	inits    []string // users
}

func newFake() *fake {
	return &fake{status: Status{Director: "d1"}, changed: make(chan struct{})}
}

func (f *fake) set(s Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = s
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

func (f *fake) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fake) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ready
}

func (f *fake) Explain(host, addr string) (Explanation, error) {
	if host != "shop.example.org" {
		return Explanation{}, errors.New("no service has the host " + host)
	}
	return Explanation{Host: host, Client: addr, Service: "shop"}, nil
}

func (f *fake) Tokens() []Token { return []Token{{Name: "ci", Role: "operator"}} }

func (f *fake) Spec() []spec.Raw {
	return []spec.Raw{{Kind: spec.KindCluster, Name: "fra", JSON: []byte(`{"kind":"Cluster"}`)}}
}

func (f *fake) Do(ctx context.Context, c core.Command, progress func(Outcome)) (Outcome, error) {
	f.mu.Lock()
	f.commands = append(f.commands, c)
	f.mu.Unlock()
	if f.do != nil {
		return f.do(ctx, c, progress)
	}
	return Outcome{ID: c.ID, Summary: "done"}, nil
}

func (f *fake) sent() []core.Command {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]core.Command(nil), f.commands...)
}

func (f *fake) Init(ctx context.Context) (Outcome, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inits = append(f.inits, User(ctx))
	return Outcome{Summary: "a plan is made"}, nil
}

func (f *fake) Recover(context.Context, bool) (Outcome, error) {
	return Outcome{}, &core.Refusal{Reason: "d2 holds a higher plan", Remedy: "run it there"}
}

func (f *fake) ExplainAt(_ context.Context, host, addr string, at time.Time) (Explanation, error) {
	if time.Since(at) > 24*time.Hour {
		return Explanation{}, &core.Refusal{Reason: "nothing is kept here from then"}
	}
	if host == "busy.example.org" {
		return Explanation{}, context.DeadlineExceeded
	}
	e, err := f.Explain(host, addr)
	e.At = &at
	return e, err
}

// backupText is what the fake's backups hold.
const backupText = "a backup, octet by octet"

func (f *fake) Backup(_ context.Context, w io.Writer, local bool) error {
	switch breaks := int(f.breaks.Load()); {
	case breaks > len(backupText):
		_, err := w.Write(make([]byte, breaks))
		return err
	case breaks > 0:
		_, _ = io.WriteString(w, backupText[:breaks])
		return errors.New("the store has gone")
	case breaks < 0 && !local:
		return &core.Refusal{Reason: "the store does not answer", Remedy: "say --local"}
	}
	_, err := io.WriteString(w, backupText)
	return err
}

func (f *fake) Restore(ctx context.Context, r io.Reader, o RestoreOptions) (Outcome, error) {
	raw, err := io.ReadAll(r)
	return Outcome{Summary: fmt.Sprintf("%s has %d octets %+v", User(ctx), len(raw), o)}, err
}

func (f *fake) Migrate(_ context.Context, o MigrateOptions) (Outcome, error) {
	return Outcome{Summary: fmt.Sprint(o)}, nil
}

func (f *fake) CheckStore(context.Context) (StoreReport, error) {
	return StoreReport{Plan: "1.7", Findings: []Finding{{What: "a piece is missing"}}}, nil
}

func (f *fake) Probe(ctx context.Context, target string, progress func(Probing)) (Probing, error) {
	if target == "service/none" {
		return Probing{}, &core.Refusal{Reason: "there is no service \"none\"", Remedy: "there are shop"}
	}
	p := Probing{Target: target, Plan: "1.7", Observers: []Observer{{Name: "d1", State: "asked"}}}
	progress(p)
	if f.probe != nil {
		return f.probe(ctx, p)
	}
	p.Observers[0].State = "answered"
	return p, nil
}

func (f *fake) Audit(_ context.Context, from uint64, limit int) ([]AuditRecord, error) {
	return []AuditRecord{{Revision: from, What: "drain"}, {Revision: uint64(limit)}}[:min(limit, 2)], nil
}

func (f *fake) AuditSince(_ context.Context, since time.Time, limit int) ([]AuditRecord, error) {
	return []AuditRecord{{At: since, Auto: true}, {Revision: uint64(limit)}}, nil
}

func (f *fake) AuditExport(ctx context.Context, w io.Writer) error { return f.Backup(ctx, w, false) }

func (f *fake) AuditVerify(context.Context) (AuditReport, error) {
	return AuditReport{Records: 7, Findings: []AuditFinding{{Record: 3, What: "it is missing"}}}, nil
}

// serve runs a server until the test ends and waits for it.
func serve(t *testing.T, d Director, tune ...func(*Server)) *Server {
	t.Helper()
	s, err := NewServer(Options{Director: d, Listen: "127.0.0.1:0", Socket: filepath.Join(t.TempDir(), SocketName)})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tune {
		f(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// socketHTTP is a plain HTTP client of the unix socket.
func socketHTTP(t *testing.T, s *Server) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

func client(t *testing.T, server string) *Client {
	t.Helper()
	c, err := NewClient(server)
	if err != nil {
		t.Fatal(err)
	}
	c.pause = time.Millisecond
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}
