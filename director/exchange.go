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

// showTick is between two times that what is carried is renewed: it grows with all that
// is down, and push and pull come twice a minute.
const showTick = time.Second

// show renews what is carried: as much as one message holds; a peer that lacks
// more has it by summaries.
func (l *loop) show() {
	image := health.EncodeSomeCertificates(l.book.Lacking(nil))
	l.exchange.image.Store(&image)
	l.unshown, l.showed = false, l.now()
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
