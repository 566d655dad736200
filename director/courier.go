package director

import (
	"context"
	"log/slog"
	"sync"

	"golang.org/x/sync/semaphore"
)

// courier sends what does not fit a datagram. A stream to a peer may hang for
// seconds, so each send has a goroutine of its own: one a peer at most, the rest
// dropped, since everything sent so is asked for again while it is missing.
type courier struct {
	send  func(to string, kind uint8, payload []byte) error
	log   *slog.Logger
	limit *semaphore.Weighted

	mu    sync.Mutex
	busy  map[string]bool // by peer and kind
	ended bool
	wg    sync.WaitGroup
}

func newCourier(send func(string, uint8, []byte) error, log *slog.Logger) *courier {
	return &courier{send: send, log: log, limit: semaphore.NewWeighted(32), busy: map[string]bool{}}
}

// post starts a send and returns at once; false says that it was dropped.
func (c *courier) post(to string, kind uint8, payload []byte) bool {
	key := to + "/" + string(rune(kind))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.busy[key] || !c.limit.TryAcquire(1) {
		return false
	}
	c.busy[key] = true
	c.wg.Go(func() {
		defer c.limit.Release(1)
		if err := c.send(to, kind, payload); err != nil {
			c.log.Debug("message not delivered", slog.String("to", to), slog.Int("kind", int(kind)), slog.Any("err", err))
		}
		c.mu.Lock()
		delete(c.busy, key)
		c.mu.Unlock()
	})
	return true
}

// run waits for the sends under way once ctx ends; none begins after that.
func (c *courier) run(ctx context.Context) error {
	<-ctx.Done()
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.wg.Wait()
	return nil
}
