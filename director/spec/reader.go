package spec

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
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

// Share lets what is stored as it was read lie where it is stored: a zone may have
// tens of millions of octets. It gives what Load gives.
func (r *Reader) Share(stored []Raw) []Raw {
	r.raws = slices.Clone(r.raws) // whoever has them may go on reading
	for i := range r.raws {
		own := &r.raws[i]
		at := slices.IndexFunc(stored, func(s Raw) bool { return s.Kind == own.Kind && s.Name == own.Name })
		if at >= 0 && bytes.Equal(stored[at].JSON, own.JSON) {
			own.JSON = stored[at].JSON
		}
	}
	return r.raws
}

// look reads in the order of the last reading, without parsing.
func (r *Reader) look() [sha256.Size]byte {
	s := newSource()
	s.blind = true
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
	sum    hash.Hash
	paths  []string // as named by a person
	files  []string // found in them
	within []string // the folders of both, made when the first zone file is read
	zones  []string
	blind  bool // only the sum is wanted
}

func newSource() *source { return &source{sum: sha256.New()} }

func (s *source) list(paths []string) ([]string, []Problem) {
	files, problems := listFiles(paths)
	for _, p := range problems {
		fmt.Fprintf(s.sum, "%q\n", p.String())
	}
	s.paths, s.files = paths, files
	return files, problems
}

func (s *source) file(name string) ([]byte, error) {
	var b bytes.Buffer
	err := s.note(&b, name, maxFile)
	return b.Bytes(), err
}

// zone reads a zone's file, which must lie in a folder of the spec: a director
// may read more than who writes its spec, and shows what it cannot parse.
func (s *source) zone(name string) (string, error) {
	s.zones = append(s.zones, name)
	if !s.holds(name) {
		fmt.Fprintf(s.sum, "%q outside\n", name)
		return "", fmt.Errorf("reading %s: %w", name, errOutside)
	}
	var b strings.Builder // whose text is not copied again
	if err := s.note(&b, name, maxZoneText); err != nil {
		return "", err
	}
	text := b.String()
	if !utf8.ValidString(text) {
		return "", fmt.Errorf("reading %s: line %d: %w", name, 1+bytes.Count(validPrefix([]byte(text)), []byte("\n")), errNotUTF8)
	}
	return strings.TrimPrefix(text, "\ufeff"), nil
}

// holds tells whether a file, links followed, lies in a folder that a person
// named, or beside or below a file of it.
func (s *source) holds(name string) bool {
	if s.within == nil {
		for _, p := range s.paths {
			if info, err := os.Stat(p); err == nil && info.IsDir() {
				s.within = append(s.within, unlinked(p))
			}
		}
		for _, f := range s.files {
			s.within = append(s.within, unlinked(filepath.Dir(f)), filepath.Dir(unlinked(f)))
		}
		slices.Sort(s.within)
		s.within = slices.Compact(s.within)
	}
	return slices.ContainsFunc(s.within, func(folder string) bool {
		_, ok := below(folder, unlinked(name))
		return ok
	})
}

// unlinked is a path from the root, without links as far as it exists.
func unlinked(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	if dir := filepath.Dir(path); dir != path {
		return filepath.Join(unlinked(dir), filepath.Base(path))
	}
	return path
}

// note reads a file, and adds its name, its length and its own sum, so that nothing
// can move from one file to the next unseen.
func (s *source) note(to io.Writer, name string, most int64) error {
	own := sha256.New()
	n, err := copyRegular(noted{Writer: to, sum: own, blind: s.blind}, name, most)
	fmt.Fprintf(s.sum, "%q %d %v %x\n", name, n, err, own.Sum(nil))
	return err
}

// noted sums up what is written, and passes it on unless it is blind.
type noted struct {
	io.Writer
	sum   hash.Hash
	blind bool
}

func (n noted) Write(b []byte) (int, error) {
	n.sum.Write(b)
	if n.blind {
		return len(b), nil
	}
	return n.Writer.Write(b)
}

func (n noted) Grow(size int) {
	if g, ok := n.Writer.(interface{ Grow(n int) }); ok && !n.blind {
		g.Grow(size)
	}
}

func (s *source) digest() (out [sha256.Size]byte) {
	s.sum.Sum(out[:0])
	return out
}
