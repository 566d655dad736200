package director

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/maxmind/mmdbwriter"

	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/dnsserver/geo/mmdb"
	"github.com/divertdns/divert/dnsserver/geo/mmdb/mmdbtest"
)

// edition is a database named for its version.
func edition(t testing.TB, name string) []byte {
	return cities(t, mmdbwriter.Options{DatabaseType: name})
}

// surveyOf is a survey of a file of which each reading is counted.
func surveyOf(t *testing.T, path string) (s *survey, readings *int) {
	t.Helper()
	readings = new(int)
	s = newSurvey(path)
	s.open = func(path string) (*geo.Table, error) {
		*readings++
		return mmdb.Open(path)
	}
	return s, readings
}

func (s *survey) name() string { return s.latest.Load().table.Origin().Name }

// S12: a start needs no geo database, and says what is wrong with it.
func TestSurveyBegins(t *testing.T) {
	whole := edition(t, "one")
	for _, tc := range []struct {
		name string
		data []byte // nil: it is not there
		want string // the table's name
		why  string
	}{
		{"good", whole, "one", ""},
		{"missing", nil, "country table", "no such file"},
		{"empty", []byte{}, "country table", "the file is empty"},
		{"no database", []byte("<html>403 Forbidden</html>"), "country table", "not a MaxMind DB file"},
		{"cut short", whole[:len(whole)-40], "country table", "MaxMind"},
	} {
		path := filepath.Join(t.TempDir(), "cities.mmdb")
		if tc.data != nil {
			mmdbtest.Put(t, path, tc.data)
		}
		s := newSurvey(path)
		s.begin()
		s.begin() // the director that comes next behind the front
		if got := s.problem(); !strings.HasPrefix(s.name(), tc.want) || !strings.Contains(got, tc.why) || (got == "") != (tc.why == "") {
			t.Errorf("%s: clients are placed by %s, problem %q; want %s, %q", tc.name, s.name(), got, tc.want, tc.why)
		}
	}
	s := newSurvey("")
	if s.begin(); !strings.HasPrefix(s.name(), "country table") || s.problem() != "" {
		t.Errorf("without a setting: by %s, problem %q", s.name(), s.problem())
	}
}

