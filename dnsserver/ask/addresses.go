package ask

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// ErrNoName says that a server knows that a name does not exist (NXDOMAIN).
var ErrNoName = errors.New("the name does not exist (NXDOMAIN)")

const (
	// maxUDP is what passes every path without fragments (DNS flag day 2020); a fragment
	// is the easiest to forge, too.
	maxUDP = 1232
	// maxAliases bounds a chain of CNAMEs. Resolvers give up at about as many.
	maxAliases = 16
	// maxTTL is RFC 2181 section 8's: what is above it is taken for 0.
	maxTTL = 1<<31 - 1
)

// Addresses is what a server says of a name in one family.
type Addresses struct {
	Addrs []netip.Addr  // ordered, each once; none: the name has none of this family (NODATA)
	TTL   time.Duration // the least of what led there
}

// Resolve asks a recursive server, host:port, for the addresses of a name, over UDP
// and where that is truncated over TCP. It puts the question once and is bounded by
// ctx; what comes meanwhile and does not answer it, to the letter, is not heard.
func Resolve(ctx context.Context, server, name string, v6 bool) (Addresses, error) {
	q := dns.Question{Name: dns.Fqdn(name), Qtype: dns.TypeA, Qclass: dns.ClassINET}
	if v6 {
		q.Qtype = dns.TypeAAAA
	}
	m, err := ask(ctx, server, q, true)
	if err == nil && m.Rcode == dns.RcodeFormatError && m.IsEdns0() == nil {
		m, err = ask(ctx, server, q, false) // it does not know EDNS (RFC 6891 section 7)
	}
	if err != nil {
		return Addresses{}, fmt.Errorf("asking %s: %w", server, err)
	}
	return read(m, q)
}

func ask(ctx context.Context, server string, q dns.Question, edns bool) (*dns.Msg, error) {
	m, err := question(q, edns)
	if err != nil {
		return nil, err
	}
	reply, err := over(ctx, "udp", server, m, edns)
	if err == nil && reply.Truncated {
		if m, err = question(q, edns); err != nil {
			return nil, err
		}
		reply, err = over(ctx, "tcp", server, m, edns)
	}
	return reply, err
}

// question makes a query whose ID nobody can guess (C7).
func question(q dns.Question, edns bool) (*dns.Msg, error) {
	var id [2]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Id: binary.BigEndian.Uint16(id[:]), RecursionDesired: true}, Question: []dns.Question{q}}
	if edns {
		m.SetEdns0(maxUDP, false)
	}
	return m, nil
}

// over asks over a connection of its own, whose port the kernel draws anew, and
// waits for what answers the question.
func over(ctx context.Context, network, server string, m *dns.Msg, edns bool) (*dns.Msg, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, server)
	if err != nil {
		return nil, cause(ctx, err)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if edns {
		private(m, conn.RemoteAddr())
	}
	out, err := m.Pack()
	if err != nil {
		return nil, err
	}
	if network == "tcp" {
		out = append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)
	}
	if _, err := conn.Write(out); err != nil {
		return nil, cause(ctx, err)
	}
	buf := make([]byte, maxUDP+1)
	for {
		var packet []byte
		if network == "tcp" {
			packet, err = frame(conn)
		} else {
			var n int
			n, err = conn.Read(buf)
			packet = buf[:n]
		}
		if err != nil {
			return nil, cause(ctx, err)
		}
		if len(packet) > maxUDP && network == "udp" {
			continue // more than was asked for
		}
		if reply := answers(packet, m); reply != nil {
			return reply, nil
		}
	}
}

// private asks the server to tell nobody where we are, and by that for what it would
// tell anybody: client subnet with a source of 0 (RFC 7871 section 7.1.2). The
// directors of all sites would else flatten a name into different places.
func private(m *dns.Msg, server net.Addr) {
	opt := m.IsEdns0()
	e := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 2, Address: net.IPv6zero}
	if a, err := netip.ParseAddrPort(server.String()); err == nil && a.Addr().Unmap().Is4() {
		e.Family, e.Address = 1, net.IPv4zero // the family of the transport
	}
	opt.Option = []dns.EDNS0{e}
}

// frame reads one message of a stream (RFC 1035 section 4.2.2).
func frame(conn io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	packet := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, packet)
	return packet, err
}

