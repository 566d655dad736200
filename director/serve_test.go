package director

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/director/store/fsys"
	"github.com/divertdns/divert/dnsserver/geo"
)

// stage is a data folder that holds a plan, a port to serve on, and clients that
// never stop asking there.
type stage struct {
	t        *testing.T
	settings spec.Settings
	asked    atomic.Int64
	lost     atomic.Int64
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, settings: spec.DefaultSettings()}
	dir := t.TempDir()
	m := &mesh{t: t, ctx: t.Context(), geo: geo.Default()}
	for i := range 3 {
		m.nodes = append(m.nodes, m.node("d"+string(rune('1'+i)), ed25519.NewKeyFromSeed(append(make([]byte, 31), byte(i)))))
	}
	s.settings.Name, s.settings.Site, s.settings.DataDir = "d1", "s1", dir
	s.settings.DNS.Listen, s.settings.API.Listen, s.settings.Gossip.Listen = []string{freePort(t)}, "", "127.0.0.1:0"
	s.save(m.plan(nil, 3, m.nodes[0]))
	return s
}

// freePort finds one that is free by both transports, below those that the kernel
// gives to whoever dials meanwhile.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(15_000+rand.IntN(15_000)))
		tcp, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		udp, err := net.ListenPacket("udp4", addr)
		tcp.Close()
		if err == nil {
			udp.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

func (s *stage) save(f *inForce) {
	s.t.Helper()
	disk, err := store.OpenDisk(filepath.Join(s.settings.DataDir, "state"), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := disk.Save(store.Generation{Plan: f.sealed.Raw, Doc: f.bytes, Highest: f.sealed.Identity, Saved: time.Now()}); err != nil {
		s.t.Fatal(err)
	}
}

// serve runs a process until it ends by itself or the test does.
func (s *stage) serve(change func(*ServeOptions)) (done chan error, ready chan struct{}) {
	done, ready = make(chan error, 1), make(chan struct{}, 8)
	o := ServeOptions{Options: Options{Settings: s.settings, Etcd: []string{"false"}}, Ready: func() { ready <- struct{}{} }}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		done <- Serve(ctx, o)
	}()
	s.t.Cleanup(func() {
		cancel()
		<-ended
	})
	return done, ready
}

// patient clients ask again while nobody is there, and accept no refusal.
func (s *stage) patient(n int) (stop func()) {
	var end atomic.Bool
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for answered := 0; !end.Load() || answered == 0; {
				m := new(dns.Msg)
				m.SetQuestion("pay.example.org.", dns.TypeA)
				reply, _, err := (&dns.Client{Timeout: 2 * time.Second}).Exchange(m, s.settings.DNS.Listen[0])
				if err != nil {
					continue
				}
				answered++
				if reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != 1 {
					s.t.Errorf("got\n%v", reply)
					return
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		end.Store(true)
		all.Wait()
	})
	s.t.Cleanup(stop)
	return stop
}

// within waits for a channel for longer than anything here may take.
func within[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(2 * offerPatience):
		t.Fatalf("%s: not in time", what)
	}
	return v
}

// clients ask until the test ends, and expect every answer.
func (s *stage) clients(n int) (stop func()) {
	var end atomic.Bool
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			c := &dns.Client{Timeout: 10 * time.Second}
			conn, err := c.Dial(s.settings.DNS.Listen[0])
			if err != nil {
				s.t.Error(err)
				return
			}
			defer conn.Close()
			for !end.Load() {
				m := new(dns.Msg)
				m.SetQuestion("pay.example.org.", dns.TypeA)
				s.asked.Add(1)
				if reply, _, err := c.ExchangeWithConn(m, conn); err != nil || reply.Rcode != 0 || len(reply.Answer) != 1 {
					s.lost.Add(1)
					s.t.Errorf("a query was lost: %v\n%v", err, reply)
					return
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		end.Store(true)
		all.Wait()
	})
	s.t.Cleanup(stop)
	return stop
}

// F22: a process takes over from another, ten times, under queries: none is lost,
// and each ends well when the next is whole.
func TestReplace(t *testing.T) {
	s := newStage(t)
	done, ready := s.serve(nil)
	within(t, ready, "the first process")
	stop := s.clients(4)
	for i := range 10 {
		before := s.asked.Load()
		nextDone, nextReady := s.serve(func(o *ServeOptions) { o.Replace = true })
		select {
		case err := <-nextDone:
			t.Fatalf("successor %d: %v", i, err)
		case <-nextReady:
		}
		if err := within(t, done, "the process before"); err != nil {
			t.Fatalf("process %d: %v", i, err)
		}
		for s.asked.Load() < before+100 {
			time.Sleep(time.Millisecond)
		}
		done = nextDone
	}
	stop()
	if s.lost.Load() > 0 {
		t.Errorf("%d of %d queries lost", s.lost.Load(), s.asked.Load())
	}
}

