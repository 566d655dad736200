package answer

import "time"

const (
	// maxUDP is the largest reply by UDP, whatever the client says: it passes
	// every path without fragments (DNS flag day 2020).
	maxUDP = 1232
	// minUDP is what every client takes.
	minUDP = 512
	maxTCP = 65535
	// padBlock is what replies over TLS are padded to a multiple of (RFC 8467
	// section 4.1).
	padBlock = 468
)

// The codes of RFC 8914.
const (
	edeNone          = -1
	edeOther         = 0
	edeStale         = 3
	edeNotReady      = 14
	edeStaleNX       = 19
	edeAuthoritative = 20
	edeUnreachable   = 22
)

const failOpenText = "no site is known to be up; answered all the same"

// reply is the work on one packet.
type reply struct {
	table  *Table
	now    int64 // Unix time, where a change is ahead
	w      writer
	q      query
	who    asker
	rcode  uint16
	aa     bool
	family Family
	ede    int
	text   string // beside ede
	scope  int    // of the client subnet
	label  uint32
	from   *steered            // that answered
	zone   *zone               // that it is in
	own    *own                // what its service has for itself
	place  int                 // in overlay.names
	asked  [maxChase + 1]int16 // where the names that were looked for stand in the reply
	dnames [maxChase + 1]*byte // the DNAMEs in the reply
	target int                 // where the last alias's target stands in the reply
	d      decision
}

// Reply answers one packet. The answer is appended to dst, which needs room for
// 1,232 octets by UDP and 65,535 by TCP to spare an allocation; where the packet
// must not be answered at all, nothing is appended. It never panics, whatever the
// packet, and is a pure function of it, the table and the client.
func (t *Table) Reply(dst, packet []byte, c Client) ([]byte, Tally) {
	return t.ReplyTo(&c, dst, packet)
}

// ReplyTo is Reply for who answers many: a Client is as long as a short reply, and
// copying it costs as much. It keeps nothing of c.
func (t *Table) ReplyTo(c *Client, dst, packet []byte) ([]byte, Tally) {
	// By header first: no work for what gets no answer (C4).
	if len(packet) < headerLen {
		return dst, Tally{Reject: RejectShort}
	}
	if packet[2]&0x80 != 0 {
		return dst, Tally{Reject: RejectResponse}
	}
	var r reply
	r.table, r.ede = t, edeNone
	if t.scheduled {
		r.now = c.Now.Unix()
	}
	r.q.flags = packet[2]
	r.q.opcode = packet[2] >> 3 & 15
	r.q.stream = c.Transport.stream()
	fault := r.q.parse(packet)
	r.who.resolver = addressOf(c.Addr.Addr())
	if r.q.subnet.present && r.q.subnet.source > 0 {
		r.who.subnet, r.who.named = r.q.subnet.address, true
	}
	if r.q.cookie.present {
		r.q.cookie.judge(c.Cookies, c.Addr.Addr().Unmap(), c.Now)
	}
	r.begin(dst, packet, c)
	reject := r.answer(fault, c)
	r.w.full = r.w.full || c.Truncate
	r.end(c)
	return r.w.msg, Tally{Rcode: r.rcode, Reject: reject, Family: r.family, Label: r.label, Cookie: r.q.cookie.state, TSIG: r.q.tsig}
}

// begin writes the header and the question as it came, letter case and all.
func (r *reply) begin(dst, packet []byte, c *Client) {
	w := &r.w
	w.msg, w.base = dst, len(dst)
	w.msg = append(w.msg, packet[:r.q.question]...)
	w.question = r.q.question
	w.limit = maxTCP
	if !r.q.stream {
		w.limit = minUDP
		if r.q.edns {
			w.limit = min(max(r.q.size, minUDP), maxUDP)
		}
	}
	w.limit -= c.Reserve
	if r.q.edns {
		w.reserved = 11
		if r.q.alive {
			w.reserved += 6
		}
		if r.q.subnet.present {
			w.reserved += 8 + len(r.q.subnet.octets)
		}
		w.reserved += r.q.cookie.size()
	}
}

// answer fills the sections and says what class of rejection it is. The opcode is
// looked at before anything about the question.
func (r *reply) answer(fault uint16, c *Client) Reject {
	t, q := r.table, &r.q
	switch {
	case c.Rcode != 0:
		return r.reject(c.Rcode, RejectSignature)
	case fault == rcodeVersion:
		return r.reject(rcodeVersion, RejectVersion)
	case q.opcode != 0:
		return r.reject(rcodeNotImpl, RejectOpcode)
	case fault != 0:
		return r.reject(fault, RejectFormat)
	case q.cookie.present && q.cookie.state != CookieValid && c.Pressure && !q.stream:
		return r.reject(rcodeCookie, RejectCookie)
	case q.question == headerLen:
		if !q.cookie.present { // cookies are not in use here
			return r.reject(rcodeFormat, RejectFormat)
		}
		return RejectNone
	case q.qclass == classCH:
		return r.chaos()
	case q.qclass != classIN:
		return r.reject(rcodeRefused, RejectPolicy)
	case t.notReady:
		r.ede = edeNotReady
		return r.reject(rcodeRefused, RejectNotReady)
	}
	z, at := t.zoneOf(&q.name)
	if z == nil {
		r.ede = edeAuthoritative
		return r.reject(rcodeRefused, RejectZone)
	}
	r.label = z.label
	if q.qtype == typeAXFR || q.qtype == typeIXFR {
		return r.reject(rcodeRefused, RejectTransfer)
	}
	r.resolve(z, at)
	if t.stale && r.ede == edeNone {
		r.ede = edeStale
		if r.rcode == rcodeName {
			r.ede = edeStaleNX
		}
	}
	return RejectNone
}

