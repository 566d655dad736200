package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/divertdns/divert/dnsserver/answer"
)

// TransferOptions says who may have whole zones (AXFR, IXFR), and who is told that
// one has changed. With neither addresses nor keys nobody may.
type TransferOptions struct {
	// Allow lists the addresses that may have zones; with none, it depends on a key
	// alone.
	Allow []netip.Prefix
	// Keys are for signing (TSIG). With any, a transfer needs a good signature, from
	// an allowed address too where there are some.
	Keys   []Key
	Notify []Secondary
}

// Secondary is a server that hears of changes (NOTIFY, RFC 1996).
type Secondary struct {
	Addr netip.AddrPort
	Key  string // the name of one of Keys; "" = not signed
}

// The outcomes of a request for a zone.
const (
	transferDone    = iota
	transferCurrent // the SOA alone, or an error of the request's
	transferDenied
	transferBusy
	transferBroken
	transferStopped
	transferOutcomes
)

func transferOutcome(i int) string {
	return [...]string{"done", "current", "denied", "busy", "broken", "stopped"}[i]
}

// transfers bounds how many are under way.
type transfers struct {
	limits *limits
	counts [transferOutcomes]atomic.Uint64

	mu        sync.Mutex
	open      int
	perClient map[netip.Prefix]int
}

func newTransfers(l *limits) *transfers {
	return &transfers{limits: l, perClient: make(map[netip.Prefix]int)}
}

func (t *transfers) begin(client netip.Prefix) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open >= t.limits.transfers || t.perClient[client] >= t.limits.transfersPerClient {
		return false
	}
	t.open++
	t.perClient[client]++
	return true
}

func (t *transfers) end(client netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open--
	if t.perClient[client]--; t.perClient[client] == 0 {
		delete(t.perClient, client)
	}
}

func (t *transfers) underWay() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open
}

// admits is the one rule for whole zones, on every transport (C5).
func (s *Server) admits(from netip.Addr, signed bool) bool {
	t := &s.transferring
	if len(t.Allow)+len(t.Keys) == 0 || len(t.Keys) > 0 && !signed {
		return false
	}
	if len(t.Allow) == 0 {
		return true
	}
	from = from.Unmap().WithZone("")
	for _, p := range t.Allow {
		if p.Contains(from) {
			return true
		}
	}
	return false
}

// outgoing is a zone on its way to a secondary.
type outgoing struct {
	zone      *answer.Transfer
	signed    bool
	signature signature
	client    netip.Prefix
}

// again says whether a packet needs more than Reply gave.
func again(tally answer.Tally) bool { return tally.TSIG > 0 || tally.Reject == answer.RejectTransfer }

// judged is what became of a packet that needs more than Reply: it is signed, or it
// asks for a zone.
type judged struct {
	reply  []byte
	tally  answer.Tally
	proved bool      // the client holds a key
	zone   *outgoing // instead of a reply
}

// judge answers such a packet: one way for all transports, so that none can be
// forgotten (C5). first and tally are what Reply made of it behind dst.
func (s *Server) judge(dst, packet, first []byte, tally answer.Tally, table *answer.Table, c answer.Client) judged {
	out := judged{reply: first, tally: tally}
	base := len(dst)
	var sig signature
	signed := tally.TSIG > 0
	if signed {
		if !s.keys.Load().verify(&sig, packet, tally.TSIG, c.Now) {
			s.metrics.tsig[tsigFormat].Add(1)
			c.Rcode = 1 // FORMERR
			out.reply, out.tally = table.Reply(dst, packet, c)
			return out
		}
		if sig.fault == 0 && tally.Reject == answer.RejectTransfer && sig.replayed(c.Now) {
			s.metrics.tsig[tsigReplay].Add(1)
		} else {
			s.metrics.tsig[tsigKind(sig.fault)].Add(1)
		}
		c.Reserve = sig.size()
		if sig.fault != 0 {
			c.Rcode = 9 // NOTAUTH
			out.reply, out.tally = table.Reply(dst, packet, c)
			out.reply = sig.sign(out.reply, base, c.Now)
			return out
		}
		out.proved = true
	}
	switch {
	case tally.Reject != answer.RejectTransfer:
	case !s.admits(c.Addr.Addr(), out.proved):
		s.transfers.counts[transferDenied].Add(1)
	default:
		zone, t := table.Transfer(packet, c)
		if zone == nil {
			break // Reply's refusal stands
		}
		if zone.Whole() {
			out.tally, out.reply = t, dst
			out.zone = &outgoing{zone: zone, signed: signed, signature: sig, client: clientOf(c.Addr.Addr())}
			return out
		}
		if reply, _, err := zone.Next(dst); err == nil {
			s.transfers.counts[transferCurrent].Add(1)
			out.tally, out.reply = t, sig.signIf(signed, reply, base, c.Now)
			return out
		}
	}
	if signed {
		out.reply, out.tally = table.Reply(dst, packet, c)
		out.reply = sig.sign(out.reply, base, c.Now)
	}
	return out
}

func (s *signature) signIf(signed bool, msg []byte, base int, now time.Time) []byte {
	if !signed {
		return msg
	}
	return s.sign(msg, base, now)
}

var errLate = errors.New("the transfer takes too long")

// send writes a zone beside the replies of its connection.
func (s *Server) send(ctx context.Context, st *stream, out *outgoing) {
	st.sending.Add(1)
	st.work.Go(func() {
		defer func() {
			s.transfers.end(out.client)
			st.sending.Add(-1)
		}()
		err := s.sendAll(ctx, st, out)
		switch {
		case err == nil:
			s.transfers.counts[transferDone].Add(1)
			return
		case ctx.Err() != nil:
			s.transfers.counts[transferStopped].Add(1)
		default:
			s.transfers.counts[transferBroken].Add(1)
		}
		// Half a zone is none: the connection ends, so that the client knows.
		st.abort()
	})
}

func (s *Server) sendAll(ctx context.Context, st *stream, out *outgoing) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			s.metrics.panics.Add(1)
			err = fmt.Errorf("a transfer panicked: %v", fault)
			s.log.Error("handing out a zone panicked; the connection is closed", "panic", fault)
		}
	}()
	end := time.Now().Add(s.limits.transfer)
	buf := make([]byte, 2, 20<<10)
	for more := true; more; {
		now := time.Now()
		if err := ctx.Err(); err != nil {
			return err
		}
		if now.After(end) {
			return errLate
		}
		var message []byte
		if message, more, err = out.zone.Next(buf[:2]); err != nil {
			return err
		}
		message = out.signature.signIf(out.signed, message, 2, now)
		if err := s.write(ctx, st, message); err != nil {
			return err
		}
		s.streams.touch(st)
	}
	return nil
}
