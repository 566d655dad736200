package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/user"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
)

func me(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

func TestCommandIsStrict(t *testing.T) {
	f := newFake()
	s := serve(t, f, func(s *Server) { s.most = 1 << 20 }) // to send all that one may have takes a busy machine long
	c := socketHTTP(t, s)
	tests := []struct{ name, body, want string }{
		{"empty", ``, "it is empty"},
		{"not JSON", `drain fra`, "octet 1"},
		{"cut off", `{"id":"a1"`, "it ends in the middle"},
		{"an array", `[{"id":"a1"}]`, "want one JSON object"},
		{"unknown key", `{"id":"a1","verb":"drain","scpe":"cluster/fra"}`, `unknown field "scpe"`},
		{"doubled key", `{"id":"a1","verb":"drain","force":false,"force":true}`, `key "force" is given twice`},
		{"doubled key below", `{"id":"a1","verb":"director-approve","director":{"name":"d4","name":"d5"}}`, `key "name" is given twice`},
		{"wrong type", `{"id":"a1","verb":"drain","forSeconds":"1h"}`, "forSeconds: want"},
		{"the name of before", `{"id":"a1","verb":"drain","for":1}`, "for"},
		{"too long to be meant", `{"id":"a1","verb":"drain","forSeconds":1e300}`, "forSeconds: 1e+300 is more"},
		{"two objects", `{"id":"a1","verb":"thaw"}{}`, "something follows"},
		{"deep", strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100), "nests deeper"},
		{"no ID", `{"verb":"thaw"}`, "id is missing"},
		{"an ID with a slash", `{"id":"../a","verb":"thaw"}`, "id "},
		{"no verb", `{"id":"a1"}`, "verb"},
		{"an ID of the leader's", `{"id":"rollout-stop-1.7","verb":"thaw"}`, "give their own commands"},
		{"the leader's verb", `{"id":"a1","verb":"expire"}`, "verb"},
		{"a director's verb", `{"id":"a1","verb":"director-join"}`, "verb"},
		{"a director's folder", `{"id":"a1","verb":"apply","folder":"d1"}`, "folder"},
		{"negative", `{"id":"a1","verb":"drain","forSeconds":-1}`, "negative"},
		{"control characters", `{"id":"a1","verb":"drain","reason":"x\u001b[2J"}`, "control characters"},
		{"a long reason", `{"id":"a1","verb":"drain","reason":"` + strings.Repeat("x", 2000) + `"}`, "reason has 2000 octets"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			code, body := ask(t, c, http.MethodPost, "http://divert/v1/commands", tc.body, "Content-Type", "application/json")
			if code != 400 || !strings.Contains(body, strings.ReplaceAll(tc.want, `"`, `\"`)) {
				t.Errorf("got %d %s, want 400 with %q", code, body, tc.want)
			}
		})
	}
	if code, _ := ask(t, c, http.MethodPost, "http://divert/v1/commands", `{"id":"a1","verb":"thaw"}`, "Content-Type", "text/plain"); code != 415 {
		t.Errorf("text/plain gave %d, want 415", code)
	}
	if code, _ := ask(t, c, http.MethodPost, "http://divert/v1/commands", strings.Repeat(" ", 1<<20+1), "Content-Type", "application/json"); code != 413 {
		t.Errorf("a body too large gave %d, want 413", code)
	}
	if got := f.sent(); len(got) != 0 {
		t.Errorf("the director was given %d commands, want none", len(got))
	}
}

// TestLargeWaits: a large command waits for what else takes much memory, a small one
// does not.
func TestLargeWaits(t *testing.T) {
	f := newFake()
	large := make(chan struct{}, 1)
	c := client(t, "unix:"+serve(t, f, func(s *Server) { s.large = large }).socket)
	large <- struct{}{}
	object := spec.Raw{Kind: spec.KindZone, Name: "a", JSON: []byte(`{"a":"` + strings.Repeat("x", largeBody) + `"}`)}
	done := make(chan error, 1)
	go func() {
		_, err := c.Do(t.Context(), core.Command{ID: "large", Verb: core.Apply, Objects: []spec.Raw{object}}, time.Second, nil)
		done <- err
	}()
	if _, err := c.Do(t.Context(), core.Command{ID: "small", Verb: core.Thaw}, time.Second, nil); err != nil {
		t.Error(err)
	}
	select {
	case err := <-done:
		t.Errorf("got %v while the slot was taken, want it to wait", err)
	case <-time.After(50 * time.Millisecond):
	}
	<-large
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := f.sent(); len(got) != 2 || got[1].ID != "large" {
		t.Errorf("got %d commands, want the small one, then the large one", len(got))
	}
	select {
	case large <- struct{}{}:
	case <-time.After(5 * time.Second):
		t.Error("the slot is still taken")
	}
	if out, err := c.Do(t.Context(), core.Command{ID: "late", Verb: core.Apply, Objects: []spec.Raw{object}}, 50*time.Millisecond, nil); err == nil && out.Code == 0 || len(f.sent()) != 2 {
		t.Errorf("got %+v, %v while the slot stays taken, want a refusal", out, err)
	} else if said := fmt.Sprint(out, err); !strings.Contains(said, "another large change") {
		t.Errorf("got %q", said)
	}
}

