package datagram

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// However the bursts fall, a worker that waits learns of each packet: one that comes
// between the last read and the wait, too. After a burst the socket is left alone
// until there is nothing to read.
func TestWaitMissesNothing(t *testing.T) {
	server, client := take(t, listen(t)), listen(t)
	b, err := New(server, false)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		for {
			n, err := b.Receive()
			if err != nil {
				ended <- err
				return
			}
			if n >= many && server.watched {
				t.Error("the socket is watched in a burst")
			}
			for i := range n {
				b.Reply(i, append(b.Room(), b.Packet(i)...))
			}
			if refused, err := b.Send(); refused != 0 || err != nil {
				t.Errorf("Send() = %d, %v", refused, err)
			}
		}
	}()
	packet := make([]byte, 16)
	for round := range 3000 {
		burst := [...]int{1, 2, many, 2 * many, Max}[round%5]
		for i := range burst {
			if _, err := client.WriteTo([]byte{byte(round), byte(i)}, server.LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		for i := range burst {
			if n, err := client.Read(packet); err != nil || n != 2 || packet[0] != byte(round) || packet[1] != byte(i) {
				t.Fatalf("round %d, reply %d: %v, %v", round, i, packet[:n], err)
			}
		}
	}
	if err := server.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Receive() ended with %v", err)
	}
}

// What waits in a socket that is taken over is not lost, and closing ends a wait.
func TestTake(t *testing.T) {
	conn, client := listen(t), listen(t)
	if _, err := client.WriteTo([]byte{1}, conn.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	s := take(t, conn)
	b, err := New(s, false)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := b.Receive(); n != 1 || err != nil || b.From(0).Port() != uint16(client.LocalAddr().(*net.UDPAddr).Port) {
		t.Fatalf("Receive() = %d, %v", n, err)
	}
	ended := make(chan error)
	go func() {
		_, err := b.Receive()
		ended <- err
	}()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Receive() ended with %v", err)
	}
	if _, err := b.Receive(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a second Receive() ended with %v", err)
	}
}

// STYLE 15: neither a read nor a wait allocates.
func TestReceiveAllocatesNothing(t *testing.T) {
	server := take(t, listen(t))
	b, err := New(server, false)
	if err != nil {
		t.Fatal(err)
	}
	client, err := net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	packet := []byte{1}
	if allocs := testing.AllocsPerRun(200, func() {
		for range many {
			if _, err := client.Write(packet); err != nil {
				t.Error(err)
			}
		}
		if n, err := b.Receive(); n != many || err != nil { // which ends the watch
			t.Errorf("Receive() = %d, %v", n, err)
		}
		go func() { _, _ = client.Write(packet) }()
		if n, err := b.Receive(); n != 1 || err != nil { // which mostly begins one
			t.Errorf("Receive() = %d, %v", n, err)
		}
	}); allocs > 2 { // those of the goroutine
		t.Errorf("%f allocations", allocs)
	}
}
