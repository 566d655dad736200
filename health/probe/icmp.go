package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"net"
	"net/netip"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/divertdns/divert/health"
)

// echo sends one echo request, from a socket of its own: one of the kernel's for pings
// where that lets this director's group have any, else a raw one.
func (s *Scheduler) echo(ctx context.Context, r *request) outcome {
	to := r.addr.Addr()
	if err := s.policy.check(to); err != nil { // as late as a dialer's hook does it (C12)
		return outcome{void: true, reason: err.Error()}
	}
	p := pingOf(to)
	conn, raw, err := p.listen(s.from(to).Addr())
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return outcome{void: true, reason: "our own side: no right to ping: net.ipv4.ping_group_range leaves this director's group out, and it has no CAP_NET_RAW"}
		}
		return outcome{void: true, reason: "our own side: " + errnoText(err)}
	}
	defer func() { _ = conn.Close() }()
	stop, err := bound(ctx, conn)
	if err != nil {
		return outcome{void: true, reason: "our own side: " + errnoText(err)}
	}
	defer stop()

	// The payload is what tells our answer from others': the identifier is the kernel's
	// choice, and a raw socket hears everybody's.
	token := make([]byte, 16)
	if _, err := rand.Read(token); err != nil {
		return outcome{void: true, reason: "our own side: no random"}
	}
	packet, err := (&icmp.Message{Type: p.request, Body: &icmp.Echo{ID: int(token[0])<<8 | int(token[1]), Seq: 1, Data: token}}).Marshal(nil)
	if err != nil {
		return outcome{void: true, reason: "our own side: the request cannot be written"}
	}
	var dst net.Addr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 0))
	if raw {
		dst = &net.IPAddr{IP: to.AsSlice(), Zone: to.Zone()}
	}
	if _, err := conn.WriteTo(packet, dst); err != nil {
		return dialFailure(err)
	}
	buf := make([]byte, 512)
	for {
		n, _, err := conn.ReadFrom(buf)
		switch {
		case err != nil && isTimeout(err):
			return outcome{reason: "timeout waiting for the echo", timeout: true, sign: health.SignSilent}
		case err != nil:
			return dialFailure(err)
		}
		if p.answers(buf[:n], token) {
			return outcome{ok: true}
		}
	}
}

// ping is an address family's.
type ping struct {
	networks       [2]string // unprivileged, raw
	any            string
	protocol       int
	request, reply icmp.Type
}

func pingOf(to netip.Addr) ping {
	if to.Is4() {
		return ping{[2]string{"udp4", "ip4:icmp"}, "0.0.0.0", 1, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply}
	}
	return ping{[2]string{"udp6", "ip6:ipv6-icmp"}, "::", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply}
}

func (p ping) listen(from netip.Addr) (conn *icmp.PacketConn, raw bool, err error) {
	local := p.any
	if from.IsValid() {
		local = from.String()
	}
	if conn, err = icmp.ListenPacket(p.networks[0], local); err == nil {
		return conn, false, nil
	}
	conn, err = icmp.ListenPacket(p.networks[1], local)
	return conn, true, err
}

func (p ping) answers(packet, token []byte) bool {
	m, err := icmp.ParseMessage(p.protocol, packet)
	if err != nil || m.Type != p.reply {
		return false
	}
	echo, ok := m.Body.(*icmp.Echo)
	return ok && bytes.Equal(echo.Data, token)
}
