package answer

import (
	"errors"
	"slices"
)

// maxTransfer is how long a message of a transfer gets, unless one record is longer:
// short enough to let the other replies of a connection through.
const maxTransfer = 16 << 10

// standbyLabel stands above a steered name that has no address to hand out, with a
// text, so that the name exists and has no data: whoever said that there is no
// such name would deny all that is below, too (RFC 8020).
const standbyLabel = "\x07_divert"

const standbyText = "no address of this name is right for every client"

// rcodeNotAuth is what a transfer of no zone of ours is (RFC 5936 section 2.2.1).
const rcodeNotAuth = 9

// Transfer is a zone on its way out (RFC 5936). It has one owner, and holds its
// table: what it hands out is the zone at one instant.
type Transfer struct {
	r      reply
	client Client
	packet []byte
	zone   *zone
	origin []byte
	step   step
	soa    int      // SOAs to write still
	owner  []byte   // scratch
	at     [3]int   // place in the store, set, record; or name, family, address
	wrote  bool     // a record, into this message
	group  *Steered // whose names are due, the first of them being first
	first  int
}

// step is what comes next in a transfer.
type step byte

const (
	stepBegin step = iota
	stepStatic
	stepSteered
	stepEnd
	stepOver
)

var errRecord = errors.New("a record is too long for a message")

// Transfer answers AXFR, and IXFR by the whole zone or, where the client has it, by
// the SOA (RFC 1995 section 4), for a client that may have it. It is nil where
// Reply's refusal stands: AXFR by UDP.
func (t *Table) Transfer(packet []byte, c Client) (*Transfer, Tally) {
	x := &Transfer{packet: slices.Clone(packet), client: c}
	r := &x.r
	r.table, r.ede = t, edeNone
	r.q.flags, r.q.opcode, r.q.stream = packet[2], packet[2]>>3&15, c.Transport.stream()
	if r.q.parse(x.packet) != 0 || r.q.qtype != typeIXFR && (r.q.qtype != typeAXFR || !r.q.stream) {
		return nil, Tally{Rcode: rcodeRefused, Reject: RejectTransfer}
	}
	r.q.cookie.judge(c.Cookies, c.Addr.Addr().Unmap(), c.Now)
	z, at := t.zoneOf(&r.q.name)
	switch {
	case z == nil || at > 0:
		return x.refuse(rcodeNotAuth)
	case r.q.qtype == typeIXFR && r.q.soa == 0:
		return x.refuse(rcodeFormat)
	}
	x.zone, x.origin, x.soa, r.label, r.aa = z, []byte(z.origin), 2, z.label, true
	if r.q.qtype == typeIXFR && (!r.q.stream || !newer(x.serial(), be32(x.packet[r.q.soa-20:]))) {
		x.soa = 1
	}
	return x, Tally{Label: r.label, Cookie: r.q.cookie.state}
}

// refuse makes a transfer of one message that says why there is none.
func (x *Transfer) refuse(rcode uint16) (*Transfer, Tally) {
	x.r.rcode = rcode
	return x, Tally{Rcode: rcode, Reject: RejectTransfer}
}

// Whole tells whether the zone is sent, and not only its SOA or an error.
func (x *Transfer) Whole() bool { return x.soa == 2 }

// Serials gives the serials of all zones, by their names.
func (t *Table) Serials() map[string]uint32 {
	out := make(map[string]uint32, len(t.zones))
	for origin, z := range t.zones {
		out[show(origin)] = be32(z.soa[len(z.soa)-20:])
	}
	return out
}

// newer compares serials as RFC 1982 section 3.2 does: 2^31 apart is neither.
func newer(a, b uint32) bool { return a != b && a-b < 1<<31 }

func (x *Transfer) serial() uint32 {
	return be32(x.zone.soa[len(x.zone.soa)-20:])
}

// Next appends one more message to dst; more tells whether others follow.
func (x *Transfer) Next(dst []byte) (msg []byte, more bool, err error) {
	r := &x.r
	r.w = writer{}
	r.begin(dst, x.packet, &x.client)
	if r.q.stream {
		r.w.limit = maxTransfer - x.client.Reserve
	}
	x.wrote = false
	err = x.fill()
	r.end(&x.client)
	// The OPT record is in every message (RFC 5936 section 2.2.5: in the first at
	// least; dig wants it in all), what was asked for by options in the first.
	r.q.alive, r.q.nsid, r.q.cookie.present, r.q.subnet.present = false, false, false, false
	return r.w.msg, err == nil && x.step != stepOver, err
}

