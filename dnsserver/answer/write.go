package answer

// writer builds one reply behind what is in msg already.
type writer struct {
	msg      []byte
	base     int // where the reply begins
	limit    int // octets that it may have
	reserved int // of those, kept for the OPT record
	question int // its length with the question
	counts   [3]uint16
	full     bool // something needed did not fit: TC
}

// The sections of a reply.
const (
	sectionAnswer = iota
	sectionAuthority
	sectionExtra
)

// offset is where the next octet of the reply goes.
func (w *writer) offset() int { return len(w.msg) - w.base }

func (w *writer) fits(n int) bool {
	return w.offset()+n+w.reserved <= w.limit
}

func (w *writer) uint16(v uint16) { w.msg = append(w.msg, byte(v>>8), byte(v)) }

func (w *writer) uint32(v uint32) {
	w.msg = append(w.msg, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// owner is how the owner of a record is written: as a pointer to where the name
// stands in the reply, or in full.
type owner struct {
	at   int
	name []byte // nil: at
}

func (o owner) size() int {
	if o.name != nil {
		return len(o.name)
	}
	return 2
}

// record adds one record to the answers; it tells whether it fitted.
func (w *writer) record(o owner, rrtype uint16, class uint16, ttl uint32, data []byte) bool {
	if !w.fits(o.size() + 10 + len(data)) {
		return false
	}
	if o.name != nil {
		w.msg = append(w.msg, o.name...)
	} else {
		w.uint16(0xc000 | uint16(o.at))
	}
	w.uint16(rrtype)
	w.uint16(class)
	w.uint32(ttl)
	w.uint16(uint16(len(data)))
	w.msg = append(w.msg, data...)
	w.counts[sectionAnswer]++
	return true
}

// ready adds records that only want their owner, all or none; it gives where they
// begin in msg, or notes that the reply is truncated.
func (w *writer) ready(section int, o owner, count int, records []byte) (at int, ok bool) {
	size := len(records)
	if o.name != nil {
		size += count * (len(o.name) - 2)
	}
	if !w.fits(size) {
		w.full = true
		return 0, false
	}
	at = len(w.msg)
	w.counts[section] += uint16(count)
	if o.name != nil {
		for rest := records; len(rest) > 0; {
			end := recordHead + int(be16(rest[recordSize:]))
			w.msg = append(append(w.msg, o.name...), rest[2:end]...)
			rest = rest[end:]
		}
		return at, true
	}
	w.msg = append(w.msg, records...)
	if o.at != headerLen {
		for rest := w.msg[at:]; len(rest) > 0; rest = rest[recordHead+int(be16(rest[recordSize:])):] {
			put16(rest, 0xc000|uint16(o.at))
		}
	}
	return at, true
}

// empty forgets all behind the question.
func (w *writer) empty() {
	w.msg = w.msg[:w.base+w.question]
	w.counts = [3]uint16{}
}
