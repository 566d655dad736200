package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Witness remembers what the other directors have signed, and holds it against this
// director's own log: of two that are of one size, the roots are the same, or one of the
// two was altered. The zero Witness has heard of nobody. It is not safe for concurrent use.
type Witness struct{ peers map[string]*peer }

type peer struct {
	now   Signed // the last that it said
	most  Signed // the longest that it ever signed
	twice []byte // another one that it signed, of the size of most
	sides Sides  // of now
	old   Sides  // of most
}

// Sides says how a director's log stands to this one's.
type Sides int

// The sides.
const (
	SidesUnknown Sides = iota // it is longer than this one, which cannot judge it yet
	Agrees
	Differs
)

// String is a side in a word.
func (s Sides) String() string {
	return [...]string{"unknown", "agrees", "differs"}[s]
}

// Hear takes in a head of a director, signed by it and opened by the caller with its key
// alone. Its signature is kept, and what stood beside it is not. It tells whether it is
// another than the one before.
func (w *Witness) Hear(director string, s Signed) bool {
	if s.alone != nil {
		s.Raw = s.alone
	}
	if w.peers == nil {
		w.peers = map[string]*peer{}
	}
	p := w.peers[director]
	if p == nil {
		p = &peer{}
		w.peers[director] = p
	}
	if p.now.Raw != nil && p.now.Head == s.Head {
		return false
	}
	p.now, p.sides = s, SidesUnknown
	switch {
	case p.most.Raw == nil || s.Size > p.most.Size:
		p.most, p.old = s, SidesUnknown
	case s.Size == p.most.Size && s.Root != p.most.Root:
		p.twice, p.most, p.old = p.most.Raw, s, SidesUnknown
	}
	return true
}

// Check holds what was heard against this director's log, as far as that goes.
func (w *Witness) Check(size int64, rootAt func(int64) (tlog.Hash, error)) error {
	for _, name := range slices.Sorted(maps.Keys(w.peers)) {
		p := w.peers[name]
		for _, look := range []struct {
			s     Signed
			sides *Sides
		}{{p.most, &p.old}, {p.now, &p.sides}} {
			if *look.sides != SidesUnknown || look.s.Size > size {
				continue
			}
			root, err := rootAt(look.s.Size)
			if err != nil {
				return err
			}
			*look.sides = Differs
			if root == look.s.Root {
				*look.sides = Agrees
			}
		}
		if p.sides == Agrees && p.now.Size > 0 && p.now.Head != p.most.Head && p.now.Size >= p.most.Size {
			p.most, p.old = p.now, p.sides
		}
		if p.sides == Agrees && p.old == Agrees && p.now.Size > p.sizeOfTwice() {
			p.twice = nil // it has gone on with the one that all have
		}
	}
	return nil
}

// sizeOfTwice is of how many records it signed two logs.
func (p *peer) sizeOfTwice() int64 {
	if text, _, ok := bytes.Cut(p.twice, []byte("\n\n")); ok {
		if h, err := ParseHead(string(text) + "\n"); err == nil {
			return h.Size
		}
	}
	return -1
}

// Keep forgets all but some directors.
func (w *Witness) Keep(names []string) {
	maps.DeleteFunc(w.peers, func(name string, _ *peer) bool { return !slices.Contains(names, name) })
}

// Said is what is known of one director's log.
type Said struct {
	Director string
	Head     Head   // the last that it signed
	Raw      []byte // with its signature
	Sides    Sides
	Fault    string // "" = none
}

// Said lists what is known of the others, by name. Alike is how many of them have a log
// that this one's extends.
func (w *Witness) Said() (out []Said, alike int) {
	for _, name := range slices.Sorted(maps.Keys(w.peers)) {
		p := w.peers[name]
		s := Said{Director: name, Head: p.now.Head, Raw: p.now.Raw, Sides: p.sides}
		switch {
		case p.twice != nil:
			s.Fault = fmt.Sprintf("%s has signed two logs of %d records", name, p.sizeOfTwice())
		case p.sides == Differs || p.old == Differs:
			s.Fault = fmt.Sprintf("%s has sealed another log than this director: they differ within the first %d records", name, min(p.now.Size, p.most.Size))
			if p.sides == Differs {
				s.Fault = fmt.Sprintf("%s has sealed another log than this director: they differ within the first %d records", name, p.now.Size)
			}
		case p.now.Size < p.most.Size:
			s.Fault = fmt.Sprintf("%s had sealed %d records, and now has %d", name, p.most.Size, p.now.Size)
		}
		if s.Fault == "" && p.sides == Agrees {
			alike++
		}
		out = append(out, s)
	}
	return out, alike
}

// MaxWitness bounds what Decode takes, in octets: two heads of MaxHead each of 64
// directors, as a divert wrote that kept strangers' signatures. Encode gives some KiB of each.
const MaxWitness = 4 << 20

type storedPeer struct {
	Most  []byte `json:"most"`
	Twice []byte `json:"twice,omitempty"`
}

// Encode gives what must outlast a process: the longest that each has signed.
func (w *Witness) Encode() []byte {
	out := map[string]storedPeer{}
	for name, p := range w.peers {
		out[name] = storedPeer{p.most.Raw, p.twice}
	}
	raw, err := json.Marshal(out)
	if err != nil {
		panic(err) // octets and names
	}
	return raw
}

// Decode reads what Encode gave. What is not signed by its director any more is left out.
func (w *Witness) Decode(raw []byte, keys Keys) error {
	var in map[string]storedPeer
	if len(raw) > MaxWitness || json.Unmarshal(raw, &in) != nil {
		return errors.New("what other directors had signed cannot be read")
	}
	for name, p := range in {
		own := Keys{name: keys[name]}
		most, err := OpenHead(p.Most, own)
		if err != nil {
			continue
		}
		w.Hear(name, most)
		if twice, err := OpenHead(p.Twice, own); err == nil {
			w.peers[name].twice = twice.alone
		}
	}
	return nil
}