func (r *reply) reject(rcode uint16, why Reject) Reject {
	r.rcode = rcode
	switch why {
	case RejectFormat, RejectVersion, RejectOpcode, RejectSignature:
		// The options were not read, or not believed: nothing to echo.
		r.q.subnet.present, r.q.cookie.present, r.q.alive = false, false, false
	}
	return why
}

// chaos answers for the class CH: which plan is in force and, where configured,
// who this is (RFC 4892).
func (r *reply) chaos() Reject {
	q := &r.q
	text, ok := r.table.chaosText(q.name.suffix(0))
	if !ok {
		return r.reject(rcodeRefused, RejectPolicy)
	}
	r.aa = true
	if q.qtype == typeTXT || q.qtype == typeANY {
		if !r.w.record(owner{at: headerLen}, typeTXT, classCH, 0, text) {
			r.w.full = true
		}
	}
	return RejectNone
}

// chaosText finds the RDATA of a name of class CH; there are but a few.
func (t *Table) chaosText(name []byte) (text []byte, ok bool) {
	for owner, text := range t.chaos {
		if len(owner) == len(name) && equalName([]byte(owner), name) {
			return text, true
		}
	}
	return nil, false
}

// end writes the OPT record and the header.
func (r *reply) end(c *Client) {
	w := &r.w
	if w.full {
		w.empty()
	}
	w.reserved = 0
	if r.q.edns {
		r.opt(c)
	}
	h := w.msg[w.base : w.base+headerLen]
	flags := 0x80 | r.q.flags&0x79 // QR, and opcode and RD as asked
	if r.aa {
		flags |= 0x04
	}
	if w.full {
		flags |= 0x02
	}
	h[2], h[3] = flags, byte(r.rcode&15) // no RA, Z, AD or CD (RFC 4035 section 3.1.6)
	questions := uint16(0)
	if w.question > headerLen {
		questions = 1
	}
	put16(h[4:], questions)
	put16(h[6:], w.counts[sectionAnswer])
	put16(h[8:], w.counts[sectionAuthority])
	put16(h[10:], w.counts[sectionExtra])
}

// opt writes the OPT record: the client subnet always, the rest as far as it fits.
func (r *reply) opt(c *Client) {
	w, q := &r.w, &r.q
	flags := byte(0)
	if q.do {
		flags = flagDO >> 8 // RFC 3225 section 3: copied
	}
	w.msg = append(w.msg, 0, 0, typeOPT, maxUDP>>8, maxUDP&0xff, byte(r.rcode>>4), 0, flags, 0, 0, 0)
	w.counts[sectionExtra]++
	length := len(w.msg) - 2
	if q.subnet.present {
		w.msg = append(w.msg, 0, optionSubnet, 0, byte(4+len(q.subnet.octets)), byte(q.subnet.family>>8), byte(q.subnet.family),
			q.subnet.source, byte(r.scope))
		w.msg = append(w.msg, q.subnet.octets...)
	}
	if q.cookie.present {
		q.cookie.write(w, c.Cookies, c.Addr.Addr().Unmap(), c.Now)
	}
	if q.alive {
		w.uint16(optionKeepalive)
		w.uint16(2)
		w.uint16(uint16(min(c.Idle/(100*time.Millisecond), 65535)))
	}
	if q.nsid && len(r.table.nsid) > 0 && w.fits(4+len(r.table.nsid)) {
		w.uint16(optionNSID)
		w.uint16(uint16(len(r.table.nsid)))
		w.msg = append(w.msg, r.table.nsid...)
	}
	if r.ede != edeNone && w.fits(6+len(r.text)) {
		w.uint16(optionEDE)
		w.uint16(uint16(2 + len(r.text)))
		w.uint16(uint16(r.ede))
		w.msg = append(w.msg, r.text...)
	}
	if q.padding && c.Transport == TLS {
		r.pad(c)
	}
	put16(w.msg[length:], uint16(len(w.msg)-length-2))
}

// pad adds the padding option, always the last (RFC 7830 section 3), so that the
// reply with what the caller adds has whole blocks.
func (r *reply) pad(c *Client) {
	w := &r.w
	size := w.offset() + 4 + c.Reserve
	n := min((padBlock-size%padBlock)%padBlock, w.limit-w.offset()-4)
	if n < 0 {
		return
	}
	w.uint16(optionPadding)
	w.uint16(uint16(n))
	var zeros [padBlock]byte
	w.msg = append(w.msg, zeros[:n]...)
}
