package relay

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// sourceOffset is where a socket filter finds the IPv4 source address:
// SKF_NET_OFF and twelve octets into the header.
const sourceOffset = 0xfff00000 + 12

// silence makes the kernel drop what cut sources send to the listener, SYNs
// included, so that connecting over a cut link times out as it does in life. A
// socket filter needs no privilege. s.relay.mu is held.
func (s *stream) silence() error {
	all, some := s.cutSources()
	program := []bpf.Instruction{bpf.RetConstant{Val: 0}}
	switch {
	case all:
	case len(some) == 0:
		program = nil
	default:
		program = []bpf.Instruction{bpf.LoadAbsolute{Off: sourceOffset, Size: 4}}
		for _, ip := range some {
			b := ip.As4()
			program = append(program,
				bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(b[:]), SkipTrue: 1},
				bpf.RetConstant{Val: 0})
		}
		program = append(program, bpf.RetConstant{Val: 1 << 18})
	}
	return s.filter(program)
}

// filter attaches a program to the listener, or takes it off.
func (s *stream) filter(program []bpf.Instruction) error {
	raw, err := s.listener.SyscallConn()
	if err != nil {
		return err
	}
	var code []unix.SockFilter
	if len(program) > 0 {
		assembled, err := bpf.Assemble(program)
		if err != nil {
			return err
		}
		for _, i := range assembled {
			code = append(code, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
		}
	}
	var serr error
	err = raw.Control(func(fd uintptr) {
		if len(code) == 0 {
			if serr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); errors.Is(serr, unix.ENOENT) {
				serr = nil // there was none
			}
			return
		}
		serr = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
	})
	return errors.Join(err, serr)
}

// cutSources tells whether every source of the listener is cut, else which.
func (s *stream) cutSources() (bool, []netip.Addr) {
	if s.link.From != "" {
		return s.relay.isCut(s.link.From, s.link.To), nil
	}
	seen := map[netip.Addr]bool{}
	add := func(ip netip.Addr) {
		if ip.Is4() && s.relay.isCut(s.relay.name(s.link, ip), s.link.To) {
			seen[ip] = true
		}
	}
	for c := range s.relay.cuts {
		switch {
		case c.To != Any && c.To != s.link.To:
		case c.From == Any:
			return true, nil
		default:
			if ip, err := netip.ParseAddr(c.From); err == nil {
				add(ip)
			}
		}
	}
	for ip := range s.relay.opts.Sources {
		add(ip)
	}
	var out []netip.Addr
	for ip := range seen {
		out = append(out, ip)
	}
	return false, out
}
