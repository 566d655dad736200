package relay

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"
)

// carry takes each IP packet that the device gives to it back to the device, as the
// rules have it: who is at its ends is told by its addresses.
func (r *Relay) carry(ctx context.Context) {
	var writing sync.Mutex // the postman writes too
	write := func(b []byte) {
		writing.Lock()
		defer writing.Unlock()
		_, _ = r.opts.Device.Write(b)
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := r.opts.Device.Read(buf)
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil:
			if !rest(ctx, time.Millisecond) {
				return
			}
			continue
		}
		source, target, ok := ends(buf[:n])
		if !ok {
			continue
		}
		from, to := r.party(source), r.party(target)
		if r.blocked(from, to) {
			continue
		}
		r.pass(from, to, append([]byte(nil), buf[:n]...), write)
	}
}

// ends reads the addresses of an IP packet (RFC 791 section 3.1, RFC 8200 section 3).
func ends(packet []byte) (source, target netip.Addr, ok bool) {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20])), true
	case len(packet) >= 40 && packet[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[24:40])), true
	default:
		return source, target, false
	}
}

// party names who has an address.
func (r *Relay) party(a netip.Addr) string {
	if name, ok := r.opts.Sources[a]; ok {
		return name
	}
	return a.String()
}
