package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store/fsys/crashfs"
)

const historyDir = "/var/lib/divert/d1/history"

// historyLife is a director's use of its journal, over processes, as director/history.go
// has it. Entries are numbered by the minute.
type historyLife struct {
	disk    *crashfs.Disk
	journal *Journal // of the process that lives; nil: it could not be read
	said    []said
	begun   bool
	first   int  // of the segment
	refused bool // a sync may have been, in silence
}

// said is an entry that was tried.
type said struct {
	doc     []byte // what it refers to
	written bool   // its process was told that it was
	synced  bool   // and that it outlasts the machine
}

func (l *historyLife) start() {
	l.begun, l.first = false, len(l.said)
	l.journal, _ = journalOn(l.disk, JournalOptions{Dir: historyDir, For: 1000 * time.Hour, Size: 1 << 20, Free: func(string) (uint64, error) { return 1 << 40, nil }})
}

// tell says something new, and begins a segment where that is wanted.
func (l *historyLife) tell(anew bool) {
	n, now := len(l.said), said{}
	e := entry(n, fmt.Sprintf("%d %s", n, strings.Repeat(fmt.Sprint(n, " "), 200)))
	if n%4 == 1 {
		doc := bytes.Repeat(fmt.Append(nil, "document ", min(n/4, 1), " "), 100)
		if h, err := l.journal.Keep(doc); err == nil {
			e.Refs, now.doc = []plan.Hash{h}, doc
		}
	}
	l.said = append(l.said, now)
	var err error
	if anew || !l.begun {
		if err = l.journal.Begin(e); err == nil {
			l.begun = true
			for i := l.first; i < n; i++ { // the segment before is over
				l.said[i].synced = l.said[i].written && (l.said[i].synced || !l.refused)
			}
			l.said[n].synced = true
			l.first = n
		}
	} else {
		err = l.journal.Append(e)
	}
	l.said[n].written = err == nil
	l.ended(err)
}

// sync tells whether all that was written outlasts the machine now.
func (l *historyLife) sync() {
	if !l.begun {
		return
	}
	err := l.journal.Sync()
	for i := l.first; i < len(l.said) && err == nil; i++ {
		l.said[i].synced = l.said[i].written
	}
	l.ended(err)
}

func (l *historyLife) ended(err error) {
	if err != nil {
		l.begun = false
		_ = l.journal.Close()
	}
}

func (l *historyLife) live() {
	for _, restart := range []bool{true, false, true} {
		if restart {
			l.restart()
			if l.journal == nil {
				return
			}
		}
		l.tell(true)
		l.tell(false)
		l.tell(false)
		l.sync()
		l.tell(false)
		l.journal.Tidy(monday, true)
	}
}

func (l *historyLife) restart() {
	if l.disk.Power() {
		for i := range l.said { // what was not synced may be gone from now on
			l.said[i].written = l.said[i].synced
		}
	}
	l.disk.Restart()
	l.start()
}

// check finds all that was promised, and nothing that nobody said.
func (l *historyLife) check(power bool) error {
	l.start()
	if l.journal == nil {
		return fmt.Errorf("cannot be read")
	}
	for i, s := range l.said {
		got, err := l.journal.Find(entry(i, "").At)
		for _, e := range got.Entries {
			n := int(e.At.Sub(monday) / time.Minute)
			if n > i || !bytes.HasPrefix(e.Body, fmt.Append(nil, n, " ", n, " ")) {
				return fmt.Errorf("minute %d: %q of minute %d was never said", i, e.Body, n)
			}
		}
		if promised := s.synced || s.written && !power; !promised {
			continue
		}
		if err != nil || len(got.Entries) == 0 || !got.Entries[len(got.Entries)-1].At.Equal(entry(i, "").At) {
			return errors.Join(err, fmt.Errorf("minute %d was written, synced %t: got %d entries", i, s.synced, len(got.Entries)))
		}
		if s.doc != nil {
			if doc, err := l.journal.Kept(plan.Sum(s.doc)); err != nil || !bytes.Equal(doc, s.doc) {
				return fmt.Errorf("the document of minute %d: %w", i, err)
			}
		}
	}
	return litter(l.disk, historyDir)
}

// TestJournalCrashes (F16, F17): whatever befalls a disk at any operation of keeping
// history, what was written is found after the process's end, and what was synced after
// the machine's, with the documents that it refers to; what is found was said. Files that
// nothing can be read of go.
func TestJournalCrashes(t *testing.T) {
	var l *historyLife
	everywhere(t, 4, func(d *crashfs.Disk) {
		l = &historyLife{disk: d, refused: d.Trouble() == crashfs.IOError}
		l.live()
	}, func(c crashfs.Case, d *crashfs.Disk) error {
		d.Mend()
		if l.journal != nil && !d.Dead() {
			if err := litter(d, historyDir); err != nil {
				return err
			}
			if err := l.strays(); err != nil && !l.refused { // a part that could not be read stays
				return err
			}
			if c.Seed%3 == 0 {
				n := len(l.said)
				l.tell(false)
				l.sync()
				if !l.said[n].synced {
					return fmt.Errorf("F16: the process goes on, and nothing is kept")
				}
			}
		}
		power := d.Power()
		d.Restart()
		if err := l.check(power); err != nil {
			return fmt.Errorf("after the process: %w", err)
		}
		l.journal.Tidy(monday, true)
		d.PowerLoss()
		if err := l.check(true); err != nil {
			return fmt.Errorf("after the machine: %w", err)
		}
		return l.strays()
	})
}

// strays says which parts are there and not known: nothing would ever drop them.
func (l *historyLife) strays() error {
	entries, err := l.disk.ReadDir(historyDir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), segmentPrefix) && !slices.ContainsFunc(l.journal.segments, func(s segment) bool { return l.journal.path(s.number) == historyDir+"/"+e.Name() }) {
			err = fmt.Errorf("%s is there, and the journal does not know it", e.Name())
		}
	}
	return err
}
