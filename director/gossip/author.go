package gossip

import (
	"crypto/ed25519"
	"fmt"
	"time"
)

// The constants of replay protection and of F26.
const (
	windowSize   = 2048             // sequence numbers; far beyond what UDP reorders
	maxStreams   = 4                // processes remembered of one key
	maxAuthors   = 256              // keys remembered of the roster
	maxStrangers = 16               // keys remembered outside the roster
	liveWithin   = 3 * time.Second  // a stream that advanced within this is alive
	contestFor   = time.Second      // two streams alive for this long are two processes
	contestSteps = 3                // advances that each must show meanwhile
	silentAfter  = 10 * time.Second // a stream that has not advanced is gone
)

// authors remembers what was heard of each key. It is pure: time is an
// argument. The Node's receiver is its one writer.
type authors struct {
	byKey map[[ed25519.PublicKeySize]byte]*author
}

// author is one key: the highest boot seen of it, and its processes.
type author struct {
	name       string
	registered bool
	boot       uint64
	heard      time.Time
	streams    []*stream
	contest    time.Time // since when more than one stream could be alive
	doubled    bool      // F26: two processes use the key now
}

// stream is one process of a key, by boot and instance.
type stream struct {
	boot     uint64
	instance uint32
	seen     window
	behind   bool      // first seen when a higher boot was known already
	steps    int       // advances since the contest began
	first    time.Time // first of these advances
	last     time.Time // latest of them
}

func newAuthors() *authors {
	return &authors{byKey: map[[ed25519.PublicKeySize]byte]*author{}}
}

// accept files a verified message and says why it must be dropped, or "".
// Registered says that the roster holds the key.
func (a *authors) accept(m *Message, registered bool, now time.Time) reason {
	key := [ed25519.PublicKeySize]byte(m.Key)
	au := a.byKey[key]
	if au == nil {
		if !a.room(registered, now) {
			return unknownDirector
		}
		au = &author{}
		a.byKey[key] = au
	}
	au.name, au.registered, au.heard = m.From, registered, now
	return au.accept(m, now)
}

// room makes place for one more key: the registered and the strangers have their
// own share, so that strangers push out nobody but each other, and only those
// that have been silent.
func (a *authors) room(registered bool, now time.Time) bool {
	limit := maxStrangers
	if registered {
		limit = maxAuthors
	}
	count := 0
	var oldest [ed25519.PublicKeySize]byte
	var heard time.Time
	for key, au := range a.byKey {
		if au.registered != registered {
			continue
		}
		if count++; count == 1 || au.heard.Before(heard) {
			oldest, heard = key, au.heard
		}
	}
	if count < limit {
		return true
	}
	if now.Sub(heard) < silentAfter {
		return false
	}
	delete(a.byKey, oldest)
	return true
}

func (au *author) accept(m *Message, now time.Time) reason {
	s := au.stream(m.Boot, m.Instance, now)
	higher := s.seen.high
	if why := s.seen.take(m.Seq); why != "" {
		return why
	}
	if s.seen.high > higher {
		s.advance(now)
	}
	au.boot = max(au.boot, s.boot)
	au.judge(now)
	switch {
	case au.doubled:
		return duplicateInstance
	case s.boot < au.boot:
		return stale
	default:
		return ""
	}
}

// stream finds the process that sent a message, or begins one.
func (au *author) stream(boot uint64, instance uint32, now time.Time) *stream {
	for _, s := range au.streams {
		if s.boot == boot && s.instance == instance {
			return s
		}
	}
	s := &stream{boot: boot, instance: instance, behind: boot < au.boot}
	if len(au.streams) >= maxStreams {
		au.forget()
	}
	au.streams = append(au.streams, s)
	if !s.behind {
		// Each stream has to show again that it is alive, beside this one.
		au.contest = now
		for _, o := range au.streams {
			o.steps = 0
		}
	}
	return s
}

// forget drops the stream that is worth least: one that was behind from the
// start before any other, then the one longest silent.
func (au *author) forget() {
	worst := 0
	for i, s := range au.streams {
		w := au.streams[worst]
		if s.behind && !w.behind || s.behind == w.behind && s.last.Before(w.last) {
			worst = i
		}
	}
	au.streams = append(au.streams[:worst], au.streams[worst+1:]...)
}

func (s *stream) advance(now time.Time) {
	if s.steps == 0 {
		s.first = now
	}
	s.steps++
	s.last = now
}

// alive says that the stream has advanced, not merely been heard: a message
// that was played back advances nothing that was received before.
func (s *stream) alive(now time.Time, within time.Duration) bool {
	return s.steps > 0 && now.Sub(s.last) <= within
}

// judge decides F26. A stream that was first seen behind a higher boot takes no
// part: it may be a recording of a process long gone, and must not silence the
// living one.
func (au *author) judge(now time.Time) {
	proven, heard := 0, 0
	for _, s := range au.streams {
		if s.behind {
			continue
		}
		if s.alive(now, silentAfter) {
			heard++
		}
		// What was under way when a process ended arrives within contestFor.
		if s.alive(now, liveWithin) && s.steps >= contestSteps && s.last.Sub(au.contest) >= contestFor {
			proven++
		}
	}
	switch {
	case proven > 1:
		au.doubled = true
	case heard < 2:
		au.doubled = false
	}
}

// alarm says what a person must know of the key, or "".
func (au *author) alarm(now time.Time) string {
	au.judge(now)
	if au.doubled {
		return "two live processes use this director's identity: both are ignored. Stop one of them, and give a cloned machine its own dataDir"
	}
	for _, s := range au.streams {
		if s.boot < au.boot && s.alive(now, silentAfter) && s.steps >= contestSteps && s.last.Sub(s.first) >= contestFor {
			return fmt.Sprintf("boot %d still speaks though boot %d was heard: it is ignored. Restart the director; if that does not end it, an old recording is played back", s.boot, au.boot)
		}
	}
	return ""
}

// alarms lists what persons must know, by director.
func (a *authors) alarms(now time.Time) map[string]string {
	out := map[string]string{}
	for _, au := range a.byKey {
		if text := au.alarm(now); text != "" {
			out[au.name] = text
		}
	}
	return out
}

// window holds which sequence numbers were received, of the last windowSize.
type window struct {
	high uint64
	bits [windowSize / 64]uint64
}

// take marks a number, and refuses one that was taken or is too old to tell.
func (w *window) take(seq uint64) reason {
	switch {
	case seq > w.high:
		if seq-w.high >= windowSize {
			w.bits = [windowSize / 64]uint64{}
		} else {
			for n := w.high + 1; n < seq; n++ {
				w.clear(n)
			}
		}
		w.high = seq
	case w.high-seq >= windowSize:
		return stale
	case w.bits[seq%windowSize/64]&(1<<(seq%64)) != 0:
		return replayed
	}
	w.bits[seq%windowSize/64] |= 1 << (seq % 64)
	return ""
}

func (w *window) clear(seq uint64) { w.bits[seq%windowSize/64] &^= 1 << (seq % 64) }
