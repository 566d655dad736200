package dnsserver

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/divertdns/divert/dnsserver/answer"
)

// handOn duplicates a server's sockets, as another process gets them.
func handOn(t *testing.T, s *Server) (out []Socket) {
	t.Helper()
	for _, h := range s.Handles() {
		raw, err := h.Conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var fd int
		var dupErr error
		if err := raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || dupErr != nil {
			t.Fatal(err, dupErr)
		}
		socket, err := SocketOf(os.NewFile(uintptr(fd), h.Network))
		if err != nil {
			t.Fatal(err)
		}
		if socket.Network != h.Network || socket.Addr != h.Addr {
			t.Errorf("SocketOf says %s %s, want %s %s", socket.Network, socket.Addr, h.Network, h.Addr)
		}
		out = append(out, socket)
	}
	return out
}

// Sockets go from server to server while queries come, and none is lost: what the
// old one has read it answers, what it has not the new one does.
func TestHandOn(t *testing.T) {
	table := new(atomic.Pointer[answer.Table])
	table.Store(exampleTable(t, ""))
	start := func(o Options) (*Server, chan error) {
		t.Helper()
		o.Table = table
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		go func() { done <- s.Run(ctx) }()
		return s, done
	}
	s, done := start(Options{Listen: []string{"127.0.0.1:0"}})
	addr := s.Addrs()[0].String()

	stream := dialTCP(t, s) // accepted by the first
	if _, err := stream.Write(framed(t, 1)); err != nil {
		t.Fatal(err)
	}
	readFrame(t, stream)

	var stop atomic.Bool
	var clients sync.WaitGroup
	var asked, answered atomic.Int64
	for range 8 {
		conn, err := net.Dial("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		clients.Go(func() {
			packet := make([]byte, 512)
			for id := uint16(0); !stop.Load(); id++ {
				asked.Add(1)
				if _, err := conn.Write(framed(t, id)[2:]); err != nil {
					t.Error(err)
					return
				}
				if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
					t.Error(err)
					return
				}
				if _, err := conn.Read(packet); err != nil || binary.BigEndian.Uint16(packet) != id {
					t.Errorf("query %d: %v", id, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	for range 20 {
		before := answered.Load()
		next, nextDone := start(Options{Listen: []string{addr}, Inherit: handOn(t, s)})
		s.Retire()
		if stream != nil { // what was accepted is served on
			if _, err := stream.Write(framed(t, 2)); err != nil {
				t.Error(err)
			}
			readFrame(t, stream)
			stream.Close()
			stream = nil
		}
		if err := <-done; err != nil {
			t.Errorf("Run after Retire: %v", err)
		}
		s, done = next, nextDone
		for answered.Load() < before+100 {
			time.Sleep(time.Millisecond)
		}
	}
	stop.Store(true)
	clients.Wait()
	if asked.Load() != answered.Load() {
		t.Errorf("%d queries, %d answers", asked.Load(), answered.Load())
	}
	if reply := ask(t, "tcp", addr, "shop.example.org.", dns.TypeA); len(reply.Answer) != 1 {
		t.Errorf("by TCP at the last server: got\n%v", reply)
	}
}

// An address that is no longer listened on is closed; a new one is bound.
func TestInheritOtherAddresses(t *testing.T) {
	s := serve(t, exampleTable(t, ""), nil)
	next := serve(t, exampleTable(t, ""), func(o *Options, _ *limits) {
		o.Listen, o.Inherit = []string{"127.0.0.1:0"}, handOn(t, s)
	})
	if next.Addrs()[0] == s.Addrs()[0] {
		t.Errorf("both serve %s", s.Addrs()[0])
	}
	if reply := ask(t, "udp", next.Addrs()[0].String(), "shop.example.org.", dns.TypeA); len(reply.Answer) != 1 {
		t.Errorf("got\n%v", reply)
	}
}

func TestSocketOfRefuses(t *testing.T) {
	unixSocket, err := net.ListenUnix("unix", &net.UnixAddr{Name: t.TempDir() + "/s", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer unixSocket.Close()
	f, err := unixSocket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, f := range []*os.File{f, file} {
		if got, err := SocketOf(f); err == nil {
			t.Errorf("SocketOf(%s) = %v, want an error", f.Name(), got)
		}
	}
}
