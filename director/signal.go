package director

import "sync"

// wake is a level-triggered wake-up: a lost or doubled one cannot matter, since
// whoever wakes reads all its inputs again.
type wake chan struct{}

func newWake() wake { return make(wake, 1) }

func (w wake) up() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// broadcast tells any number of waiters that something changed.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{} // closed at the next change
}

func newBroadcast() *broadcast { return &broadcast{ch: make(chan struct{})} }

// changed is closed at the next change.
func (b *broadcast) changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ch
}

func (b *broadcast) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.ch)
	b.ch = make(chan struct{})
}
