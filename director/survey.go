package director

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/dnsserver/geo/mmdb"
)

const (
	surveyTick = 5 * time.Second
	// surveyPatience bounds how long a start waits for a geo database: with one of
	// cities it takes two seconds, and beyond this answers come first (S12).
	surveyPatience = 5 * time.Second
	// againLooks is how many looks pass before a file is read again that is as it
	// was, and could not be read for another reason than what is in it.
	againLooks = 12
)

// survey owns the reading of the geo database. A file that is missing, damaged or
// being written changes nothing: clients are placed as before, at a start by the
// country table. It belongs to the front, since a director that stands behind it
// later need not read anew.
type survey struct {
	path     string // "" = the country table is what is wanted
	open     func(path string) (*geo.Table, error)
	patience time.Duration

	latest  atomic.Pointer[earth]  // by begin, then by run
	trouble atomic.Pointer[string] // by begin, then by run: why the file is not what clients are placed by; nil = it is
	begun   chan struct{}          // by begin; closed when the file has been read, or could not be
	seen    stamp                  // by run: at the last look
	tried   stamp                  // by run: of the last reading
	again   int                    // by run: looks until the next reading of the same file; 0 = there is none
}

// stamp is what tells one state of a file from another without reading it.
type stamp struct{ info os.FileInfo } // nil: it is not there, or may not be looked at

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info}
}

func (s stamp) same(other stamp) bool {
	if s.info == nil || other.info == nil {
		return s.info == nil && other.info == nil
	}
	return os.SameFile(s.info, other.info) && s.info.Size() == other.info.Size() && s.info.ModTime().Equal(other.info.ModTime())
}

func newSurvey(path string) *survey {
	return &survey{path: path, open: mmdb.Open, patience: surveyPatience}
}

// begin reads the database, or what is used without one, the first time that it is
// called. After it there is always an earth. A reading that takes longer than a
// start may wait goes on, and ends under run.
func (s *survey) begin() {
	if s.begun != nil {
		return
	}
	s.begun = make(chan struct{})
	if s.path == "" {
		s.latest.Store(newEarth(geo.Default()))
		close(s.begun)
		return
	}
	go func() {
		defer close(s.begun)
		s.seen = stampOf(s.path)
		s.read()
	}()
	wait := time.NewTimer(s.patience)
	defer wait.Stop()
	select {
	case <-s.begun:
	case <-wait.C:
		s.latest.CompareAndSwap(nil, newEarth(geo.Default()))
	}
}

// run looks at the file until ctx ends. changed is called where there is another
// earth, or another trouble.
func (s *survey) run(ctx context.Context, changed func()) error {
	select {
	case <-s.begun:
	case <-ctx.Done():
		return nil // a file system that hangs holds up no stop
	}
	changed()
	if s.path == "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(surveyTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if s.look() {
				changed()
			}
		}
	}
}

// look reads the file when it is another than the one that was read last, and as it
// was at the look before: one that is being written is left alone.
func (s *survey) look() bool {
	now := stampOf(s.path)
	steady := now.same(s.seen)
	s.seen = now
	if s.again > 0 {
		s.again--
	}
	if !steady || now.same(s.tried) && s.again != 1 {
		return false
	}
	s.read()
	return true
}

// read takes the file, as far as it can be taken.
func (s *survey) read() {
	s.tried, s.again = s.seen, 0
	table, err := s.open(s.path)
	if after := stampOf(s.path); err == nil && !after.same(s.tried) {
		s.seen, s.tried = after, stamp{}
		err = errors.New("it changed while it was read; it is read again when it changes no more")
	}
	if err != nil {
		var outside *fs.PathError
		if errors.As(err, &outside) && s.tried.info != nil {
			s.again = againLooks
		}
		if s.latest.Load() == nil {
			s.latest.CompareAndSwap(nil, newEarth(geo.Default()))
		}
		why := err.Error()
		s.trouble.Store(&why)
		return
	}
	if before := s.latest.Load(); before == nil || before.table.Origin() != table.Origin() {
		s.latest.Store(newEarth(table))
	}
	s.trouble.Store(nil)
}

// problem says why the file is not what clients are placed by; "" = it is, or there
// is to be none.
func (s *survey) problem() string {
	select {
	case <-s.begun:
	default:
		return "it is still being read"
	}
	if why := s.trouble.Load(); why != nil {
		return *why
	}
	return ""
}
