package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/core"
)

func TestNewClient(t *testing.T) {
	tests := []struct{ server, base, fails string }{
		{"http://127.0.0.1:8053", "http://127.0.0.1:8053", ""},
		{"http://127.0.0.1:8053/", "http://127.0.0.1:8053", ""},
		{"unix:/run/divert/control.sock", "http://divert", ""},
		{"unix:///run/divert/control.sock", "http://divert", ""},
		{"unix:control.sock", "http://divert", ""},
		{"unix:", "", "names no socket"},
		{"https://127.0.0.1:8053", "https://127.0.0.1:8053", ""},
		{"127.0.0.1:8053", "", "server"},
		{"http://127.0.0.1:8053/v1", "", "neither"},
		{"/run/divert/control.sock", "", "neither"},
	}
	for _, tc := range tests {
		c, err := NewClient(tc.server)
		switch {
		case tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails)):
			t.Errorf("%s: got %v, want %q", tc.server, err, tc.fails)
		case tc.fails == "" && err != nil:
			t.Errorf("%s: %v", tc.server, err)
		case tc.fails == "" && c.base != tc.base:
			t.Errorf("%s: got base %s, want %s", tc.server, c.base, tc.base)
		}
	}
}

func TestReads(t *testing.T) {
	s := serve(t, newFake())
	for _, server := range []string{"http://" + s.Addr(), "unix:" + s.socket} {
		c := client(t, server)
		status, err := c.Status(t.Context())
		if err != nil || status.Director != "d1" {
			t.Errorf("%s: status %+v, %v", server, status, err)
		}
		e, err := c.Explain(t.Context(), "shop.example.org", "192.0.2.1")
		if err != nil || e.Client != "192.0.2.1" {
			t.Errorf("%s: explanation %+v, %v", server, e, err)
		}
		if _, err := c.Explain(t.Context(), "www.example.net", ""); err == nil || !strings.Contains(err.Error(), "no service") {
			t.Errorf("%s: got %v, want the director's reason", server, err)
		}
		raws, err := c.Spec(t.Context())
		if err != nil || len(raws) != 1 || raws[0].Name != "fra" {
			t.Errorf("%s: spec %+v, %v", server, raws, err)
		}
		records, err := c.Audit(t.Context(), 7, 2)
		if err != nil || len(records) != 2 || records[0].Revision != 7 {
			t.Errorf("%s: audit %+v, %v", server, records, err)
		}
	}
	_, err := client(t, "http://"+s.Addr()).Do(t.Context(), core.Command{ID: "a1", Verb: core.Thaw}, time.Second, nil)
	if e := (*Error)(nil); !errors.As(err, &e) || e.Code != 403 || !strings.Contains(e.Remedy, s.socket) {
		t.Errorf("a change over TCP gave %v, want 403 and the socket", err)
	}
	o, err := client(t, "unix:"+s.socket).Recover(t.Context(), false)
	if err != nil || o.Code != 1 || o.Remedy != "run it there" {
		t.Errorf("recover gave %+v, %v; want the refusal", o, err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	_, err := client(t, "unix:"+path).Status(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no director answers at unix:"+path+": not there") {
		t.Errorf("got %v", err)
	}
	_, err = client(t, "unix:"+path).Do(t.Context(), core.Command{ID: "a1", Verb: core.Thaw}, time.Second, nil)
	if err == nil {
		t.Error("a command that nobody took has an outcome")
	}
}

// TestHungDirector: one that takes connections and says nothing, as when it is
// stopped, is told from one that is not there, in words.
func TestHungDirector(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := client(t, "http://"+l.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Status(ctx)
	if err == nil || !strings.Contains(err.Error(), "took the connection and does not answer") {
		t.Errorf("got %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	o, err := c.Do(ctx, core.Command{ID: "a1", Verb: core.Thaw}, time.Second, nil)
	if err != nil || o.Code != 3 || !strings.Contains(o.Error, "does not answer") || !strings.Contains(o.Remedy, "--id a1") {
		t.Errorf("got %+v, %v; want an unknown outcome", o, err)
	}
}

func TestFind(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	s := serve(t, newFake())
	gone := filepath.Join(t.TempDir(), SocketName)

	if _, _, err := find([]string{gone}); err == nil || !strings.Contains(err.Error(), gone+": not there") || !strings.Contains(err.Error(), "DIVERT_SERVER") {
		t.Errorf("got %v, want the places and the remedy", err)
	}
	demo := filepath.Join(DemoFolders()[0], SocketName)
	if err := os.MkdirAll(filepath.Dir(demo), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(s.socket, demo); err != nil {
		t.Fatal(err)
	}
	path, others, err := find([]string{gone, demo})
	if err != nil || path != demo || len(others) != 0 {
		t.Errorf("got %s %v %v, want the demo's", path, others, err)
	}
	// The same director under two names is one.
	if _, others, _ = find([]string{s.socket, demo}); len(others) != 0 {
		t.Errorf("got others %v, want none", others)
	}
	second := serve(t, newFake())
	if path, others, _ = find([]string{second.socket, demo}); path != second.socket || len(others) != 1 {
		t.Errorf("got %s and %v, want the first and one other", path, others)
	}
}

// TestRepeat: a connection that breaks in the middle is taken up again with the
// same ID (S4).
func TestRepeat(t *testing.T) {
	f := newFake()
	var ids []string
	f.do = func(_ context.Context, c core.Command, progress func(Outcome)) (Outcome, error) {
		ids = append(ids, c.ID)
		progress(Outcome{ID: c.ID, Revision: 9})
		if len(ids) < 3 {
			panic(http.ErrAbortHandler)
		}
		return Outcome{ID: c.ID, Revision: 9, Summary: "done"}, nil
	}
	c := client(t, "unix:"+serve(t, f).socket)
	o, err := c.Do(t.Context(), core.Command{ID: "a1", Verb: core.Thaw}, time.Second, nil)
	if err != nil || o.Summary != "done" || fmt.Sprint(ids) != "[a1 a1 a1]" {
		t.Errorf("got %+v, %v after %v", o, err, ids)
	}
	ids = make([]string, 0)
	f.do = func(_ context.Context, c core.Command, progress func(Outcome)) (Outcome, error) {
		ids = append(ids, c.ID)
		progress(Outcome{ID: c.ID, Revision: 9})
		panic(http.ErrAbortHandler)
	}
	o, err = c.Do(t.Context(), core.Command{ID: "a2", Verb: core.Thaw}, time.Second, nil)
	if err != nil || o.Code != 3 || !strings.Contains(o.Remedy, "committed") || len(ids) != attempts {
		t.Errorf("got %+v, %v after %v", o, err, ids)
	}
}

func TestStranger(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://192.0.2.1/")
		w.WriteHeader(http.StatusFound)
	}))
	defer server.Close()
	if _, err := client(t, server.URL).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "302") {
		t.Errorf("got %v, want the redirect named and not followed", err)
	}
}

func TestWatch(t *testing.T) {
	f := newFake()
	s := serve(t, f, func(s *Server) { s.gap = 0 })
	var seen []string
	stop := errors.New("enough")
	err := client(t, "http://"+s.Addr()).Watch(t.Context(), func(st Status) error {
		seen = append(seen, st.Director)
		if len(seen) == 3 {
			return stop
		}
		go f.set(Status{Director: fmt.Sprint("d", len(seen)+1)})
		return nil
	})
	if !errors.Is(err, stop) || fmt.Sprint(seen) != "[d1 d2 d3]" {
		t.Errorf("got %v, %v", seen, err)
	}
}

// TestStreamsPerListener (C3): readers on TCP, whoever they are, do not keep an
// operator on the socket from watching.
func TestStreamsPerListener(t *testing.T) {
	s := serve(t, newFake(), func(s *Server) { s.streams[viaTCP] = make(chan struct{}) })
	enough := errors.New("enough")
	watch := func(server string) error {
		return client(t, server).Watch(t.Context(), func(Status) error { return enough })
	}
	if err := watch("http://" + s.Addr()); err == nil || !strings.Contains(err.Error(), "too many clients") {
		t.Errorf("got %v, want TCP to be full", err)
	}
	if err := watch("unix:" + s.socket); !errors.Is(err, enough) {
		t.Errorf("got %v, want the socket to have room", err)
	}
}

func TestEventsOnTheWire(t *testing.T) {
	s := serve(t, newFake(), func(s *Server) { s.keepAlive = time.Millisecond; s.streams[viaTCP] = make(chan struct{}, 1) })
	resp, err := http.Get("http://" + s.Addr() + "/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("got content type %q", got)
	}
	var lines []string
	for in := bufio.NewScanner(resp.Body); len(lines) < 5 && in.Scan(); {
		lines = append(lines, in.Text())
	}
	if len(lines) < 5 || lines[0] != "event: status" || !strings.HasPrefix(lines[1], `data: {"director":"d1"`) || lines[2] != "" || lines[3] != ": keep-alive" {
		t.Errorf("got %q", lines)
	}
	// C3: streams are counted, and a slot comes back.
	if code, _ := ask(t, http.DefaultClient, http.MethodGet, "http://"+s.Addr()+"/v1/events", ""); code != 503 {
		t.Errorf("a stream too many gave %d, want 503", code)
	}
	_ = resp.Body.Close()
	s.streams[viaTCP] <- struct{}{} // waits until the first has ended
	<-s.streams[viaTCP]
	again, err := http.Get("http://" + s.Addr() + "/v1/events")
	if err != nil || again.StatusCode != 200 {
		t.Fatalf("after the first left: %v %v", again, err)
	}
	_, _ = io.CopyN(io.Discard, again.Body, 10)
	_ = again.Body.Close()
}