// TestAuthorIsThePeer (S15): whoever the kernel says, with the label beside.
func TestAuthorIsThePeer(t *testing.T) {
	f := newFake()
	c := client(t, "unix:"+serve(t, f).socket)
	name := me(t)
	tests := []struct{ label, want string }{
		{"", name},
		{name, name},
		{"Ada on call", name + " (Ada on call)"},
	}
	for i, tc := range tests {
		command := core.Command{ID: fmt.Sprint("a", i), Verb: core.Thaw, Author: tc.label}
		if _, err := c.Do(t.Context(), command, time.Second, nil); err != nil {
			t.Fatal(err)
		}
		sent := f.sent()
		got := sent[len(sent)-1]
		if got.Author != "unix:"+name || got.Who() != "unix:"+tc.want || got.By == nil || got.By.Who != got.Author {
			t.Errorf("label %q: got author %q, named %q, want %q", tc.label, got.Author, got.Who(), tc.want)
		}
	}
	if _, err := c.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.inits; len(got) != 1 || got[0] != "unix:"+name {
		t.Errorf("Init was told %q, want %q", got, name)
	}
}

func TestOutcomesStream(t *testing.T) {
	f := newFake()
	f.do = func(_ context.Context, c core.Command, progress func(Outcome)) (Outcome, error) {
		o := Outcome{ID: c.ID, Revision: 7}
		for _, d := range []string{"d1", "d2"} {
			o.Applied = append(o.Applied, d)
			o.Final = true // the server says what is final, not the director
			progress(o)
		}
		o.Summary = "drained"
		return o, nil
	}
	s := serve(t, f)
	code, body := ask(t, socketHTTP(t, s), http.MethodPost, "http://divert/v1/commands", `{"id":"a1","verb":"drain","scope":"cluster/fra"}`, "Content-Type", "application/json")
	if code != 200 {
		t.Fatalf("got %d, want 200", code)
	}
	var finals []bool
	for lines := bufio.NewScanner(strings.NewReader(body)); lines.Scan(); {
		var o Outcome
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			t.Fatal(err)
		}
		finals = append(finals, o.Final)
	}
	if fmt.Sprint(finals) != "[false false true]" {
		t.Errorf("got finals %v, want only the last", finals)
	}
	var seen []string
	final, err := client(t, "unix:"+s.socket).Do(t.Context(), core.Command{ID: "a1", Verb: core.Drain}, time.Second,
		func(o Outcome) { seen = append(seen, strings.Join(o.Applied, "+")) })
	if err != nil || final.Summary != "drained" || fmt.Sprint(seen) != "[d1 d1+d2]" {
		t.Errorf("got %+v after %v, %v", final, seen, err)
	}
}

