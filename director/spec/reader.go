package spec

import (
	"crypto/sha256"
	"fmt"
	"hash"
)

// Reader reads the same paths again and again, as LoadWith does, and parses
// only when what they hold has changed: sizes and times cheat, octets do not.
// It is not for concurrent use.
type Reader struct {
	paths    []string
	check    ZoneChecker
	zones    []string // zone files that the last reading named, in its order
	sum      [sha256.Size]byte
	read     bool
	raws     []Raw
	problems []Problem
}

// NewReader makes a reader that has read nothing.
func NewReader(paths []string, check ZoneChecker) *Reader { return &Reader{paths: paths, check: check} }

// Load gives what LoadWith gives for these paths, and whether anything in them
// has changed since the last call. What it gives must not be written to.
func (r *Reader) Load() (raws []Raw, problems []Problem, changed bool) {
	if r.read && r.look() == r.sum {
		return r.raws, r.problems, false
	}
	s := newSource()
	_, r.raws, r.problems = load(r.paths, r.check, s)
	r.zones, r.sum, r.read = s.zones, s.digest(), true
	return r.raws, r.problems, true
}

// look reads in the order of the last reading, without parsing.
func (r *Reader) look() [sha256.Size]byte {
	s := newSource()
	files, _ := s.list(r.paths)
	for _, name := range files {
		_, _ = s.file(name)
	}
	for _, name := range r.zones {
		_, _ = s.zone(name)
	}
	return s.digest()
}

// source reads files, and sums up all that was read and all that could not be.
type source struct {
	sum   hash.Hash
	zones []string
}

func newSource() *source { return &source{sum: sha256.New()} }

func (s *source) list(paths []string) ([]string, []Problem) {
	files, problems := listFiles(paths)
	for _, p := range problems {
		fmt.Fprintf(s.sum, "%q\n", p.String())
	}
	return files, problems
}

func (s *source) file(name string) ([]byte, error) { return s.note(name, maxFile) }

func (s *source) zone(name string) ([]byte, error) {
	s.zones = append(s.zones, name)
	return s.note(name, maxZoneText)
}

// note reads a file and adds it, its name and its length first, so that nothing
// can move from one file to the next unseen.
func (s *source) note(name string, most int64) ([]byte, error) {
	data, err := readRegular(name, most)
	fmt.Fprintf(s.sum, "%q %d %v\n", name, len(data), err)
	s.sum.Write(data)
	return data, err
}

func (s *source) digest() (out [sha256.Size]byte) {
	s.sum.Sum(out[:0])
	return out
}
