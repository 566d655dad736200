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

// record adds one record; it tells whether it fitted.
func (w *writer) record(section int, o owner, rrtype uint16, class uint16, ttl uint32, data []byte) bool {
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
	w.counts[section]++
	return true
}

// set adds all of an RRset, or notes that the reply is truncated.
func (w *writer) set(section int, o owner, s *rrset) {
	for _, data := range s.data {
		if !w.record(section, o, s.rrtype, classIN, s.ttl, data) {
			w.full = true
			return
		}
	}
}

// empty forgets all behind the question.
func (w *writer) empty() {
	w.msg = w.msg[:w.base+w.question]
	w.counts = [3]uint16{}
}