// If the new process fails the old one stays: before it lets go of anything it
// never stops, and after that it begins again.
func TestReplaceFails(t *testing.T) {
	for _, tc := range []struct {
		name  string
		until string
	}{
		{"without a word", ""},
		{"when it answers", "ready"},
		{"when all is let go of", "released"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStage(t)
			done, ready := s.serve(nil)
			within(t, ready, "the first process")
			stop := s.clients(2)
			h, f, err := takeOver(t.Context(), s.settings, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- f.run(ctx) }()
			if tc.until == "ready" {
				if err := tell(h.conn, handoverMessage{State: "ready"}); err != nil {
					t.Fatal(err)
				}
			}
			if tc.until == "released" {
				if err := h.ready(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			h.conn.Close()
			f.dns.Retire() // a process that is killed loses what it has read; this one does not
			if err := <-served; err != nil {
				t.Error(err)
			}
			cancel()
			if tc.until != "" {
				within(t, ready, "the first process, again")
			}
			// It can be replaced as before.
			nextDone, nextReady := s.serve(func(o *ServeOptions) { o.Replace = true })
			select {
			case err := <-nextDone:
				t.Fatalf("the successor: %v", err)
			case <-nextReady:
			}
			if err := within(t, done, "the first process"); err != nil {
				t.Error(err)
			}
			stop()
		})
	}
}

func TestReplaceRefuses(t *testing.T) {
	s := newStage(t)
	refused := func(want string) {
		t.Helper()
		done, _ := s.serve(func(o *ServeOptions) { o.Replace = true })
		if err := within(t, done, "a successor"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	refused("no director runs on")
	done, ready := s.serve(nil)
	within(t, ready, "the first process")
	// A second one beside it is told so, and nothing else happens.
	other, _ := s.serve(nil)
	if err := within(t, other, "a second process"); err == nil || !strings.Contains(err.Error(), "is used by another divert") {
		t.Errorf("got %v", err)
	}
	// What is on the disk is not what is answered from.
	m := &mesh{t: t, ctx: t.Context(), geo: geo.Default()}
	for i := range 3 {
		m.nodes = append(m.nodes, m.node("d"+string(rune('1'+i)), ed25519.NewKeyFromSeed(append(make([]byte, 31), byte(i)))))
	}
	s.save(m.plan(nil, 4, m.nodes[0]))
	refused("it answers from")
	select {
	case err := <-done:
		t.Errorf("the first process ended: %v", err)
	default:
	}
}

// Each process takes a boot of its own, so that the others tell them apart.
func TestReplaceTakesTheNextBoot(t *testing.T) {
	s := newStage(t)
	boot := func() uint64 {
		t.Helper()
		id, err := gossip.LoadIdentity(fsys.Folder{FS: fsys.OS{}, Dir: s.settings.DataDir}, "d1")
		if err != nil {
			t.Fatal(err)
		}
		return id.Boot
	}
	first := boot()
	done, ready := s.serve(nil)
	within(t, ready, "the first process")
	nextDone, nextReady := s.serve(func(o *ServeOptions) { o.Replace = true })
	select {
	case err := <-nextDone:
		t.Fatalf("the successor: %v", err)
	case <-nextReady:
	}
	if err := within(t, done, "the first process"); err != nil {
		t.Error(err)
	}
	if got := boot(); got < first+3 {
		t.Errorf("boots went from %d to %d over two processes", first, got)
	}
}

// S12: whoever asks while a director starts from its last good plan waits for the
// answer, and is never refused.
func TestNobodyIsRefusedAtTheStart(t *testing.T) {
	s := newStage(t)
	stop := s.patient(4)
	_, ready := s.serve(nil)
	within(t, ready, "the process")
	stop()
}

// A director that cannot be made holds no port: the next try finds them free.
func TestFailedNewLetsGo(t *testing.T) {
	s := newStage(t)
	s.settings.Gossip.Listen, s.settings.API.Listen = freePort(t), freePort(t)
	taken, err := net.Listen("tcp", s.settings.API.Listen)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Settings: s.settings, Etcd: []string{"false"}}
	if _, err := New(o); err == nil {
		t.Fatal("the API's port is taken, and New does not say so")
	}
	taken.Close()
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	d.close()
}
