package gossip

import (
	"bytes"
	"slices"
	"time"
)

// kindState is the kind of push/pull state. The other kinds are the caller's.
const kindState = 0

// Strangers, directors that the roster does not know, get this many messages a
// second through, together: enrolment needs no more.
const (
	strangerRate  = 50
	strangerBurst = 100
)

// receiver verifies what arrived. One goroutine owns it.
type receiver struct {
	node      *Node
	authors   *authors
	strangers *bucket
}

func newReceiver(n *Node) *receiver {
	return &receiver{node: n, authors: newAuthors(), strangers: newBucket(strangerRate, strangerBurst)}
}

// open verifies one message and delivers it, or drops and counts it.
func (r *receiver) open(l letter) {
	m, why := r.verify(l)
	switch {
	case why != "":
		r.node.metrics.drop(why)
	case m.Kind != kindState:
		r.node.metrics.received.WithLabelValues(r.node.metrics.kind(m.Kind)).Inc()
		r.node.opts.Deliver(m)
	case m.Pinned && r.node.opts.State != nil:
		r.node.metrics.received.WithLabelValues("state").Inc()
		r.node.opts.State.Merge(m.Payload)
	}
}

// verify goes from the cheap to the dear: form, fleet, name, then a signature.
func (r *receiver) verify(l letter) (Message, reason) {
	m, err := parse(l.raw)
	if err != nil {
		return Message{}, malformed
	}
	m.Received = l.received
	own := r.node.opts.Fleet()
	fleet, ok := r.fleetOf(l.raw, own)
	if !ok {
		return Message{}, foreignFleet
	}
	m.Fleet = fleet
	pin := r.node.opts.Keys(m.From)
	m.Pinned = len(pin) > 0 && bytes.Equal(pin, m.Key) && own != "" && fleet == own
	registered := len(pin) > 0 && bytes.Equal(pin, m.Key)
	if !registered && !r.strangers.allow(l.received) {
		return Message{}, unknownDirector
	}
	if !verified(fleet, l.raw, m.Key) {
		return Message{}, unsigned
	}
	if bytes.Equal(m.Key, r.node.opts.Identity.Public()) {
		return Message{}, r.ourselves(&m)
	}
	if why := r.authors.accept(&m, registered, l.received); why != "" {
		return Message{}, why
	}
	if !registered {
		r.node.claims.hear(&m, l.received)
	}
	if len(pin) > 0 && !registered {
		r.node.alarms.raise(m.From, doubt{text: textChangedKey, key: m.Key}, l.received)
		return Message{}, changedKey
	}
	return m, ""
}

// ourselves says why a message under our own key is dropped: it is ours and was
// sent back, or of a process before this one, or of another that lives (F26).
func (r *receiver) ourselves(m *Message) reason {
	own := r.node.opts.Identity.Boot
	switch {
	case m.Boot < own:
		return stale
	case m.Boot == own && m.Instance == r.node.instance:
		return replayed
	default:
		r.node.alarms.raise(r.node.opts.Name, doubt{text: textDoubledUs}, m.Received)
		return duplicateInstance
	}
}

// fleetOf finds what a message was sealed under: our own fleet; none, of a
// director without a plan; or, while we have none, that of any member.
func (r *receiver) fleetOf(raw []byte, own string) (string, bool) {
	candidates := []string{own, ""}
	if own == "" {
		candidates = append(candidates, r.node.members.fleets()...)
	}
	i := slices.IndexFunc(candidates, func(f string) bool { return sealedUnder(raw, f) })
	if i < 0 {
		return "", false
	}
	return candidates[i], true
}

// notify takes a raw message from memberlist's goroutines.
func (n *Node) notify(raw []byte) {
	switch _, err := parse(raw); {
	case len(raw) > MaxReliable:
		n.metrics.drop(oversized)
	case err != nil:
		n.metrics.drop(malformed)
	case !n.inbox.put(raw, time.Now()):
		n.metrics.drop(overflow)
	}
}