func TestSettle(t *testing.T) {
	tests := []struct {
		name string
		o    Outcome
		err  error
		want Outcome
	}{
		{"done", Outcome{ID: "a1", Revision: 3}, nil, Outcome{ID: "a1", Revision: 3, Final: true}},
		{
			"refused",
			Outcome{Preview: core.Preview{Warnings: []string{"w"}}},
			fmt.Errorf("draining: %w", &core.Refusal{Reason: "last site", Remedy: "--force", Force: true}),
			Outcome{ID: "a1", Code: 1, Error: "last site", Remedy: "--force", CanForce: true, Final: true, Preview: core.Preview{Warnings: []string{"w"}}},
		},
		{"store away", Outcome{}, errors.New("the store is away"), Outcome{ID: "a1", Code: 1, Error: "the store is away", Final: true}},
		{"in time, as the director says itself", Outcome{Code: 3, Error: "all but d4"}, context.DeadlineExceeded, Outcome{ID: "a1", Code: 3, Error: "all but d4", Final: true}},
		{"unknown", Outcome{}, context.DeadlineExceeded, Outcome{
			ID: "a1", Code: 3, Final: true,
			Error: "not complete in time, and what became of it is unknown", Remedy: "repeat it with the same ID: nothing is done twice",
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, _ := json.Marshal(settle(tc.o, tc.err, "a1"))
			want, _ := json.Marshal(tc.want)
			if string(got) != string(want) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// TestSettleWithoutID: what has no ID is not told to be repeated with it.
func TestSettleWithoutID(t *testing.T) {
	if o := settle(Outcome{}, context.DeadlineExceeded, ""); o.Code != 3 || strings.Contains(o.Remedy, "ID") || !strings.Contains(o.Remedy, "divert status") {
		t.Errorf("got %+v", o)
	}
}

// TestClientGone: a client that leaves ends the wait, after the grace.
func TestClientGone(t *testing.T) {
	f := newFake()
	begun, ended := make(chan struct{}), make(chan error, 1)
	f.do = func(ctx context.Context, _ core.Command, _ func(Outcome)) (Outcome, error) {
		close(begun)
		<-ctx.Done()
		ended <- ctx.Err()
		return Outcome{}, ctx.Err()
	}
	s := serve(t, f, func(s *Server) { s.grace = time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	c := client(t, "unix:"+s.socket)
	o, err := c.Do(ctx, core.Command{ID: "a1", Verb: core.Thaw}, time.Minute, nil)
	if err != nil || o.Code != 3 || !strings.Contains(o.Remedy, "--id a1") {
		t.Errorf("got %+v, %v; want an unknown outcome that names the ID", o, err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the command ended with %v, want context.Canceled", err)
	}
}

// TestCommandTimeout: the wait is the caller's.
func TestCommandTimeout(t *testing.T) {
	f := newFake()
	f.do = func(ctx context.Context, c core.Command, _ func(Outcome)) (Outcome, error) {
		<-ctx.Done()
		return Outcome{ID: c.ID, Code: 3, Missing: []Missing{{Director: "d4", Why: "silent 6m"}}}, nil
	}
	c := client(t, "unix:"+serve(t, f).socket)
	o, err := c.Do(t.Context(), core.Command{ID: "a1", Verb: core.Thaw}, 5*time.Millisecond, nil)
	if err != nil || o.Code != 3 || len(o.Missing) != 1 {
		t.Errorf("got %+v, %v; want the laggard and code 3", o, err)
	}
}

// TestCommandCap (C3).
func TestCommandCap(t *testing.T) {
	f := newFake()
	hold, begun := make(chan struct{}), make(chan struct{})
	f.do = func(context.Context, core.Command, func(Outcome)) (Outcome, error) {
		begun <- struct{}{}
		<-hold
		return Outcome{}, nil
	}
	s := serve(t, f, func(s *Server) { s.commands = make(chan struct{}, 1) })
	c := client(t, "unix:"+s.socket)
	done := make(chan error)
	go func() {
		_, err := c.Do(context.Background(), core.Command{ID: "a1", Verb: core.Thaw}, time.Minute, nil)
		done <- err
	}()
	<-begun
	_, err := client(t, "unix:"+s.socket).Do(t.Context(), core.Command{ID: "a2", Verb: core.Thaw}, time.Minute, nil)
	if e := (*Error)(nil); !errors.As(err, &e) || e.Code != 503 {
		t.Errorf("got %v, want 503", err)
	}
	close(hold)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestWaitingKeepsNobodyOut: a command that waits for a second person is none that is under
// way: else those that wait would keep an undrain out.
func TestWaitingKeepsNobodyOut(t *testing.T) {
	f := newFake()
	hold, waits := make(chan struct{}), make(chan struct{})
	f.do = func(_ context.Context, c core.Command, progress func(Outcome)) (Outcome, error) {
		if c.Verb == core.Drain {
			progress(Outcome{ID: c.ID, Request: &Request{ID: c.ID, State: RequestWaits}})
			progress(Outcome{ID: c.ID, Request: &Request{ID: c.ID, State: RequestWaits}})
			waits <- struct{}{}
			<-hold
		}
		return Outcome{}, nil
	}
	var s *Server
	t.Cleanup(func() { // when Run has returned, and with it every handler
		if n := len(s.commands); n != 0 {
			t.Errorf("%d slots are held when all is done", n)
		}
	})
	s = serve(t, f, func(s *Server) { s.commands = make(chan struct{}, 1) })
	done := make(chan error)
	for _, id := range []string{"a1", "a2"} {
		c := client(t, "unix:"+s.socket)
		go func() {
			_, err := c.Do(context.Background(), core.Command{ID: id, Verb: core.Drain, Scope: "cluster/fra"}, time.Minute, nil)
			done <- err
		}()
		<-waits
	}
	if _, err := client(t, "unix:"+s.socket).Do(t.Context(), core.Command{ID: "a3", Verb: core.Undrain, Scope: "cluster/nyc"}, time.Minute, nil); err != nil {
		t.Error(err)
	}
	close(hold)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestNoDoubles: what encoding/json makes of a map is never refused, and never
// loops.
func TestNoDoubles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.MapOf(rapid.String(), rapid.Int()))).Draw(t, "m")
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := noDoubles(data); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
	})
}

func FuzzDecodeStrict(f *testing.F) {
	for _, seed := range []string{`{"id":"a1","verb":"drain"}`, `{"a":[{}]}`, `{`, `[]`, `{"a":1,"a":2}`, `{"objects":[{"kind":"Zone","object":{"a":[1,{"b":2}]}}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var c core.Command
		if decodeStrict(data, &c) == nil && !json.Valid(data) {
			t.Errorf("%q was taken for a command", data)
		}
	})
}
