package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/dnsserver/internal/datagram"
)

// serveEcho is the floor: it sends each packet back as it came, with the batches
// that Divert uses, a socket and a goroutine for each core.
func serveEcho(args []string) error {
	if len(args) != 1 {
		return errors.New("echo: needs an address")
	}
	addr, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return err
	}
	conns, err := shared(addr, datagram.Workers())
	if err != nil {
		return err
	}
	var group errgroup.Group
	for _, conn := range conns {
		socket, err := datagram.Take(conn)
		if err != nil {
			return err
		}
		group.Go(func() error { return echo(socket) })
	}
	return group.Wait()
}

func shared(addr netip.AddrPort, n int) ([]*net.UDPConn, error) {
	first, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	out := []*net.UDPConn{first}
	if err := datagram.Share(first); err != nil {
		return nil, err
	}
	for len(out) < n {
		listen := net.ListenConfig{Control: datagram.ShareRaw}
		conn, err := listen.ListenPacket(context.Background(), "udp4", first.LocalAddr().String())
		if err != nil {
			return nil, err
		}
		out = append(out, conn.(*net.UDPConn))
	}
	for _, conn := range out {
		// As Divert's.
		datagram.Enlarge(conn, 4<<20)
		if err := datagram.Whole(conn, false); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func echo(socket *datagram.Socket) error {
	b, err := datagram.New(socket, false)
	if err != nil {
		return err
	}
	for {
		n, err := b.Receive()
		if err != nil {
			return err
		}
		for i := range n {
			packet := b.Packet(i)
			if len(packet) > 2 {
				packet[2] |= 0x80 // QR: else it is no reply
			}
			b.Reply(i, packet)
		}
		if _, err := b.Send(); err != nil {
			return err
		}
	}
}

// servePlain is what one writes first: a handler on miekg/dns that looks the name
// up in a map and the client in a list of prefixes.
func servePlain(args []string) error {
	if len(args) != 1 {
		return errors.New("plain: needs an address")
	}
	h := newPlainHandler(newWorld())
	server := &dns.Server{Addr: args[0], Net: "udp4", Handler: h}
	return server.ListenAndServe()
}

type plainHandler struct {
	services map[string]int
	nets     map[netip.Prefix]int
	lengths  []int // of them, the longest first
}

func newPlainHandler(w *world) *plainHandler {
	h := &plainHandler{services: map[string]int{}, nets: map[netip.Prefix]int{}}
	for i := range hosts {
		h.services[fullHost(i)+"."] = serviceOf(i)
	}
	for _, n := range w.nets {
		h.nets[n.prefix] = n.site
		if !slices.Contains(h.lengths, n.prefix.Bits()) {
			h.lengths = append(h.lengths, n.prefix.Bits())
		}
	}
	slices.Sort(h.lengths)
	slices.Reverse(h.lengths)
	return h
}

// site is where a client is sent, and the length of the prefix that says so.
func (h *plainHandler) site(a netip.Addr) (site, bits int) {
	for _, n := range h.lengths {
		if p, err := a.Prefix(n); err == nil {
			if site, ok := h.nets[p]; ok {
				return site, n
			}
		}
	}
	return 0, h.lengths[0]
}

func (h *plainHandler) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	defer func() { _ = w.WriteMsg(m) }()
	service, ok := h.services[strings.ToLower(q.Question[0].Name)]
	if !ok {
		m.Rcode = dns.RcodeNameError
		return
	}
	client := w.RemoteAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	opt := q.IsEdns0()
	var subnet *dns.EDNS0_SUBNET
	if opt != nil {
		m.SetEdns0(1232, false)
		for _, o := range opt.Option {
			if s, ok := o.(*dns.EDNS0_SUBNET); ok {
				subnet = s
				if a, ok := netip.AddrFromSlice(s.Address); ok {
					client = a.Unmap()
				}
			}
		}
	}
	site, bits := h.site(client)
	if subnet != nil {
		echoed := *subnet
		echoed.SourceScope = uint8(bits)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &echoed)
	}
	if q.Question[0].Qtype == dns.TypeA {
		m.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl},
			A:   address(service, site).AsSlice(),
		}}
	}
}

// workersOf is how many threads a server of so many cores is given.
func workersOf(pinned []int) int {
	if len(pinned) > 0 {
		return len(pinned)
	}
	return runtime.GOMAXPROCS(0)
}
