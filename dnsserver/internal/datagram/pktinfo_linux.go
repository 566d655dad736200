package datagram

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// A socket bound to all addresses must answer from the one that was asked, or
// the client drops the reply. The kernel tells it in a control message, which
// goes back with the reply almost as it came.

// controlSize has room for one control message with an in6_pktinfo.
const controlSize = unix.SizeofCmsghdr + unix.SizeofInet6Pktinfo + 16

// returnControl makes the control message of the reply out of that of the query,
// in place; nil where there is none. The interface is left to the routing table,
// but for link-local addresses, which mean nothing without one.
func returnControl(control []byte) []byte {
	if len(control) < unix.SizeofCmsghdr {
		return nil
	}
	// struct cmsghdr is a size_t and two ints, in the machine's order.
	word := unix.SizeofCmsghdr - 8
	level := int(binary.NativeEndian.Uint32(control[word:]))
	kind := int(binary.NativeEndian.Uint32(control[word+4:]))
	body := control[unix.SizeofCmsghdr:]
	switch {
	case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO && len(body) >= unix.SizeofInet4Pktinfo:
		clear(body[:4]) // ipi_ifindex; ipi_spec_dst is the source of what is sent
		return control[:unix.CmsgSpace(unix.SizeofInet4Pktinfo)]
	case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO && len(body) >= unix.SizeofInet6Pktinfo:
		if linkLocal := body[0] == 0xfe && body[1]&0xc0 == 0x80; !linkLocal {
			clear(body[16:20]) // ipi6_ifindex
		}
		return control[:unix.CmsgSpace(unix.SizeofInet6Pktinfo)]
	}
	return nil
}