// S12: one that takes long to read holds up neither the answers nor a stop.
func TestSurveyIsNotWaitedFor(t *testing.T) {
	s, _ := surveyOf(t, "cities.mmdb")
	read := make(chan struct{})
	s.patience = 0
	s.open = func(string) (*geo.Table, error) {
		<-read
		return mmdb.Read(edition(t, "one"))
	}
	s.begin()
	if !strings.HasPrefix(s.name(), "country table") || s.problem() != "it is still being read" {
		t.Errorf("by %s, problem %q", s.name(), s.problem())
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := s.run(ended, func() { t.Error("told of a file that is still being read") }); err != nil {
		t.Error(err) // and it came back: a file system that hangs holds up no stop
	}
	close(read)
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() { done <- s.run(ctx, func() { told <- struct{}{} }) }()
	<-told
	if s.name() != "one" || s.problem() != "" {
		t.Errorf("in the end by %s, problem %q", s.name(), s.problem())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A file is read when it is another than before, and as it was at the look before. A
// bad one, and none, change nothing.
func TestSurveyLooks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cities.mmdb")
	put := func(name string) func() { return func() { mmdbtest.Put(t, path, edition(t, name)) } }
	over := func(data []byte) func() { // in place, as a careless copy does
		return func() {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	three, four := edition(t, "three"), edition(t, "four")
	put("one")()
	s, readings := surveyOf(t, path)
	s.begin()
	for _, tc := range []struct {
		what     string
		do       func() // before a look; nil = nothing happens
		readings int    // by this look
		want     string
		why      string
	}{
		{"nothing happens", nil, 0, "one", ""},
		{"replaced by a rename", put("two"), 0, "one", ""},
		{"it stays so", nil, 1, "two", ""},
		{"and so", nil, 0, "two", ""},
		{"gone", func() { os.Remove(path) }, 0, "two", ""},
		{"still gone", nil, 1, "two", "no such file"},
		{"and gone", nil, 0, "two", "no such file"},
		{"back", put("two"), 0, "two", "no such file"},
		{"still back", nil, 1, "two", ""},
		{"half written", over(three[:len(three)/2]), 0, "two", ""},
		{"written on", over(three[:len(three)-100]), 0, "two", ""},
		{"whole", over(three), 0, "two", ""},
		{"still whole", nil, 1, "three", ""},
		{"half written", over(four[:len(four)/2]), 0, "three", ""},
		{"and left so", nil, 1, "three", "MaxMind"},
		{"for long", nil, 0, "three", "MaxMind"},
		{"completed", over(four), 0, "three", "MaxMind"},
		{"still complete", nil, 1, "four", ""},
		{"rubbish", over([]byte("rubbish")), 0, "four", ""},
		{"still rubbish", nil, 1, "four", "not a MaxMind DB file"},
		{"mended and broken between two looks", func() { put("five")(); over([]byte("other rubbish"))() }, 0, "four", "not a MaxMind DB file"},
		{"still broken", nil, 1, "four", "not a MaxMind DB file"},
		{"a folder", func() { os.Remove(path); os.Mkdir(path, 0o700) }, 0, "four", "not a MaxMind DB file"},
		{"still a folder", nil, 1, "four", "is not a file"},
		{"a database again", func() { os.Remove(path); put("six")() }, 0, "four", "is not a file"},
		{"still one", nil, 1, "six", ""},
	} {
		if tc.do != nil {
			tc.do()
		}
		before := *readings
		told := s.look()
		if got := *readings - before; got != tc.readings || told != (got > 0) {
			t.Errorf("%s: read %d times, told %t; want %d", tc.what, got, told, tc.readings)
		}
		if got := s.problem(); s.name() != tc.want || !strings.Contains(got, tc.why) || (got == "") != (tc.why == "") {
			t.Errorf("%s: by %s, problem %q; want %s, %q", tc.what, s.name(), got, tc.want, tc.why)
		}
	}
}

// The same database written anew is the same earth: nothing is decided anew.
func TestSurveyKnowsTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cities.mmdb")
	mmdbtest.Put(t, path, edition(t, "one"))
	s, readings := surveyOf(t, path)
	s.begin()
	before := s.latest.Load()
	mmdbtest.Put(t, path, edition(t, "one"))
	s.look()
	s.look()
	if *readings != 2 || s.latest.Load() != before {
		t.Errorf("%d readings, another earth: %t", *readings, s.latest.Load() != before)
	}
}

// What keeps a file from being read, but is not in it, may pass: it is tried again,
// now and then.
func TestSurveyTriesAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cities.mmdb")
	mmdbtest.Put(t, path, edition(t, "one"))
	s, readings := surveyOf(t, path)
	read := s.open
	s.open = func(path string) (*geo.Table, error) {
		*readings++
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EMFILE}
	}
	s.begin()
	for range 3 * againLooks {
		s.look()
	}
	if *readings < 3 || *readings > 5 || !strings.Contains(s.problem(), "too many open files") {
		t.Errorf("%d readings, problem %q", *readings, s.problem())
	}
	s.open = read
	for range againLooks {
		s.look()
	}
	if s.name() != "one" || s.problem() != "" {
		t.Errorf("by %s, problem %q", s.name(), s.problem())
	}
}

// A file that changes while it is read may be two: what was read is not used.
func TestSurveyReadsNoTwoHalves(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cities.mmdb")
	mmdbtest.Put(t, path, edition(t, "one"))
	s, readings := surveyOf(t, path)
	s.begin()
	read := s.open
	s.open = func(path string) (*geo.Table, error) {
		table, err := read(path)
		mmdbtest.Put(t, path, append(edition(t, "three"), 0)) // which is no database
		return table, err
	}
	mmdbtest.Put(t, path, edition(t, "two"))
	s.look()
	if s.look(); s.name() != "one" || !strings.Contains(s.problem(), "changed while it was read") {
		t.Errorf("by %s, problem %q", s.name(), s.problem())
	}
	s.open = read
	mmdbtest.Put(t, path, edition(t, "four"))
	s.look()
	if s.look(); s.name() != "four" || s.problem() != "" || *readings != 3 {
		t.Errorf("by %s, problem %q, %d readings", s.name(), s.problem(), *readings)
	}
}