// answers gives the message that a packet holds if it answers the query: its ID,
// its question, and nothing but octets of DNS. The header is looked at first.
func answers(packet []byte, query *dns.Msg) *dns.Msg {
	if len(packet) < 12 || binary.BigEndian.Uint16(packet) != query.Id || packet[2]&0xf8 != 0x80 {
		return nil
	}
	m := new(dns.Msg)
	if err := m.Unpack(packet); err != nil || len(m.Question) != 1 {
		return nil
	}
	got, want := m.Question[0], query.Question[0]
	if got.Qtype != want.Qtype || got.Qclass != want.Qclass || !strings.EqualFold(got.Name, want.Name) {
		return nil
	}
	return m
}

// read follows the aliases of an answer to the addresses at their end. Whatever else
// the message holds is not looked at.
func read(m *dns.Msg, q dns.Question) (Addresses, error) {
	switch {
	case m.Rcode == dns.RcodeNameError:
		return Addresses{}, ErrNoName
	case m.Rcode != dns.RcodeSuccess:
		return Addresses{}, fmt.Errorf("the server answers %s", rcode(m.Rcode))
	case m.Truncated:
		return Addresses{}, errors.New("the answer is truncated over TCP, too")
	}
	name, ttl := q.Name, uint32(maxTTL)
	for hops := 0; ; hops++ {
		alias, err := aliasOf(m, name)
		if err != nil {
			return Addresses{}, err
		}
		if alias == nil {
			break
		}
		if hops == maxAliases {
			return Addresses{}, errors.New("the aliases in the answer have no end")
		}
		name, ttl = alias.Target, least(ttl, alias.Hdr.Ttl)
	}
	var out Addresses
	for _, rr := range m.Answer {
		h := rr.Header()
		if h.Rrtype != q.Qtype || h.Class != dns.ClassINET || !strings.EqualFold(h.Name, name) {
			continue
		}
		if addr := addressOf(rr); addr.IsValid() {
			out.Addrs, ttl = append(out.Addrs, addr), least(ttl, h.Ttl)
		}
	}
	slices.SortFunc(out.Addrs, netip.Addr.Compare)
	out.Addrs = slices.Compact(out.Addrs)
	out.TTL = time.Duration(ttl) * time.Second
	if len(out.Addrs) == 0 {
		out.TTL = 0
		if !m.RecursionAvailable && !m.Authoritative || referral(m) {
			return Addresses{}, errors.New("the server does not recurse")
		}
	}
	return out, nil
}

// aliasOf gives the CNAME of a name, nil where the answer has none.
func aliasOf(m *dns.Msg, name string) (*dns.CNAME, error) {
	var found *dns.CNAME
	for _, rr := range m.Answer {
		c, ok := rr.(*dns.CNAME)
		switch {
		case !ok || c.Hdr.Class != dns.ClassINET || !strings.EqualFold(c.Hdr.Name, name):
		case found == nil:
			found = c
		case !strings.EqualFold(found.Target, c.Target): // RFC 2181 section 10.1
			return nil, errors.New("the answer has two aliases of one name")
		}
	}
	return found, nil
}

// addressOf gives the address that a record holds; an IPv4 address in an AAAA record
// is none.
func addressOf(rr dns.RR) netip.Addr {
	switch rr := rr.(type) {
	case *dns.A:
		addr, _ := netip.AddrFromSlice(rr.A.To4())
		return addr
	case *dns.AAAA:
		if addr, _ := netip.AddrFromSlice(rr.AAAA); addr.Is6() && !addr.Is4In6() {
			return addr
		}
	}
	return netip.Addr{}
}

// referral tells whether an answer without addresses points elsewhere, where NODATA
// would bring the SOA or nothing (RFC 2308 section 2.2).
func referral(m *dns.Msg) bool {
	servers := false
	for _, rr := range m.Ns {
		switch rr.Header().Rrtype {
		case dns.TypeSOA:
			return false
		case dns.TypeNS:
			servers = true
		}
	}
	return servers
}

func least(a, b uint32) uint32 {
	if b > maxTTL {
		b = 0
	}
	return min(a, b)
}

func rcode(code int) string {
	if text, ok := dns.RcodeToString[code]; ok {
		return text
	}
	return fmt.Sprintf("rcode %d", code)
}

// SystemServers gives the servers that a file such as /etc/resolv.conf names.
func SystemServers(path string) ([]string, error) {
	config, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading which servers resolve names: %w", err)
	}
	var out []string
	for _, s := range config.Servers {
		if addr, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.AddrPortFrom(addr, 53).String())
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s names no server", path)
	}
	return out, nil
}