// fill writes records until one does not fit.
func (x *Transfer) fill() error {
	for x.step != stepOver {
		fitted := true
		switch x.step {
		case stepBegin:
			fitted = x.begin()
		case stepStatic:
			fitted = x.static()
		case stepSteered:
			fitted = x.steered()
		case stepEnd:
			if fitted = x.writeSOA(); fitted {
				x.step = stepOver
			}
		case stepOver:
		}
		switch {
		case fitted:
		case x.wrote:
			return nil
		case !x.r.q.stream:
			x.r.w.full, x.step = true, stepOver
		case x.r.w.limit == maxTCP-x.client.Reserve:
			return errRecord
		default:
			x.r.w.limit = maxTCP - x.client.Reserve // one long record has its message to itself
		}
	}
	return nil
}

func (x *Transfer) begin() (fitted bool) {
	if x.soa == 0 {
		x.step = stepOver
		return true
	}
	if !x.writeSOA() {
		return false
	}
	x.step = stepOver
	if x.soa == 2 {
		x.step = stepStatic
	}
	return true
}

func (x *Transfer) writeSOA() (fitted bool) {
	return x.record(x.origin, typeSOA, x.zone.soaTTL, x.zone.soa[recordHead:])
}

// static writes the records in canonical order: those that a delegation hides too,
// as they are (RFC 5936 section 3.5).
func (x *Transfer) static() (fitted bool) {
	for owner, n := range x.zone.static.walkFrom(x.at[0]) {
		set := 0
		for s := range n.all {
			if set++; set <= x.at[1] || s.rrtype == typeSOA { // that stands at both ends
				continue
			}
			record := 0
			for data := range s.records {
				if record++; record <= x.at[2] {
					continue
				}
				if !x.record(owner, s.rrtype, s.ttl(), data) {
					return false
				}
				x.at[2] = record
			}
			x.at[1], x.at[2] = set, 0
		}
		x.at = [3]int{n.end(), 0, 0}
	}
	x.step, x.at = stepSteered, [3]int{}
	return true
}

// steered writes what stands in for the steered names.
func (x *Transfer) steered() (fitted bool) {
	for ; x.at[0] < len(x.zone.over.names); x.at[0]++ {
		s := &x.zone.steered[x.zone.over.names[x.at[0]].group]
		owner, err := wire(x.name(s))
		if err != nil {
			continue // Compile refused it
		}
		ttl := min(s.TTL, maxTTL)
		for ; x.at[1] < 2 && !s.CNAME; x.at[1]++ {
			addrs, rrtype := s.Standby.A, uint16(typeA)
			if x.at[1] == 1 {
				addrs, rrtype = s.Standby.AAAA, typeAAAA
			}
			for ; x.at[2] < len(addrs); x.at[2]++ {
				if !x.record(owner, rrtype, ttl, addrs[x.at[2]].AsSlice()) {
					return false
				}
			}
			x.at[2] = 0
		}
		target, err := wire(s.Standby.Target)
		switch {
		case s.CNAME && err == nil:
			if !x.record(owner, typeCNAME, ttl, target) {
				return false
			}
		case s.CNAME || len(s.Standby.A)+len(s.Standby.AAAA) == 0:
			if len(standbyLabel)+len(owner) <= 255 {
				owner = append([]byte(standbyLabel), owner...)
			}
			if !x.record(owner, typeTXT, ttl, txt(standbyText)) {
				return false
			}
		}
		x.at[1] = 0
	}
	x.step = stepEnd
	return true
}

// name is the steered name that is due, which s has.
func (x *Transfer) name(s *Steered) string {
	if x.group != s {
		x.group, x.first = s, x.at[0]
	}
	if i := x.at[0] - x.first; i > 0 {
		return s.Alike[i-1].Name
	}
	return s.Name
}

// record writes one record, its owner shortened by the question, which is the
// zone's name.
func (x *Transfer) record(name []byte, rrtype uint16, ttl uint32, data []byte) (fitted bool) {
	o := owner{at: headerLen}
	if front := len(name) - len(x.origin); front > 0 {
		x.owner = append(append(x.owner[:0], name[:front]...), 0xc0, headerLen)
		o.name = x.owner
	}
	if !x.r.w.record(o, rrtype, classIN, ttl, data) {
		return false
	}
	x.wrote = true
	if x.r.q.stream {
		x.r.w.limit = maxTransfer - x.client.Reserve
	}
	return true
}
