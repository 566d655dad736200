package datagram

import (
	"bytes"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func listen(t *testing.T) *net.UDPConn {
	t.Helper()
	return listenOn(t, "127.0.0.1:0")
}

func listenOn(t *testing.T, address string) *net.UDPConn {
	t.Helper()
	packet, err := net.ListenPacket("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	conn := packet.(*net.UDPConn)
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func take(t *testing.T, conn *net.UDPConn) *Socket {
	t.Helper()
	s, err := Take(conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return s
}

// A reply that the kernel refuses is left out, and those behind it are sent.
func TestSendSkipsWhatIsRefused(t *testing.T) {
	server, client := take(t, listen(t)), listen(t)
	b, err := New(server, false)
	if err != nil {
		t.Fatal(err)
	}
	b.joining = false
	for i := range 5 {
		if _, err := client.WriteTo([]byte{byte(i)}, server.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	n, err := b.Receive()
	if err != nil || n != 5 {
		t.Fatalf("Receive() = %d, %v", n, err)
	}
	for i := range n {
		if got, want := b.From(i).String(), client.LocalAddr().String(); got != want {
			t.Errorf("packet %d comes from %s, want %s", i, got, want)
		}
		b.Reply(i, append(b.Room(), b.Packet(i)...))
	}
	b.out[0].hdr.Namelen, b.out[3].hdr.Namelen = 1, 1 // EINVAL
	if refused, err := b.Send(); refused != 2 || err != nil {
		t.Errorf("Send() = %d, %v, want 2 refused", refused, err)
	}
	packet := make([]byte, 10)
	for _, want := range []byte{1, 2, 4} {
		if n, err := client.Read(packet); err != nil || !bytes.Equal(packet[:n], []byte{want}) {
			t.Errorf("got %v, %v, want %d", packet[:n], err, want)
		}
	}
	if refused, err := b.Send(); refused != 0 || err != nil {
		t.Errorf("a second Send() = %d, %v", refused, err)
	}
}

// Replies lie one behind the other, whatever their length, and none is lost when a
// batch is full.
func TestFullBatch(t *testing.T) {
	server, client := take(t, listen(t)), listen(t)
	b, err := New(server, false)
	if err != nil {
		t.Fatal(err)
	}
	const all = Max + 10
	for i := range all {
		if _, err := client.WriteTo([]byte{byte(i)}, server.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	packet := make([]byte, MaxReply)
	next := 0
	for next < all {
		n, err := b.Receive()
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			b.Reply(i, append(b.Room(), bytes.Repeat(b.Packet(i), MaxReply-i)...))
		}
		if refused, err := b.Send(); refused != 0 || err != nil {
			t.Fatalf("Send() = %d, %v", refused, err)
		}
		for i := range n {
			size, err := client.Read(packet)
			if err != nil || !bytes.Equal(packet[:size], bytes.Repeat([]byte{byte(next)}, MaxReply-i)) {
				t.Fatalf("reply %d: %d octets of %d, %v", next, size, packet[0], err)
			}
			next++
		}
	}
}

func TestReceiveEndsWithADeadline(t *testing.T) {
	server := take(t, listen(t))
	b, err := New(server, false)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := b.Receive()
		ended <- err
	}()
	if err := server.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("Receive gave no error")
	}
}

// RFC 9715 section 3.1: no reply is fragmented, whatever the path is said to take.
func TestWhole(t *testing.T) {
	for _, tc := range []struct {
		network, addr string
		level, option int
		want          int
	}{
		{"udp4", "127.0.0.1:0", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE},
		{"udp6", "[::1]:0", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE},
	} {
		packet, err := net.ListenPacket(tc.network, tc.addr)
		if err != nil {
			t.Logf("%s: %v", tc.network, err) // a machine without IPv6
			continue
		}
		conn := packet.(*net.UDPConn)
		t.Cleanup(func() { conn.Close() })
		if err := Whole(conn, tc.network == "udp6"); err != nil {
			t.Fatal(err)
		}
		if err := control(conn, func(fd uintptr) error {
			got, err := unix.GetsockoptInt(int(fd), tc.level, tc.option)
			if got != tc.want {
				t.Errorf("%s: %d, want %d", tc.network, got, tc.want)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// Replies to one client, side by side and of one length, are one message, and reach
// it as what they are; those of another client or length begin the next. Where the
// kernel refuses the message they are sent one by one, and from then on always.
func TestJoinedReplies(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
			conn := listenOn(t, address)
			wildcard := address[0] == '0'
			if wildcard {
				if err := AskDestination(conn, false); err != nil {
					t.Fatal(err)
				}
			}
			server := take(t, conn)
			b, err := New(server, wildcard)
			if err != nil {
				t.Fatal(err)
			}
			if !b.joining {
				t.Skip("this kernel has no UDP_SEGMENT")
			}
			to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: server.LocalAddr().(*net.UDPAddr).Port}
			clients := []*net.UDPConn{listen(t), listen(t)}
			lengths := []int{40, 40, 40, 30, 40, 40}
			for i := range 2 * len(lengths) {
				if _, err := clients[i/len(lengths)].WriteTo([]byte{byte(i)}, to); err != nil {
					t.Fatal(err)
				}
			}
			n, err := b.Receive()
			if err != nil || n != 2*len(lengths) {
				t.Fatalf("Receive() = %d, %v", n, err)
			}
			for i := range n {
				b.Reply(i, append(b.Room(), bytes.Repeat(b.Packet(i), lengths[i%len(lengths)])...))
			}
			if b.put != 4 {
				t.Errorf("%s: %d messages, want 4: 40 40 40 30, 40 40, for each client", address, b.put)
			}
			if refuse {
				b.joins[0].control[0] = 0xff // longer than there is room: EINVAL
			}
			if refused, err := b.Send(); refused != 0 || err != nil {
				t.Errorf("Send() = %d, %v", refused, err)
			}
			if b.joining == refuse {
				t.Errorf("joining is %v", b.joining)
			}
			packet := make([]byte, MaxReply)
			for i := range n {
				size, err := clients[i/len(lengths)].Read(packet)
				if want := bytes.Repeat([]byte{byte(i)}, lengths[i%len(lengths)]); err != nil || !bytes.Equal(packet[:size], want) {
					t.Errorf("%s: got %v, %v, want %v", address, packet[:size], err, want)
				}
			}
		}
	}
}
