package tap

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	dnstap "github.com/dnstap/golang-dnstap"
	"github.com/miekg/dns"
	"google.golang.org/protobuf/proto"
)

var (
	client = netip.MustParseAddrPort("192.0.2.7:4711")
	server = netip.MustParseAddrPort("198.51.100.1:53")
)

func exchange(t testing.TB) (query, reply []byte) {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion("shop.example.org.", dns.TypeA)
	query, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	r := new(dns.Msg)
	r.SetReply(m)
	r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "shop.example.org.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 20}, A: net.IPv4(192, 0, 2, 10)}}
	if reply, err = r.Pack(); err != nil {
		t.Fatal(err)
	}
	return query, reply
}

// safe is a buffer that several goroutines may use.
type safe struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safe) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safe) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func run(t *testing.T, tap *Tap) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tap.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 10_000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s: not in time", what)
}

func TestQueryLog(t *testing.T) {
	var lines safe
	tap := New(Options{LogShare: 0.1, Log: slog.New(slog.NewJSONHandler(&lines, nil))})
	run(t, tap)
	query, reply := exchange(t)
	s := tap.Sampler()
	for range 100 {
		s.Take(time.Now(), client, server, UDP, query, reply)
	}
	until(t, "ten lines", func() bool { return strings.Count(lines.String(), "\n") == 10 })
	var got map[string]any
	if err := json.Unmarshal([]byte(strings.SplitN(lines.String(), "\n", 2)[0]), &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"msg": "query", "client": "192.0.2.7:4711", "transport": "udp", "name": "shop.example.org.", "type": "A",
		"rcode": "NOERROR", "answer": "192.0.2.10", "octets": float64(len(reply)),
	} {
		if got[key] != want {
			t.Errorf("%s: got %v, want %v", key, got[key], want)
		}
	}
}

// Whatever a client sends, a line stays one line and nothing panics.
func FuzzAttributes(f *testing.F) {
	query, reply := exchange(f)
	f.Add(query, reply)
	f.Add([]byte("\n\n"), []byte{})
	f.Fuzz(func(t *testing.T, query, reply []byte) {
		var out bytes.Buffer
		e := &Event{From: client, To: server}
		e.queryLen, e.queryWhole = copy(e.query[:], query), len(query)
		e.replyLen, e.replyWhole = copy(e.reply[:], reply), len(reply)
		slog.New(slog.NewTextHandler(&out, nil)).LogAttrs(t.Context(), slog.LevelInfo, "query", attributes(e)...)
		if bytes.Count(out.Bytes(), []byte("\n")) != 1 {
			t.Errorf("got %q", out.String())
		}
	})
}

// A receiver gets frames of the query and of the reply, also one that comes late,
// goes, and comes again.
func TestDnstap(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "dnstap.sock")
	tap := New(Options{TapShare: 1, Socket: socket, Identity: "d1", Version: "Divert"})
	run(t, tap)
	query, reply := exchange(t)
	s := tap.Sampler()
	for range 3 * queued { // nobody listens, and nothing waits
		s.Take(time.Now(), client, server, TCP, query, reply)
	}
	for round := range 2 {
		frames := make(chan []byte, 100)
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			r, err := dnstap.NewReader(conn, &dnstap.ReaderOptions{Bidirectional: true})
			if err != nil {
				t.Error(err)
				return
			}
			buf := make([]byte, 1<<16)
			for range 2 {
				n, err := r.ReadFrame(buf)
				if err != nil {
					t.Error(err)
					return
				}
				frames <- append([]byte(nil), buf[:n]...)
			}
		}()
		var got []*dnstap.Dnstap
		until(t, "two frames", func() bool {
			s.Take(time.Now(), client, server, TCP, query, reply)
			for {
				select {
				case frame := <-frames:
					d := new(dnstap.Dnstap)
					if err := proto.Unmarshal(frame, d); err != nil {
						t.Fatal(err)
					}
					got = append(got, d)
				default:
					return len(got) == 2
				}
			}
		})
		l.Close()
		q, r := got[0].Message, got[1].Message
		if string(got[0].Identity) != "d1" || string(got[0].Version) != "Divert" || q.GetType() != dnstap.Message_AUTH_QUERY || !bytes.Equal(q.QueryMessage, query) ||
			r.GetType() != dnstap.Message_AUTH_RESPONSE || !bytes.Equal(r.ResponseMessage, reply) || r.GetSocketProtocol() != dnstap.SocketProtocol_TCP ||
			q.GetSocketFamily() != dnstap.SocketFamily_INET || !bytes.Equal(q.QueryAddress, client.Addr().AsSlice()) || q.GetQueryPort() != 4711 {
			t.Errorf("round %d: got\n%v\n%v", round, got[0], got[1])
		}
	}
	if tap.outlets[0].dropped.Load() == 0 {
		t.Error("what was dropped is not counted")
	}
}

func TestNobodyLooksOn(t *testing.T) {
	tap := New(Options{})
	if tap != nil {
		t.Fatalf("New() = %v", tap)
	}
	s := tap.Sampler()
	s.Take(time.Now(), client, server, UDP, nil, nil)
	if err := tap.Run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTakeAllocatesNothing(t *testing.T) {
	tap := New(Options{LogShare: 1})
	o := tap.outlets[0]
	query, reply := exchange(t)
	s, now := tap.Sampler(), time.Now()
	if n := testing.AllocsPerRun(100, func() {
		s.Take(now, client, server, UDP, query, reply)
		o.release(<-o.queue)
	}); n != 0 {
		t.Errorf("it allocates %f times", n)
	}
	for range 2 * queued { // the queue is full
		s.Take(now, client, server, UDP, query, reply)
	}
	if n := testing.AllocsPerRun(100, func() { s.Take(now, client, server, UDP, query, reply) }); n != 0 {
		t.Errorf("with a full queue it allocates %f times", n)
	}
}
