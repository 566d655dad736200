package director

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/divertdns/divert/health"
)

// exchange is what push/pull carries beside the membership: the certificates in
// force, with their proofs. A director that nobody answers, since it is not in
// the roster or its key is not the one there, still learns so what is down:
// proofs need no trust in who brings them.
type exchange struct {
	image  atomic.Pointer[[]byte] // by the loop alone
	synced chan []byte            // to the loop; what it has no room for comes again
}

func newExchange() *exchange { return &exchange{synced: make(chan []byte, 4)} }

// MarshalBinary gives the certificates in force. It is called under memberlist's
// lock and returns at once.
func (e *exchange) MarshalBinary() ([]byte, error) {
	if image := e.image.Load(); image != nil {
		return *image, nil
	}
	return nil, nil
}

// Merge leaves what a registered director sealed to the loop.
func (e *exchange) Merge(state []byte) {
	select {
	case e.synced <- state:
	default:
	}
}

// show renews what is carried: as much as one message holds; a peer that lacks
// more has it by summaries.
func (l *loop) show() {
	var image []byte
	if payloads := health.EncodeCertificates(l.book.Lacking(nil)); len(payloads) > 0 {
		image = payloads[0]
	}
	l.exchange.image.Store(&image)
}

// sync takes in what push/pull brought.
func (l *loop) sync(state []byte, now time.Time) {
	if len(state) == 0 {
		return
	}
	certs, err := health.DecodeCertificates(state)
	if err != nil {
		l.drop("malformed")
		return
	}
	applied, refused := l.book.Merge(certs, l.verify(), now)
	l.shown.refusedCertificates.Add(float64(refused))
	if len(applied) > 0 {
		l.transitions(applied, "proved")
		l.log.Info("caught up by push and pull", slog.Int("certificates", len(applied)))
	}
}
