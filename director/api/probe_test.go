package api

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestProbe: by either listener, progress comes before the last word, and a refusal
// brings its remedy.
func TestProbe(t *testing.T) {
	s := serve(t, newFake())
	for _, server := range []string{"http://" + s.Addr(), "unix:" + s.socket} {
		var seen []string
		p, err := client(t, server).Probe(t.Context(), "shop@fra", 5*time.Second, func(p Probing) { seen = append(seen, p.Observers[0].State) })
		if err != nil || !p.Final || p.Target != "shop@fra" || p.Observers[0].State != "answered" || strings.Join(seen, " ") != "asked" {
			t.Errorf("%s: got %+v after %v, %v", server, p, seen, err)
		}
		_, err = client(t, server).Probe(t.Context(), "service/none", time.Second, nil)
		if e := (*Error)(nil); !errors.As(err, &e) || e.Code != 409 || e.Remedy != "there are shop" {
			t.Errorf("%s: got %v, want the refusal", server, err)
		}
	}
}

// TestProbeEnds: the director is told how long its answer is waited for, and that its
// client is gone; and a question leaves room for the others (C3).
func TestProbeEnds(t *testing.T) {
	f := newFake()
	begun, ended := make(chan time.Duration, 1), make(chan error, 1)
	f.probe = func(ctx context.Context, p Probing) (Probing, error) {
		end, _ := ctx.Deadline()
		begun <- time.Until(end)
		<-ctx.Done()
		ended <- ctx.Err()
		return p, nil
	}
	s := serve(t, f, func(s *Server) { s.probes = make(chan struct{}, 1) })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := client(t, "unix:"+s.socket).Probe(ctx, "shop", time.Minute, nil)
		done <- err
	}()
	if left := <-begun; left > time.Minute || left < 50*time.Second {
		t.Errorf("got %s to answer, want a minute", left)
	}
	_, err := client(t, "unix:"+s.socket).Probe(t.Context(), "shop", time.Second, nil)
	if e := (*Error)(nil); !errors.As(err, &e) || e.Code != 503 {
		t.Errorf("got %v, want 503 while another is under way", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the director got %v", err)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("the client got %v", err)
	}
}

// TestProbeOldDirector: one that has no such path, or cannot, is named for what it is.
func TestProbeOldDirector(t *testing.T) {
	s := serve(t, struct{ Director }{newFake()})
	if _, err := client(t, "unix:"+s.socket).Probe(t.Context(), "shop", time.Second, nil); err == nil || !strings.Contains(err.Error(), "cannot have others probe") {
		t.Errorf("got %v", err)
	}
	old := serve(t, newFake(), func(s *Server) { delete(s.routes, probePath) })
	if _, err := client(t, "unix:"+old.socket).Probe(t.Context(), "shop", time.Second, nil); err == nil || !strings.Contains(err.Error(), "too old") {
		t.Errorf("got %v", err)
	}
}
