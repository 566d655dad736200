package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/divertdns/divert/director/plan"
)

var monday = time.Date(2026, 3, 9, 12, 0, 0, 0, time.UTC)

func journal(t *testing.T, dir string, change func(*JournalOptions)) *Journal {
	t.Helper()
	o := JournalOptions{Dir: dir, For: 24 * time.Hour, Size: 1 << 20, Free: func(string) (uint64, error) { return 1 << 40, nil }}
	if change != nil {
		change(&o)
	}
	j, err := OpenJournal(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func entry(minutes int, text string, refs ...plan.Hash) Entry {
	return Entry{At: monday.Add(time.Duration(minutes) * time.Minute), Body: []byte(text), Refs: refs}
}

func bodies(entries []Entry) (out []string) {
	for _, e := range entries {
		out = append(out, string(e.Body))
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// segments lists the files of a journal, in order.
func segmentFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, segmentPrefix+"*"))
	must(t, err)
	slices.Sort(files)
	return files
}

// TestJournal: what was appended is found by when it held, over a restart too.
func TestJournal(t *testing.T) {
	dir := t.TempDir()
	j := journal(t, dir, nil)
	large := string(bytes.Repeat([]byte("say "), 1<<10)) // is compressed
	must(t, j.Begin(entry(0, "begins")))
	must(t, j.Append(entry(1, "one"), entry(2, large)))
	must(t, j.Begin(entry(5, "again")))
	must(t, j.Append(entry(6, "six")))
	must(t, j.Close())
	for _, j := range []*Journal{j, journal(t, dir, nil)} {
		for _, tc := range []struct {
			minute int
			want   []string
			after  string
		}{
			{0, []string{"begins"}, "one"},
			{1, []string{"begins", "one"}, large},
			{4, []string{"begins", "one", large}, "again"},
			{5, []string{"again"}, "six"},
			{60, []string{"again", "six"}, ""},
		} {
			got, err := j.Find(monday.Add(time.Duration(tc.minute) * time.Minute))
			after := ""
			if got.After != nil {
				after = string(got.After.Body)
			}
			if err != nil || !slices.Equal(bodies(got.Entries), tc.want) || after != tc.after || got.Torn || got.Twice {
				t.Errorf("minute %d: got %v, then %q, torn %t, twice %t, %v", tc.minute, bodies(got.Entries), after, got.Torn, got.Twice, err)
			}
		}
		if _, err := j.Find(monday.Add(-time.Second)); !errors.Is(err, ErrNotKept) {
			t.Errorf("before the beginning: got %v", err)
		}
		if s := j.Span(); !s.First.Equal(monday) || !s.Last.Equal(monday.Add(6*time.Minute)) {
			t.Errorf("span: got %+v", s)
		}
	}
}

// TestJournalClockBack: an instant that came twice is told so, and the later time
// that it came counts.
func TestJournalClockBack(t *testing.T) {
	j := journal(t, t.TempDir(), nil)
	must(t, j.Begin(entry(0, "begins")))
	must(t, j.Append(entry(30, "half"), entry(10, "back"), entry(20, "twenty")))
	got, err := j.Find(monday.Add(15 * time.Minute))
	if err != nil || !got.Twice || !slices.Equal(bodies(got.Entries), []string{"begins", "half", "back"}) {
		t.Errorf("got %v, twice %t, %v", bodies(got.Entries), got.Twice, err)
	}
	must(t, j.Begin(entry(5, "again")))
	if got, err = j.Find(monday.Add(25 * time.Minute)); err != nil || !got.Twice || !slices.Equal(bodies(got.Entries), []string{"again"}) {
		t.Errorf("over segments: got %v, twice %t, %v", bodies(got.Entries), got.Twice, err)
	}
}

// TestJournalTorn: a file cut at any octet, or with any octet flipped, gives a
// beginning of what was written, never anything else, and the director starts (F17).
func TestJournalTorn(t *testing.T) {
	dir := t.TempDir()
	j := journal(t, dir, nil)
	must(t, j.Begin(entry(0, "begins")))
	must(t, j.Append(entry(1, "one"), entry(2, string(bytes.Repeat([]byte("two "), 400)), plan.Sum(nil)), entry(3, "three")))
	must(t, j.Close())
	path := segmentFiles(t, dir)[0]
	whole, err := os.ReadFile(path)
	must(t, err)
	all, err := j.Find(monday.Add(time.Hour))
	must(t, err)
	try := func(what string, raw []byte) {
		t.Helper()
		must(t, os.WriteFile(path, raw, 0o600))
		defer func() { must(t, os.WriteFile(path, whole, 0o600)) }()
		again := journal(t, dir, nil)
		got, err := again.Find(monday.Add(time.Hour))
		if err != nil {
			if !errors.Is(err, ErrNotKept) {
				t.Errorf("%s: %v", what, err)
			}
			return
		}
		if len(got.Entries) > 4 || !slices.Equal(bodies(got.Entries), bodies(all.Entries)[:len(got.Entries)]) {
			t.Errorf("%s: got %v", what, bodies(got.Entries))
		}
		if len(got.Entries) < 4 && !got.Torn && len(raw) == len(whole) {
			t.Errorf("%s: %d entries are lost, and nothing says so", what, 4-len(got.Entries))
		}
		// What comes next goes into a file of its own.
		must(t, again.Begin(entry(90, "after")))
		if next, err := again.Find(monday.Add(2 * time.Hour)); err != nil || !slices.Equal(bodies(next.Entries), []string{"after"}) {
			t.Errorf("%s: afterwards got %v, %v", what, bodies(next.Entries), err)
		}
		must(t, again.Close())
		must(t, os.Remove(again.path(again.next-1)))
	}
	for n := range whole {
		try(fmt.Sprint("cut at ", n), whole[:n])
		flipped := bytes.Clone(whole)
		flipped[n] ^= 1 << rand.N(8)
		try(fmt.Sprint("flipped at ", n), flipped)
	}
}

// TestJournalBounds: by time and by octets; what is kept beside goes with the last
// that refers to it.
func TestJournalBounds(t *testing.T) {
	dir := t.TempDir()
	j := journal(t, dir, func(o *JournalOptions) { o.For, o.Size = time.Hour, 256<<10 })
	doc := []byte("a spec that is in force for long")
	kept, err := j.Keep(doc)
	must(t, err)
	random := func(n int) []byte { // of which nothing is won by compressing
		out := make([]byte, n)
		for i := range out {
			out[i] = byte(rand.N(256))
		}
		return out
	}
	var first plan.Hash
	for minute := range 240 {
		h, err := j.Keep(random(2 << 10))
		must(t, err)
		if minute == 0 {
			first = h
		}
		e := Entry{At: monday.Add(time.Duration(minute) * time.Minute), Body: random(1 << 10), Refs: []plan.Hash{kept, h}}
		if j.Due(e.At) {
			must(t, j.Begin(e))
		} else {
			must(t, j.Append(e))
		}
		j.Tidy(e.At, true)
		if s := j.Span(); s.Octets > 256<<10+segmentLeast {
			t.Fatalf("minute %d: %d octets", minute, s.Octets)
		}
	}
	if s := j.Span(); s.Last.Sub(s.First) > time.Hour+segmentYoung+time.Minute {
		t.Errorf("from %s to %s is kept, more than an hour", s.First, s.Last)
	}
	if got, err := j.Kept(kept); err != nil || !bytes.Equal(got, doc) {
		t.Errorf("what is still referred to: %v", err)
	}
	if _, err := j.Kept(first); !errors.Is(err, ErrNotKept) {
		t.Errorf("what nothing refers to: got %v, want that it is not kept", err)
	}
	total := int64(0)
	files, err := os.ReadDir(dir)
	must(t, err)
	for _, f := range files {
		info, err := f.Info()
		must(t, err)
		total += info.Size()
	}
	if total > 256<<10+segmentLeast {
		t.Errorf("%d octets lie in the folder", total)
	}
	if _, err := j.Keep(random(256 << 10)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("more than half of the room for one document: got %v", err)
	}
}

// TestJournalNoRoom: the last of a disk is not history's (F16). It says so, and goes on
// when there is room.
func TestJournalNoRoom(t *testing.T) {
	free := uint64(1 << 40)
	dir := t.TempDir()
	j := journal(t, dir, func(o *JournalOptions) { o.Free = func(string) (uint64, error) { return free, nil } })
	must(t, j.Begin(entry(0, "begins")))
	free = journalReserve - 1
	if err := j.Append(entry(1, "lost")); !errors.Is(err, ErrNoRoom) {
		t.Errorf("got %v", err)
	}
	if _, err := j.Keep([]byte("a document")); !errors.Is(err, ErrNoRoom) {
		t.Errorf("got %v", err)
	}
	if err := j.Begin(entry(2, "lost")); !errors.Is(err, ErrNoRoom) || !j.Due(monday) {
		t.Errorf("got %v", err)
	}
	if files := segmentFiles(t, dir); len(files) != 1 {
		t.Errorf("files: %v", files)
	}
	free = 1 << 40
	must(t, j.Begin(entry(3, "again")))
	got, err := j.Find(monday.Add(time.Minute))
	if err != nil || !slices.Equal(bodies(got.Entries), []string{"begins"}) || got.After == nil || string(got.After.Body) != "again" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestJournalReadOnly: a disk that takes no writes is an error, and no more.
func TestJournalReadOnly(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write anywhere")
	}
	dir := t.TempDir()
	j := journal(t, dir, nil)
	must(t, os.Chmod(dir, 0o500))
	if err := j.Begin(entry(0, "begins")); err == nil {
		t.Error("begun in a folder that takes no files")
	}
	must(t, os.Chmod(dir, 0o700))
	must(t, j.Begin(entry(0, "begins")))
}

// FuzzJournalFrame: whatever a file holds is read or refused, and what is read is
// written the same.
func FuzzJournalFrame(f *testing.F) {
	f.Add(appendFrame(nil, entry(1, "one", plan.Sum(nil))))
	f.Add(appendFrame(nil, entry(1, string(bytes.Repeat([]byte("two "), 400)))))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := readFrame(bytes.NewReader(raw), true)
		if err != nil {
			return
		}
		again, err := readFrame(bytes.NewReader(appendFrame(nil, e)), true)
		if err != nil || !again.At.Equal(e.At) || !bytes.Equal(again.Body, e.Body) || !slices.Equal(again.Refs, e.Refs) {
			t.Errorf("got %+v, %v, want %+v", again, err, e)
		}
	})
}
