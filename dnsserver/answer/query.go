package answer

import "net/netip"

const (
	headerLen = 12

	typeNS    = 2
	typeCNAME = 5
	typeSOA   = 6
	typeHINFO = 13
	typeTXT   = 16
	typeA     = 1
	typeAAAA  = 28
	typeOPT   = 41
	typeDNAME = 39
	typeDS    = 43
	typeSVCB  = 64
	typeHTTPS = 65
	typeTSIG  = 250
	typeIXFR  = 251
	typeAXFR  = 252
	typeANY   = 255

	classIN = 1
	classCH = 3

	optionNSID      = 3
	optionSubnet    = 8
	optionCookie    = 10
	optionKeepalive = 11
	optionPadding   = 12
	optionEDE       = 15

	rcodeFormat        = 1
	rcodeServerFailure = 2
	rcodeName          = 3
	rcodeNotImpl       = 4
	rcodeRefused       = 5
	rcodeNameLong      = 6 // YXDOMAIN
	rcodeVersion       = 16
	rcodeCookie        = 23

	flagDO = 0x8000
)

// query is what is needed of a packet. It holds no pointers into it but those of
// subnet and cookie.
type query struct {
	opcode   byte
	flags    byte // the octet with QR, opcode, AA, TC, RD
	question int  // where the question ends; headerLen = there is none
	stream   bool // it came by TCP or TLS
	tsig     int  // where the TSIG record begins; 0 = there is none
	soa      int  // where the RDATA of the SOA ends that IXFR brings; 0 = there is none
	name     name
	qtype    uint16
	qclass   uint16

	edns    bool
	version byte
	size    int // what the client takes by UDP
	do      bool
	nsid    bool
	alive   bool // the keepalive option, by a stream
	padding bool
	subnet  subnet
	cookie  cookie
}

// subnet is the client-subnet option (RFC 7871).
type subnet struct {
	present bool
	family  uint16
	source  byte
	octets  []byte // as sent
	address address
}

// parse reads a packet that has a header. It gives the rcode of what is wrong, 0
// for nothing; fields before the fault are set.
func (q *query) parse(packet []byte) (rcode uint16) {
	q.question = headerLen
	questions := int(be16(packet[4:]))
	at := headerLen
	if questions == 1 {
		if !q.name.set(packet[at:]) || len(packet) < at+q.name.length+4 {
			return rcodeFormat
		}
		at += q.name.length
		q.qtype, q.qclass = be16(packet[at:]), be16(packet[at+2:])
		at += 4
		q.question = at
	} else if at = skipQuestions(packet, at, questions); at < 0 {
		return rcodeFormat
	}
	answers, authorities, extras := int(be16(packet[6:])), int(be16(packet[8:])), int(be16(packet[10:]))
	options := 0 // where the OPT's RDATA begins
	optionsEnd := 0
	tsig := 0
	for i := range answers + authorities + extras {
		header := skipName(packet, at)
		if header < 0 || header+10 > len(packet) {
			return rcodeFormat
		}
		data := header + 10
		end := data + int(be16(packet[header+8:]))
		if end > len(packet) {
			return rcodeFormat
		}
		if be16(packet[header:]) == typeOPT {
			// RFC 6891 section 6.1.1: one, of the root, in the last section.
			if q.edns || i < answers+authorities || header != at+1 {
				return rcodeFormat
			}
			q.edns = true
			q.size = int(be16(packet[header+2:]))
			q.version = packet[header+5]
			q.do = be16(packet[header+6:])&flagDO != 0
			options, optionsEnd = data, end
		}
		if be16(packet[header:]) == typeSOA && i == answers && authorities > 0 && end >= data+22 {
			q.soa = end
		}
		if be16(packet[header:]) == typeTSIG {
			// RFC 8945 section 5.1: the last of all.
			if i < answers+authorities || i < answers+authorities+extras-1 {
				return rcodeFormat
			}
			tsig = at
		}
		at = end
	}
	if at != len(packet) {
		return rcodeFormat
	}
	q.tsig = tsig
	if q.edns && q.version != 0 {
		return rcodeVersion
	}
	if q.opcode != 0 {
		return 0
	}
	if questions > 1 || answers != 0 || authorities > 1 || (authorities == 1 && q.qtype != typeIXFR) {
		return rcodeFormat
	}
	if options > 0 && !q.parseOptions(packet[options:optionsEnd]) {
		return rcodeFormat
	}
	if questions == 0 && (authorities > 0 || !q.cookie.present) {
		return rcodeFormat // RFC 7873 section 5.4: who wants a cookie alone asks nothing
	}
	return 0
}

// skipName gives where a name that begins at at ends, -1 if it does not. Pointers
// are not followed, so there is nothing to loop (C2).
func skipName(packet []byte, at int) int {
	for at < len(packet) {
		size := int(packet[at])
		switch {
		case size == 0:
			return at + 1
		case size >= 0xc0:
			return at + 2
		case size > 63:
			return -1
		}
		at += 1 + size
	}
	return -1
}

// skipQuestions gives where n questions end, -1 if they do not. More than one are
// never answered, but an OPT behind them is (RFC 6891 section 6.1.1).
func skipQuestions(packet []byte, at, n int) int {
	for range n {
		if at = skipName(packet, at); at < 0 || at+4 > len(packet) {
			return -1
		}
		at += 4
	}
	return at
}

func (q *query) parseOptions(data []byte) (ok bool) {
	for len(data) > 0 {
		if len(data) < 4 {
			return false
		}
		code, size := be16(data), int(be16(data[2:]))
		if len(data) < 4+size {
			return false
		}
		body := data[4 : 4+size]
		data = data[4+size:]
		switch code {
		case optionNSID:
			q.nsid = true
		case optionSubnet:
			if q.subnet.present || !q.subnet.parse(body) {
				return false
			}
		case optionCookie:
			// RFC 7873 section 5.2: of several the first counts.
			if !q.cookie.present && !q.cookie.parse(body) {
				return false
			}
		case optionKeepalive:
			// RFC 7828 section 3.2: empty in a query, and nothing at all by UDP.
			if q.stream && size != 0 {
				return false
			}
			q.alive = q.stream
		case optionPadding:
			q.padding = true
		}
	}
	return true
}

// parse reads the option to the letter of RFC 7871 section 6.
func (s *subnet) parse(body []byte) (ok bool) {
	if len(body) < 4 {
		return false
	}
	s.family, s.source = be16(body), body[2]
	s.octets = body[4:]
	if body[3] != 0 || len(s.octets) != (int(s.source)+7)/8 {
		return false
	}
	if rest := s.source % 8; rest != 0 && s.octets[len(s.octets)-1]<<rest != 0 {
		return false
	}
	switch {
	case s.family == 0 && s.source == 0:
	case s.family == 1 && s.source <= 32:
		key := uint64(0)
		for i, octet := range s.octets {
			key |= uint64(octet) << (56 - 8*i)
		}
		s.address = address{key128: key128{high: key}, is4: true}
	case s.family == 2 && s.source <= 128:
		var b [16]byte
		copy(b[:], s.octets)
		s.address = addressOf(netip.AddrFrom16(b))
	default:
		return false
	}
	s.present = true
	return true
}
